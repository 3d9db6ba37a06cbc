"""An undo that is at work elsewhere, followed: what is shown is how far it has come, not the run that it takes back."""

from __future__ import annotations

from dataclasses import replace

from dynamodt.control.running.following import RunTotals
from dynamodt.model import Counts
from tests.unit.test_following import RECORD, Seen, Stage

UNDOING = replace(RECORD, status="undoing")


def undone_run() -> Stage:
    """All four units of the run are done."""
    stage = Stage()
    for unit in range(4):
        stage.unit("01RUN", unit, 100)
    return stage


def test_its_own_units_are_counted() -> None:
    stage, seen = undone_run(), Seen()
    stage.write(UNDOING)
    stage.hold(UNDOING)

    def end() -> None:
        stage.write(replace(UNDOING, status="undone"))
        stage.release()

    stage.steps = [lambda: stage.unit("01RUN/undo1", 0, 100), lambda: stage.unit("01RUN/undo1", 3, 100), end]
    assert stage.follow(seen, "users") == [("01RUN", 2, "undone")]
    assert seen.percents == [("01RUN", 0), ("01RUN", 25), ("01RUN", 50)]


def test_of_several_tries_the_last_one() -> None:
    stage = undone_run()
    totals = RunTotals(stage.state)
    stage.unit("01RUN/undo1", 0, 100)
    assert totals.look(UNDOING).counts == Counts(100, 100)
    stage.unit("01RUN/undo2", 2, 7)
    assert totals.look(UNDOING).counts == Counts(7, 7)
    stage.unit("01RUN/undo2", 1, 8)
    assert totals.look(UNDOING).counts == Counts(15, 15)
