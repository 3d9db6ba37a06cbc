"""The results of the other commands as text: history, status, runs, and the files or versions that were written or
recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dynamodt.cli.next_steps import after_files, after_init, after_preparation, continuing
from dynamodt.cli.report import NARROW, STYLES, facts_lines, print_steps, show, texts_kept, why_lines
from dynamodt.cli.request import Request, as_typed, with_needs
from dynamodt.config.stage import LOCAL
from dynamodt.model.reports import TableStatus, VersionStatus, counted, outcome
from dynamodt.model.runs import Lease, PreparedRef, RunRecord, RunState, ScriptText
from dynamodt.model.tables import TableNames
from dynamodt.runs.display import clip, printable
from dynamodt.runs.options import Command
from dynamodt.state.runs import ACTIVE, ENDED, texts_reported

if TYPE_CHECKING:
    from dynamodt.doctor.doctor import Examination
    from dynamodt.local.stage import LocalStatus


_FOUND = {"ok": "green", "wrong": "bold red", "differs": "yellow", "skipped": "dim"}
_STATES = {
    "edited": "its file changed after it was applied",
    "missing": "applied by a newer release: it has no file here",
}
_DAY = len("2026-01-31")
_TO_BE_DONE = ("running", "paused", "held", "stopping", "unfinished", "pending")
LEFT = {
    "failed": "failed",
    "stopped": "was stopped",
    "paused": "is paused",
    "gone": "has no live process",
    "undoing": "is being undone, unfinished",
    "partly-undone": "is undone in part: parts of its journal are missing",
}
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
        return f"stays paused ({lease.pause_reason}); it continues automatically when that is over"
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


def reason(run: RunRecord) -> list[str]:
    """The reason why a run has ended early, without the location of its dead letters, which has its own line."""
    told = run.status == "paused" or (run.status in LEFT and not run.dead_letters)
    return [printable(run.error.removeprefix(f"run {run.run}: "))] if run.error and told else []


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


# ---------------------------------------------------------------- runs

_HEAD = ("run", "table", "version", "status", "started", "read", "dead")
_TABLE, _STATUS = 1, 3
_NUMBERS = (5, 6)
_WIDE = 110  # from here on there is room for exact figures
_LEAST_TABLE = 8


def print_runs(
    console: Console, runs: Sequence[RunState], now: float | None = None, names: TableNames = TableNames()
) -> None:
    """The runs in the order given; `now` is in seconds since 1970."""
    if not runs:
        console.print(Text("no run yet", "dim"))
        return
    moment = time.time() if now is None else now
    rows = [_HEAD, *(_row(run, moment, console.width >= _WIDE, names) for run in runs)]
    widths = _widths(rows, console.width)
    narrow = sum(widths) + len(widths) - 1 > console.width
    if not narrow:
        show(console, _line(rows[0], widths, "dim"))
    for run, row in zip(runs, rows[1:], strict=True):
        style = style_of(run.status)
        show(console, *(_lines(row, style) if narrow else (_line(row, widths, "", style),)))
        if run.record.reason:
            show(console, Text(f"  by {run.record.by}: {printable(run.record.reason)}", "dim"))
        if run.holder is not None:
            show(console, Text(f"  held by {_holder(run.holder)}", "dim"))
        show(console, *(Text(f"  {line}", "dim") for line in reason(run.record)))


def _holder(lease: Lease) -> str:
    held = f"{lease.user}@{lease.host}, process {lease.pid}, since {lease.since}"
    beat = time.strftime("%H:%M:%SZ", time.gmtime(lease.beat))
    return f"{held}, last heartbeat by its clock {beat}" if lease.beat else held


def style_of(status: str) -> str:
    """A run's status in colour."""
    if status in ENDED:
        return "green"
    return "cyan" if status in ACTIVE else "red" if status in ("failed", "gone") else "yellow"


def _row(run: RunState, now: float, wide: bool, names: TableNames) -> tuple[str, ...]:
    record, counts = run.record, run.counts
    elapsed = now - datetime.fromisoformat(record.started).timestamp()
    started = record.started[:19].replace("T", " ") if wide else ago(elapsed)
    read = f"{counts.read:,}" if wide else short(counts.read)
    dead = f"{counts.dead:,}" if wide else short(counts.dead)
    version = f"v{record.version} {record.direction}"
    return record.run, names.shown(record.table), version, run.status, started, read, dead if counts.dead else "-"


def _widths(rows: Sequence[tuple[str, ...]], room: int) -> list[int]:
    """The widths of the columns, by their cells. Only the table's name is shortened: run ids are copied."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + len(widths) - 1 - room
    widths[_TABLE] = max(_LEAST_TABLE, widths[_TABLE] - max(0, over))
    return widths


def _line(row: tuple[str, ...], widths: Sequence[int], style: str, status_style: str = "") -> Text:
    line = Text(style=style)
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = clip(cell, width)
        padded = f"{text:>{width}}" if number in _NUMBERS else f"{text:<{width}}"
        line.append(padded, status_style if number == _STATUS else None).append(" ")
    line.rstrip()
    return line


def _lines(row: tuple[str, ...], status_style: str) -> Iterator[Text]:
    """A run on a terminal that is too narrow for a line of columns."""
    run, table, version, status, started, read, dead = row
    yield Text(run)
    yield Text.assemble(f"  {table} {version}  ", (status, status_style))
    yield Text(f"  {started}, {read} read" + ("" if dead == "-" else f", {dead} dead"), "dim")


def ago(seconds: float) -> str:
    """`5s ago`, `14m ago`, `3h ago`, `12d ago`."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= 2 * size or (unit == "m" and whole >= size):
            return f"{whole // size}{unit} ago"
    return f"{whole}s ago"


def short(number: int) -> str:
    """A count in at most six characters: `12,345`, `123k`, `12.3M`."""
    if number < 100_000:
        return f"{number:,}"
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            whole = number / size
            return f"{whole:.1f}{unit}" if whole < 100 and unit != "k" else f"{whole:,.0f}{unit}"
    return f"{number:,}"
