"""`--runner glue`: a command runs in the stage's deployed Glue job, which is started here and followed to its end.

Every check that needs no lease is made before a job is started. The outcome is read from the state table, never from
Glue: a job that Glue reports as SUCCEEDED and that has stored no answer has failed. A job outlives the command that
started it; the same command follows it again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dynamodt.config.settings import deploy_settings_of
from dynamodt.deploy import glue_runs, job_result
from dynamodt.deploy.buckets import may_read
from dynamodt.deploy.glue_runs import ConcurrentRuns, GlueJob, JobRun, JobWatch
from dynamodt.deploy.packages import PROJECT_FILE, Assets, project_zip
from dynamodt.deploy.resources import bucket_of, check_storage
from dynamodt.dynamodb.table import describe
from dynamodt.errors import DeadLetters, DynamodtError, Refused, RunFailed, ServiceError, UsageError, suggest
from dynamodt.export.request import folder_of, split_url
from dynamodt.model.reports import RunReport, UndoReport
from dynamodt.model.runs import PreparedRef, RunRecord, Script
from dynamodt.model.tables import Stage
from dynamodt.runs.context import Project
from dynamodt.runs.control import rest
from dynamodt.runs.exports import exports_of
from dynamodt.runs.jobs import NEW
from dynamodt.runs.lock import is_held, wait_until_free
from dynamodt.runs.migration import TableMigration, check_before_job, hold_back_if_any_refused, refuse
from dynamodt.runs.options import Command, command_argv
from dynamodt.runs.pace import as_watcher
from dynamodt.runs.provenance import caller, provenance_arguments
from dynamodt.runs.undo_checks import check_undo_before_job, undone_by_record
from dynamodt.state.lease_rows import AnswerRows, JobAnswer
from dynamodt.state.storage import with_owner

Reports = dict[str, list[RunReport]]  # by table
PREPARE = "-prepare"  # the suffix of the second job's name
_TAIL_LINES = 20
_ENDING_SECONDS = 120.0  # in which a job that has answered ends


class DeployedJob:
    """One command, and the deployed job that runs it.

    Raises UsageError for a stage that cannot have one, Refused if it is not deployed.
    """

    def __init__(self, project: Project, request: Command) -> None:
        stage = project.stage
        if stage.embedded:
            option = "--glue" if request.command == "doctor" else "--runner glue"
            hint = f"choose a stage of dynamodt.toml (--stage), or leave {option} out"
            raise UsageError("the embedded stage has no Glue", where=option, hint=hint)
        check_storage(stage)
        self.stage = stage
        self.state = project.state
        self.project = project
        self._deploy = suggest("deploy", stage=stage.name)
        self._watcher = as_watcher(project.observer)
        self._answers = AnswerRows(self.state.rows)
        name = stage.job_name + (PREPARE if request.command == "prepare" else "")
        self._glue = GlueJob(stage.connection, name)
        self._log_group = self._glue.log_group()
        self._arguments = _arguments(project, request)
        self._caller = caller(project.folder)
        self._run = JobRun("", "")
        self._ended: dict[str, list[RunReport]] = {}

    def active(self) -> JobRun | None:
        """The run that is executing this command on this project; the same command follows it. A run that Glue is
        stopping does not count."""
        found = (run for run in self._glue.active(self._arguments) if run.state != glue_runs.STOPPING)
        return next((run for run in found if self._answers.read(run.id) is None), None)

    def answer(self, found: JobRun | None, tables: Sequence[str]) -> JobAnswer | None:
        """Starts the job, unless a run of it was found, and follows it; None if it has ended without an answer.

        Raises StoppedError if the user leaves, pauses or ends it.
        """
        watches = glue_runs.watches_over(self.state, tables, self._count_items, self._watcher)
        if found is None:
            found = JobRun(self._started(), "STARTING", arguments=self._arguments)
            self._watcher.notify(f"started {self._glue.name}, run {found.id}")
        else:
            since = f"already running this command since {found.started}"
            self._watcher.notify(f"{self._glue.name} is {since}: following run {found.id}")
        watch = JobWatch(self.state, self._glue, found.id, watches, self._watcher)
        answer = watch.follow()
        self._run = watch.run
        self._ended = {table: list(each.ended.values()) for table, each in watches.items()}
        if answer is not None and (other := job_result.other_release(answer.document)):
            self._watcher.notify(f"{other}; `{self._deploy}` updates the job")
        return answer

    def check_export(self, place: str) -> None:
        """Raises Refused for an export outside of the stage's storage, unless the job's role may read it."""
        if place in ("", NEW):
            return
        bucket, prefix = _place_of(self.stage, place)
        own = bucket_of(self.stage)
        if bucket == own.name and f"{prefix}/".startswith(own.prefix):
            return
        role = self._glue.role()
        allowed = may_read(self.stage.connection, role, bucket, prefix)
        settings = deploy_settings_of(self.stage.name, self.project.folder)
        if allowed or (allowed is None and settings.policy_arns):  # which name what is read elsewhere
            return
        why = "may not read it" if allowed is False else "is not known to be allowed to read it"
        what = f"the export is outside of the stage's storage, and the role of the job, {role}, {why}"
        hint = (
            f"name a policy that allows s3:ListBucket of {bucket} and s3:GetObject below {prefix}/ in policy_arns of "
            f"[stages.{self.stage.name}.deploy], and deploy again: "
        )
        raise Refused(what, where=f"s3://{bucket}/{prefix}", hint=hint + suggest("deploy"))

    def check_roles(self, tables: Sequence[str]) -> None:
        """Raises Refused for a table of another account, unless policies are given that may allow the job its role."""
        settings = deploy_settings_of(self.stage.name, self.project.folder)
        for table, role in self.stage.connection.table_roles:
            if table in tables and not settings.policy_arns:
                what = f"the table is in another account, and the job may not assume the role {role}"
                hint = (
                    "leave --runner glue out; or name a policy that allows sts:AssumeRole on it in policy_arns of "
                    f"[stages.{self.stage.name}.deploy], and deploy again: "
                )
                raise Refused(what, where=f"table {table}", hint=hint + suggest("deploy"))

    def ended(self, table: str) -> list[RunReport]:
        """The runs of a table that have ended while the job was followed."""
        return self._ended[table]

    @property
    def place(self) -> str:
        """The run that was followed, as an error's `where`."""
        return f"Glue job {self._glue.name}, run {self._run.id}"

    def failure(self, answer: JobAnswer | None) -> DynamodtError:
        """The error of a job whose answer has no result; also shows the end of its log."""
        error = job_result.error_in(answer.document) if answer else None
        if error is None or isinstance(error, RunFailed):
            self.show_log()
        return error or self._no_answer()

    def unanswered(self, table: str) -> RunFailed:
        """The error of a table with pending versions that the job has left out."""
        hint = "is it in the project that was uploaded? `" + self._deploy + "`, then the same command"
        what = f"the job has not migrated table {table}, which has pending versions"
        return RunFailed(what, where=self.place, hint=hint)

    def _no_answer(self) -> RunFailed:
        if self._run.state == glue_runs.SUCCEEDED:
            what = "Glue reports SUCCEEDED, but the state table has no result of the run: it counts as failed"
            shown = suggest("history") + " shows what was done; if the job uses another state table than "
            updated = (
                f"{self.stage.state_table}, `" + self._deploy + "` updates it. An emulator of Glue does not run jobs"
            )
            return RunFailed(what, where=self.place, hint=shown + updated)
        error = f": {self._run.error}" if self._run.error else ""
        log = f"its log is {self._log_group}, stream {self._run.id}"
        hint = f"{log}; the same command continues from the last checkpoint"
        return RunFailed(f"the job ended without a result: {self._run.state}{error}", where=self.place, hint=hint)

    def show_log(self) -> None:
        """Shows the last lines of the job's output, as notes."""
        try:
            lines = glue_runs.tail(self.stage.connection, self._log_group, self._run.id, _TAIL_LINES)
        except ServiceError as error:
            self._watcher.notify(f"the job's log cannot be read: {error}")
            return
        if lines:
            self._watcher.notify(f"the end of the job's log ({self._log_group}, {self._run.id}):")
        for line in lines:
            self._watcher.notify(f"  {line}")

    def _started(self) -> str:
        """Starts a run. At the maximum of concurrent runs, waits for one that has answered and is about to end."""
        waited = 0.0
        while True:
            try:
                return self._glue.start(self._arguments | provenance_arguments(self._caller))
            except ConcurrentRuns:
                if waited >= _ENDING_SECONDS or not self._is_ending():
                    raise
            self._watcher.waiting(f"{self._glue.name}: waiting for the previous run to end")
            waited += rest(self._watcher, glue_runs.GLUE_SECONDS)

    def _is_ending(self) -> bool:
        runs = self._glue.active()
        return any(run.state == glue_runs.STOPPING or self._answers.read(run.id) is not None for run in runs)

    def _count_items(self, table: str) -> int:
        return describe(self.stage.connection, table).item_count


def _arguments(project: Project, request: Command) -> dict[str, str]:
    """The job's arguments: the project as it is in the folder now, and the command, without the runner. They contain
    neither credentials nor items."""
    stage, words = project.stage, command_argv(replace(request, options=replace(request.options, runner="direct")))
    stored = Assets(stage).put(PROJECT_FILE, project_zip(project.folder, with_owner(stage)))
    arguments = {"--stage": stage.name, "--project": stored, "--region": stage.connection.region}
    return {**arguments, "--command": shlex.join(words)}


def _place_of(stage: Stage, export: str) -> tuple[str, str]:
    """The bucket of an export that is named by its place or its ARN, and the prefix of its files. Raises UsageError for
    one that does not exist."""
    if export.startswith("s3://"):
        return split_url(export)
    found = exports_of(stage).describe(export)
    return found.bucket, folder_of(found).key


def examine_in_job(project: Project, tables: Sequence[str]) -> list[dict[str, str]]:
    """The checks of `doctor`, as the job's role makes them. Raises the error that prevents them."""
    job = DeployedJob(project, Command("doctor", tables=tuple(tables)))
    answer = job.answer(job.active(), [])
    if answer is None or "checks" not in answer.document:
        raise job.failure(answer)
    checks: list[dict[str, str]] = answer.document["checks"]
    return checks


def lacking_job(project: Project) -> DynamodtError | None:
    """The reason why the stage has no job that could run `up`; None if it has one, or if Glue cannot be read."""
    try:
        DeployedJob(project, Command("up", options=project.options))
    except (Refused, UsageError) as error:
        return error
    except ServiceError:
        pass
    return None


# ---------------------------------------------------------------- up, down and retry


def wait_for_others(project: Project, tables: Sequence[str], request: Command) -> None:
    """With `wait_lock`, waits until no other run holds the tables: in this process, since a waiting job costs money. A
    job that is already running this command is followed instead. Raises Busy on timeout."""
    if not project.options.wait_lock or not any(is_held(project.state.leases, table) for table in tables):
        return
    if DeployedJob(project, request).active() is None:
        wait_until_free(project, tables)


def migrate(project: Project, plans: Sequence[TableMigration], request: Command) -> Reports:
    """Runs `request` in the deployed job; returns the runs of each table, and sets the `error` of each that failed. No
    job is started where no table has a step left."""
    if not any(plan.has_steps for plan in plans):
        return {}
    job = DeployedJob(project, request)
    found = job.active()
    if found is None:
        refuse(project, plans, partial(check_before_job, request.to))
        if request.command == "up" and hold_back_if_any_refused(job.state, plans):
            return {}
        if not any(plan.has_steps for plan in plans):
            return {}
        job.check_export(request.options.export)
        job.check_roles([plan.table for plan in plans if plan.has_steps])
    answer = job.answer(found, [plan.table for plan in plans])
    if answer is None or "tables" not in answer.document:
        return _without_answer(job, plans, answer)
    return _with_answer(job, plans, answer)


def _with_answer(job: DeployedJob, plans: Sequence[TableMigration], answer: JobAnswer) -> Reports:
    with job_result.explain_unreadable(job.place):
        answered = {job_result.real_name(table): table for table in answer.document["tables"]}
    reports = {plan.table: _answered(job, plan, answer, answered) for plan in plans}
    if answer.exit_code and all(plan.error is None for plan in plans):  # the error is of the command as a whole
        raise job.failure(answer)
    if any(isinstance(plan.error, RunFailed) and not isinstance(plan.error, DeadLetters) for plan in plans):
        job.show_log()
    return reports


def _answered(
    job: DeployedJob, plan: TableMigration, answer: JobAnswer, answered: Mapping[str, Any]
) -> list[RunReport]:
    table = answered.get(plan.table, {"table": plan.table, "direction": plan.direction})
    with job_result.explain_unreadable(job.place):
        runs = job_result.runs_of(table)
        plan.error = plan.error or job_result.error_in(table, dead=any(run.dead_letters for run in runs))
        plan.held_back = bool(table.get("not_started"))
    runs = [_in_full(job, run, plan) for run in runs]
    if plan.error is None and not answer.exit_code and not _is_answered(job, plan, answered):
        plan.error = job.unanswered(plan.table)
    return runs


def _is_answered(job: DeployedJob, plan: TableMigration, answered: Mapping[str, Any]) -> bool:
    """Whether the job has run a version of a table that was planned, or there was none left to run."""
    has_run = plan.table in answered and (job.project.options.dry_run or bool(answered[plan.table].get("versions")))
    return has_run or _is_at_goal(job, plan)


def _without_answer(job: DeployedJob, plans: Sequence[TableMigration], answer: JobAnswer | None) -> Reports:
    """The outcome without a job's answer (the job was killed, or an emulator ran nothing), by the state table. A table
    that has reached its version has lost only the answer."""
    failure = None if all(_is_at_goal(job, plan) for plan in plans) else job.failure(answer)
    for plan in plans:
        plan.error = plan.error or (None if _is_at_goal(job, plan) else failure)
    return {plan.table: [_in_full(job, run, plan) for run in job.ended(plan.table)] for plan in plans}


def _is_at_goal(job: DeployedJob, plan: TableMigration) -> bool:
    """Whether a table is at the version of the first plan: a new plan of `down` would go one version further."""
    if plan.planned is None or not plan.has_steps:
        return True
    if plan.reopens is not None:  # the table is at that version before and after
        now = job.state.run(plan.table, plan.reopens.record.run)
        return now is not None and now.status == "succeeded" and now.attempts > plan.reopens.record.attempts
    last = plan.planned.steps[-1].script.sequence
    at = max(job.state.applied(plan.table), default=0)
    return not job.project.options.dry_run and at == (last if plan.direction == "up" else last - 1)


def _in_full(job: DeployedJob, run: RunReport, plan: TableMigration) -> RunReport:
    """A run's report, with the parts that only the stage's storage has."""
    scripts, keys = (plan.planned.scripts, plan.planned.table.key_names) if plan.planned else ((), ())
    return job_result.in_full(job.project, run, scripts, keys)


# ---------------------------------------------------------------- undo and prepare


def undo(project: Project, record: RunRecord) -> UndoReport:
    """Undoes a run, which was checked to be undoable, in the deployed job."""
    options = project.options
    job = DeployedJob(project, Command("undo", tables=(record.table,), run=record.run, options=options))
    found = job.active()
    if found is None:
        check_undo_before_job(project, record)
    answer = job.answer(found, [record.table])
    report = _undone(job, record, answer)
    if report is None:
        raise job.failure(answer)
    if report.error is not None:
        job.show_log()
    key_names = describe(project.stage.connection, record.table).key_names
    return replace(report, run=replace(report.run, rehearsal=options.dry_run, key_names=key_names))


def _undone(job: DeployedJob, record: RunRecord, answer: JobAnswer | None) -> UndoReport | None:
    """The undo's report by the job's answer or, if it is lost, by the run's record; None if neither shows its end."""
    if answer is not None and "counts" in answer.document:
        with job_result.explain_unreadable(job.place):
            return job_result.undo_of(answer.document)
    lost = answer is None or job_result.error_in(answer.document) is None
    return undone_by_record(job.project, record) if lost and not job.project.options.dry_run else None


def prepare(project: Project, script: Script) -> PreparedRef:
    """Runs a version's `prepare` in the second deployed job."""
    request = Command("prepare", tables=(script.table,), number=script.sequence, options=project.options)
    job, before = DeployedJob(project, request), project.prepared_if_usable(script)
    answer = job.answer(job.active(), [])
    if answer is not None and "sha256" in answer.document:
        with job_result.explain_unreadable(job.place):
            return job_result.prepared_of(answer.document)
    stored = project.prepared_if_usable(script)
    if answer is None and stored is not None and stored != before:  # only the answer is lost
        return stored
    raise job.failure(answer)
