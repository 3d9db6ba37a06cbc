"""A Glue job's runs and their logs: starts a run, reads its state, stops it.

Only Glue and CloudWatch Logs are asked here. The outcome of a run is recorded in the state table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import Refused, ServiceError
from dynamodt.script.names import option

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection, Stage

SUCCEEDED = "SUCCEEDED"
STOPPING = "STOPPING"
_ENDED = frozenset({SUCCEEDED, "FAILED", "ERROR", "STOPPED", "TIMEOUT", "EXPIRED"})
_MOST_RUNS = 200  # of one page, the newest first
_LOG_PREFIX = "--custom-logGroup-prefix"
_LOGS = "/aws-glue/jobs"
_START_SECONDS = 60.0
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

    def __init__(self, connection: Connection, name: str, stage: str) -> None:
        self.name = name
        self.where = f"Glue job {name}"
        self._stage = option("--stage", stage)
        self._glue = client(connection, "glue")
        self._once = client(connection, "glue", attempts=0, seconds=_START_SECONDS)

    def log_group(self) -> str:
        """The log group of the script's output (Glue 5.0: `PREFIX/output`, both streams). Checks that the job
        exists."""
        arguments = self._asked("GetJob", self._glue.get_job, JobName=self.name)["Job"].get("DefaultArguments", {})
        return f"{arguments.get(_LOG_PREFIX, _LOGS).rstrip('/')}/output"

    def start(self, arguments: Mapping[str, str]) -> str:
        """Starts a run; returns its id. StartJobRun has no idempotency token, so it is sent once. If its response is
        lost, a new run with these arguments is taken to be the one.

        Raises ConcurrentRuns if the job has reached its maximum of concurrent runs.
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
        """The current state of a run."""
        return _job_run(self._asked("GetJobRun", self._glue.get_job_run, JobName=self.name, RunId=run)["JobRun"])

    def at_work(self, arguments: Mapping[str, str] | None = None) -> list[JobRun]:
        """The runs that have not ended, or those of them that were started with these arguments; the newest first."""
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
                code = error.response.get("Error", {}).get("Code", "")
                if code == "EntityNotFoundException":
                    hint = f"deploy it: dynamodt deploy {self._stage}"
                    raise Refused("the job is not deployed", where=self.where, hint=hint) from error
                if code == "ConcurrentRunsExceededException":
                    what = "the job has reached its maximum of concurrent runs (MaxConcurrentRuns)"
                    hint = f"wait until one has ended: dynamodt status {self._stage} --follow"
                    raise ConcurrentRuns(what, where=self.where, hint=hint) from error
                raise


def _job_run(found: dict[str, Any]) -> JobRun:
    started = found.get("StartedOn")
    return JobRun(
        found["Id"],
        found["JobRunState"],
        started.isoformat(timespec="seconds") if started else "",
        found.get("ErrorMessage") or "",
        found.get("Arguments") or {},
    )


def refuse_jobs_at_work(stage: Stage, own: Mapping[str, str]) -> None:
    """Raises Refused if a job among the stack's resources `own` has a run, which may hold no lease yet."""
    for job in filter(None, (own.get(name) for name in _JOBS)):
        for run in _runs_of(stage, job):
            hint = f"wait for it, or stop it: aws glue batch-stop-job-run --job-name {job} --job-run-ids {run}"
            raise Refused(f"run {run} of the job is active and needs the stack", where=f"job {job}", hint=hint)


def _runs_of(stage: Stage, job: str) -> list[str]:
    try:
        return [run.id for run in GlueJob(stage.connection, job, stage.name).at_work()]
    except Refused:  # it was deleted by hand
        return []


def tail(connection: Connection, group: str, job_run: str, lines: int) -> list[str]:
    """The last lines that a job's driver has printed; empty if there is no log yet.

    Raises ServiceError if it cannot be read. Needs logs:DescribeLogStreams and logs:GetLogEvents on the group.
    """
    logs = client(connection, "logs", attempts=_LOG_ATTEMPTS, seconds=_LOG_SECONDS)
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
    """The driver's stream; an executor's has a longer name."""
    return next((name for name in names if name.endswith("driver")), min(names, key=len))
