"""`show`: dead letters grouped by error, and one run as text and as JSON."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from dynamodt.cli.request import Request
from dynamodt.cli.run_reports import details_document, print_details, print_keys
from dynamodt.model.pages import Acceptance, Contention, Counts, Totals, Units
from dynamodt.model.runs import RunRecord
from dynamodt.runs.show import MOST_GROUPS, MOST_KEYS, PhaseShown, RunDetails, frames_of, grouped, normalised
from dynamodt.runs.stored_dead_letters import SelectedPart, StoredDeadLetter
from tests.fake_operations import STAGE

PATH = "transforms/users/v2_total.py"
TRACEBACK = f"""Traceback (most recent call last):
  File "/lib/site-packages/dynamodt/script/apply.py", line 67, in change_of
    results = function(item)
  File "{PATH}", line 9, in transform_up
    return total(item)
  File "transforms/shared/money.py", line 4, in total
    raise ValueError
  File "/srv/transforms/.venv/lib/python3.11/site-packages/money.py", line 12, in divide
ValueError: no
"""


def dead_letter(number: int, error: str, accepted: bool = False, **more: Any) -> StoredDeadLetter:
    key = {"id": {"S": f"u{number}"}}
    line = {"key": key, "image": {**key, "price": {"N": str(number)}}, "step": "transform", "traceback": TRACEBACK}
    return StoredDeadLetter(SelectedPart("p"), {**line, "error": error, **more}, accepted)


def image(**values: Any) -> dict[str, Any]:
    return {"key": {"id": {"S": "u1"}}, "image": {"id": {"S": "u1"}, **values}}


@pytest.mark.parametrize(
    ("error", "values", "normal"),
    [
        ("ValueError: 'abc' is no price", {}, "ValueError: '…' is no price"),
        ("KeyError: 'price'", {}, "KeyError: 'price'"),
        ("KeyError: 'red'", {"colour": {"S": "red"}}, "KeyError: '…'"),
        ("KeyError: 'u1'", {}, "KeyError: '…'"),
        ("ValueError: u1 has blue eyes", {"eyes": {"M": {"left": {"L": [{"S": "blue"}]}}}}, "ValueError: … has … eyes"),
        ("ValueError: a price of 17.50", {"grade": {"S": "a"}}, "ValueError: a price of N"),
        ("TypeError: <X object at 0x7f12ab>", {}, "TypeError: <X object at N>"),
        ("x: 123e4567-e89b-12d3-a456-426614174000", {}, "x: N"),
        ("x: abcde123-e89b-12d3-a456-426614174000", {}, "x: N"),
        ("ValueError: S3 or utf8, 3 of order1234", {}, "ValueError: S3 or utf8, N of orderN"),
    ],
)
def test_values_that_differ_between_items_are_left_out_of_the_group(
    error: str, values: dict[str, Any], normal: str
) -> None:
    assert normalised({**image(**values), "error": error}) == normal


def test_the_author_s_frames_are_those_under_transforms() -> None:
    assert [(frame.path, frame.line, frame.function) for frame in frames_of(TRACEBACK)] == [
        (PATH, 9, "transform_up"),
        ("transforms/shared/money.py", 4, "total"),
    ]


def test_the_same_error_is_one_group_with_its_first_example_and_keys() -> None:
    dead_letters = [dead_letter(n, f"ValueError: {n} of 'u{n}'", accepted=n == 2) for n in range(1, 6)]
    first, second = grouped([*dead_letters, dead_letter(9, "KeyError: 'price'")])
    assert (first.error, first.items, first.accepted) == ("ValueError: N of '…'", 5, 1)
    assert (first.first.key, first.first.error) == ("u1", "ValueError: 1 of 'u1'")
    assert first.keys == ["u1", "u3", "u4", "u5"] and (second.error, second.items) == ("KeyError: 'price'", 1)
    elsewhere = dead_letter(7, "KeyError: 'price'", traceback=TRACEBACK.replace("line 4", "line 5"))
    assert (
        len(
            grouped([dead_letter(9, "KeyError: 'price'"), elsewhere, dead_letter(8, "KeyError: 'price'", step="write")])
        )
        == 3
    )


def test_a_million_dead_letters_take_the_memory_of_a_few() -> None:
    """They are read one by one; the number of groups and of keys is bounded."""
    alive = 0

    def many() -> Iterator[StoredDeadLetter]:
        nonlocal alive
        for number in range(5000):
            alive += 1
            yield dead_letter(number, f"{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}Error: no")

    groups = grouped(many())
    assert alive == sum(group.items for group in groups) == 5000
    assert len(groups) == MOST_GROUPS + 1 and groups[0].error == "other errors"
    assert all(len(group.keys) <= MOST_KEYS for group in groups)


RECORD = RunRecord(
    "users", "20260131T101500.123456Z-1a2b3c", 2, "total", "up", "ef" * 32, "failed", "2026-01-31T10:15:00+00:00",
    ended="2026-01-31T10:16:00+00:00", by="ann@host", reason="ticket 12", commit="1" * 40, seconds=60.5,
    error="s3://b/x: 5 items could not be transformed or written", dead_letters="s3://b/x",
    accepted=(Acceptance(1, "bob", "2026-01-31T10:20:00+00:00", "a test account", "x"),),
)  # fmt: skip
FOUND = RunDetails(
    RECORD,
    "failed",
    Counts(read=1000, changed=994, dead=6),
    (PhaseShown("main", 8, Totals(Counts(1000, 994, dead=6), Units(5, 994), 8, Contention(3, 2))),),
    grouped(
        [
            *(dead_letter(n, f"ValueError: {n} of 'u{n}'", accepted=n == 2) for n in range(1, 6)),
            dead_letter(7, "x" * 200),
        ]
    ),
    6,
    budget=Units(0, 500),
)


def printed(found: RunDetails, width: int, **request: Any) -> str:
    file = io.StringIO()
    print_details(Console(file=file, width=width), Request("show", run="20260131", **request), found, STAGE)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_text_fits_its_width(width: int) -> None:
    """Except for text that is copied: the file, and the commands."""
    text = printed(FOUND, width)
    lines = [line for line in text.splitlines() if not line.startswith(("file", "next", "      dynamodt"))]
    assert max(map(len, lines)) <= width
    flat = " ".join(text.split())
    for part in ("ticket 12", "a test account", "5 x transform, 1 accepted", "ValueError: N of '…'", "500 WCU/s"):
        assert part in flat
    assert "site-packages" not in text and "u1 u3 u4 and 1 more" in flat
    assert "dynamodt retry --accept u1 --reason TEXT" in text


def test_verbose_shows_the_whole_traceback() -> None:
    assert "change_of" in printed(FOUND, 120, verbose=True)


def test_a_run_that_cannot_be_retried_suggests_no_retry() -> None:
    done = replace(RECORD, status="succeeded", tolerated=5, error="")
    found = replace(FOUND, record=done, status="succeeded")
    assert "succeeded with 6 dead letters, 1 accepted" in printed(found, 120) and "next" in printed(found, 120)
    final = printed(replace(found, final="the dead letters cannot be replayed: run X has changed the table later"), 120)
    assert "run X has changed" in final and "next" not in final


def test_dead_letters_in_doubt_have_the_steps_that_decide_about_them() -> None:
    doubt = [dead_letter(n, "ItemError: no answer", step="doubt") for n in range(1, 3)]
    only = printed(replace(FOUND, groups=grouped(doubt)), 120)
    assert "retry --in-doubt again 2026" in only and "retry --in-doubt done 2026" in only and "after a fix" not in only
    both = printed(replace(FOUND, groups=grouped([*doubt, dead_letter(9, "KeyError: 'price'")])), 120)
    assert "retry --in-doubt again 2026" in both and "after a fix: replay them" in both
    accepted = grouped(
        [dead_letter(1, "ItemError: no answer", True, step="doubt"), dead_letter(9, "KeyError: 'price'")]
    )
    assert "--in-doubt" not in printed(replace(FOUND, groups=accepted), 120)


def test_the_json_document_of_a_run() -> None:
    document = details_document(FOUND)
    assert (document["status"], document["by"], document["reason"]) == ("failed", "ann@host", "ticket 12")
    assert document["accepted"] == [
        {
            "items": 1,
            "by": "bob",
            "when": "2026-01-31T10:20:00+00:00",
            "why": "a test account",
            "reason": "a test account",
        }
    ]
    first, second = document["errors"]
    assert first["keys"] == ["u1", "u3", "u4", "u5"] and first["keys_left_out"] == 0
    assert first["first"]["frames"][0] == {"path": PATH, "line": 9, "function": "transform_up"}
    assert "traceback" not in first["first"] and second["items"] == 1
    assert document["phases"][0]["contention"] == {"conflicts": 3, "throttles": 2}


def test_keys_are_printed_one_per_line() -> None:
    file = io.StringIO()
    print_keys(Console(file=file, width=5), iter(["u1,7", '"a long one",8']))
    assert file.getvalue() == 'u1,7\n"a long one",8\n'
