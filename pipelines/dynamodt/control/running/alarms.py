"""Lets a run rest while an alarm is on: the application's distress goes before the migration's progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from dynamodt.aws.alarms import alarm_states
from dynamodt.aws.state import State
from dynamodt.errors import DynamodtError
from dynamodt.model import Job

LOOK_SECONDS = 10.0

# A new alarm starts as INSUFFICIENT_DATA, and one on a metric that is sent for errors only (DynamoDB's
# ThrottledRequests) stays so for as long as all is well, whatever its TreatMissingData says: to rest for that would be
# to rest for ever. Whoever wants missing data to hold a run sets TreatMissingData to `breaching`, where it is obeyed.
_QUIET = ("OK", "INSUFFICIENT_DATA")


def watching(
    names: Sequence[str], job: Job, state: State, note: Callable[[str], None]
) -> tuple[Callable[[], None], ...]:
    """What is to be called now and then while the job runs: nothing where no alarm is named."""
    if not names:
        return ()
    read = partial(alarm_states, job.stage.connection, names)

    def hold(why: str) -> None:
        state.leases.tell(job.lease, job.attempt, hold=why)

    return (AlarmWatch(names, read, hold, note).tick,)


class AlarmWatch:
    """Holds a run while one of its alarms is in ALARM, or cannot be read; lets it go on when all are quiet.

    `read` gives the alarms' states by name, `hold` tells the workers why to rest (empty: no more).
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[], Mapping[str, str]],
        hold: Callable[[str], None],
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._read = read
        self._hold = hold
        self._note = note
        self._clock = clock
        self._due = float("-inf")
        self._told: str | None = None  # the first look tells the workers in any case: a run before may have left word

    def tick(self) -> None:
        """Look at the alarms, ten seconds after the last look. Raises Fenced when the run is another process's by now,
        ServiceError when the workers cannot be told."""
        if self._clock() < self._due:
            return
        why = self._why()
        self._due = self._clock() + LOOK_SECONDS
        if why == self._told:
            return
        self._hold(why)
        if why:
            self._note(f"the run rests: {why}")
        elif self._told:
            self._note("the run goes on: no alarm holds it any more")
        self._told = why

    def _why(self) -> str:
        try:
            states = self._read()
        except DynamodtError as error:
            return f"the alarms cannot be read: {error}" + (f" ({error.hint})" if error.hint else "")
        reasons = [_reason(name, states.get(name)) for name in self._names if states.get(name) not in _QUIET]
        return "; ".join(reasons)


def _reason(name: str, state: str | None) -> str:
    if state is None:
        return f"there is no alarm {name} (a composite one is shown only to who may DescribeAlarms on *)"
    return f"the alarm {name} is in {state}"
