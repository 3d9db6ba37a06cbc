"""The commands that make sense after a command, each with its reason; and the errors of a command as they are printed,
with the stage and the next command in their hints. `not_applied` is the error of `status --check`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dynamodt.cli.request import (
    Request,
    as_typed,
    completed,
    in_service,
    needs_entry,
    plugin_command,
    with_needs,
    with_plugin,
)
from dynamodt.errors import (
    PROGRAM,
    CostReached,
    DeadLetters,
    DynamodtError,
    Hint,
    Refused,
    RunFailed,
    ServiceError,
    file_error,
    is_of_the_disk,
    suggest,
)
from dynamodt.model.reports import RunReport, TableReport, TableStatus, TakeOver, UndoReport, VersionStatus
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import TableNames
from dynamodt.pipeline.process import StoppedError
from dynamodt.runs.history import goal
from dynamodt.runs.options import GLUE, MIGRATIONS, Command, RunOptions, command_argv, takes_several_tables
from dynamodt.script.versions import bring_back, file_of
from dynamodt.state.runs import or_undo

_MOST_STEPS = 8


class NextStep(NamedTuple):
    command: str
    why: str


CommandStep = tuple[Command, str]
Step = CommandStep | tuple[str, str]  # a command, or that of another program as it is typed; and why


def written_steps(
    request: Request, steps: Iterable[Step], environment: Mapping[str, str] = os.environ
) -> list[NextStep]:
    """The steps as they are typed; those that the plugin lacks with the entry that they need."""
    needs, written = needs_entry(request.stage, environment), list[NextStep]()
    for command, why in steps:
        if needs and isinstance(command, Command) and not plugin_command(command_argv(command), environment):
            why, needs = f"{why}; {needs}", "this needs it, too"
        written.append(NextStep(command if isinstance(command, str) else as_typed(command, environment), why))
    return written


def steps_of(request: Request, report: TableReport) -> list[CommandStep]:
    """Two or three commands that make sense after this table's `up`, `down` or `retry`."""
    options = replace(request.options, reason="")
    asked = replace(
        request, tables=(report.table,), json=False, interactive=False, log_file="", log_format="", options=options
    )
    if request.command == "retry" and options.dry_run:
        accepts = options.accept or options.accept_all
        return [(_without_dry_run(request), "accept them" if accepts else "replay them")]
    if request.command == "retry":  # it continues as `up` or `down` would
        options = replace(options, in_doubt="", keys=(), accept=(), accept_all=False)
        asked = replace(asked, command=report.direction, run="", options=options)
    return _after(asked, report)


def merged_steps(request: Request, reports: Sequence[TableReport]) -> list[CommandStep]:
    """The next steps for several tables, each command once."""
    merged: list[CommandStep] = []
    for command, why in (step for report in reports for step in _steps(request, report)):
        found = next((n for n, (one, w) in enumerate(merged) if w == why and _differ_in_tables(one, command)), None)
        if found is None:
            merged.append((command, why))
        else:
            tables = tuple(dict.fromkeys((*merged[found][0].tables, *command.tables)))
            merged[found] = replace(command, tables=tables), why
    if len(reports) > 1:
        merged = sorted(merged, key=lambda step: step[0].command == "status")
    return merged[:_MOST_STEPS]


def _steps(request: Request, report: TableReport) -> list[CommandStep]:
    """The next steps of one table, without those that would be refused."""
    steps = steps_of(request, report)
    if report.refusal is None:
        return steps
    return [step for step in steps if step[0].command == "status" or step[0].options.dry_run]


def _differ_in_tables(one: Command, other: Command) -> bool:
    """Whether one command can combine the tables of both."""
    several = takes_several_tables(one.command) or one.tables == other.tables
    return several and bool(one.tables) == bool(other.tables) and replace(one, tables=other.tables) == other


def after_init(missing: Sequence[str]) -> list[Step]:
    """The steps after `init` for tables that the embedded stage lacks: declare their keys, so that it creates them."""
    why = "with the table's own key: the local stage creates the table"
    return [(Request("init", tables=(table,), key="id:S"), why) for table in missing]


def after_files(request: Request) -> list[Step]:
    """The steps after a script was written: `check` and a dry run."""
    checked = Command("check", request.stage, request.tables), "test it on a sample of items"
    tried = dry_run_of(request), "try it on all items, without writing"
    return [tried] if in_service() else [checked, tried]


def step_after_sample(request: Request, table: str) -> Step:
    """The step after `check` or `plan`: a dry run with the same limits, except that of the cost, which a dry
    run does not have."""
    up = Command("up", request.stage, (table,), request.to, options=replace(request.options, max_usd=0.0))
    return dry_run_of(up), "try it on all items, without writing"


def after_preparation(request: Request, status: TableStatus, unprepared: int = 0) -> list[Step]:
    """The steps after `prepare`: `up` to the version that joins the data; first `prepare` of the earlier version
    `unprepared`, which lacks its data; or the status, if the version is applied or cannot be reached now."""
    number = request.number or 0
    refused = {"edited", "unfinished", "running"} & {version.state for version in status.versions}
    if number <= status.at or refused or status.error or status.younger or status.older_state:
        why = f"version {status.at} is applied" if status.at else "shows the obstacle"
        return [(Command("status", request.stage, request.tables), why)]
    if 0 < unprepared < number:
        return [_preparation(request, unprepared)]
    up = Command("up", request.stage, request.tables, request.number, options=request.options)
    return [(dry_run_of(up), "try it without writing"), (up, "write it")]


def after_baseline(request: Request, taken: TakeOver) -> list[Step]:
    """The steps after `stamp`, `import-history` or `repair`: the status, and the pending versions."""
    if taken.dry_run and taken.records:
        return [(_without_dry_run(request), "record it")]
    plain = Command("status", request.stage, request.tables)
    steps: list[Step] = [(plain, _STATUS)]
    if any(version.outcome == "edited" for version in taken.outcomes):
        accepting = replace(plain, command="repair", options=RunOptions(reason="WHY"))
        steps.insert(0, (accepting, "accept the edit, if what is applied may stay as it is"))
    return [*steps, (dry_run_of(plain), "try what is pending without writing")] if taken.at < taken.latest else steps


def after_undo(request: Request, undo: UndoReport, names: TableNames) -> list[Step]:
    """The step after `undo`: the same without a dry run, or the status."""
    if undo.run.status == "dry-run":
        return [(_without_dry_run(request), "undo it")]
    status = Command("status", request.stage, (names.logical(undo.run.table),))
    return [(status, f"{names.shown(undo.run.table)} is at version {undo.at}")]


def after_deploy(request: Request, dry_run: bool) -> list[Step]:
    """The steps after `deploy`: the same without a dry run, or the pending versions and the job that applies them."""
    if dry_run:
        return [(_without_dry_run(request), "deploy it")]
    status: Step = Command("status", request.stage), _STATUS
    if request.state_only:
        return [status]
    on_glue = Command("up", request.stage, options=RunOptions(runner=GLUE))
    tried = dry_run_of(on_glue), "try what is pending in the job, without writing"
    return [status, tried, (on_glue, "apply it there")]


def _without_dry_run(request: Request) -> Request:
    return replace(request, json=False, interactive=False, options=replace(request.options, dry_run=False))


_STATUS = "what is applied, what is pending"


def with_higher_limit(request: Request, reached: CostReached) -> Request:
    """The request with a higher limit of its cost, which an earlier attempt has reached."""
    higher = reached.higher or 2 * request.options.max_usd
    return replace(request, options=replace(request.options, max_usd=higher))


def dry_run_of(command: Command) -> Command:
    """The dry run of `up` for the command's tables."""
    options = replace(command.options, dry_run=True)
    return Command("up", command.stage, command.tables, command.to, options=options)


def _after(request: Request, report: TableReport) -> list[CommandStep]:
    options = replace(request.options, dry_run=False)
    plain = replace(request, to=None, options=replace(options, max_errors=0, wait_lock=""))
    status = replace(plain, command="status", tables=()), _STATUS
    if report.error is not None or any(run.status == "failed" for run in report.versions):
        rehearsed = replace(request, options=replace(options, dry_run=True)), "try it without writing"
        refused = request.options.dry_run and isinstance(report.error, Refused)  # it would be again
        return [*_continuation_steps(request, report), *([] if refused else [rehearsed]), status]
    if request.options.dry_run:
        return [(replace(request, options=options), "write it"), status] if report.versions else [status]
    steps = [_preparation(plain, report.unprepared)] if report.unprepared else []
    steps += [(replace(plain, command="up"), _pending(report))] if report.at < report.latest else []
    return [*_with_dead_letters(plain, report), *steps, status, *_step_back(plain, report)]


def _with_dead_letters(plain: Request, report: TableReport) -> list[CommandStep]:
    """The steps for the dead letters of a run that has succeeded."""
    last = report.versions[-1] if report.versions else None
    if last is None or not last.tolerated:
        return []
    return [(_show_run(plain, last), "its dead letters"), (_for_run(plain, "retry", last), "after a fix: replay them")]


def _show_run(request: Request, run: RunReport) -> Request:
    return replace(request, command="show", run=run.run, to=None)


def _continuation_steps(request: Request, report: TableReport) -> list[CommandStep]:
    """The steps that continue an unfinished run, also that of a job which has died."""
    left = next((run for run in report.versions if run.left_early or run.status == "gone"), None)
    if left is None or request.options.dry_run:
        return []
    goes_on = left.status != "failed" or isinstance(report.error, ServiceError)
    onward = with_higher_limit(request, report.error) if isinstance(report.error, CostReached) else request
    steps: list[CommandStep] = [(onward, "continue it")] if goes_on else []
    steps += [(_show_run(request, left), "its dead letters, by error")] if left.dead_letters else []
    steps += [(_for_run(request, "retry", left), "after a fix: replay its dead letters")] if left.dead_letters else []
    undone = [(_for_run(request, "undo", left), "undo its changes")]
    return steps + (undone if left.journal and left.counts.changed else [])


def _step_back(plain: Request, report: TableReport) -> list[CommandStep]:
    what = f"roll back version {report.at}"
    if report.at and report.reversible:
        return [(replace(plain, command="down", options=_without_choices(plain.options)), what)]
    last = report.versions[-1] if report.versions else None
    undoable = last is not None and last.journal and last.direction == "up"  # the version, and not a `down` of the next
    return [(_for_run(plain, "undo", last), what)] if last is not None and undoable else []


def _for_run(request: Request, command: str, run: RunReport) -> Request:
    options = replace(_without_choices(request.options), max_errors=0)
    return replace(request, command=command, run=run.run, to=None, options=options)


def _without_choices(options: RunOptions) -> RunOptions:
    """The request without the options that apply to one version's run only."""
    return replace(options, journal=None, source="", export="", catch_up="", wait_lock="")


def _preparation(plain: Request, version: int) -> CommandStep:
    options = RunOptions(runner=GLUE if plain.options.runner == GLUE and not in_service() else "direct")
    asked = Command("prepare", plain.stage, plain.tables, number=version, options=options)
    return asked, f"first gather the data that version {version} joins"


def _pending(report: TableReport) -> str:
    first = report.at + 1
    return f"version {first}, the last one" if first == report.latest else f"versions {first} to {report.latest}"


def continuing(run: RunRecord, stage: str, table: str) -> Command:
    """The command that continues an unfinished run, and no later version, which may lack its prepared data; after a
    run reached its limit of the cost, with a higher one."""
    return Command(run.direction, stage, (table,), goal(run), options=RunOptions(max_usd=run.higher_usd))


# ---------------------------------------------------------------- after an error


def _typed(request: Request) -> str:
    return with_needs(as_typed(request), request)


def with_retry_hint(request: Request, error: BaseException) -> BaseException:
    """Adds the same command to the hint of a ServiceError, since it continues the run."""
    if not isinstance(error, ServiceError) or "same command" in error.hint:
        return error
    again = request.options.dry_run or request.command == "prepare"
    way = "to start again" if again else "the same command continues it from its last checkpoint"
    return error.hinted(f"{error.hint}; {way}: " + _typed(request) if error.hint else f"{way}: {_typed(request)}")


def run_error(run: RunReport, names: TableNames) -> DynamodtError:
    hint = suggest(run.direction, table=run.table, to=goal(run)) + " continues it" if run.status == "gone" else ""
    what = run.error.removeprefix(f"{run.dead_letters}: ") or f"the run {run.status}"
    return RunFailed(what, where=f"{names.shown(run.table)} v{run.version} {run.name}", hint=hint)


def printed_error(request: Request, error: BaseException, names: TableNames) -> BaseException:
    """The error as it is printed: with the stage and the command in its hint, and with its table's names."""
    if isinstance(error, KeyboardInterrupt):
        error = _stop_error(request, error)
    if isinstance(error, OSError):
        error = file_error("used", os.fsdecode(error.filename or ""), error) if is_of_the_disk(error) else error
    if not isinstance(error, DynamodtError):
        return error
    hint = error.hint
    if isinstance(error, CostReached):
        again = _typed(with_higher_limit(request, error))
        hint = Hint(f"what is done stays; to continue from the last checkpoint: {again}")
    if isinstance(error, DeadLetters) and request.options.dry_run:
        lines = "" if request.command == "retry" else "each line names the key and the error; "  # of the named file
        hint = Hint(f"{lines}fix the script or the data, then: {_typed(request)}")
    hint = with_plugin(completed(hint, request, names), request.stage)
    return error.hinted(hint, names.in_text(error.where), names.in_text(error.what))


def with_subject(error: BaseException, table: str, version: int = 0, run: str = "") -> BaseException:
    """The printed error, with the table, version and run that it is about. A refusal may name the run."""
    if isinstance(error, DynamodtError):
        error.subject = table, version, run or (error.run if isinstance(error, Refused) else "")
    return error


def _stop_error(request: Request, error: KeyboardInterrupt) -> StoppedError:
    if request.interactive:
        return StoppedError.by(error, f"nothing was started; to choose again: {PROGRAM} -i")
    if request.follow:
        return StoppedError.by(error, f"the runs continue; to watch them again: {_typed(request)}")
    if request.options.runner == GLUE:
        return StoppedError.by(error, f"a job that was started continues; to follow it: {_typed(request)}")
    if request.options.dry_run:
        return StoppedError.by(error, f"nothing was written; to start again: {_typed(request)}")
    if request.command not in MIGRATIONS:
        return StoppedError.by(error, f"to continue, run the same command again: {_typed(request)}")
    return StoppedError.by(
        error,
        suggest("status") + " shows the progress; the same command continues from the last checkpoint: "
        f"{_typed(request)}",
    )


# ---------------------------------------------------------------- after `status --check`


def left(status: TableStatus) -> tuple[VersionStatus, ...]:
    """The versions that `status --check` reports: pending, running, unfinished, edited or missing."""
    return tuple(version for version in status.versions if version.state != "applied")


def not_applied(status: TableStatus) -> DynamodtError | None:
    """The reason why `status --check` fails for a table; None if it succeeds."""
    by_state: dict[str, list[str]] = {}
    for version in left(status):
        by_state.setdefault(version.state, []).append(f"v{version.version} {version.name}")
    parts = [f"{state}: {', '.join(names)}" for state, names in by_state.items()]
    parts += ["the table was created again after its last run"] if status.younger else []
    parts += [status.older_state] if status.older_state else []
    parts += [status.not_compared] if status.unread else []
    if not parts:
        return None
    return DynamodtError("; ".join(parts), where=f"table {status.table}", hint=_next_command(status, set(by_state)))


def _next_command(status: TableStatus, states: set[str]) -> Hint:
    if status.younger or status.older_state:
        return "record which versions are applied: " + suggest("stamp", table=status.table, to="N")
    if status.unread and not states:
        return status.unread.hint
    if states == {"missing"}:
        return Hint("use the release that has the files: what is applied stays as it is")
    undone = next((v.run for v in left(status) if v.run and v.run.status in ("undoing", "partly-undone")), None)
    if undone is not None:
        return "finish the undo: " + suggest("undo", undone.run)
    unended = next((v.run for v in left(status) if v.run), None)
    if "edited" in states and unended is not None:
        return f"revert the edit, and finish the run {unended.run}" + or_undo(unended)
    if states & {"edited", "missing"}:
        return _restore(status, "edited" in states)
    if states == {"running"}:
        return suggest("status", follow=True) + " watches the run"
    return _finish(status)


def _finish(status: TableStatus) -> Hint:
    """The command for pending or unfinished versions. The file of an unfinished one may be missing."""
    back = next((v.run for v in left(status) if v.run and v.run.direction == "down"), None)
    if back is not None:
        return "finish it: " + suggest("down", table=status.table, to=back.version - 1)
    if (lost := next((v for v in left(status) if v.run and not v.path), None)) is not None:
        return f"bring {file_of(lost)} back, and finish it: " + suggest("up", table=status.table, to=lost.version)
    return "apply them: " + suggest("up", table=status.table)


def _restore(status: TableStatus, edited: bool) -> Hint:
    """The hint for versions whose applied files are not here. `repair` accepts no file under another name."""
    others = [v for v in status.versions if v.state == "edited" and not v.path.endswith(f"/{file_of(v)}")]
    if others:
        return bring_back(others[0])
    restore = Hint("restore the applied file, and make the change in a new version")
    repair = "; or accept the edit: " + suggest("repair", table=status.table, reason="WHY")
    return restore + repair if edited else restore
