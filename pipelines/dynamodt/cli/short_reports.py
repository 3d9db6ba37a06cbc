"""The results of the other commands as text: history, status, files that were written, versions that were recorded or
checked, and the stack. The document of `validate`, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dynamodt.cli.json_output import Document, error_document
from dynamodt.cli.next_steps import after_baseline, after_deploy, after_files, after_init, after_preparation, continuing
from dynamodt.cli.report import LEFT, NARROW, STYLES, facts_lines, print_steps, reason, show, texts_kept, why_lines
from dynamodt.cli.request import Request, as_typed, with_needs
from dynamodt.config.stage import LOCAL
from dynamodt.model.reports import TableStatus, TakeOver, VersionOutcome, VersionStatus, counted, outcome
from dynamodt.model.runs import Lease, PreparedRef, RunRecord, Script, ScriptText
from dynamodt.model.tables import TableNames
from dynamodt.runs.display import printable
from dynamodt.runs.options import Command
from dynamodt.state.runs import texts_reported

if TYPE_CHECKING:
    from dynamodt.deploy.deploy import Deployment
    from dynamodt.deploy.destroy import Removal
    from dynamodt.deploy.stacks import ResourceChange
    from dynamodt.doctor.doctor import Examination
    from dynamodt.local.stage import LocalStatus
    from dynamodt.runs.validation import ValidatedTable, Validation


_FOUND = {"ok": "green", "wrong": "bold red", "differs": "yellow", "skipped": "dim"}
_STATES = {
    "edited": "its file changed after it was applied",
    "missing": "applied by a newer release: it has no file here",
}
_DAY = len("2026-01-31")
_TO_BE_DONE = ("running", "paused", "held", "stopping", "unfinished", "pending")
_WORDS = {
    "created": "is deployed",
    "updated": "is updated",
    "unchanged": "Nothing to do: the stack is up to date",
    "dry-run": "dry run: nothing was changed",
}
_BY_EMAIL, _ADDRESS = "AlarmsByEmail", "AlarmsTo"  # in the template: the subscription, and its address
_MARKS = {"Add": "+", "Remove": "-", "Modify": "~", "Import": "+"}
_UNENDED = "no end is recorded: it is running, or its process was killed; the same command continues it"


def print_history(
    console: Console,
    history: Mapping[str, Sequence[RunRecord]],
    stage: str = LOCAL,
    younger: Mapping[str, str] = {},
    names: TableNames = TableNames(),
) -> None:
    """Every run, three lines each: narrow enough for 80 columns."""
    for table, runs in history.items():
        console.print(Text.assemble((names.shown(table), "bold"), ("" if runs else "  no run yet", "dim")))
        if table in younger:
            show(console, younger_text(names.logical(table), younger[table], stage))
        show(console, *(_record(run, stage) for run in runs))


def younger_text(table: str, reason: str, stage: str) -> Text:
    command = Command("stamp", stage, (table,))
    typed = with_needs(f"{as_typed(command)} --to N", command)
    return Text(f"  {printable(reason)}\n  record which versions are applied: {typed}", "yellow")


def print_reported(console: Console, request: Request, lease: Lease, names: TableNames = TableNames()) -> None:
    """The command that was sent to a run, and its holder."""
    effect = f": run {lease.run} {_expected_effect(request, lease)}"
    show(console, Text.assemble((names.shown(lease.table), "bold"), effect))
    facts = {"holder": f"{lease.user}@{lease.host}, process {lease.pid}", "since": lease.since}
    show(console, *facts_lines(facts))


def _expected_effect(request: Request, lease: Lease) -> str:
    outcome = {
        "pause": "pauses before its next request",
        "resume": "continues",
        "abort": "ends before its next request",
    }
    if request.command == "throttle":
        named = (("WCU/s", request.limits.wcu), ("RCU/s", request.limits.rcu))
        return "keeps to " + ", ".join(f"{limit:g} {name}" for name, limit in named if limit)
    if request.command == "resume" and lease.pause_reason:
        abort = as_typed(Command("abort", request.stage, request.tables))
        without = f"to continue without the alarm: {abort}, then the run's command without --pause-on-alarm"
        return f"stays paused ({lease.pause_reason}); it continues automatically when that is over; {without}"
    return outcome.get(request.command, "has lost its lease")


def print_prepared(
    console: Console, request: Request, prepared: PreparedRef, names: TableNames, status: TableStatus, unprepared: int
) -> None:
    """The location of the prepared rows, and the next steps."""
    table = names.shown(names.real(request.tables[0]))
    label = f"{table} version {request.number}: {counted(prepared.rows, 'row')}"
    if request.options.dry_run:
        show(console, Text.assemble(("dry run: nothing was stored", "bold cyan"), f"  {label} would be stored"))
        return
    show(console, *facts_lines({"prepared": label, "at": prepared.url, "sha256": prepared.sha256}))
    console.print()
    print_steps(console, request, after_preparation(request, status, unprepared))


def print_files(
    console: Console, request: Request, files: Sequence[Path], missing: Sequence[str] = (), creates: bool = False
) -> None:
    """The files that were written, or would be, and the next steps. `missing` are tables that the stage lacks;
    `creates`: the stage is the embedded one, which creates them."""
    if not files:
        console.print("Nothing to do: every table has its folder already.")
    else:
        console.print(Text("would write:" if request.options.dry_run else "wrote:", "bold"))
        show(console, *(Text(f"  {path}") for path in files))
    if missing and creates:
        print_steps(console, request, after_init(missing))
    elif missing:
        lacks = f"the stage {request.stage} has no table {', '.join(missing)} yet"
        show(console, Text.assemble(("next  ", "dim"), f"{lacks}: create it there as your application does"))
    elif files and not request.options.dry_run:
        scripts = [path for path in files if path.suffix == ".py" and path.parent.name != "tests"]
        written = ", ".join(path.name if len(scripts) == 1 else f"{path.parent.name}/{path.name}" for path in scripts)
        if written:
            show(console, Text.assemble(("first ", "dim"), f"write the transformation of an item in {written}"))
        print_steps(console, request, after_files(request))


def print_local(console: Console, status: LocalStatus) -> None:
    """The embedded stage's state, and the location of its data."""
    if status.running:
        facts = {"local stage": f"running at {status.url} (process {status.pid}, since {status.since})"}
    else:
        facts = {"local stage": "not running; the next command that needs it starts it"}
    show(console, *facts_lines({**facts, "data": str(status.folder)}))


def print_variables(console: Console, variables: Mapping[str, str]) -> None:
    """Lines for a shell: `eval "$(dynamodt local env)"`."""
    show(console, *(Text(f"export {name}={quote(value)}") for name, value in variables.items()))


def print_examination(console: Console, found: Examination) -> None:
    """Each check with its result, the advice for a failed one (once, if several share it), and how an emulator may
    differ."""
    given: set[str] = set()
    width = max(len(finding.name) for finding in found.findings)
    for finding in found.findings:
        line = Text.assemble((f"{finding.status:<8}", _FOUND.get(finding.status, "")), f"{finding.name:<{width}}  ")
        show(console, line.append(finding.seen))
        if finding.status == "wrong":
            reasons = (finding.hint, finding.relies and f"{finding.relies} relies on it; see {finding.source}")
            show(console, *(Text(f"        {reason}", "dim") for reason in reasons if reason and reason not in given))
            given.update(reasons)
        if finding.status == "differs":
            show(console, Text(f"        harmless: {finding.hint}", "dim"))
    if found.report:
        console.print(Text.assemble(("report  ", "dim"), found.report))


def _record(run: RunRecord, stage: str) -> Text:
    title = Text.assemble((f"  v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    title.append(outcome(run.status, run.counts.dead, run.accepted_items), STYLES.get(run.status, ""))
    counts = [f"{name} {number:,}" for name, number in run.counts._asdict().items() if number or name == "read"]
    lines = [
        title,
        Text(f"    {run.started}  by {run.by or 'unknown'}  run {run.run}  script {run.checksum[:12] or 'unknown'}"),
        Text(f"    {', '.join(counts)}; {run.consumed.wcu:,.1f} write units, {run.seconds:,.2f} s"),
    ]
    lines += [Text(f"    {printable(each)}", "dim") for each in why_lines(run)]
    lines += [*texts_kept(run), *(_text(text) for text in texts_reported(run))]
    lines += [Text(f"    {_UNENDED}", "dim")] if run.status == "running" else []
    if run.status == "undoing":
        lines.append(Text(f"    unfinished undo; to finish it: {undo_command(run, stage)}", "yellow"))
    if run.status == "partly-undone":
        lines.append(Text(f"    undone in part; when its journal is complete: {undo_command(run, stage)}", "yellow"))
    undone_for = f": {printable(run.undone_reason)}" if run.undone_reason else ""
    lines += [Text(f"    undone {run.undone}{undone_for}", "dim")] if run.undone else []
    lines += [Text(f"    {printable(run.error)}", "red")] if run.error else []
    lines += [Text(f"    dead letters: {run.dead_letters}", "red")] if run.dead_letters else []
    return Text("\n").join(lines)


def _text(text: ScriptText) -> Text:
    return Text(f"    {counted(text.items, 'item')} by the script's text {text.checksum[:12]}", "yellow")


def undo_command(run: RunRecord, stage: str) -> str:
    command = Command("undo", stage, run=run.run)
    return with_needs(as_typed(command), command)


def print_status(
    console: Console, statuses: Sequence[TableStatus], stage: str = LOCAL, names: TableNames = TableNames()
) -> None:
    """Each table's versions and their states."""
    for status in statuses:
        states = [_shown_state(version) for version in status.versions]
        numbers = {state: states.count(state) for state in (*_TO_BE_DONE, "edited", "missing")}
        parts = [f"{number} {state}" for state, number in numbers.items() if number]
        parts = parts or ["nothing pending" if status.error is None else "its folder has an error"]
        at = f" at version {status.at}, {', '.join(parts)}"
        console.print(Text.assemble((names.shown(status.table), "bold"), at))
        if status.younger:
            show(console, younger_text(names.logical(status.table), status.younger, stage))
        if status.older_state:
            show(console, younger_text(names.logical(status.table), status.older_state, stage))
        if status.unread:
            show(console, Text(f"  {printable(status.not_compared)}", "yellow"))
        show(console, *_version_lines(status, stage, names, console.width < NARROW))


def _version_lines(status: TableStatus, stage: str, table_names: TableNames, narrow: bool) -> list[Text]:
    names = max((len(version.name) for version in status.versions), default=0)
    states = max((len(_shown_state(version)) for version in status.versions), default=0)
    width = max(8, states)
    edited = any(version.state == "edited" for version in status.versions)
    lines = (_version_line(each, names, width, stage, table_names, narrow, edited) for each in status.versions)
    return [line for each in lines for line in each]


def _shown_state(version: VersionStatus) -> str:
    """The state; of a version whose run is active or unfinished, the run's: it may be paused, or held by an alarm."""
    if version.state not in ("running", "unfinished") or version.run is None:
        return version.state
    return version.run.status if version.run.status in _TO_BE_DONE else version.state


def _version_line(
    version: VersionStatus, names: int, states: int, stage: str, table_names: TableNames, narrow: bool, edited: bool
) -> list[Text]:
    state = _shown_state(version)
    line = Text.assemble(
        f"  v{version.version:<3} ",
        (f"{version.name:<{names}}  ", "bold"),
        (f"{state:<{states}}", STYLES.get(state, "")),
        (f"  {_STATES.get(version.state, version.when[:_DAY] if narrow else version.when)}", "dim"),
        (f"  {counted(version.dead, 'dead letter')}" if version.dead else "", "yellow"),
    )
    changed = [Text(f"       changed since it was applied: transforms/{printable(name)}") for name in version.changed]
    if version.run is None:
        return [line, *changed]
    if version.state == "running":
        held = f": {printable(version.held)}" if version.held else ""
        run = f"{version.run.direction}, run {version.run.run}{held}"
        return [line, Text(f"       {run}", "dim"), *changed] if narrow else [line.append(run, "dim"), *changed]
    hindered = "the edit is reverted" if edited else "" if version.path else "its file is back (a newer release has it)"
    return [line, *changed, *_unfinished_lines(version.run, stage, table_names.logical(version.run.table), hindered)]


def _unfinished_lines(run: RunRecord, stage: str, table: str, hindered: str) -> list[Text]:
    """An unfinished run, and the command that continues it; `hindered` is the condition for it, if there is one."""
    undone = run.status in ("undoing", "partly-undone")
    first = f"once {hindered}, " if hindered and run.direction == "up" and not undone else ""
    command = Command("undo", stage, run=run.run) if undone else continuing(run, stage, table)
    onward = with_needs(f"{first}`{as_typed(command)}` continues it", command)
    shown = [(f"run {run.run} {LEFT.get(run.status, run.status)}", "dim"), (onward, "dim")]
    shown[1:1] = [(line, "yellow") for line in reason(run)]
    lines = [Text(f"       {line}", style) for line, style in shown]
    return lines + ([Text(f"       dead letters: {printable(run.dead_letters)}", "red")] if run.dead_letters else [])


# ---------------------------------------------------------------- deploy and destroy


def print_deployment(console: Console, request: Request, made: Deployment) -> None:
    """The changes, the stack's outputs, and the next steps."""
    show(console, Text.assemble((made.stack, "bold"), f"  {_WORDS[made.status]}"))
    outputs = {} if made.status == "dry-run" else made.outputs
    show(console, *map(_change, made.changes), *facts_lines(outputs))
    if any(change.resource == _BY_EMAIL for change in made.changes) and _ADDRESS in made.outputs:
        mail = f"AWS has sent a mail to {made.outputs[_ADDRESS]}: alarms are sent there after it is confirmed"
        show(console, Text(mail, "yellow"))
    console.print()
    if made.status != "dry-run" or made.changes:
        print_steps(console, request, after_deploy(request, made.status == "dry-run"))


def print_removal(console: Console, request: Request, removal: Removal) -> None:
    """The deleted and the kept resources."""
    if removal.status == "nothing":
        show(console, Text.assemble(("Nothing to do: ", "bold"), f"{removal.stack} does not exist"))
    word = "would be deleted" if removal.status == "dry-run" else "deleted"
    show(console, *(Text.assemble((f"{word}  ", "bold"), one) for one in removal.removed))
    show(console, *(Text.assemble(("stays  ", "dim"), one) for one in removal.kept))
    if removal.kept and not request.purge:
        show(console, Text("the next `deploy` uses the kept resources again", "dim"))


def _change(change: ResourceChange) -> Text:
    line = Text(f"  {_MARKS.get(change.action, change.action)} {change.resource}  ")
    line.append(change.type, "dim")
    return line.append("  is replaced", "yellow") if change.replacement else line


# ---------------------------------------------------------------- validate


def validation_document(found: Validation) -> Document:
    """The document of `validate`."""
    return {
        "valid": not found.all_errors,
        "tables": [_validated(table) for table in found.tables],
        "errors": [error_document(error) for error in found.errors],
    }


def _validated(table: ValidatedTable) -> Document:
    return {
        "table": table.table,
        "files": list(table.files),
        "versions": [_version(script) for script in table.versions],
        "errors": [error_document(error) for error in table.errors],
    }


def _version(script: Script) -> Document:
    functions: Mapping[str, bool] = {
        "up": script.has_up,
        "down": script.has_down,
        "prepare": script.has_prepare,
        "items": script.has_items,
    }
    defined = [name for name, given in functions.items() if given]
    return {"version": script.sequence, "name": script.name, "path": script.path, "functions": defined}


def print_validation(console: Console, found: Validation) -> None:
    """A line for each table; the errors are printed by the command line."""
    width = max(len(table.table) for table in found.tables)
    for table in found.tables:
        number = len(table.errors)
        result = (counted(number, "error"), "bold red") if number else ("valid", "green")
        line = Text.assemble((f"{table.table:<{width}}", "bold"), f"  {counted(len(table.files), 'version')}  ", result)
        show(console, line)


# ---------------------------------------------------------------- stamp, import-history and repair


def print_baseline(console: Console, request: Request, taken: TakeOver, names: TableNames = TableNames()) -> None:
    """The versions that were recorded, or would be, and the next steps."""
    table = names.shown(taken.table)
    if taken.records:
        dry, done = ("dry run: nothing was recorded", "bold cyan"), ("recorded, and nothing run", "bold")
        at = f": {table} {'would be' if taken.dry_run else 'is'} at version {taken.at}"
        show(console, Text.assemble(dry if taken.dry_run else done, at))
        show(console, *map(_baseline_record, taken.records))
    else:
        show(console, Text.assemble(("Nothing to do: ", "bold"), f"{table} is at version {taken.at}"))
    recorded = {record.version for record in taken.records}
    show(console, *(_left_as_it_was(one) for one in taken.outcomes if one.version not in recorded))
    print_steps(console, request, after_baseline(request, taken))


def _baseline_record(run: RunRecord) -> Text:
    title = Text.assemble((f"  v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    title.append(run.status, STYLES[run.status]).append(f"  {run.ended}", "dim")
    return Text("\n").join([title, *texts_kept(run)])


def _left_as_it_was(one: VersionOutcome) -> Text:
    what = "applied; its file was edited since, which `repair` accepts" if one.outcome == "edited" else "applied before"
    return Text.assemble((f"  v{one.version} {one.name}", "bold"), f"  unchanged  {what}")
