"""One of a stage's deployed jobs, from the words that it is given to what has become of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynamodt.aws import table as tables_of_stage
from dynamodt.aws.answer_rows import AnswerRows, JobAnswer
from dynamodt.aws.assets import Assets
from dynamodt.aws.glue import STOPPING, SUCCEEDED, ConcurrentRuns, GlueJob, JobRun
from dynamodt.aws.logs import tail
from dynamodt.aws.state import State
from dynamodt.control.deploying.project import PROJECT_FILE, project_zip
from dynamodt.control.glue.answers import other_release, told_error
from dynamodt.control.glue.job_watch import JobWatch, rest, watches_over
from dynamodt.control.requests import JobWatcher, Request, command_words
from dynamodt.errors import DynamodtError, RunFailed, ServiceError, UsageError
from dynamodt.model import RunReport, Stage

PREPARE = "-prepare"  # behind the name of the job that moves tables
_TAIL_LINES = 20
_WINDING_UP_SECONDS = 120.0  # a job that has answered takes a while to be over


class DeployedJob:
    """One command, in the job that is there for its verb.

    Raises UsageError on a stage that can have none, Refused where it is not deployed.
    """

    def __init__(self, stage: Stage, folder: Path, request: Request, watcher: JobWatcher) -> None:
        _check_reachable(stage)
        self.stage = stage
        self.state = State(stage.connection, stage.state_table)
        self._watcher = watcher
        self._answers = AnswerRows(self.state.rows)
        name = stage.job_name + (PREPARE if request.verb == "prepare" else "")
        self._glue = GlueJob(stage.connection, name, stage.name)
        self._log_group = self._glue.log_group()
        self._arguments = _arguments(stage, folder, request)
        self._run = JobRun("", "")
        self._ended: dict[str, list[RunReport]] = {}

    def at_work(self) -> JobRun | None:
        """The run that is at work on this very command and this very project: whoever types it again means that one.
        One that Glue is ending already comes to nothing."""
        found = (run for run in self._glue.at_work(self._arguments) if run.state != STOPPING)
        return next((run for run in found if self._answers.read(run.id) is None), None)

    def answer(self, found: JobRun | None, tables: Sequence[str]) -> JobAnswer | None:
        """Start the job, unless a run of it was found, and follow it; None when it has ended without an answer.

        Raises StoppedError when a person leaves it alone or ends it.
        """
        watches = watches_over(self.state, tables, self._count_items, self._watcher)
        if found is None:
            found = JobRun(self._started(), "STARTING", arguments=self._arguments)
            self._watcher.note(f"started {self._glue.name}, run {found.id}")
        else:
            since = f"at work on this very command since {found.started}"
            self._watcher.note(f"{self._glue.name} is {since}: following run {found.id}")
        watch = JobWatch(self.state, self._glue, found.id, watches, self._watcher)
        answer = watch.follow()
        self._run = watch.run
        self._ended = {table: list(each.ended.values()) for table, each in watches.items()}
        if answer is not None and (other := other_release(answer.document)):
            self._watcher.note(f"{other}; `dynamodt deploy --stage {self.stage.name}` brings the job up to date")
        return answer

    def ended(self, table: str) -> list[RunReport]:
        """The runs of a table that have ended while the job was followed."""
        return self._ended[table]

    @property
    def place(self) -> str:
        """The run that was followed, as an error names it."""
        return f"Glue job {self._glue.name}, run {self._run.id}"

    def failure(self, answer: JobAnswer | None) -> DynamodtError:
        """The error of a job that has not answered what it was asked; shows the end of its log."""
        told = told_error(answer.document) if answer else None
        if told is None or isinstance(told, RunFailed):
            self.show_log()
        return told or self._no_answer()

    def unanswered(self, table: str) -> RunFailed:
        """The error of a table that was planned here, and that the job has done nothing about."""
        hint = (
            f"does the project in the job have it? `dynamodt deploy --stage {self.stage.name}`, then the same command"
        )
        what = f"the job has not answered for table {table}, whose versions are still pending"
        return RunFailed(what, where=self.place, hint=hint)

    def _no_answer(self) -> RunFailed:
        if self._run.state == SUCCEEDED:
            return RunFailed(
                "Glue says SUCCEEDED, and the state table knows of no such run: it counts as failed",
                where=self.place,
                hint=f"does the job write to another state table than {self.stage.state_table}? `dynamodt deploy "
                f"--stage {self.stage.name}` brings it up to date. An emulator only pretends such jobs",
            )
        said = f": {self._run.error}" if self._run.error else ""
        hint = f"its log is {self._log_group}, stream {self._run.id}; the same command goes on from the last checkpoint"
        return RunFailed(f"the job ended without an answer: {self._run.state}{said}", where=self.place, hint=hint)

    def show_log(self) -> None:
        """The last lines of what the job has printed, as notes."""
        try:
            lines = tail(self.stage.connection, self._log_group, self._run.id, _TAIL_LINES)
        except ServiceError as error:
            self._watcher.note(f"the job's log cannot be read: {error}")
            return
        if lines:
            self._watcher.note(f"the end of the job's log ({self._log_group}, {self._run.id}):")
        for line in lines:
            self._watcher.note(f"  {line}")

    def _started(self) -> str:
        """Start a run. Where one that has answered still winds up, and no more may be at work, it is waited for."""
        waited = 0.0
        while True:
            try:
                return self._glue.start(self._arguments)
            except ConcurrentRuns:
                if waited >= _WINDING_UP_SECONDS or not self._winding_up():
                    raise
            self._watcher.waiting(f"{self._glue.name}: the run before winds up")
            waited += rest(self._watcher)

    def _winding_up(self) -> bool:
        runs = self._glue.at_work()
        return any(run.state == STOPPING or self._answers.read(run.id) is not None for run in runs)

    def _count_items(self, table: str) -> int:
        return tables_of_stage.describe(self.stage.connection, table).item_count


def _check_reachable(stage: Stage) -> None:
    if stage.embedded:
        hint = "name a stage of dynamodt.toml (--stage), or leave --runner glue out"
        raise UsageError("the embedded stage has no Glue", where="--runner glue", hint=hint)
    if not stage.storage.url.startswith("s3://"):
        hint = 'a job in AWS reaches S3 alone: storage = "s3://BUCKET/PREFIX" in dynamodt.toml'
        raise UsageError("the stage's storage is a folder", where=stage.storage.url, hint=hint)


def _arguments(stage: Stage, folder: Path, request: Request) -> dict[str, str]:
    """What the job is given: the project as it stands in the folder now, and the command, without what the job says
    by itself. They are all that goes along: no credentials, no item."""
    words = command_words(replace(request, options=replace(request.options, runner="direct")))
    project = Assets(stage).put(PROJECT_FILE, project_zip(folder, stage))
    return {"--stage": stage.name, "--project": project, "--command": shlex.join(words)}
