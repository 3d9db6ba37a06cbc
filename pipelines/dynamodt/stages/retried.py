"""What passes over dead letters have written before a window of changes, which may show their items as created.

An item that one window shows as deleted may be created again, and be transformed then as a dead letter's item; the next
window shows it as created. Whether what it shows is the item as the run has written it, the journal of that pass tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynamodt.aws.journal import Journal
from dynamodt.aws.storage import Storage
from dynamodt.core.conflicts import Current, Shown, shown
from dynamodt.core.diff import key_of, parts_of
from dynamodt.core.keys import key_text
from dynamodt.core.places import is_note, journal_of_run
from dynamodt.errors import ItemError
from dynamodt.model import Image, Job, TableSpec, Update


class RetriedOrNot(ItemError):
    """Whether an item is the run's own result cannot be told."""

    def __init__(self) -> None:
        super().__init__(
            "the run has written this item as a dead letter's, and the same attributes were changed since",
            hint="look at the item: it may or may not be transformed, and nothing takes it up again by itself",
        )


class Retried:
    """The updates of these passes, in memory: no more than there were dead letters."""

    def __init__(self, table: TableSpec, stamp: str | None, updates: Iterator[Update]) -> None:
        self._table = table
        self._stamp = stamp
        self._updates: dict[str, list[Update]] = {}
        for update in updates:
            self._updates.setdefault(key_text(update.key), []).append(update)

    def shown(self, image: Image) -> Shown:
        """What an item tells: "written" is the run's own result, "unclear" may be it."""
        if not self._updates:
            return "unwritten"
        text = key_text(key_of(self._table, image))
        current = Current({text: image}, {}, {})
        found = [shown(update, current, stamp=self._stamp) for update in self._updates.get(text, ())]
        return next((one for one in ("written", "unclear") if one in found), "unwritten")


def retried_of(storage: Storage, job: Job) -> Retried:
    """What the passes that a job names have written."""
    return Retried(job.table, job.script.stamp, _updates(storage, job))


def _updates(storage: Storage, job: Job) -> Iterator[Update]:
    for run in job.retried:
        prefix = journal_of_run(job.table.name, run)
        journal = Journal(storage, job.table, prefix)
        names = list(storage.names(prefix))
        void = {key_text(key) for name in names if is_note(name) for key in journal.read_note(name).void}
        for name in names:
            for change in () if is_note(name) else journal.announced(name):
                for part in parts_of(change):
                    if isinstance(part, Update) and key_text(part.key) not in void:
                        yield part
