"""Follows a run of a Glue job until the job has answered.

The answer and the progress are read from the state table. Glue's own state is displayed; all it decides is whether the
job has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dynamodt.deploy.glue_runs import GlueJob, JobRun
from dynamodt.errors import Fenced, ServiceError
from dynamodt.model.runs import ABORT
from dynamodt.runs.follow import LOOK_SECONDS, TICK_SECONDS, Clock, Sleep, TableWatch
from dynamodt.runs.interrupts import StoppedError, Terminated
from dynamodt.runs.options import PROGRAM, JobWatcher
from dynamodt.state.worker_rows import AnswerRows, JobAnswer

if TYPE_CHECKING:
    from dynamodt.state.state import State

GLUE_SECONDS = 5.0  # Glue's own word is asked for less often: it takes a minute to start a job
PATIENCE_SECONDS = 120.0  # so long an endpoint may be out of reach: the job goes on without us
_LEAVE, _PAUSE = "leave", "pause"


class JobWatch:
    """One run of a job, watched over the tables that it may move.

    `watches` know which runs had been there before it was started. All that is told goes to `watcher`.
    """

    def __init__(
        self,
        state: State,
        job: GlueJob,
        run: str,
        watches: dict[str, TableWatch],
        watcher: JobWatcher,
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._leases = state.leases
        self._answers = AnswerRows(state.rows)
        self._job = job
        self._watches = watches
        self._watcher = watcher
        self._clock = clock
        self._sleep = sleep
        self._asked_glue = float("-inf")
        self._silent_since: float | None = None
        self._aborts: KeyboardInterrupt | None = None
        self.run = JobRun(run, "STARTING")

    def follow(self) -> JobAnswer | None:
        """Watch until the job has answered; None when it has come to its end without an answer.

        Raises StoppedError when a person leaves it running, lets it rest or ends it, and ServiceError when nothing can
        be seen of it any more; the job goes on then.
        """
        answer = self._answered()
        for watch in self._watches.values():
            watch.settle()
        if self._aborts is not None:
            raise StoppedError.by(self._aborts, "the run has ended after its page; the same command goes on from there")
        return answer or self._answers.read(self.run.id)

    def _answered(self) -> JobAnswer | None:
        while True:
            try:
                answer = self._look()
                if answer is not None or self.run.ended:
                    return answer
                self._wait()
            except KeyboardInterrupt as interrupt:
                self._interrupted(interrupt)

    def _look(self) -> JobAnswer | None:
        try:
            for table, watch in self._watches.items():
                watch.look()
                if self._aborts is not None and watch.at_work:
                    self._tell(table, stop=ABORT)
            answer = self._answers.read(self.run.id)
            self._look_at_glue()
        except ServiceError as error:
            self._bear(error)
            return None
        self._silent_since = None
        return answer

    def _look_at_glue(self) -> None:
        if self._clock() - self._asked_glue >= GLUE_SECONDS:
            self.run = self._job.look(self.run.id)
            self._asked_glue = self._clock()  # when it could be asked: until then, at each look
        self._watcher.waiting(f"{self._job.name}: {self.run.state.lower()}")

    def _bear(self, error: ServiceError) -> None:
        """A line that is down for a while is no reason to leave a job alone."""
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
            self._watcher.note(f"cannot see the job now, and goes on trying: {error}")
        elif now - self._silent_since > PATIENCE_SECONDS:
            raise error.hinted("the job goes on; the same command, typed again, follows it") from error

    def _wait(self) -> None:
        rest(self._watcher, LOOK_SECONDS, self._sleep)

    # ------------------------------------------------------------ Ctrl-C

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Do what a person wants done about the job; nobody to be asked, or SIGTERM: leave it running."""
        at_work = [table for table, watch in self._watches.items() if watch.at_work]
        choices = {_LEAVE: "it goes on without this command"}
        choices |= {_PAUSE: "the run rests after its page, until `resume`"} if at_work else {}
        choices[ABORT] = "the run ends after its page" if at_work else "Glue ends the job, wherever it is"
        asked = not isinstance(interrupt, Terminated) and self._aborts is None
        choice = self._watcher.asked(f"The job {self._job.name} is at work", choices) if asked else _LEAVE
        if choice == ABORT and at_work:
            self._aborts = interrupt
        elif choice == ABORT:
            self._job.stop(self.run.id)
            raise StoppedError.by(interrupt, "the job was told to end; the same command begins it again")
        elif choice == _PAUSE:
            for table in at_work:
                self._tell(table, paused=True)
            raise StoppedError.by(interrupt, _onward("it rests after its page", at_work, ("resume", "abort")))
        else:
            raise StoppedError.by(interrupt, _onward("the job goes on", list(self._watches), ("pause", "abort")))

    def _tell(self, table: str, **word: object) -> None:
        """Leave word for the run on a table, unless it has just ended."""
        lease = self._leases.read(table)
        try:
            if lease.run and not lease.owner:
                self._leases.tell(table, lease.token, **word)
        except Fenced:
            return


def rest(watcher: JobWatcher, seconds: float = GLUE_SECONDS, sleep: Sleep = time.sleep) -> float:
    """Let time pass, while the display goes on; returns the seconds."""
    for _ in range(round(seconds / TICK_SECONDS)):
        sleep(TICK_SECONDS)
        watcher.tick()
    return seconds


def _onward(what: str, tables: Sequence[str], commands: Sequence[str]) -> str:
    """What has become of the job, and the commands that reach it."""
    if not tables:  # it moves none: there is no run to be told anything
        return f"{what}; the same command, typed again, follows it"
    table = tables[0] if len(tables) == 1 else "TABLE"
    told = ", ".join(f"{PROGRAM} {command} --table {table}" for command in commands)
    return f"{what}; to watch it: {PROGRAM} status --follow (or the same command again); to tell it: {told}"


def watches_over(
    state: State, tables: Sequence[str], count_items: Callable[[str], int], watcher: JobWatcher
) -> dict[str, TableWatch]:
    """Watches over the tables that a job is going to move, made before it is started."""
    before = {table: {record.run: record.attempts for record in state.runs(table)} for table in tables}
    return {table: TableWatch(state, table, count_items, watcher, before=before[table]) for table in tables}
