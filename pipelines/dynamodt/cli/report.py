"""The results of a command as a person reads them. Item values are `Text`, never markup: they may hold anything.

What a run would cost, in one or two lines; they follow the one that tells the table's write units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dynamodt.cli.next_steps import (
    NextStep,
    after_preparation,
    after_take_over,
    after_undo,
    as_typed,
    next_steps,
    rehearsal,
    with_stage,
    with_typed_commands,
)
from dynamodt.config.stage import LOCAL, embedded_file
from dynamodt.model.items import Item
from dynamodt.model.pages import Counts
from dynamodt.model.reports import Cost, RunReport, TableReport, TableStatus, TakeOver, UndoReport, VersionStatus
from dynamodt.model.runs import Lease, PreparedRef, RunRecord, ScriptText
from dynamodt.model.tables import WORK_FOLDER, Stage
from dynamodt.runs.cost import GB
from dynamodt.runs.options import PROGRAM, LocalStatus, Request
from dynamodt.runs.shown import clip, item_diff, key_line, printable
from dynamodt.script.codec import decode, without
from dynamodt.state.started_with import texts_reported

_CENT = 0.01


def cost_lines(cost: Cost) -> list[str]:
    """The units and requests, and the money where it is known."""
    return [_units(cost), *_money(cost)]


def _units(cost: Cost) -> str:
    besides = [f"{cost.rcu:,.1f} read units"]
    requests = (("PUT", cost.puts), ("GET", cost.gets))
    besides += [
        f"{number:,} {command} request{'' if number == 1 else 's'} to S3" for command, number in requests if number
    ]
    besides += [f"an export of {_gigabytes(cost.export_bytes)}"] if cost.export_bytes else []
    writes = f"with the indexes at most {cost.wcu_most:,.1f} write units, " if cost.wcu_most > cost.wcu else ""
    return f"{writes}and {', '.join(besides)}"


def _gigabytes(size: int) -> str:
    return f"{size / GB:,.2f} GB" if size >= GB / 100 else "less than 0.01 GB"


def _money(cost: Cost) -> list[str]:
    if cost.usd is None:
        return []
    return [f"{_span(*cost.usd)}, on demand at AWS's prices of {cost.as_of}"]


def _span(low: float, high: float) -> str:
    least, most = (f"${amount:,.2f}" for amount in (low, high))
    if high < _CENT:
        return "less than $0.01"
    if least == most:
        return f"about {most}"
    return f"at most {most}" if low < _CENT else f"about {least} to {most}"


EXAMPLES = 3
_TO_BE_DONE = ("running", "unfinished", "pending")
_STYLES = {
    "succeeded": "green",
    "applied": "green",
    "dry-run": "cyan",
    "pending": "yellow",
    "edited": "yellow",
    "unfinished": "yellow",
    "running": "cyan",
    "stopped": "yellow",
    "stamped": "cyan",
    "adopted": "cyan",
    "undoing": "yellow",
    "undone": "dim",
    "partly-undone": "yellow",
    "closed": "dim",
    "refused": "red",
    "replaced": "dim",
    "failed": "red",
    "missing": "red",
}
_STATES = {
    "edited": "its file changed after it was applied",
    "missing": "applied, but its file is gone",
}
_LEFT = {
    "failed": "failed",
    "stopped": "was stopped",
    "gone": "is nobody's: its process is gone",
    "undoing": "is half undone",
    "partly-undone": "is undone in part: parts of its journal are missing",
}
_REHEARSED_APART = "Each version was tried on the items as they are now, without what an earlier one would write."
_UNENDED = "no end is recorded: it runs now, or its command was killed, and the same command goes on with it"
_MEANINGS = {
    "superseded": "superseded: the application wrote the item meanwhile, and nothing is left to do",
    "vanished": "vanished: the application deleted the item meanwhile, and it stays deleted",
}


def print_moves(console: Console, request: Request, stage: Stage | None, reports: Sequence[TableReport]) -> None:
    """The summary of `up` or `down`; `stage` is None where the command ended before it was known."""
    for report in reports:
        if not report.versions and report.error is None:
            console.print(_nothing_to_do(report), soft_wrap=True)
        for run in report.versions:
            _print_run(console, run, stage)
        if sum(run.rehearsal for run in report.versions) > 1:
            console.print(Text(_REHEARSED_APART, "dim"), soft_wrap=True)
            console.print()
    around = [report for report in reports if report.versions or report.error is None]  # others started nothing
    if stage is not None and around:
        console.print(_places(stage, [report.table for report in around]), soft_wrap=True)
        console.print()
        for report in around:
            console.print(_steps(next_steps(request, report)), soft_wrap=True)
        if any(report.error is not None for report in reports):
            console.print()


def print_undo(console: Console, request: Request, stage: Stage, undo: UndoReport) -> None:
    """What an undo has restored, and what it has left as it is."""
    run = undo.run
    status = _outcome(run)
    title = Text.assemble((f"{run.table} v{run.version} {run.name}", "bold"), f"  undo of run {run.run}  ")
    console.print(title.append(status, f"bold {_STYLES.get(run.status, '')}"), soft_wrap=True)
    for line in [*_restored(run), *_left(undo, stage), _cost(run)]:
        console.print(Text("  ").append(line), soft_wrap=True)
    for example in _examples(run, _key_names(run, stage), console.width):
        console.print(example, soft_wrap=True)
    console.print()
    console.print(_places(stage, [run.table]), soft_wrap=True)
    console.print()
    if undo.error is None:
        console.print(_steps(after_undo(request, undo)), soft_wrap=True)


def print_history(
    console: Console,
    history: Mapping[str, Sequence[RunRecord]],
    stage: str = LOCAL,
    younger: Mapping[str, str] = {},
) -> None:
    """Every run, three lines each: narrow enough for 80 columns."""
    for table, runs in history.items():
        console.print(Text.assemble((table, "bold"), ("" if runs else "  no run yet", "dim")))
        if table in younger:
            console.print(_younger(table, younger[table], stage), soft_wrap=True)
        for run in runs:
            console.print(_record(run, stage), soft_wrap=True)


def print_status(console: Console, statuses: Sequence[TableStatus], stage: str = LOCAL) -> None:
    """Each table's versions and their states."""
    for status in statuses:
        counted = {state: sum(v.state == state for v in status.versions) for state in _TO_BE_DONE}
        told = [f"{number} {state}" for state, number in counted.items() if number]
        told = told or ["nothing pending" if status.error is None else "its folder has a fault"]
        console.print(Text.assemble((status.table, "bold"), f" at version {status.at}, {', '.join(told)}"))
        if status.younger:
            console.print(_younger(status.table, status.younger, stage), soft_wrap=True)
        for line in _version_lines(status, stage):
            console.print(line, soft_wrap=True)


def _younger(table: str, told: str, stage: str) -> Text:
    words = _command(f"stamp --table {table} --to N", stage)
    return Text(f"  {printable(told)}\n  which versions stand in it is for you to say: {words}", "yellow")


def print_followed(console: Console, stage: Stage, runs: Sequence[RunReport]) -> None:
    """What has become of the runs that were followed."""
    if not runs:
        console.print("Nothing is at work.")
    for run in runs:
        _print_run(console, run, stage)


def print_reported(console: Console, request: Request, lease: Lease) -> None:
    """What a run was told, and whose it is."""
    console.print(Text.assemble((lease.table, "bold"), f": run {lease.run} {_awaited(request, lease)}"), soft_wrap=True)
    facts = {"holder": f"{lease.user}@{lease.host}, process {lease.pid}", "since": lease.since}
    console.print(_facts(facts), soft_wrap=True)


def _awaited(request: Request, lease: Lease) -> str:
    outcome = {"pause": "will rest after its page", "resume": "goes on", "abort": "will end after its page"}
    if request.command == "throttle":
        named = (("WCU/s", request.limits.wcu), ("RCU/s", request.limits.rcu))
        return "keeps to " + ", ".join(f"{limit:g} {name}" for name, limit in named if limit)
    if request.command == "resume" and lease.pause_reason:
        return f"is held and rests on ({lease.pause_reason}); it goes on by itself when that is over"
    return outcome.get(request.command, "has lost its lease")


def print_take_over(console: Console, request: Request, taken: TakeOver) -> None:
    """What was recorded of a table, or would be, and what comes next."""
    if taken.records:
        said = (
            ("dry run: nothing was recorded", "bold cyan") if taken.dry_run else ("recorded, and nothing run", "bold")
        )
        console.print(
            Text.assemble(said, f": {taken.table} {'would be' if taken.dry_run else 'is'} at version {taken.at}")
        )
        for run in taken.records:
            console.print(_taken_over(run), soft_wrap=True)
    else:
        console.print(
            Text.assemble(("Nothing to do: ", "bold"), f"{taken.table} is at version {taken.at}"), soft_wrap=True
        )
    console.print(_steps(after_take_over(request, taken)), soft_wrap=True)


def _taken_over(run: RunRecord) -> Text:
    title = Text.assemble((f"  v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    return title.append(run.status, _STYLES[run.status]).append(f"  {run.ended}", "dim")


def print_prepared(console: Console, request: Request, prepared: PreparedRef) -> None:
    """Where the prepared rows are, and what comes next."""
    label = f"{request.tables[0]} version {request.number}: {prepared.rows:,} rows"
    if request.options.dry_run:
        console.print(
            Text.assemble(("dry run: nothing was stored", "bold cyan"), f"  {label} would be"), soft_wrap=True
        )
        return
    facts = {"prepared": label, "at": prepared.url, "sha256": prepared.sha256}
    console.print(_facts(facts), soft_wrap=True)
    console.print()
    console.print(_steps(after_preparation(request)), soft_wrap=True)


def print_files(console: Console, request: Request, files: Sequence[Path]) -> None:
    """The files that were written, or would be."""
    if not files:
        console.print("Nothing to do: every table has its folder already.")
        return
    console.print(Text("would write:" if request.options.dry_run else "wrote:", "bold"))
    for path in files:
        console.print(Text(f"  {path}"), soft_wrap=True)
    if not request.options.dry_run:
        console.print(Text.assemble(("next  ", "dim"), "say in it what happens to an item; then rehearse it:"))
        console.print(Text(f"      {as_typed(rehearsal(request))}", "bold"), soft_wrap=True)


def print_local(console: Console, status: LocalStatus) -> None:
    """Whether the embedded stage runs, and where its data is."""
    if status.running:
        facts = {"local stage": f"running at {status.url} (process {status.pid}, since {status.since})"}
    else:
        facts = {"local stage": "not running; the next command that needs it starts it"}
    console.print(_facts({**facts, "data": str(status.folder)}), soft_wrap=True)


# ---------------------------------------------------------------- one run


def _print_run(console: Console, run: RunReport, stage: Stage | None) -> None:
    console.print(_title(run), soft_wrap=True)
    console.print(_balance(run.counts), soft_wrap=True)
    for line in [*_remarks(run), *_dead_letters(run, stage), _cost(run), *_foreseen(run)]:
        console.print(Text("  ").append(line), soft_wrap=True)
    for example in _examples(run, _key_names(run, stage), console.width):
        console.print(example, soft_wrap=True)
    console.print()


def _outcome(run: RunReport) -> str:
    """The status in words; that nothing was written stands there of every dry run."""
    how = "" if run.status == "dry-run" else f", {run.status}"
    return f"dry run{how}: nothing was written" if run.rehearsal else run.status


def _title(run: RunReport) -> Text:
    title = Text.assemble((f"{run.table} v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    status = _outcome(run)
    return title.append(status, f"bold {_STYLES.get(run.status, '')}")


def _balance(counts: Counts) -> Text:
    """The balance as the sum it is: read = changed + unchanged + ..."""
    names, figures = Text("  "), Text("  ")
    for sign, (name, number) in zip(("", " = ", " + ", " + ", " + ", " + "), counts._asdict().items(), strict=True):
        style = "bold red" if name == "dead" and number else "bold" if number else "dim"
        width = max(len(name), len(f"{number:,}"))
        names.append(f"{'':{len(sign)}}{name:>{width}}", "dim")
        figures.append(sign, "dim").append(f"{number:>{width},}", style)
    return Text("\n").join([names, figures])


def _remarks(run: RunReport) -> list[Text]:
    counts = run.counts
    covered = [Text(f"not covered: what was written after the export's moment, {run.uncovered}", "yellow")]
    remarks = covered if run.uncovered else []
    remarks += [Text(text, "dim") for name, text in _MEANINGS.items() if getattr(counts, name)]
    if not counts.balanced and run.status != "stopped":
        gone = counts.read - sum(counts[1:])
        remarks.append(
            Text(f"the balance does not hold: {gone:,} of {counts.read:,} items are in no count", "bold red")
        )
    return remarks


def _dead_letters(run: RunReport, stage: Stage | None) -> list[Text]:
    if not run.dead_letters:
        return []
    lines = [Text.assemble(("dead letters: ", "red"), printable(run.dead_letters))]
    if stage is not None and stage.embedded and run.dead_letters.startswith("s3://"):
        lines.append(Text(f"     the file: {printable(embedded_file(run.dead_letters))}"))
    if run.first_dead_letter:
        lines.append(Text(f"    the first: {printable(run.first_dead_letter)}"))
    return lines


def _cost(run: RunReport) -> Text:
    speed = f", {run.counts.read / run.seconds:,.0f} items/s" if run.seconds > 0 else ""
    command = "it would take" if run.rehearsal else "consumed"
    wcu = f"{run.consumed.wcu:,.1f} write units"
    rcu = f"{run.consumed.rcu:,.1f} read units"
    if run.rehearsal:
        return Text(f"{command} {wcu}; this rehearsal took {rcu}, {run.seconds:,.2f} s{speed}")
    return Text(f"{command} {rcu}, {wcu}; took {run.seconds:,.2f} s{speed}")


def _foreseen(run: RunReport) -> list[Text]:
    return [Text(f"  {line}") for line in cost_lines(run.cost)] if run.cost else []


def _examples(run: RunReport, key_names: Sequence[str], width: int) -> list[Text]:
    return [_example(before, after, key_names, width) for before, after in run.samples[:EXAMPLES]]


def _example(before: Item, after: Item | None, key_names: Sequence[str], width: int) -> Text:
    key = key_line(before or after or {}, key_names) or "an item"
    remark = "  deleted" if after is None else "" if before else "  new"
    head = Text.assemble("  ", (clip(key, width - 12), "cyan"), (remark, "dim"))
    if remark:  # all of it is new or gone, and the key stands above
        before, after = without(before, *key_names), without(after or {}, *key_names)
    return Text("\n").join([head, *_diff_lines(before, after, width)])


def _diff_lines(before: Item, after: Item | None, width: int) -> list[Text]:
    room = width // 3
    lines = item_diff(before, after, width - room - 8)
    column = min(room, max((len(line.path) for line in lines), default=0))
    styles = {"-": "red", "+": "green"}
    return [Text(f"    {sign} {clip(path, column):<{column}} {value}", styles[sign]) for sign, path, value in lines]


def _key_names(run: RunReport, stage: Stage | None) -> tuple[str, ...]:
    known = stage.tables.get(run.table, ()) if stage else ()
    return run.key_names or tuple(attribute.name for attribute in known)


_RESTORED = {
    "changed": "restored",
    "unchanged": "as before the run already",
    "superseded": "left: changed since the run",
    "vanished": "left: deleted since the run",
    "dead": "could not be written",
}


def _restored(run: RunReport) -> list[Text]:
    """A line for each kind of items that there are."""
    told = {**_RESTORED, "changed": "would be restored" if run.rehearsal else "restored"}
    lines = [(getattr(run.counts, kind), words) for kind, words in told.items()]
    width = max(len(f"{number:,}") for number, _ in lines)
    return [Text.assemble((f"{n:>{width},}", "bold"), f" {w}") for n, w in lines if n or w == told["changed"]]


def _left(undo: UndoReport, stage: Stage) -> list[Text]:
    if not undo.left:
        return []
    items = "1 item stays as it is" if undo.left == 1 else f"{undo.left:,} items stay as they are"
    told = (undo.fully, "as before the run"), (undo.partly, "restored in part"), (undo.left - undo.partly, "left")
    lines = [Text(", ".join(f"{number:,} {what}" for number, what in told))]
    lines += [Text.assemble((f"{items}, at least in part: ", "yellow"), printable(undo.not_restored_at))]
    if stage.embedded and undo.not_restored_at.startswith("s3://"):
        lines.append(Text(f"  the file: {printable(embedded_file(undo.not_restored_at))}"))
    for item in undo.first_not_restored:
        key = key_line(decode(item.key), tuple(item.key))
        names = f" ({', '.join(item.attributes)})" if item.attributes else ""
        lines.append(Text(f"  {key}: {printable(item.why + names)}"))
    return lines


# ---------------------------------------------------------------- around the runs


def _nothing_to_do(report: TableReport) -> Text:
    behind = f" of {report.latest}" if report.latest > report.at else ""
    return Text.assemble(("Nothing to do: ", "bold"), f"{report.table} is at version {report.at}{behind}")


def _places(stage: Stage, tables: Sequence[str]) -> RenderableType:
    connection = stage.connection
    place = connection.endpoint_url or f"region {connection.region}"
    noun = "table" if len(tables) == 1 else "tables"
    data = f"{noun} {', '.join(tables)} of stage {stage.name}, {place}"
    files = {"files": f"{WORK_FOLDER}/{LOCAL}, of the embedded stage"} if stage.embedded else {}
    return _facts({"data": data, "state": f"table {stage.state_table}", "storage": stage.storage.url, **files})


def _steps(steps: Sequence[NextStep]) -> Text:
    width = max(len(step.command) for step in steps)
    lines = (Text.assemble((f"{step.command:<{width}}", "bold"), (f"  {step.why}", "dim")) for step in steps)
    return Text.assemble(("next  ", "dim"), Text("\n      ").join(lines))


def _facts(facts: Mapping[str, str]) -> Group:
    width = max(map(len, facts))
    return Group(
        *(Text.assemble((f"{name:<{width}}", "dim"), f"  {printable(value)}") for name, value in facts.items())
    )


def _record(run: RunRecord, stage: str) -> Text:
    title = Text.assemble((f"  v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    title.append(run.status, _STYLES.get(run.status, ""))
    counted = [f"{name} {number:,}" for name, number in run.counts._asdict().items() if number or name == "read"]
    lines = [
        title,
        Text(f"    {run.started}  by {run.by or 'unknown'}  run {run.run}  script {run.checksum[:12] or 'unknown'}"),
        Text(f"    {', '.join(counted)}; {run.consumed.wcu:,.1f} write units, {run.seconds:,.2f} s"),
    ]
    lines += [_text(text) for text in texts_reported(run)]
    lines += [Text(f"    {_UNENDED}", "dim")] if run.status == "running" else []
    if run.status == "undoing":
        lines.append(Text(f"    half undone; to finish it: {_command(f'undo {run.run}', stage)}", "yellow"))
    if run.status == "partly-undone":
        lines.append(
            Text(f"    undone in part; once its journal is whole: {_command(f'undo {run.run}', stage)}", "yellow")
        )
    lines += [Text(f"    undone {run.undone}", "dim")] if run.undone else []
    lines += [Text(f"    {printable(run.error)}", "red")] if run.error else []
    lines += [Text(f"    dead letters: {run.dead_letters}", "red")] if run.dead_letters else []
    return Text("\n").join(lines)


def _text(text: ScriptText) -> Text:
    items = "1 item" if text.items == 1 else f"{text.items:,} items"
    return Text(f"    {items} by the script's text {text.checksum[:12]}", "yellow")


def _command(words: str, stage: str) -> str:
    """A command for a stage, as a person would type it."""
    return with_typed_commands(with_stage(f"{PROGRAM} {words}", stage))


def _version_lines(status: TableStatus, stage: str) -> list[Text]:
    names = max((len(version.name) for version in status.versions), default=0)
    states = max((len(version.state) for version in status.versions), default=0)
    return [line for version in status.versions for line in _version_line(version, names, max(8, states), stage)]


def _version_line(version: VersionStatus, names: int, states: int, stage: str) -> list[Text]:
    line = Text.assemble(
        f"  v{version.version:<3} ",
        (f"{version.name:<{names}}  ", "bold"),
        (f"{version.state:<{states}}", _STYLES.get(version.state, "")),
        (f"  {_STATES.get(version.state, version.when)}", "dim"),
    )
    if version.run is None:
        return [line]
    if version.state == "running":
        return [line.append(f"{version.run.direction}, run {version.run.run}", "dim")]
    return [line, *_left_lines(version.run, stage)]


def _left_lines(run: RunRecord, stage: str) -> list[Text]:
    """A run that was left half done, and what to do about it."""
    goal = "" if run.direction == "up" else f" --to {run.version - 1}"
    words = (
        f"undo {run.run}"
        if run.status in ("undoing", "partly-undone")
        else f"{run.direction} --table {run.table}{goal}"
    )
    onward = f"`{_command(words, stage)}` goes on with it"
    lines = [Text(f"       run {run.run} {_LEFT.get(run.status, run.status)}", "dim"), Text(f"       {onward}", "dim")]
    return lines + ([Text(f"       dead letters: {printable(run.dead_letters)}", "red")] if run.dead_letters else [])
