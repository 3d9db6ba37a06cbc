"""The reasons why an ended run has not succeeded, and the hints for them."""

from __future__ import annotations

import pytest

from dynamodt.errors import RunFailed
from dynamodt.model.pages import Counts, Totals
from dynamodt.runs.recording import LeftDeadLetters, completion_error


@pytest.mark.parametrize(
    ("dead", "doubtful", "unreadable", "hints"),
    [
        (1, 0, 0, ["fix the script"]),
        (1, 1, 0, ["--in-doubt"]),
        (2, 0, 2, ["2 are lines of the export's files", "dynamodt undo run1"]),
        (3, 1, 1, ["fix the script", "--in-doubt", "1 is a line", "another export"]),
    ],
    ids=["item", "doubt", "lines", "all"],
)
def test_the_hint_for_dead_letters_depends_on_their_kind(
    dead: int, doubtful: int, unreadable: int, hints: list[str]
) -> None:
    totals = Totals(Counts(read=dead, dead=dead), done=1)
    error = completion_error(totals, 1, "run run1", LeftDeadLetters("dead.jsonl", doubtful, unreadable), "run1")
    assert error is not None and error.where == "dead.jsonl"
    every = ["fix the script", "--in-doubt", "of the export's files", "another export"]
    assert all(hint in error.hint for hint in hints) and "--accept-all" in error.hint
    assert sum(word in error.hint for word in every[:3]) == (dead > doubtful + unreadable) + bool(doubtful) + bool(
        unreadable
    )


@pytest.mark.parametrize(
    ("totals", "what"),
    [
        (Totals(Counts(read=9, changed=9), done=3), "only 3 of 4 splits were read"),
        (Totals(Counts(read=9, changed=8), done=4), "the balance does not hold"),
        (Totals(Counts(read=9, changed=8, superseded=2), done=4), "the balance does not hold"),
    ],
    ids=["unread", "lost", "twice"],
)
def test_a_run_that_skipped_something_is_not_complete(totals: Totals, what: str) -> None:
    error = completion_error(totals, 4, "run run1", LeftDeadLetters(""))
    assert isinstance(error, RunFailed) and error.what.startswith(what)
    assert error.where == "run run1" and error.hint


def test_a_run_that_read_everything_is_complete() -> None:
    assert completion_error(Totals(Counts(read=1, changed=1), done=1), 1, "run run1", LeftDeadLetters("")) is None


@pytest.mark.parametrize(
    ("accepted", "tolerated", "left"), [(0, 0, 3), (1, 1, 2), (2, 0, 1), (2, 1, 0), (3, 0, 0), (0, 3, 0)]
)
def test_accepted_or_tolerated_dead_letters_do_not_fail_a_run(accepted: int, tolerated: int, left: int) -> None:
    totals = Totals(Counts(read=9, changed=6, dead=3), done=1)
    error = completion_error(totals, 1, "run run1", LeftDeadLetters("dead.jsonl", 0, 0, accepted, tolerated))
    assert (error is None) == (left == 0)
    assert error is None or error.what.startswith(f"{left} item")


def test_a_write_in_doubt_is_not_tolerated() -> None:
    totals = Totals(Counts(read=9, changed=6, dead=3), done=1)
    error = completion_error(totals, 1, "run run1", LeftDeadLetters("dead.jsonl", doubtful=1, accepted=2, tolerated=9))
    assert error is not None and "--in-doubt" in error.hint
