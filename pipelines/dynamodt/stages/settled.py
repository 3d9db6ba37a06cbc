"""What a page's changes have come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dynamodt.aws.reads import key_text
from dynamodt.model import Change, Counts, DeadLetter, Friction, Image, Insert, Units

SAMPLES = 3


@dataclass(slots=True)
class Settled:
    """What a page's changes came to. `void` are the keys of changes that had no effect, whatever the journal says."""

    counts: Counts = Counts()
    units: Units = Units()
    dead: list[DeadLetter] = field(default_factory=list)
    written: list[Change] = field(default_factory=list)  # the first few that were
    friction: Friction = Friction()
    void: list[Image] = field(default_factory=list)
    inserted: set[str] = field(default_factory=set)  # keys, as text: another insertion of the page may have lost one

    def done(self, changes: Sequence[Change]) -> None:
        """The changes were written: `end`, for many at once."""
        self.counts = self.counts._replace(changed=self.counts.changed + len(changes))
        self.inserted.update(key_text(change.key) for change in changes if type(change) is Insert)
        if len(self.written) < SAMPLES:
            self.written += changes[: SAMPLES - len(self.written)]

    def end(self, change: Change, kind: str) -> None:
        """The change has come to its end: "changed", or in one of the other counts, and then it had no effect."""
        self.counts = self.counts._replace(**{kind: getattr(self.counts, kind) + 1})
        if kind != "changed":
            self.without_effect(change)
        elif isinstance(change, Insert):
            self.inserted.add(key_text(change.key))

    def without_effect(self, change: Change) -> None:
        """Nothing of the change was written."""
        self.void += [part.key for part in getattr(change, "parts", (change,))]
