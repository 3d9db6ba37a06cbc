"""The results of runs as text: `up`, `down`, `retry`, `undo` and `status --follow`, with the cost of a dry run.

Item values are `Text`, never markup: they may contain anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import wrap

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dynamodt import without
from dynamodt.cli.next_steps import NextStep, Step, after_undo, merged_steps, written_steps
from dynamodt.cli.request import Request
from dynamodt.config.stage import LOCAL, embedded_file
from dynamodt.errors import DynamodtError
from dynamodt.model.pages import Counts
from dynamodt.model.reports import Cost, RunReport, TableReport, UndoReport, counted
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import WORK_FOLDER, Item, Stage
from dynamodt.runs.cost import GB
from dynamodt.runs.display import clip, item_diff, key_line, printable
from dynamodt.script.codec import decode

_CENT = 0.01
NARROW = 72  # columns that the balance takes in one line


def cost_lines(cost: Cost) -> list[str]:
    """The units and requests, and the price if it is known."""
    requests = (("PUT request", cost.puts), ("GET request", cost.gets))
    size = f"{cost.export_bytes / GB:,.2f} GB" if cost.export_bytes >= GB / 100 else "less than 0.01 GB"
    besides = [f"{cost.rcu:,.1f} read units"]
    besides += [f"{counted(number, noun)} to S3" for noun, number in requests if number]
    besides += [f"an export of {size}"] if cost.export_bytes else []
    writes = f"with the indexes at most {cost.wcu_most:,.1f} write units; " if cost.wcu_most > cost.wcu else ""
    price = [f"{_span(*cost.usd)}, on demand at AWS's prices of {cost.as_of}"] if cost.usd else []
    return [f"{writes}it would also take {', '.join(besides)}", *price]


def _span(low: float, high: float) -> str:
    least, most = (f"${amount:,.2f}" for amount in (low, high))
    if high < _CENT:
        return "less than $0.01"
    if least == most:
        return f"about {most}"
    return f"at most {most}" if low < _CENT else f"about {least} to {most}"


EXAMPLES = 3
_COLORS = {
    "green": ("succeeded", "applied"),
    "cyan": ("dry-run", "running", "stamped", "adopted", "repaired"),
    "yellow": ("pending", "paused", "held", "stopping", "edited", "unfinished", "stopped", "undoing", "partly-undone"),
    "dim": ("undone", "closed", "replaced"),
    "red": ("refused", "failed", "missing"),
}
STYLES = {status: color for color, statuses in _COLORS.items() for status in statuses}
_REHEARSED_APART = "Each version was applied to the results of the version before it."
_MEANINGS = {
    "superseded": "superseded: the application changed the item at the same time, and no change is needed",
    "vanished": "vanished: the application deleted the item at the same time, and it stays deleted",
}


def show(console: Console, *lines: RenderableType) -> None:
    """Prints each on lines of its own; long lines are not wrapped, so that they can be copied."""
    for line in lines:
        console.print(line, soft_wrap=True)


def print_migrations(console: Console, request: Request, stage: Stage | None, reports: Sequence[TableReport]) -> None:
    """The summary of `up` or `down`; `stage` is None if the command ended before it was known."""
    for report in reports:
        if not report.versions and report.error is None:
            show(console, (_not_started if report.held_back else _nothing_to_do)(report, stage))
        for run in report.versions:
            _print_run(console, run, stage)
        if sum(run.rehearsal for run in report.versions) > 1:
            show(console, Text(_REHEARSED_APART, "dim"))
            console.print()
        _print_refusal(console, report.refusal)
    around = [one for one in reports if one.versions or (one.error is None and not one.held_back)]  # others did nothing
    if stage is not None and around:
        show(console, _places(stage, [report.table for report in around]))
        console.print()
        print_steps(console, request, merged_steps(request, [_by_logical_name(report, stage) for report in around]))
        if any(report.error is not None for report in reports):
            console.print()


def _print_refusal(console: Console, refusal: BaseException | None) -> None:
    if isinstance(refusal, DynamodtError):
        show(console, Text("now, the command without --dry-run would be refused:", "yellow"))
        show(console, Text(f"  {refusal}"), Text(f"  {refusal.hint}"))
        console.print()


def print_undo(console: Console, request: Request, stage: Stage, undo: UndoReport) -> None:
    """The items that an undo has restored, and those that it has not."""
    run = undo.run
    status = _outcome(run)
    table = _shown(run.table, stage)
    title = Text.assemble((f"{table} v{run.version} {run.name}", "bold"), f"  undo of run {run.run}  ")
    show(console, title.append(status, f"bold {STYLES.get(run.status, '')}"))
    show(console, *(Text("  ").append(line) for line in [*_restored(run), *_not_restored(undo, stage), _cost(run)]))
    show(console, *_examples(run, _key_names(run, stage), console.width))
    console.print()
    _print_refusal(console, undo.refusal)
    show(console, _places(stage, [run.table]))
    console.print()
    if undo.error is None and undo.refusal is None:
        print_steps(console, request, after_undo(request, undo, stage.names))


def print_followed(console: Console, stage: Stage, runs: Sequence[RunReport]) -> None:
    """The results of the runs that were followed."""
    if not runs:
        console.print("No run is in progress.")
    for run in runs:
        _print_run(console, run, stage)


# ---------------------------------------------------------------- one run


def _print_run(console: Console, run: RunReport, stage: Stage | None) -> None:
    foreseen = [Text(f"  {line}") for line in cost_lines(run.cost)] if run.cost else []
    lines = [*_remarks(run), *_dead_letters(run, stage), _cost(run), *foreseen]
    show(console, _title(run, stage), _balance(run.counts, console.width), *(Text("  ").append(line) for line in lines))
    show(console, *_examples(run, _key_names(run, stage), console.width))
    console.print()


def _outcome(run: RunReport) -> str:
    """The status; for a dry run, also that nothing was written. A refusal shows the status and the counts of the
    existing run, since the command has started none."""
    if run.status == "refused":
        return f"is unfinished (run {run.run}); its counts so far:"
    how = "" if run.status == "dry-run" else f", {run.status}"
    return f"dry run{how}: nothing was written" if run.rehearsal else run.outcome


def _shown(table: str, stage: Stage | None) -> str:
    return stage.names.shown(table) if stage else table


def _by_logical_name(report: TableReport, stage: Stage) -> TableReport:
    """The report under its table's logical name, for commands."""
    return replace(report, table=stage.names.logical(report.table))


def _title(run: RunReport, stage: Stage | None) -> Text:
    table = _shown(run.table, stage)
    title = Text.assemble((f"{table} v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    status = _outcome(run)
    return title.append(status, f"bold {'yellow' if run.tolerated else STYLES.get(run.status, '')}")


def _balance(counts: Counts, width: int) -> Text:
    """The balance as a sum: read = changed + unchanged + ...; in a narrow window below each other."""
    if width < NARROW:
        return _balance_in_lines(counts)
    names, figures = Text("  "), Text("  ")
    for sign, (name, number) in zip(("", " = ", " + ", " + ", " + ", " + "), counts._asdict().items(), strict=True):
        style = "bold red" if name == "dead" and number else "bold" if number else "dim"
        width = max(len(name), len(f"{number:,}"))
        names.append(f"{'':{len(sign)}}{name:>{width}}", "dim")
        figures.append(sign, "dim").append(f"{number:>{width},}", style)
    return Text("\n").join([names, figures])


def _balance_in_lines(counts: Counts) -> Text:
    shown = [(n, f"{number:,}") for n, number in counts._asdict().items() if number or n in ("read", "changed")]
    width = max(len(number) for _, number in shown)
    signs = (" ", "=", *("+" for _ in shown[2:]))
    lines = zip(signs, shown, strict=True)
    return Text("\n").join(Text(f"  {sign} {number:>{width}} {name}") for sign, (name, number) in lines)


def _remarks(run: RunReport) -> list[Text]:
    counts = run.counts
    covered = [Text(f"not covered: changes after the time of the export, {run.uncovered}", "yellow")]
    remarks = covered if run.uncovered else []
    remarks += [Text(text, "dim") for name, text in _MEANINGS.items() if getattr(counts, name)]
    if not counts.balanced and run.status not in ("stopped", "paused"):
        gone = counts.read - sum(counts[1:])
        text = f"the balance does not hold: {gone:,} of {counts.read:,} items are not counted"
        remarks.append(Text(text, "bold red"))
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
    wcu, rcu = f"{run.consumed.wcu:,.1f} write units", f"{run.consumed.rcu:,.1f} read units"
    if run.rehearsal:
        return Text(f"it would take {wcu}; this rehearsal took {rcu}, {run.seconds:,.2f} s{speed}")
    return Text(f"consumed {rcu}, {wcu}; took {run.seconds:,.2f} s{speed}")


def _examples(run: RunReport, key_names: Sequence[str], width: int) -> list[Text]:
    return [_example(before, after, key_names, width) for before, after in run.samples[:EXAMPLES]]


def _example(before: Item, after: Item | None, key_names: Sequence[str], width: int) -> Text:
    key = key_line(before or after or {}, key_names) or "an item"
    remark = "  deleted" if after is None else "" if before else "  new"
    head = Text.assemble("  ", (clip(key, width - 12), "cyan"), (remark, "dim"))
    if remark:  # all attributes are new or deleted, and the key is above
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
    "unchanged": "already as before the run",
    "superseded": "not restored: changed since the run",
    "vanished": "not restored: deleted since the run",
    "dead": "could not be written",
}


def _restored(run: RunReport) -> list[Text]:
    """A line for each count above 0."""
    words_of = {**_RESTORED, "changed": "would be restored" if run.rehearsal else "restored"}
    lines = [(getattr(run.counts, kind), words) for kind, words in words_of.items()]
    width = max(len(f"{number:,}") for number, _ in lines)
    return [Text.assemble((f"{n:>{width},}", "bold"), f" {w}") for n, w in lines if n or w == words_of["changed"]]


def _not_restored(undo: UndoReport, stage: Stage) -> list[Text]:
    if not undo.not_restored:
        return []
    items = "1 item stays as it is" if undo.not_restored == 1 else f"{undo.not_restored:,} items stay as they are"
    unrestored = undo.not_restored - undo.partly
    lines = [Text(f"{undo.fully:,} as before the run, {undo.partly:,} restored in part, {unrestored:,} not restored")]
    lines += [Text.assemble((f"{items}, at least in part: ", "yellow"), printable(undo.not_restored_at))]
    if stage.embedded and undo.not_restored_at.startswith("s3://"):
        lines.append(Text(f"  the file: {printable(embedded_file(undo.not_restored_at))}"))
    for item in undo.first_not_restored:
        key = key_line(decode(item.key), tuple(item.key))
        names = f" ({', '.join(item.attributes)})" if item.attributes else ""
        lines.append(Text(f"  {key}: {printable(item.why + names)}"))
    return lines


LEFT = {
    "failed": "failed",
    "stopped": "was stopped",
    "paused": "is paused",
    "gone": "has no live process",
    "undoing": "is being undone, unfinished",
    "partly-undone": "is undone in part: parts of its journal are missing",
}


def reason(run: RunRecord) -> list[str]:
    """The reason why a run has ended early, without the location of its dead letters, which has its own line."""
    told = run.error.removeprefix(f"run {run.run}: ").removeprefix(f"{run.dead_letters}: ")
    return [printable(told)] if told and (run.status == "paused" or run.status in LEFT) else []


def why_lines(run: RunRecord) -> list[str]:
    """The reason and the commit of a run, and its accepted dead letters. The reason to accept an edit is printed with
    the edit."""
    lines = [f"reason: {run.reason}"] if run.reason and run.status != "repaired" else []
    lines += [f"commit {run.commit[:12]}"] if run.commit else []
    return lines + [
        f"{counted(one.items, 'dead letter')} accepted {one.when} by {one.by}: {one.why}" for one in run.accepted
    ]


def texts_kept(run: RunRecord) -> list[Text]:
    """The reason for an accepted edit, and the locations of both texts."""
    if run.status != "repaired":
        return []
    was = run.text_before or "not kept: the version was recorded without its text"
    lines = [f"    reason: {printable(run.reason)}", f"    text that was applied: {was}"]
    return [Text(line) for line in (*lines, *([f"    text that was accepted: {run.text}"] if run.text else []))]


# ---------------------------------------------------------------- around the runs


def _nothing_to_do(report: TableReport, stage: Stage | None) -> Text:
    behind = f" of {report.latest}" if report.latest > report.at else ""
    table = _shown(report.table, stage)
    return Text.assemble(("Nothing to do: ", "bold"), f"{table} is at version {report.at}{behind}")


def _not_started(report: TableReport, stage: Stage | None) -> Text:
    why = "since another table of this command has an error, below: all tables are checked before the first is started"
    if stage is None:
        why = "since the command was stopped before"
    return Text.assemble(("Not started: ", "bold"), f"{_shown(report.table, stage)}, {why}")


def _places(stage: Stage, tables: Sequence[str]) -> Group:
    connection = stage.connection
    place = connection.endpoint() or f"region {connection.region}"
    noun = "table" if len(tables) == 1 else "tables"
    data = f"{noun} {', '.join(map(stage.names.shown, tables))} of stage {stage.name}, {place}"
    files = {"files": f"{WORK_FOLDER}/{LOCAL}, of the embedded stage"} if stage.embedded else {}
    facts = {"data": data, "state": f"table {stage.state_table}", "storage": stage.storage.url, **files}
    return Group(*facts_lines(facts))


def print_steps(console: Console, request: Request, steps: Sequence[Step]) -> None:
    """The commands to try next, if there are any."""
    if steps:
        show(console, _steps_text(written_steps(request, steps), console.width))


def _steps_text(steps: Sequence[NextStep], room: int) -> Text:
    """The commands with their reasons; on a narrow terminal, below them, unless one line of `room` columns has both."""
    width = max(len(step.command) for step in steps)
    if room < NARROW and 8 + width + max(len(step.why) for step in steps) > room:
        reasons = ["".join(f"\n        {line}" for line in wrap(step.why, max(8, room - 8))) for step in steps]
        below = (Text.assemble((one.command, "bold"), (why, "dim")) for one, why in zip(steps, reasons, strict=True))
        return Text.assemble(("next  ", "dim"), Text("\n      ").join(below))
    lines = (Text.assemble((f"{step.command:<{width}}", "bold"), (f"  {step.why}", "dim")) for step in steps)
    return Text.assemble(("next  ", "dim"), Text("\n      ").join(lines))


def facts_lines(facts: Mapping[str, str], margin: str = "") -> list[Text]:
    """A line for each fact: its name, and its text in a column of their own."""
    width = max(map(len, facts), default=0)
    return [Text.assemble(margin, (f"{name:<{width}}", "dim"), f"  {printable(text)}") for name, text in facts.items()]
