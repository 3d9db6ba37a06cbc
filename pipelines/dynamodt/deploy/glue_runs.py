"""A Glue job's runs: started, stopped, and followed until the job has stored its answer.

This module calls Glue and CloudWatch Logs only. The outcome of a run is recorded in the state table.

The answer and the progress are read from the state table. Glue's own state is displayed, and decides only whether the
job has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.network import Tolerated, refusal
from dynamodt.dynamodb.table import NO_RESOURCE
from dynamodt.errors import Fenced, Refused, ServiceError, suggest
from dynamodt.model.runs import ABORT
from dynamodt.model.tables import Connection, Stage
from dynamodt.pipeline.process import StoppedError, Terminated
from dynamodt.runs.control import LOOK_SECONDS, Clock, Sleep, TableWatch, rest
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.state.lease_rows import AnswerRows, JobAnswer
from dynamodt.state.state import State

SUCCEEDED = "SUCCEEDED"
STOPPING = "STOPPING"
_ENDED = frozenset({SUCCEEDED, "FAILED", "ERROR", "STOPPED", "TIMEOUT", "EXPIRED"})
_MOST_RUNS = 200  # of one page, the newest first
_LOG_PREFIX = "--custom-logGroup-prefix"
_LOGS = "/aws-glue/jobs"
_START_SECONDS = 60.0
_UNCERTAIN = ("OperationTimeoutException", "InternalServiceException")
_LOG_ATTEMPTS = 2  # the job's error is shown after the log: few attempts, short timeout
_LOG_SECONDS = 10.0
_JOBS = ("MigrateJob", "PrepareJob")  # of infra/template.yaml


class JobRun(NamedTuple):
    """A run of a job as Glue reports it. `started` is ISO 8601; `error` is Glue's message for a failed run."""

    id: str
    state: str
    started: str = ""
    error: str = ""
    arguments: Mapping[str, str] = {}

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in _ENDED


class ConcurrentRuns(Refused):
    """The job has reached its maximum of concurrent runs."""


class GlueJob:
    """A deployed job of a stage, by its name. Every method raises ServiceError if Glue cannot be reached, and Refused
    if the job does not exist."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self.where = f"Glue job {name}"
        self._glue = client(connection, "glue")
        self._once = client(connection, "glue", attempts=0, seconds=_START_SECONDS)

    def log_group(self) -> str:
        """The log group of the script's output (Glue 5.0: `PREFIX/output`, both streams). Checks that the job
        exists."""
        arguments = self._asked("GetJob", self._glue.get_job, JobName=self.name)["Job"].get("DefaultArguments", {})
        return f"{arguments.get(_LOG_PREFIX, _LOGS).rstrip('/')}/output"

    def role(self) -> str:
        """The ARN of the role that its runs assume."""
        return str(self._asked("GetJob", self._glue.get_job, JobName=self.name)["Job"]["Role"])

    def start(self, arguments: Mapping[str, str]) -> str:
        """Starts a run; returns its id. StartJobRun has no idempotency token, so it is sent once. If its response is
        lost, a new run with these arguments counts as the started one.

        Raises ConcurrentRuns if the job has reached its maximum of concurrent runs.
        """
        before = {run.id for run in self.active()}
        try:
            answer = self._asked("StartJobRun", self._once.start_job_run, JobName=self.name, Arguments=dict(arguments))
        except ServiceError as error:
            if not _may_have_started(error.__cause__):
                raise
            found = [run for run in self.active(arguments) if run.id not in before]
            if not found:
                hint = error.hint + "; if a run has started nevertheless, the same command follows it"
                raise error.hinted(hint.removeprefix("; ")) from error
            return found[0].id
        return str(answer["JobRunId"])

    def poll(self, run: str) -> JobRun:
        """The current state of a run."""
        return _job_run(self._asked("GetJobRun", self._glue.get_job_run, JobName=self.name, RunId=run)["JobRun"])

    def active(self, arguments: Mapping[str, str] | None = None) -> list[JobRun]:
        """The runs that have not ended, the newest first; with arguments, only the runs that were started with them."""
        answer = self._asked("GetJobRuns", self._glue.get_job_runs, JobName=self.name, MaxResults=_MOST_RUNS)
        wanted = (arguments or {}).items()
        runs = map(_job_run, answer["JobRuns"])
        return [run for run in runs if not run.ended and wanted <= run.arguments.items()]

    def stop(self, run: str) -> None:
        """Stops a run at any point."""
        self._asked("BatchStopJobRun", self._glue.batch_stop_job_run, JobName=self.name, JobRunIds=[run])

    def _asked(self, operation: str, call: Any, **request: Any) -> dict[str, Any]:
        with explained(operation, self.where):
            try:
                return dict(call(**request))
            except ClientError as error:
                code = refusal(error).code
                if code == "EntityNotFoundException":
                    hint = "deploy it: " + suggest("deploy")
                    raise Refused("the job is not deployed", where=self.where, hint=hint) from error
                if code == "ConcurrentRunsExceededException":
                    what = "the job has reached its maximum of concurrent runs (MaxConcurrentRuns)"
                    hint = "wait until one has ended: " + suggest("status", follow=True)
                    raise ConcurrentRuns(what, where=self.where, hint=hint) from error
                raise


def _may_have_started(cause: BaseException | None) -> bool:
    """Whether a StartJobRun that failed so may have taken effect: its response is lost, or Glue does not know."""
    if isinstance(cause, ClientError):
        return refusal(cause).status >= HTTPStatus.INTERNAL_SERVER_ERROR or refusal(cause).code in _UNCERTAIN
    return isinstance(cause, ConnectionClosedError | ReadTimeoutError)


def _job_run(found: dict[str, Any]) -> JobRun:
    started = found.get("StartedOn")
    return JobRun(
        found["Id"],
        found["JobRunState"],
        started.isoformat(timespec="seconds") if started else "",
        found.get("ErrorMessage") or "",
        found.get("Arguments") or {},
    )


def refuse_active_jobs(stage: Stage, own: Mapping[str, str]) -> None:
    """Raises Refused if a job among the stack's resources `own` has a run, which may hold no lease yet."""
    for job in filter(None, (own.get(name) for name in _JOBS)):
        for run in _runs_of(stage, job):
            options = ("--job-name", job, "--job-run-ids", run)
            hint = "wait for it, or stop it: " + stage.connection.aws_command("glue batch-stop-job-run", *options)
            raise Refused(f"run {run} of the job is active and needs the stack", where=f"job {job}", hint=hint)


def _runs_of(stage: Stage, job: str) -> list[str]:
    try:
        return [run.id for run in GlueJob(stage.connection, job).active()]
    except Refused:  # it was deleted by hand
        return []


def tail(connection: Connection, group: str, job_run: str, lines: int) -> list[str]:
    """The last lines that a job's driver has printed; empty if there is no log yet.

    Raises ServiceError if it cannot be read. Needs logs:DescribeLogStreams and logs:GetLogEvents on the group.
    """
    logs = client(connection, "logs", attempts=_LOG_ATTEMPTS, seconds=_LOG_SECONDS)
    with explained("GetLogEvents", f"log group {group}"), Tolerated(NO_RESOURCE):
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=job_run)["logStreams"]
        if names := [stream["logStreamName"] for stream in streams]:
            driver = next((name for name in names if name.endswith("driver")), min(names, key=len))  # or an executor's
            answer = logs.get_log_events(logGroupName=group, logStreamName=driver, limit=lines)
            text = "\n".join(event["message"].rstrip("\n") for event in answer["events"])
            return text.splitlines()[-lines:]
    return []


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
        watcher: ProgressRecorder,
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
            watch.report_ended()
        if self._aborts is not None:
            raise StoppedError.by(self._aborts, "the run was aborted; the same command continues it")
        return answer or self._answers.read(self.run.id)

    def _answered(self) -> JobAnswer | None:
        while True:
            try:
                answer = self._poll()
                if answer is not None or self.run.ended:
                    return answer
                rest(self._watcher, LOOK_SECONDS, self._sleep)
            except KeyboardInterrupt as interrupt:
                self._interrupted(interrupt)

    def _poll(self) -> JobAnswer | None:
        try:
            for table, watch in self._watches.items():
                watch.poll()
                if self._aborts is not None and watch.active:
                    self._send_command(table, stop=ABORT)
            answer = self._answers.read(self.run.id)
            if answer is None:  # otherwise the job is over, even if Glue cannot be asked
                self._poll_glue()
        except ServiceError as error:
            self._out_of_reach(error)
            return None
        self._silent_since = None
        return answer

    def _poll_glue(self) -> None:
        if self._clock() - self._asked_glue >= GLUE_SECONDS:
            self.run = self._job.poll(self.run.id)
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
        """Asks the user whether the job continues, pauses or ends. After SIGTERM, and without a terminal, it
        continues."""
        active = [table for table, watch in self._watches.items() if watch.active]
        choices = {_LEAVE: "it continues without this command"}
        choices |= {_PAUSE: "the run pauses before its next request, until `resume`"} if active else {}
        choices[ABORT] = "the run ends before its next request" if active else "Glue stops the job at once"
        asked = not isinstance(interrupt, Terminated) and self._aborts is None
        choice = self._watcher.asked(f"The job {self._job.name} is running", choices) if asked else _LEAVE
        if choice == ABORT and active:
            self._aborts = interrupt
        elif choice == ABORT:
            self._job.stop(self.run.id)
            raise StoppedError.by(interrupt, "the job is being stopped; the same command starts it again")
        elif choice == _PAUSE:
            for table in active:
                self._send_command(table, paused=True)
            raise StoppedError.by(interrupt, _control_hint("the run pauses", active, "resume"))
        else:
            raise StoppedError.by(interrupt, _control_hint("the job continues", list(self._watches), "pause"))

    def _send_command(self, table: str, **word: object) -> None:
        """Writes a command for the run on a table into its lease, unless the run has just ended."""
        lease = self._leases.read(table)
        try:
            if lease.run and not lease.owner:
                self._leases.set(table, lease.token, **word)
        except Fenced:
            return


def _control_hint(what: str, tables: Sequence[str], command: str) -> str:
    """The state of the job, and the commands that control it, `command` and abort. A job without tables has no run to
    control."""
    if not tables:
        return f"{what}; run the same command again to follow it"
    table = tables[0] if len(tables) == 1 else "TABLE"
    follow = f"{what}; to follow it: " + suggest("status", follow=True) + " (or the same command again)"
    return follow + "; to control it: " + suggest(command, table=table) + ", " + suggest("abort", table=table)


def watches_over(
    state: State, tables: Sequence[str], count_items: Callable[[str], int], watcher: ProgressRecorder
) -> dict[str, TableWatch]:
    """Watches of the tables that a job will migrate, created before the job is started."""
    before = {table: {record.run: record.attempts for record in state.runs(table)} for table in tables}
    return {table: TableWatch(state, table, count_items, watcher, before=before[table]) for table in tables}
