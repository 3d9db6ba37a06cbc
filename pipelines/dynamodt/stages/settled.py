"""What a page's changes have come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dynamodt.core.diff import parts_of
from dynamodt.core.keys import key_text
from dynamodt.model import Change, Counts, DeadLetter, Friction, Image, Remove, Units, Update

SAMPLES = 3


@dataclass(slots=True)
class Settled:
    """What a page's changes came to. `void` are the keys of changes that had no effect, whatever the journal says,
    `unconfirmed` those of items that are gone, where the run may have deleted them or the application.
    """

    counts: Counts = Counts()
    units: Units = Units()
    dead: list[DeadLetter] = field(default_factory=list)
    written: list[Change] = field(default_factory=list)  # the first few that were
    friction: Friction = Friction()
    void: list[Image] = field(default_factory=list)
    unconfirmed: list[Image] = field(default_factory=list)
    effective: list[Change] = field(default_factory=list)

    def done(self, changes: Sequence[Change]) -> None:
        """The changes were written: `end`, for many at once."""
        self.counts = self.counts._replace(changed=self.counts.changed + len(changes))
        self.effective += changes
        if len(self.written) < SAMPLES:
            self.written += changes[: SAMPLES - len(self.written)]

    def end(self, change: Change, kind: str, *, unconfirmed: bool = False) -> None:
        """The change has come to its end: "changed", or in one of the other counts, and then it had no effect."""
        if unconfirmed:
            self.unconfirmed.append(change.key)
        self.counts = self.counts._replace(**{kind: getattr(self.counts, kind) + 1})
        if kind == "changed":
            self.effective.append(change)
        else:
            self.without_effect(change)

    def add(self, other: Settled) -> None:
        """What others of the same page have come to."""
        self.counts, self.units = self.counts.plus(other.counts), self.units.plus(other.units)
        self.friction = self.friction.plus(other.friction)
        self.dead += other.dead
        self.void += other.void
        self.unconfirmed += other.unconfirmed
        self.written += other.written[: SAMPLES - len(self.written)]

    def without_effect(self, change: Change) -> None:
        """Nothing of the change was written. Of the insertions of a transaction their rows in the state table tell."""
        self.void += [part.key for part in parts_of(change) if isinstance(part, Update | Remove) or part is change]

    def really_void(self) -> list[Image]:
        """The void keys on which no other change of the page had an effect: two may have been for one."""
        if not self.void:
            return []
        parts = (part for change in self.effective for part in parts_of(change))
        effective = {key_text(part.key) for part in parts if isinstance(part, Update | Remove)}
        return [key for key in self.void if key_text(key) not in effective]
