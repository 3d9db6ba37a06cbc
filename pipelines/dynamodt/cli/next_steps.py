"""The commands that make sense after a command, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dynamodt.cli.request import Request, as_typed, in_service, needs_entry, plugin_command
from dynamodt.errors import CostReached, Refused, ServiceError
from dynamodt.model.reports import RunReport, TableReport, TableStatus, TakeOver, UndoReport
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import TableNames
from dynamodt.runs.history import goal
from dynamodt.runs.options import GLUE, Command, RunOptions, command_argv, takes_several_tables

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
        options = replace(options, in_doubt="", accept=(), accept_all=False)
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
