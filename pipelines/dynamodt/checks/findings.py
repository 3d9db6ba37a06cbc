"""The results of `check` as values: findings, their examples, and the properties of each version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dynamodt.errors import DynamodtError
from dynamodt.model.tables import Image

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
