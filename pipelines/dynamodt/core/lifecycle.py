"""A run's life: its statuses, and every way from one to another.

Nothing else decides whether a run may go on, or a new one begin.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dynamodt.errors import Refused


class Transition(NamedTuple):
    """`event` takes a run from `status` to `to`; `meaning` says it in a sentence."""

    status: str
    event: str
    to: str
    meaning: str


TRANSITIONS: Final = (
    Transition("", "begin", "running", "A run begins: its units are planned, and nothing is written yet."),
    Transition(
        "running", "succeed", "succeeded", "Everything was read, the balance holds, and no dead letter is left."
    ),
    Transition("running", "fail", "failed", "An error or a dead letter ended it; its checkpoints stand."),
    Transition("running", "stop", "stopped", "A person stopped it after a page; its checkpoints stand."),
    Transition("running", "continue", "running", "Its process died; the next one goes on from the checkpoints."),
    Transition("failed", "continue", "running", "The cause was mended, and the same run goes on."),
    Transition("stopped", "continue", "running", "The same run goes on."),
    Transition("", "stamp", "stamped", "Nothing ran here: a person said which versions stand."),
    Transition("", "adopt", "adopted", "It ran elsewhere, by the record of the tool that ran it."),
    Transition("succeeded", "undo", "undoing", "It is taken back by its journal; its version stands until that ends."),
    Transition("failed", "undo", "undoing", "What it has done is taken back, in place of going on."),
    Transition("stopped", "undo", "undoing", "What it has done is taken back, in place of going on."),
    Transition("running", "undo", "undoing", "Its process died; what it has done is taken back."),
    Transition("undoing", "undo", "undoing", "The undo was stopped, or died: it goes on from its checkpoints."),
    *(
        Transition(
            status,
            "replace",
            "replaced",
            "It counts for nothing: it wrote nothing that is there, or a person has said what stands.",
        )
        for status in ("running", "failed", "stopped", "undoing", "partly-undone")
    ),
    Transition("undoing", "undone", "undone", "All that is still as the run wrote it is as it was before the run."),
    Transition("undoing", "lack", "partly-undone", "What its journal still has is taken back, not the version."),
    Transition("partly-undone", "undo", "undoing", "What its journal lacked may be back: all is gone over again."),
    Transition("partly-undone", "stamp", "closed", "A person has mended the items, and said which versions stand."),
)

_TO: Final = {(transition.status, transition.event): transition.to for transition in TRANSITIONS}
ENDED: Final = frozenset({"succeeded", "stamped", "adopted", "undone", "replaced", "closed"})


def after(status: str, event: str) -> str:
    """The status that an event leads to. Raises Refused for an event that has no place in this status."""
    if (status, event) not in _TO:
        raise Refused(f"a run that is {status or 'not begun'} cannot {event}", hint="dynamodt history")
    return _TO[status, event]


def unfinished(status: str) -> bool:
    """Whether a run in this status holds its table: it must go on to its end before another may begin."""
    return status not in ENDED
