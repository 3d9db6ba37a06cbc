"""Executes each command: calls its operation, and returns one result, as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dynamodt.cli import check_report, json_output, report, run_reports, short_reports
from dynamodt.cli.console import drop_output, on_terminal
from dynamodt.cli.json_output import CommandResult, with_error
from dynamodt.cli.next_steps import not_applied, printed_error, run_error, with_retry_hint, with_subject
from dynamodt.cli.request import Request, check, with_yes
from dynamodt.config.stage import embedded_stage, load_stage
from dynamodt.dynamodb.unresponsive import report_slow_hosts
from dynamodt.errors import DynamodtError, UsageError, suggest
from dynamodt.model.reports import TableReport, TableStatus
from dynamodt.model.tables import Stage, TableNames
from dynamodt.runs.options import (
    BASELINE,
    CHECK,
    CONFIRMED,
    CONTROL,
    DOCTOR,
    MIGRATIONS,
    OF_A_RUN,
    PLAN,
    SHOW,
    VALIDATE,
    RunOptions,
)
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.script.names import check_no_state_table, check_table_name, without_folder
from dynamodt.state.runs import ENDED


def execute(request: Request, folder: Path, recorder: ProgressRecorder, load_api: Callable[[], Any]) -> CommandResult:
    """Executes a request in `folder`, the one that holds `transforms/`. `load_api` gives the operations, late because
    they import boto3. Raises what the operation raises; an error that ended one of several tables is in the result
    instead."""
    check(request)
    if request.command.startswith("local "):
        return _local(request, folder, recorder)
    if request.command not in ("init", DOCTOR):
        _require_transforms(folder)
    if request.command in (PLAN, *MIGRATIONS, *OF_A_RUN):
        from dynamodt.runs.runner import check_runner

        check_runner(request.options, runs=request.command != PLAN)
    with report_slow_hosts(recorder.notify):
        if request.command in _DEPLOYMENT:
            done = _DEPLOYMENT[request.command](request, folder, recorder)
        elif request.command in _UNOPENED:
            done = _UNOPENED[request.command](load_api(), request, folder, recorder)
        else:
            api = load_api()
            stage = _open(api, request, folder, recorder)
            if request.command in CONFIRMED and not request.yes:  # else nothing that can ask is imported
                from dynamodt.cli.questions import confirm_change

                request = confirm_change(request, stage, folder)
            done = _ON_A_STAGE[request.command](api, stage, request, folder, recorder)
    return replace(done, document=json_output.with_names(done.document, recorder.names))


def ended_early(request: Request, recorder: ProgressRecorder | None, error: BaseException) -> CommandResult:
    """The result of a command that an error or an interrupt has ended: what was done so far, and the error."""
    reports = recorder.reports() if recorder is not None and request.command in (*MIGRATIONS, "retry") else []
    names = recorder.names if recorder is not None else TableNames()
    reports = [_with_reported_error(request, each, names) if each.error is not None else each for each in reports]
    error = with_retry_hint(request, error) if reports or request.command == "prepare" else error
    named = (names.real(request.tables[0]), request.number or 0, "") if len(request.tables) == 1 else ("", 0, "")
    last = [(run.table, run.version, run.run) for each in reports for run in each.versions]
    ended = with_subject(printed_error(request, error, names), *(last[-1] if last else named))
    document: json_output.Document = json_output.tables_document(reports) if reports else {}
    document = {**json_output.with_names(document, names), "error": json_output.error_document(ended)}
    shown = [_with_both_names(each, names) for each in reports]
    errors = (*(each.error for each in reports if each.error is not None), ended)
    return CommandResult(document, lambda console: report.print_migrations(console, request, None, shown), errors)


def _with_both_names(found: TableReport, names: TableNames) -> TableReport:
    """The report with both names of its table, for printing without the stage."""
    runs = tuple(replace(run, table=names.shown(run.table)) for run in found.versions)
    return replace(found, table=names.shown(found.table), versions=runs)


def _open(api: Any, request: Request, folder: Path, recorder: ProgressRecorder) -> Stage:
    """The stage, ready for the tables that the command names. Raises Refused for one that is dynamodt's own."""
    stage: Stage = api.open_stage(request.stage, folder, recorder, request.tables)
    recorder.names = stage.names
    with_yes(stage.protected and not on_terminal(request))
    if stage.names.mapped and request.command != "init":  # whose folder is about to be made
        from dynamodt.config.names import check_patterned

        check_patterned(stage, folder, request.tables)
    for table in request.tables:
        check_no_state_table(stage, stage.names.real(table))
    return stage


# ---------------------------------------------------------------- the commands


def _migrate(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operation = api.up if request.command == "up" else api.down
    return _migrated(request, stage, operation(stage, folder, request.tables, request.to, request.options, recorder))


def _migrated(request: Request, stage: Stage, found: Sequence[TableReport]) -> CommandResult:
    tables = [_with_reported_error(request, table, stage.names) for table in found]
    errors = tuple(table.error for table in tables if table.error is not None)
    document = with_error(json_output.tables_document(tables), errors)
    return CommandResult(document, lambda console: report.print_migrations(console, request, stage, tables), errors)


def _undo(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    found = api.undo(stage, folder, request.tables, request.run, request.options, recorder)
    error = None if found.error is None else with_retry_hint(request, found.error)
    about = found.run.table, found.run.version, found.run.run
    errors = () if error is None else (with_subject(printed_error(request, error, stage.names), *about),)
    refusal = found.refusal and printed_error(request, found.refusal, stage.names)
    found = replace(found, error=errors[0] if errors else None, refusal=refusal)
    document = json_output.undo_document(found)
    return CommandResult(document, lambda console: report.print_undo(console, request, stage, found), errors)


def _retry(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    return _migrated(request, stage, api.retry(stage, folder, request.tables, request.run, request.options, recorder))


def _history(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    found = api.history(stage, folder, request.tables)
    _mention_unknown(request, stage, folder, recorder, {table for table, runs in found.items() if runs})
    younger = {table: text for table, runs in found.items() if (text := api.younger(stage, table, runs, recorder))}
    document = json_output.history_document(found, younger)
    return CommandResult(
        document, lambda console: short_reports.print_history(console, found, request.stage, younger, stage.names)
    )


def _show(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    if request.keys:
        keys = api.keys_to_accept(stage, folder, request.tables, request.run)
        document = {"keys": list(keys)} if request.json else {}
        return CommandResult(document, lambda console: run_reports.print_keys(console, keys))
    found = api.show(stage, folder, request.tables, request.run)
    document = run_reports.details_document(found)
    return CommandResult(document, lambda console: run_reports.print_details(console, request, found, stage))


def _status(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    if request.follow:
        return _follow(api, stage, request, folder, recorder)
    found = api.status(stage, folder, request.tables)
    errors = tuple(printed_error(request, status.error, stage.names) for status in found if status.error is not None)
    document = json_output.status_document(found)
    if request.check:
        found_left = filter(None, map(not_applied, found))
        errors += tuple(printed_error(request, error, stage.names) for error in found_left)
        document["check"] = json_output.check_document(found)
    document = with_error(document, errors)
    return CommandResult(
        document, lambda console: short_reports.print_status(console, found, request.stage, stage.names), errors
    )


def _mention_unknown(
    request: Request, stage: Stage, folder: Path, recorder: ProgressRecorder, with_runs: Collection[str]
) -> None:
    """Mentions each named table that has neither a run nor a folder: its name may be misspelt."""
    for real in map(stage.names.real, request.tables):
        place = folder / "transforms" / stage.names.logical(real)
        if real not in with_runs and not place.is_dir():
            error = without_folder(place.parent, place.name)
            recorder.notify(f"{error.what}. {error.hint}")


def _runs(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    found = api.runs(stage, folder, request.tables)
    _mention_unknown(request, stage, folder, recorder, {run.record.table for run in found})
    document = json_output.runs_document(found)
    return CommandResult(document, lambda console: run_reports.print_runs(console, found, names=stage.names))


def _follow(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    """Watches until the active runs have ended, or the reader of stdout has closed it."""
    try:
        found = api.follow(stage, folder, request.tables, recorder)
    except BrokenPipeError:
        drop_output()
        found = recorder.ended
    recorder.close()
    failed = [run for run in found if run.status not in ENDED]
    errors = tuple(printed_error(request, run_error(run, stage.names), stage.names) for run in failed)
    document = with_error(json_output.followed_document(found), errors)
    return CommandResult(document, lambda console: report.print_followed(console, stage, found), errors)


def _control(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    lease = api.control_run(stage, request.tables[0], request.command, request.limits)
    document = json_output.reported_document(request.command, lease, request.limits)
    return CommandResult(document, lambda console: short_reports.print_reported(console, request, lease, stage.names))


def _baseline(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    table, options = request.tables[0], request.options
    if request.command == "stamp":
        taken = api.stamp(stage, folder, table, request.to or 0, recorder, options)
    elif request.command == "repair":
        taken = api.repair(stage, folder, table, request.to, recorder, options)
    else:
        taken = api.import_history(stage, folder, table, recorder, options)
    document = json_output.baseline_document(taken)
    return CommandResult(document, lambda console: short_reports.print_baseline(console, request, taken, stage.names))


def _prepare(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    table, version, dry_run = request.tables[0], request.number or 0, request.options.dry_run
    prepared = api.prepare(stage, folder, table, version, recorder, request.options)
    document = json_output.prepared_document(stage.names.real(table), version, prepared, dry_run)
    (status,) = api.status(stage, folder, [table]) if not dry_run else (TableStatus(table, 0, ()),)
    earlier = 0 if dry_run else api.unprepared(stage, folder, table, status.at)
    return CommandResult(
        document, lambda console: short_reports.print_prepared(console, request, prepared, stage.names, status, earlier)
    )


def _check(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.checks.check import CheckOptions

    options = CheckOptions(
        request.sample, request.items, request.export, request.number, request.variants, save=request.save
    )
    found = api.check(stage, folder, request.tables, options, recorder, request.options)
    errors = tuple(printed_error(request, error, stage.names) for error in check_report.failures(found, stage.names))
    write = check_report.print_markdown if request.markdown else check_report.print_check
    document = with_error(check_report.check_document(found), errors)
    return CommandResult(document, lambda console: write(console, request, found, stage.names), errors)


def _init(api: Any, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    """Declares the tables before the stage is opened, which creates them."""
    dry_run = request.options.dry_run
    for table in request.tables:
        check_table_name(table)
        check_no_state_table(load_stage(request.stage, folder), table)
    keys, written = api.declare(request.stage, folder, request.tables, request.key, dry_run=dry_run)
    request = replace(request, tables=request.tables or tuple(keys))
    stage = _open(api, request, folder, recorder)
    files = [*([written] if written else []), *api.init(stage, folder, request.tables, dry_run, keys)]
    missing = api.without_table(stage, request.tables) if not dry_run else []
    document = json_output.files_document(files, dry_run)
    render = partial(short_reports.print_files, request=request, files=files, missing=missing, creates=stage.embedded)
    return CommandResult(document, render)


def _create(api: Any, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    dry_run = request.options.dry_run
    check_no_state_table(load_stage(request.stage, folder), request.tables[0])
    files = api.create(folder, request.tables[0], request.name, dry_run=dry_run)
    document = json_output.files_document(files, dry_run)
    return CommandResult(document, lambda console: short_reports.print_files(console, request, files))


def _local(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.local import stage as local

    if request.command == "local env":
        variables = local.variables(folder, recorder.notify)
        document: json_output.Document = {"variables": variables}
        return CommandResult(document, lambda console: short_reports.print_variables(console, variables))
    if request.command == "local stop":
        local.stop(folder, recorder.notify)
    elif request.command == "local reset":
        if not request.yes:
            from dynamodt.cli.questions import confirm_reset

            confirm_reset(request, embedded_stage(folder), folder)
        local.reset(folder)
    status = local.status(folder)
    return CommandResult(json_output.local_document(status), lambda console: short_reports.print_local(console, status))


def _deploy(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.config.names import with_names
    from dynamodt.deploy import deploy
    from dynamodt.runs.context import Project

    stage = load_stage(request.stage, folder)
    stage = stage if request.state_only else with_names(stage, folder)
    made = deploy.deploy(Project(stage, folder, request.options, recorder), request.state_only)
    document = json_output.deployment_document(made)
    return CommandResult(document, lambda console: short_reports.print_deployment(console, request, made))


def _destroy(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.config.names import with_names
    from dynamodt.deploy import destroy
    from dynamodt.runs.context import Project

    stage, dry_run = with_names(load_stage(request.stage, folder), folder), request.options.dry_run
    found = destroy.destroy(Project(stage, folder, RunOptions(dry_run=True), recorder), request.purge)
    if found.removed and not dry_run:
        from dynamodt.cli.questions import confirm_removal

        confirm_removal(request, found)
    if not dry_run:
        found = destroy.destroy(Project(stage, folder, request.options, recorder), request.purge, agreed=found)
    document = json_output.removal_document(found)
    return CommandResult(document, lambda console: short_reports.print_removal(console, request, found))


def _doctor(api: Any, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    how = {"full": request.full, "glue": request.in_job}
    found = api.doctor(request.stage, folder, request.tables, recorder, **how)
    wrong = ", ".join(finding.name for finding in found.wrong)
    number = "1 check is wrong" if len(found.wrong) == 1 else f"{len(found.wrong)} checks are wrong"
    errors = (DynamodtError(f"{number}: {wrong}", where=f"stage {found.stage}"),) if wrong else ()
    document = json_output.examination_document(found)
    return CommandResult(document, lambda console: short_reports.print_examination(console, found), errors)


def _validate(api: Any, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    found = api.validate(folder, request.tables)
    errors = tuple(printed_error(request, error, recorder.names) for error in found.all_errors)
    document = with_error(short_reports.validation_document(found), errors)
    return CommandResult(document, lambda console: short_reports.print_validation(console, found), errors)


def _plan(api: Any, stage: Stage, request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.cli import plan_report
    from dynamodt.runs.forecast import exceeded

    found = api.forecast(stage, folder, request.tables, request.to, request.options, request.sample)
    wrong = [one.error for one in found if one.error is not None]
    wrong += [] if wrong else exceeded(found, request.options.max_usd, request.max_hours)
    errors = tuple(printed_error(request, error, stage.names) for error in wrong)
    write = plan_report.print_plan_markdown if request.markdown else plan_report.print_plan
    document = with_error(plan_report.plan_document(found), errors)
    return CommandResult(document, lambda console: write(console, request, found, stage.names), errors)


_DEPLOYMENT: dict[str, Callable[[Request, Path, ProgressRecorder], CommandResult]] = {
    "deploy": _deploy,
    "destroy": _destroy,
}
_UNOPENED: dict[str, Callable[[Any, Request, Path, ProgressRecorder], CommandResult]] = {
    "create": _create,
    "init": _init,
    DOCTOR: _doctor,
    VALIDATE: _validate,
}
_ON_A_STAGE: dict[str, Callable[[Any, Stage, Request, Path, ProgressRecorder], CommandResult]] = {
    "prepare": _prepare,
    CHECK: _check,
    PLAN: _plan,
    "up": _migrate,
    "down": _migrate,
    "undo": _undo,
    "retry": _retry,
    "history": _history,
    SHOW: _show,
    "status": _status,
    "runs": _runs,
    **dict.fromkeys(CONTROL, _control),
    **dict.fromkeys(BASELINE, _baseline),
}


def _require_transforms(folder: Path) -> None:
    if not (folder / "transforms").is_dir():
        hint = "go to the folder that holds transforms/, or make it: " + suggest("init", table="users")
        raise UsageError("there is no folder transforms/ here", where=str(folder), hint=hint)


def _with_reported_error(request: Request, table: TableReport, names: TableNames) -> TableReport:
    """A run that failed or was stopped is an error, even if the report has none."""
    error = table.error
    if error is None:
        ended = (run for run in table.versions if run.left_early)
        error = next((run_error(run, names) for run in ended), None)
    refusal = table.refusal and printed_error(request, table.refusal, names)
    if error is None:
        return replace(table, refusal=refusal)
    error = printed_error(request, with_retry_hint(request, error) if table.versions else error, names)
    last = [(run.version, run.run) for run in table.versions if run.status not in (*ENDED, "dry-run")][-1:]
    return replace(table, error=with_subject(error, table.table, *(last[0] if last else ())), refusal=refusal)
