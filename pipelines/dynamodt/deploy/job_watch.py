"""Follows a run of a Glue job until the job has stored its answer.

The answer and the progress are read from the state table. Glue's own state is displayed; all that it decides is whether
the job has ended.
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
from dynamodt.script.names import option
from dynamodt.state.worker_rows import AnswerRows, JobAnswer

if TYPE_CHECKING:
    from dynamodt.state.state import State

GLUE_SECONDS = 5.0  # a job takes a minute to start: Glue is asked less often than the state table
PATIENCE_SECONDS = 120.0  # after which an endpoint out of reach ends the watch; the job continues
_LEAVE, _PAUSE = "leave", "pause"


class JobWatch:
    """Watches one run of a job, and the tables that it may migrate.

    `watches` were created before the job was started; all progress is reported to `watcher`.
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
        """Returns the job's answer; None if the job has ended without one.

        Raises StoppedError if the user leaves, pauses or ends the job, and ServiceError if it cannot be observed any
        longer, in which case it continues.
        """
        answer = self._answered()
        for watch in self._watches.values():
            watch.settle()
        if self._aborts is not None:
            raise StoppedError.by(self._aborts, "the run was aborted; the same command continues it")
        return answer or self._answers.read(self.run.id)

    def _answered(self) -> JobAnswer | None:
        while True:
            try:
                answer = self._look()
                if answer is not None or self.run.ended:
                    return answer
                rest(self._watcher, LOOK_SECONDS, self._sleep)
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
            self._out_of_reach(error)
            return None
        self._silent_since = None
        return answer

    def _look_at_glue(self) -> None:
        if self._clock() - self._asked_glue >= GLUE_SECONDS:
            self.run = self._job.look(self.run.id)
            self._asked_glue = self._clock()  # a failed request is repeated at once
        self._watcher.waiting(f"{self._job.name}: {self.run.state.lower()}")

    def _out_of_reach(self, error: ServiceError) -> None:
        """Raises the error once it has lasted for two minutes."""
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
            self._watcher.notify(f"the job cannot be observed now, retrying: {error}")
        elif now - self._silent_since > PATIENCE_SECONDS:
            raise error.hinted("the job continues; run the same command again to follow it") from error

    # ------------------------------------------------------------ Ctrl-C

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Asks the user what becomes of the job. After SIGTERM, and without a terminal, it is left running."""
        at_work = [table for table, watch in self._watches.items() if watch.at_work]
        choices = {_LEAVE: "it continues without this command"}
        choices |= {_PAUSE: "the run pauses before its next request, until `resume`"} if at_work else {}
        choices[ABORT] = "the run ends before its next request" if at_work else "Glue stops the job at once"
        asked = not isinstance(interrupt, Terminated) and self._aborts is None
        choice = self._watcher.asked(f"The job {self._job.name} is running", choices) if asked else _LEAVE
        if choice == ABORT and at_work:
            self._aborts = interrupt
        elif choice == ABORT:
            self._job.stop(self.run.id)
            raise StoppedError.by(interrupt, "the job is being stopped; the same command starts it again")
        elif choice == _PAUSE:
            for table in at_work:
                self._tell(table, paused=True)
            raise StoppedError.by(interrupt, _onward("the run pauses", at_work, ("resume", "abort")))
        else:
            raise StoppedError.by(interrupt, _onward("the job continues", list(self._watches), ("pause", "abort")))

    def _tell(self, table: str, **word: object) -> None:
        """Writes a command for the run on a table into its lease, unless the run has just ended."""
        lease = self._leases.read(table)
        try:
            if lease.run and not lease.owner:
                self._leases.tell(table, lease.token, **word)
        except Fenced:
            return


def rest(watcher: JobWatcher, seconds: float = GLUE_SECONDS, sleep: Sleep = time.sleep) -> float:
    """Waits while the display is refreshed; returns the seconds."""
    for _ in range(round(seconds / TICK_SECONDS)):
        sleep(TICK_SECONDS)
        watcher.tick()
    return seconds


def _onward(what: str, tables: Sequence[str], commands: Sequence[str]) -> str:
    """The state of the job, and the commands that control it. A job without tables has no run to control."""
    if not tables:
        return f"{what}; run the same command again to follow it"
    table = tables[0] if len(tables) == 1 else "TABLE"
    control = ", ".join(f"{PROGRAM} {command} {option('--table', table)}" for command in commands)
    return f"{what}; to follow it: {PROGRAM} status --follow (or the same command again); to control it: {control}"


def watches_over(
    state: State, tables: Sequence[str], count_items: Callable[[str], int], watcher: JobWatcher
) -> dict[str, TableWatch]:
    """Watches of the tables that a job will migrate, created before the job is started."""
    before = {table: {record.run: record.attempts for record in state.runs(table)} for table in tables}
    return {table: TableWatch(state, table, count_items, watcher, before=before[table]) for table in tables}
