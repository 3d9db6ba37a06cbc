"""`--wait-lock`: a command waits for its turn at a table that another run holds, instead of being refused.

One run per table as ever (guarantee G4): the lease is taken as by a command that came when the table was free.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from dynamodt.aws.lease_rows import LeaseRows
from dynamodt.control.requests import RunOptions
from dynamodt.control.running.lease import at_work, holder, watch_of
from dynamodt.control.running.life import Watch, is_alive
from dynamodt.core.durations import seconds
from dynamodt.errors import Busy, Refused
from dynamodt.model import Lease

Done = TypeVar("Done")
_NOTE_SECONDS = 30.0
_LOOK_SECONDS = 1.0


@dataclass
class Clock:
    """Seconds of this process, and how to let some pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def in_turn(
    leases: LeaseRows,
    table: str,
    options: RunOptions,
    note: Callable[[str], None],
    attempt: Callable[[], Done],
    clock: Clock = Clock(),
) -> Done:
    """What `attempt` returns, which plans afresh and takes the lease itself; with `wait_lock` once nobody else is at
    work on the table, and anew when somebody was faster.

    Raises Busy when the time is over, and what the attempt raises. A rehearsal takes no lease, and waits for none.
    """
    patience = seconds("--wait-lock", options.wait_lock)
    if not patience or options.dry_run:
        return attempt()
    turn = _Turn(leases, table, options.wait_lock, patience, note, clock)
    while True:
        turn.wait()
        try:
            return attempt()
        except Refused as refused:
            if turn.final(refused):
                raise
        turn.pause()


def is_held(leases: LeaseRows, table: str) -> bool:
    """Whether a run may be at work on the table now."""
    return is_alive(leases.read(table))


@dataclass
class _Turn:
    """One command's waiting for one table. All that waits looks once a second or two, each at its own pace."""

    leases: LeaseRows
    table: str
    written: str
    patience: float
    note: Callable[[str], None]
    clock: Clock
    began: float = field(init=False)
    watch: Watch = field(init=False)
    tables: list[str] = field(init=False)  # that are waited for: those that it writes to come when they were refused
    told: tuple[str, float] = ("", 0.0)  # of whom, and when

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        self.watch = watch_of(self.clock.now)
        self.tables = [self.table]

    @property
    def waited(self) -> float:
        return self.clock.now() - self.began

    def wait(self) -> None:
        """Until nobody is at work on the tables. Raises Busy when that takes too long."""
        while (seen := self._holder()) is not None:
            if self.waited >= self.patience:
                raise at_work(seen, f"waited {self.written} in vain: ")
            self._tell(seen)
            self.pause()
        if self.told[0]:
            self.note(f"table {self.table} is free, after {self.waited:.0f} s")
            self.told = ("", 0.0)

    def final(self, refused: Refused) -> bool:
        """Whether waiting changes nothing: a refusal while another run is at work may not hold when it has ended."""
        if self.waited >= self.patience:
            return True
        if isinstance(refused, Busy):
            self.tables += [refused.table] if refused.table not in ("", *self.tables) else []
            return False
        return self._holder() is None

    def _holder(self) -> Lease | None:
        """The first lease that somebody holds, or may hold."""
        for table in self.tables:
            lease, life = self.watch.look(self.leases, table)
            if not life.is_over:
                return lease
        return None

    def pause(self) -> None:
        self.clock.sleep(_LOOK_SECONDS * random.uniform(1, 2))

    def _tell(self, seen: Lease) -> None:
        """Whenever it is another one that holds the table, and every half minute."""
        whom, when = self.told
        if whom == seen.run and self.clock.now() - when < _NOTE_SECONDS:
            return
        self.told = seen.run, self.clock.now()
        self.note(f"waited {self.waited:.0f} s of {self.written} for table {seen.table}: {holder(seen)} is at work")
