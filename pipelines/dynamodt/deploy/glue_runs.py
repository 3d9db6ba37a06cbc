"""A Glue job's runs and their logs: starts a run, reads its state, stops it.

Only Glue and CloudWatch Logs are asked here. What a run has achieved is recorded in the state table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import Refused, ServiceError

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection, Stage

SUCCEEDED = "SUCCEEDED"
STOPPING = "STOPPING"
_ENDED = frozenset({SUCCEEDED, "FAILED", "ERROR", "STOPPED", "TIMEOUT", "EXPIRED"})
_MOST_RUNS = 200  # that Glue lists at once, the newest first
_LOG_PREFIX = "--custom-logGroup-prefix"
_LOGS = "/aws-glue/jobs"
_START_SECONDS = 60.0
_LOG_ATTEMPTS = 2  # an error waits to be shown with it
_LOG_SECONDS = 10.0
_JOBS = ("MigrateJob", "PrepareJob")  # in infra/template.yaml


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


def tail(connection: Connection, group: str, job_run: str, lines: int) -> list[str]:
    """The last lines that a job's driver has printed; none when there is no log yet.

    Raises ServiceError when it cannot be read. It needs logs:DescribeLogStreams and logs:GetLogEvents on the group.
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
    """Executors have streams of their own, with more behind the run's id."""
    return next((name for name in names if name.endswith("driver")), min(names, key=len))


def refuse_jobs_at_work(stage: Stage, own: Mapping[str, str]) -> None:
    """Raises Refused for a run of a job among the stack's resources `own`; it may hold no lease yet."""
    for job in filter(None, (own.get(name) for name in _JOBS)):
        for run in _job_runs(stage, job):
            hint = f"wait for it, or stop it: aws glue batch-stop-job-run --job-name {job} --job-run-ids {run}"
            raise Refused(f"its run {run} is at work, and would lose what it needs", where=f"job {job}", hint=hint)


def _job_runs(stage: Stage, job: str) -> list[str]:
    try:
        return [run.id for run in GlueJob(stage.connection, job, stage.name).at_work()]
    except Refused:  # it was deleted by hand
        return []
