"""The results of commands, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dynamodt.model.pages import Counts, Units

if TYPE_CHECKING:
    from dynamodt.errors import DynamodtError
    from dynamodt.model.runs import RunRecord, ScriptText
    from dynamodt.model.tables import Direction, Image, Item

LEFT_EARLY = ("failed", "stopped", "paused")  # of a run: its end is recorded, and the same command continues it


class Cost(NamedTuple):
    """The estimated cost of a run, from a dry run (`runs.cost` lists what is excluded).

    Write units of the table alone (`wcu`) and at most, with its indexes. `usd` is the least and the most, at the prices
    of the day `as_of`; None for a region without a known price.
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
    """The result of one version's run. `samples` are (before, after) items, for the terminal only: never logged."""

    table: str
    direction: Direction
    version: int
    name: str
    run: str
    status: str  # "succeeded", "failed", "stopped", "paused", "gone", "dry-run", "refused" (to continue it)
    counts: Counts = Counts()
    consumed: Units = Units()
    seconds: float = 0.0
    error: str = ""
    dead_letters: str = ""  # the place of the file
    accepted: int = 0  # dead letters that a person has accepted
    first_dead_letter: str = ""  # in a sentence, for the terminal only: never logged
    samples: tuple[tuple[Item, Item | None], ...] = ()
    key_names: tuple[str, ...] = ()  # the key attributes of the samples
    journal: bool = False  # `undo` can undo it
    rehearsal: bool = False  # a dry run, whatever its status
    uncovered: str = ""  # the moment (ISO 8601) from which on writes of the application are not covered
    cost: Cost | None = None  # of the run that a dry run rehearsed
    texts: tuple[ScriptText, ...] = ()  # all texts of a script that was edited between attempts

    @property
    def tolerated(self) -> int:
        """The number of dead letters with which it has succeeded, without accepted ones."""
        return self.counts.dead - self.accepted if self.status == "succeeded" else 0

    @property
    def left_early(self) -> bool:
        """Whether its end is recorded, and the same command continues it."""
        return self.status in LEFT_EARLY

    @property
    def outcome(self) -> str:
        """The status in words: `succeeded with 3 dead letters, 1 of them accepted`."""
        return outcome(self.status, self.counts.dead, self.accepted)


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table's part of `up` or `down`. `error` is the error that ended it early, if any."""

    table: str
    direction: Direction
    versions: tuple[RunReport, ...] = ()
    at: int = 0  # the table's version now
    error: BaseException | None = None
    latest: int = 0  # the highest version that has a file; 0: unknown
    unprepared: int = 0  # the first pending version whose prepared data is missing; 0: none
    reversible: bool = True  # the table's present version can be rolled back
    notices: tuple[str, ...] = ()  # consumers of its versions' writes; applied versions of a newer release
    held_back: bool = False  # not started: another table of the command is refused, or the command was stopped before
    refusal: BaseException | None = None  # of a dry run: what the command itself would be refused for


class NotRestored(NamedTuple):
    """An item that an undo has not restored in full: the attributes that are not restored (none: the whole item), and
    the reason. `restored` are the attributes that are as before the run; with any, the item is restored in part."""

    key: Image
    attributes: tuple[str, ...]
    why: str
    restored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoReport:
    """The result of an undo. In the counts of `run`, changed items are restored, unchanged ones were already as before
    the run, superseded and vanished ones were changed or deleted since, dead ones could not be written."""

    run: RunReport  # its status: "undone", "undoing" (not at its end yet) or "dry-run"
    at: int  # the table's version now
    not_restored: int = 0  # items that are not restored in full
    not_restored_at: str = ""  # the file that lists them
    first_not_restored: tuple[NotRestored, ...] = ()
    error: BaseException | None = None
    partly: int = 0  # of these, the items that are restored in part
    missing: int = 0  # parts of the journal that could not be used
    refusal: BaseException | None = None  # of a dry run: what the undo itself would be refused for

    @property
    def fully(self) -> int:
        """The items that are restored in full."""
        return self.run.counts.read - self.not_restored


class VersionOutcome(NamedTuple):
    """The outcome of `stamp`, `import_history` or `repair` for a version: "recorded" as applied, "removed" from the
    applied ones, "accepted" (an edit of its file), "unchanged", or "edited" (unchanged, but its file differs)."""

    version: int
    name: str
    outcome: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The records of `stamp`, `import_history` or `repair` for a table, or those that a dry run would write. `at` is
    the table's version afterwards; `outcomes` has each version concerned."""

    table: str
    records: tuple[RunRecord, ...]
    at: int
    latest: int  # the highest version that has a file
    dry_run: bool = False
    outcomes: tuple[VersionOutcome, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version in `status`. Its `state` is "applied", "pending", "running" (its run is active), "unfinished" (its
    run has ended early), "edited" (its file has changed) or "missing" (it has no file: a newer release has applied it).
    `run` is that run, with its current status (such as "paused"), and `held` the reason why it does not work; `changed`
    are the files that the version uses and that have changed since it was applied."""

    version: int
    name: str
    state: str
    path: str = ""
    when: str = ""
    run: RunRecord | None = None
    changed: tuple[str, ...] = ()
    dead: int = 0  # dead letters with which it was applied
    held: str = ""


@dataclass(frozen=True, slots=True)
class TableStatus:
    table: str
    at: int
    versions: tuple[VersionStatus, ...]
    error: BaseException | None = None  # of its folder; `versions` is then empty
    younger: str = ""  # a sentence, when the table was created again since its last run
    older_state: str = ""  # a sentence, when the state table lacks the table's last run
    unread: DynamodtError | None = None  # why it is not known whether the table or the state table was restored

    @property
    def not_compared(self) -> str:
        """A sentence if the table, or its storage, cannot be read; else empty."""
        what = "whether the table or the state table was restored since the last run is not known"
        return f"{what}: {self.unread}" if self.unread else ""


def pick(value: object, names: str) -> dict[str, Any]:
    """Some attributes of a value, by name."""
    return {name: getattr(value, name) for name in names.split()}


def outcome(status: str, dead: int, accepted: int) -> str:
    """A run's status in words; if it has succeeded, with its dead letters."""
    if status != "succeeded" or not dead:
        return status
    text = f"{status} with {counted(dead, 'dead letter')}"
    if not accepted:
        return text
    return f"{text}, accepted" if accepted == dead else f"{text}, {accepted:,} accepted"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 item`, `3,000 items`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


# ---------------------------------------------------------------- of `check`

Level = Literal["fault", "warning", "note"]


class Fault(NamedTuple):
    """A fault that an item shows. `images`: the item and its results, by labels. `grave`: it is a fault if items of the
    sample show it, and a warning otherwise."""

    name: str
    kind: str
    what: str
    hint: str = ""
    where: str = ""
    images: tuple[tuple[str, Image], ...] = ()
    grave: bool = True


class Shown(NamedTuple):
    """The smallest item that shows a finding, and its results, as pairs of a label and an image. `key` are the key's
    attributes. `invented`: the values were replaced, and are no real data. `of` is the key of the sample's item that
    shows the finding, or from which the `variant` was made; empty without such an item."""

    images: tuple[tuple[str, Image], ...]
    key: tuple[str, ...]
    invented: bool
    of: Image
    variant: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding about a version. `name` is the property, `where` the author's line, `items` the number of items of the
    sample that show it (0: only variants do)."""

    level: Level
    name: str
    what: str
    hint: str = ""
    where: str = ""
    items: int = 0
    shown: Shown | None = None


class Path(NamedTuple):
    """An attribute, by its path, and the numbers of items of the sample in which a version adds, changes, retypes or
    removes it."""

    path: str
    added: int
    changed: int
    retyped: int
    removed: int


class Growth(NamedTuple):
    """Bytes of the widest item before and after, and the largest number of bytes by which an item grows."""

    before: int
    after: int
    most: int


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a version on the items of the sample. `kind`: none, expanding, contracting, or both; "" where no
    item was transformed."""

    kind: str = ""
    changed: int = 0
    unchanged: int = 0
    moved: int = 0
    deleted: int = 0
    inserted: int = 0
    into_target: int = 0
    paths: tuple[Path, ...] = ()
    leaves: tuple[str, ...] = ()  # indexes that items leave
    growth: Growth = Growth(0, 0, 0)


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """The check of one version on `items` items. `deterministic`, `idempotent` and `reversible` are by the sample:
    None, or "", if it has no evidence. `prepared`: "", "used" or "missing". `bound`: with 95 % certainty at most this
    share of the table's items shows a fault; None if unknown."""

    version: int
    name: str
    path: str
    items: int = 0
    derived: bool = False  # from later items, by transform_down
    variants: int = 0
    findings: tuple[Finding, ...] = ()
    effect: Effect = Effect()
    deterministic: bool | None = None
    idempotent: bool | None = None
    declared_idempotent: bool = False
    reversible: str = ""  # "yes", "lossy", "no", "none" (no transform_down), or "": unknown
    prepared: str = ""
    micros: float | None = None
    bound: float | None = None

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "fault")


@dataclass(frozen=True, slots=True)
class TableCheck:
    """The checks of a table's versions. `source` describes the sample; `whole`: it is all of the table."""

    table: str
    at: int
    source: str
    items: int
    whole: bool = False
    versions: tuple[VersionCheck, ...] = ()
    notices: tuple[str, ...] = ()
    saved: str = ""
    read_units: float = 0.0
    error: DynamodtError | None = None  # that has ended the check

    @property
    def faults(self) -> int:
        return sum(len(version.faults) for version in self.versions)
