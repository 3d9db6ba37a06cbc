"""A Glue job's runs: started, looked at, stopped. What they have come to stands in the state table, not here.

The end of a log in CloudWatch Logs.

A job that was started in Glue, followed to its answer by the state table; what Glue says of it is shown, and not
taken for more than that a job has come to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import Refused, ServiceError

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
import time
from collections.abc import Callable, Sequence

from dynamodt.errors import Fenced
from dynamodt.runs.follow import LOOK_SECONDS, TICK_SECONDS, Clock, Sleep, TableWatch
from dynamodt.runs.interrupts import StoppedError, Terminated
from dynamodt.runs.options import PROGRAM, JobWatcher
from dynamodt.runs.session import ABORT
from dynamodt.state.state import State
from dynamodt.state.worker_rows import AnswerRows, JobAnswer

SUCCEEDED = "SUCCEEDED"
STOPPING = "STOPPING"
_ENDED = frozenset({SUCCEEDED, "FAILED", "ERROR", "STOPPED", "TIMEOUT", "EXPIRED"})
_MOST_RUNS = 200  # that Glue lists at once, the newest first
_LOG_PREFIX = "--custom-logGroup-prefix"
_LOGS = "/aws-glue/jobs"
_START_SECONDS = 60.0


class JobRun(NamedTuple):
    """A run of a job as Glue sees it. `started` is ISO 8601; `error` is what Glue says of one that failed."""

    id: str
    state: str
    started: str = ""
    error: str = ""
    arguments: Mapping[str, str] = {}

    @property
    def ended(self) -> bool:
        """Whether Glue has no more to do with it."""
        return self.state in _ENDED


class GlueJob:
    """A deployed job of a stage, by its name. Every method raises ServiceError when Glue cannot be asked, and Refused
    when there is no such job."""

    def __init__(self, connection: Connection, name: str, stage: str) -> None:
        self.name = name
        self.where = f"Glue job {name}"
        self._stage = stage
        self._glue = client(connection, "glue")
        self._once = client(connection, "glue", attempts=0, seconds=_START_SECONDS)

    def log_group(self) -> str:
        """The log group of what its script prints (Glue 5.0: `PREFIX/output`, both streams). Asks whether the job is
        there, too."""
        arguments = self._asked("GetJob", self._glue.get_job, JobName=self.name)["Job"].get("DefaultArguments", {})
        return f"{arguments.get(_LOG_PREFIX, _LOGS).rstrip('/')}/output"

    def start(self, arguments: Mapping[str, str]) -> str:
        """Start a run; returns its id. Sent once: Glue knows no token by which a second sending would be the same run.
        Where its answer is lost, a run with these arguments that was not there before is the one.

        Raises Refused when Glue runs as many of the job as it may.
        """
        before = {run.id for run in self.at_work()}
        try:
            answer = self._asked("StartJobRun", self._once.start_job_run, JobName=self.name, Arguments=dict(arguments))
        except ServiceError as error:
            if not isinstance(error.__cause__, ConnectionClosedError | ReadTimeoutError):
                raise
            found = [run for run in self.at_work(arguments) if run.id not in before]
            if not found:
                raise
            return found[0].id
        return str(answer["JobRunId"])

    def look(self, run: str) -> JobRun:
        """A run as it is now."""
        return _job_run(self._asked("GetJobRun", self._glue.get_job_run, JobName=self.name, RunId=run)["JobRun"])

    def at_work(self, arguments: Mapping[str, str] | None = None) -> list[JobRun]:
        """The runs that have not ended, or those of them that were started with these arguments; the newest first."""
        answer = self._asked("GetJobRuns", self._glue.get_job_runs, JobName=self.name, MaxResults=_MOST_RUNS)
        found = [run for run in map(_job_run, answer["JobRuns"]) if not run.ended]
        wanted = (arguments or {}).items()
        return [run for run in found if wanted <= run.arguments.items()]

    def stop(self, run: str) -> None:
        """Have Glue end a run, wherever it is."""
        self._asked("BatchStopJobRun", self._glue.batch_stop_job_run, JobName=self.name, JobRunIds=[run])

    def _asked(self, operation: str, call: Any, **request: Any) -> dict[str, Any]:
        with explained(operation, self.where):
            try:
                return dict(call(**request))
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code == "EntityNotFoundException":
                    raise self._missing() from error
                if code == "ConcurrentRunsExceededException":
                    raise self._busy() from error
                raise

    def _missing(self) -> Refused:
        hint = f"deploy it: dynamodt deploy --stage {self._stage}"
        return Refused("the job is not deployed", where=self.where, hint=hint)

    def _busy(self) -> ConcurrentRuns:
        return ConcurrentRuns(
            "Glue runs as many of the job as it may (MaxConcurrentRuns)",
            where=self.where,
            hint=f"wait for them (dynamodt status --stage {self._stage} --follow shows what is at work)",
        )


class ConcurrentRuns(Refused):
    """Glue runs as many of a job as it may."""


def _job_run(found: dict[str, Any]) -> JobRun:
    started = found.get("StartedOn")
    return JobRun(
        found["Id"],
        found["JobRunState"],
        started.isoformat(timespec="seconds") if started else "",
        found.get("ErrorMessage") or "",
        found.get("Arguments") or {},
    )


_ATTEMPTS = 2  # who waits for it has an error to hear of
_SECONDS = 10.0


def tail(connection: Connection, group: str, job_run: str, lines: int) -> list[str]:
    """The last lines that a job's driver has printed; none when there is no log yet.

    Raises ServiceError when it cannot be read. It needs logs:DescribeLogStreams and logs:GetLogEvents on the group.
    """
    logs = client(connection, "logs", attempts=_ATTEMPTS, seconds=_SECONDS)
    with explained("GetLogEvents", f"log group {group}"):
        try:
            streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=job_run)["logStreams"]
            names = [stream["logStreamName"] for stream in streams]
            if not names:
                return []
            answer = logs.get_log_events(logGroupName=group, logStreamName=_driver(names), limit=lines)
        except logs.exceptions.ResourceNotFoundException:
            return []
    text = "\n".join(event["message"].rstrip("\n") for event in answer["events"])
    return text.splitlines()[-lines:]


def _driver(names: list[str]) -> str:
    """Executors have streams of their own, with more behind the run's id."""
    return next((name for name in names if name.endswith("driver")), min(names, key=len))


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
