"""The results of commands, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.model.pages import Counts, Units

if TYPE_CHECKING:
    from dynamodt.model.items import Direction, Image, Item
    from dynamodt.model.runs import RunRecord, ScriptText


class Cost(NamedTuple):
    """What a run would come to, as far as a dry run can tell (`runs.cost` says what is not in it).

    Write units of the table alone, and at most, with its indexes. `usd` is the least and the most, at the prices of
    the day `as_of`; None where there is no price.
    """

    wcu: float
    wcu_most: float
    rcu: float
    puts: int = 0  # requests to S3
    gets: int = 0
    export_bytes: int = 0
    usd: tuple[float, float] | None = None
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one version's run came to. `samples` are (before, after) items; they are shown, never logged."""

    table: str
    direction: Direction
    version: int
    name: str
    run: str
    status: str  # "succeeded", "failed", "stopped", "dry-run", "refused" (to go on with it)
    counts: Counts = Counts()
    consumed: Units = Units()
    seconds: float = 0.0
    error: str = ""
    dead_letters: str = ""  # where the file is
    first_dead_letter: str = ""  # in a sentence; it is shown, never logged
    samples: tuple[tuple[Item, Item | None], ...] = ()
    key_names: tuple[str, ...] = ()  # what tells the samples apart
    journal: bool = False  # whether `undo` can take it back
    rehearsal: bool = False  # a dry run, whichever way it ended
    uncovered: str = ""  # the moment (ISO 8601) after which nothing that was written is covered
    cost: Cost | None = None  # of the run that a dry run has rehearsed
    texts: tuple[ScriptText, ...] = ()  # of a script that was edited between attempts: all of them


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table's part of `up` or `down`. `error` is the error that ended it early, if one did."""

    table: str
    direction: Direction
    versions: tuple[RunReport, ...] = ()
    at: int = 0  # the version that the table stands at now
    error: BaseException | None = None
    latest: int = 0  # the highest version that has a file; 0: not known
    unprepared: int = 0  # the first pending version whose prepared data is missing; 0: none
    reversible: bool = True  # whether the version that it stands at has a way down


class NotRestored(NamedTuple):
    """An item that an undo leaves as it is, at least in part: which attributes (none: all of it), and why. `restored`
    are attributes that are as before the run: with some of these, the item is restored in part."""

    key: Image
    attributes: tuple[str, ...]
    why: str
    restored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What taking a run back came to. `run` says it in counts: changed are restored, unchanged are as they were before
    the run already, superseded and vanished were changed or deleted since, dead could not be written."""

    run: RunReport  # its status: "undone", "undoing" (not at its end yet) or "dry-run"
    at: int  # the version that the table stands at now
    left: int = 0  # items that stay as they are, at least in part
    not_restored_at: str = ""  # where the file is that names them
    first_not_restored: tuple[NotRestored, ...] = ()
    error: BaseException | None = None
    partly: int = 0  # of the items that are left, those that are restored in part
    missing: int = 0  # parts of the journal that could not be used

    @property
    def fully(self) -> int:
        """The items that are as before the run, in all that it had changed."""
        return self.run.counts.read - self.left


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What `stamp` or `adopt` has recorded of a table, or would record. `at` is the version that it then stands at."""

    table: str
    records: tuple[RunRecord, ...]
    at: int
    latest: int  # the highest version that has a file
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version in `status`: "applied", "pending", "running" (a run of it is at work), "unfinished" (one was left
    half done), "edited" (its file has changed), "missing" (its file is gone). `run` is that run, and its status now."""

    version: int
    name: str
    state: str
    path: str = ""
    when: str = ""
    run: RunRecord | None = None


@dataclass(frozen=True, slots=True)
class TableStatus:
    table: str
    at: int
    versions: tuple[VersionStatus, ...]
    error: BaseException | None = None  # what is wrong with its folder: then no version is told
    younger: str = ""  # that the table is another one than at its last run, in a sentence
