"""A table's saved sample is read unchanged, and a mistyped line is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given

from dynamodt.checks.examples import read_images, sample_path, sample_text, version_of
from dynamodt.errors import UsageError
from dynamodt.model.tables import Image, KeyAttribute, TableSpec
from dynamodt.script.codec import same_image
from dynamodt.script.read import read_versions
from tests.strategies import images

pytestmark = pytest.mark.unit

USERS = TableSpec("users", (KeyAttribute("id", "S"),))


@given(image=images(USERS))
def test_a_saved_sample_is_read_unchanged(tmp_path_factory: pytest.TempPathFactory, image: Image) -> None:
    path = tmp_path_factory.getbasetemp() / "sample.jsonl"
    path.write_text(sample_text([image, image]))
    first, second = read_images(path)
    assert same_image(first, image) and first == second


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ('{"Item": {"id": {"S": "1"}}}', {"id": {"S": "1"}}),
        ('{"Item": {"S": "1"}}', {"Item": {"S": "1"}}),
        ('{"Item": {"M": {"a": {"S": "1"}}}}', {"Item": {"M": {"a": {"S": "1"}}}}),
        ('{"id": {"N": "1.50"}}', {"id": {"N": "1.50"}}),
    ],
)
def test_lines_of_exports_and_of_odd_items(tmp_path: Path, line: str, image: object) -> None:
    (tmp_path / "sample.jsonl").write_text(f"\n{line}\n\n")
    assert list(read_images(tmp_path / "sample.jsonl")) == [image]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "7", "{}", '{"id": "1"}', '{"id": {"S": 1}}', '{"id": {"X": "1"}}', '{"id": {"N": "many"}}',
     '{"id": {"S": "1", "N": "1"}}', '{"id": {"SS": []}}', '{"id": {"B": "?"}}', '{"id": {}}', '{"Item": {"id": 1}}'],
)  # fmt: skip
def test_an_invalid_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "sample.jsonl").write_text('{"id": {"S": "1"}}\n' + line)
    with pytest.raises(UsageError) as caught:
        list(read_images(tmp_path / "sample.jsonl"))
    assert caught.value.where.endswith("sample.jsonl:2") and '{"id": {"S": "u1"}' in caught.value.hint


def test_the_first_line_may_have_the_version_of_the_items(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_text(sample_text([{"id": {"S": "1"}}], version=3))
    assert (version_of(path), list(read_images(path))) == (3, [{"id": {"S": "1"}}])
    path.write_text(sample_text([{"id": {"S": "1"}}]))
    assert (version_of(path), list(read_images(path))) == (None, [{"id": {"S": "1"}}])


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.json.gz"
    path.write_bytes(gzip.compress(b'{"Item": {"id": {"S": "1"}}}\n'))
    assert list(read_images(path)) == [{"id": {"S": "1"}}]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_images(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        list(read_images(sample_path(tmp_path, "users")))


def test_a_sample_is_not_a_file_that_a_script_uses(tmp_path: Path) -> None:
    folder = tmp_path / "transforms" / "users"
    folder.mkdir(parents=True)
    (folder / "v1_x.py").write_text(
        "from pathlib import Path\nsequence = 1\nNUMBER = 1\n"
        "def transform_up(item): return {**item, 'x': (Path(__file__).parent / f'{NUMBER}.csv').read_text()}\n"
    )
    (folder / "1.csv").write_text("x")
    before = read_versions(tmp_path / "transforms", "users")[0]
    sample_path(tmp_path / "transforms", "users").write_text('{"id": {"S": "1"}}\n')
    assert read_versions(tmp_path / "transforms", "users")[0].content == before.content
    assert [file.name for file in before.files] == ["users/1.csv"]


def test_the_version_of_a_first_line(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    image: Image = {"id": {"S": "1"}}
    for text, version in ((sample_text([image], 3), 3), (sample_text([image]), None)):
        path.write_text(text)
        assert (list(read_images(path)), version_of(path)) == ([image], version)
