"""Files of items: the forms of a line, and a table's sample."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dynamodt.errors import ServiceError, UsageError
from dynamodt.script.samples import read_items, sample_path, write_sample

ITEM = {"id": {"S": "u1"}, "n": {"N": "1.10"}, "deep": {"M": {"l": {"L": [{"NULL": True}, {"B": "AAE="}]}}}}


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_sample_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = sample_path(tmp_path, "users")
    write_sample(path, [ITEM, {"id": {"S": "ü"}}], version=3)
    assert read_items(path) == ([ITEM, {"id": {"S": "ü"}}], 3)
    assert path.read_text(encoding="utf-8").count("\n") == 3


@pytest.mark.parametrize(
    "text",
    [
        '{"id": {"S": "u1"}, "n": {"N": "1.10"}}',
        '{"Item": {"id": {"S": "u1"}, "n": {"N": "1.10"}}}\n\n',
        '{"id": "u1", "n": 1.10}',
        '{\n  "Items": [\n    {"id": {"S": "u1"}, "n": {"N": "1.10"}}\n  ],\n  "Count": 1\n}\n',
        gzip.compress(b'{"Item": {"id": {"S": "u1"}, "n": {"N": "1.10"}}}\n'),
    ],
)
def test_each_form_of_a_line_is_read(tmp_path: Path, text: str | bytes) -> None:
    assert read_items(written(tmp_path, text)) == ([{"id": {"S": "u1"}, "n": {"N": "1.10"}}], None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"id": "u1"}\n{"id"', "not JSON"),
        ('{"id": "u1"}\n[1]', "other JSON"),
        ('{"id": "u1"}\n{}', "not an item"),
        ('{"id": "u1"}\n{"id": {"N": "x"}}', "DynamoDB's JSON"),
        ('{"id": "u1"}\n{"id": {"SS": []}}', "empty set"),
        ('{"id": "u1"}\n{"dynamodt_sample": {}}', "no version"),
        (b'{"id": "u1"}\n\xff', "UTF-8"),
    ],
)
def test_what_is_no_item_is_named_with_its_line(tmp_path: Path, text: str | bytes, what: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=what) as raised:
        read_items(path)
    assert raised.value.where.startswith(str(path)) and ("UTF-8" in what or ":2" in raised.value.where)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="cannot be read"):
        read_items(tmp_path / "none.jsonl")
