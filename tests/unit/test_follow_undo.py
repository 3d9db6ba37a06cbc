"""An undo that is active elsewhere, followed: its own progress is shown, and not that of the run that it undoes."""

from __future__ import annotations

from dataclasses import replace

from dynamodt.model.pages import Counts
from dynamodt.state.split_rows import RunTotals
from tests.unit.followed_runs import RECORD, Seen, Stage

UNDOING = replace(RECORD, status="undoing")


def undone_run() -> Stage:
    """All four splits of the run are complete."""
    stage = Stage()
    for split in range(4):
        stage.split("01RUN", split, 100)
    return stage


def test_the_splits_of_the_undo_are_counted() -> None:
    stage, seen = undone_run(), Seen()
    stage.write(UNDOING)
    stage.hold(UNDOING)

    def end() -> None:
        stage.write(replace(UNDOING, status="undone"))
        stage.release()

    stage.steps = [lambda: stage.split("01RUN/undo1", 0, 100), lambda: stage.split("01RUN/undo1", 3, 100), end]
    assert stage.follow(seen, "users") == [("01RUN", 2, "undone")]
    assert seen.percents == [("01RUN", 0), ("01RUN", 25), ("01RUN", 50)]


def test_the_last_of_several_tries_of_an_undo_is_counted() -> None:
    stage = undone_run()
    totals = RunTotals(stage.state)
    stage.split("01RUN/undo1", 0, 100)
    assert totals.poll(UNDOING).counts == Counts(100, 100)
    stage.split("01RUN/undo2", 2, 7)
    assert totals.poll(UNDOING).counts == Counts(7, 7)
    stage.split("01RUN/undo2", 1, 8)
    assert totals.poll(UNDOING).counts == Counts(15, 15)
