"""Runs as text and as JSON: `show RUN`, one run with its dead letters grouped by error, and `runs`, a line for each.

Unlike other documents, that of `show` has error messages, which may contain values of items.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dynamodt.cli.json_output import Document, accepted_documents, error_document, rounded
from dynamodt.cli.next_steps import Step, continuing
from dynamodt.cli.report import STYLES, print_steps, reason, show
from dynamodt.cli.request import Request
from dynamodt.config.stage import embedded_file
from dynamodt.errors import DynamodtError
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import LEFT_EARLY, counted, outcome, pick
from dynamodt.model.runs import Lease, RunRecord, RunState
from dynamodt.model.tables import Stage, TableNames
from dynamodt.runs.display import clip, inert, printable
from dynamodt.runs.options import RunOptions
from dynamodt.runs.show import ErrorGroup, Example, PhaseShown, RunDetails
from dynamodt.state.runs import ACTIVE, ENDED, texts_reported

_FEW, _MANY = 3, 100  # keys of a group


def print_details(console: Console, request: Request, found: RunDetails, stage: Stage) -> None:
    """The run, its phases and its dead letters, wrapped to the console's width."""
    record = found.record
    title = Text.assemble((f"{stage.names.shown(record.table)} v{record.version} {record.name}", "bold"))
    status = outcome(found.status, found.counts.dead, record.accepted_items)
    title.append(f"  {record.direction}  ").append(status, f"bold {STYLES.get(found.status, '')}")
    console.print(title)
    console.print(_facts(dict(_facts_of(found))))
    if found.phases:
        console.print(Text("phases", "dim"))
        console.print(Padding(_phases(found.phases), (0, 0, 0, 2), expand=False))
    if record.error:
        console.print(Text(f"error: {_error(record).what}", "red"))
    _print_dead_letters(console, found, stage, request.verbose)
    steps = _next_steps(request, found, stage)
    if steps:
        console.print()
        print_steps(console, request, steps)


def print_keys(console: Console, keys: Iterable[str]) -> None:
    """Prints the keys as they are read, one a line."""
    for key in keys:
        console.file.write(f"{key}\n")


def _facts(facts: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(printable(value)))
    return table


def _facts_of(found: RunDetails) -> Iterator[tuple[str, str]]:
    """The known facts of the run."""
    record, totals = found.record, found.totals
    units = totals.units if any(totals.units) else record.consumed
    holder = f"{found.holder.user}@{found.holder.host}, process {found.holder.pid}" if found.holder else ""
    facts = {
        "run": record.run,
        "started": record.started,
        "ended": record.ended and f"{record.ended}, running time {record.seconds:,.2f} s",
        "by": record.by or "unknown",
        "reason": record.reason,
        "commit": record.commit,
        "script": ", ".join(_scripts(record)),
        "text": record.text,
        "before": record.text_before,
        "undone": ": ".join(filter(None, (record.undone, record.undone_reason))),
        **_accepted(record),
        "items": ", ".join(_amounts(found.counts)),
        "consumed": f"{units.rcu:,.1f} read units, {units.wcu:,.1f} write units",
        "budget": _budget(found.budget),
        "conflicts": f"{totals.contention.conflicts:,}, and {counted(totals.contention.throttles, 'throttle')}",
        "held by": holder,
    }
    return ((name, text) for name, text in facts.items() if text)


def _accepted(record: RunRecord) -> dict[str, str]:
    texts = [f"{counted(one.items, 'dead letter')} by {one.by}, {one.when}: {one.why}" for one in record.accepted]
    return {"accepted" if number == 1 else f"accepted {number}": text for number, text in enumerate(texts, 1)}


def _scripts(record: RunRecord) -> list[str]:
    texts = texts_reported(record)
    if texts:
        return [f"{text.checksum[:12]} ({counted(text.items, 'item')})" for text in texts]
    return [record.checksum[:12] or "unknown"]


def _amounts(counts: Counts) -> list[str]:
    return [f"{name} {number:,}" for name, number in counts._asdict().items() if number or name == "read"]


def _budget(budget: Units) -> str:
    limits = [f"{limit:,.0f} {name}" for name, limit in (("RCU/s", budget.rcu), ("WCU/s", budget.wcu)) if limit]
    return ", ".join(limits) or "none"


def _phases(phases: Iterable[PhaseShown]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for phase in phases:
        splits = f"{phase.totals.done:,} of {counted(phase.splits, 'split')}"
        # a replay counts its items as read and dead in the phase before: its dead letters are then below 0
        counts = (f"{name} {number:,}" for name, number in phase.totals.counts._asdict().items() if number)
        table.add_row(phase.name, ", ".join([splits, *counts]))
    return table


# ---------------------------------------------------------------- dead letters


def _print_dead_letters(console: Console, found: RunDetails, stage: Stage, verbose: bool) -> None:
    dead = found.counts.dead
    if not dead:
        return
    console.print()
    errors = f" of {counted(len(found.groups), 'error')}" if found.groups else ""
    console.print(Text.assemble((f"{counted(dead, 'dead letter')}{errors}", "bold red")))
    if found.stored != dead:
        text = f"{found.stored:,} of them can be read now: the others are being replayed, or their files are gone"
        console.print(Text(text, "yellow"))
    for group in found.groups:
        _print_group(console, group, verbose)
    if found.final:
        console.print(Text(printable(found.final), "yellow"))
    if found.record.dead_letters:
        show(console, Text.assemble(("file  ", "dim"), _file(found.record, stage)))


def _file(record: RunRecord, stage: Stage) -> str:
    is_embedded = stage.embedded and record.dead_letters.startswith("s3://")
    return printable(str(embedded_file(record.dead_letters)) if is_embedded else record.dead_letters)


def _print_group(console: Console, group: ErrorGroup, verbose: bool) -> None:
    accepted = f", {group.accepted:,} accepted" if group.accepted else ""
    step = f"  {group.step}" if group.step else ""
    console.print(Text.assemble((f"{group.items:,} x{step}{accepted}", "bold")))
    lines = [Text(printable(group.error), "red"), *_example(group.first, verbose), _keys(group, verbose)]
    console.print(Padding(Text("\n").join(line for line in lines if line), (0, 0, 0, 2), expand=False))


def _example(first: Example, verbose: bool) -> list[Text]:
    lines = [Text.assemble(("first: ", "dim"), (printable(first.key), "cyan"), f"  {printable(first.error)}")]
    if verbose:
        return [*lines, Text(printable(first.traceback.rstrip()), "dim")]
    places = (f"  {one.path}:{one.line}" + (f", in {one.function}" if one.function else "") for one in first.frames)
    return lines + [Text(printable(place), "dim") for place in places]


def _keys(group: ErrorGroup, verbose: bool) -> Text:
    shown = group.keys[: _MANY if verbose else _FEW]
    left = group.items - group.accepted - len(shown)
    if not shown:
        return Text()
    keys = "  ".join(map(printable, shown)) + (f"  and {left:,} more" if left > 0 else "")
    return Text.assemble(("keys: ", "dim"), keys)


# ---------------------------------------------------------------- JSON


def details_document(found: RunDetails) -> Document:
    """The document of `show`."""
    record, totals = found.record, found.totals
    return {
        **pick(record, "table run version name direction"),
        "status": found.status,
        **pick(record, "checksum started ended seconds by reason commit undone undone_reason text text_before"),
        "counts": found.counts._asdict(),
        "consumed": rounded(rcu=totals.units.rcu, wcu=totals.units.wcu),
        "contention": totals.contention._asdict(),
        "budget": found.budget._asdict(),
        "holder": pick(found.holder, "user host pid since") if found.holder else None,
        "scripts": [text._asdict() for text in texts_reported(record)],
        "phases": [_phase(phase) for phase in found.phases],
        "error": error_document(_error(record)) if record.error else None,
        "dead_letters": record.dead_letters,
        "accepted": accepted_documents(record),
        "stored": found.stored,
        "errors": [_group(group) for group in found.groups],
    }


def _error(record: RunRecord) -> DynamodtError:
    what = record.error.removeprefix(f"{record.dead_letters}: ")
    return DynamodtError(what, where=record.dead_letters if what != record.error else "")


def _phase(phase: PhaseShown) -> Document:
    splits = {"done": phase.totals.done, "planned": phase.splits}
    contention = phase.totals.contention._asdict()
    return {"phase": phase.name, "splits": splits, "counts": phase.totals.counts._asdict(), "contention": contention}


def _group(group: ErrorGroup) -> Document:
    first = group.first
    frames = [frame._asdict() for frame in first.frames]
    return {
        **pick(group, "step error items accepted"),
        "first": {"key": first.key, "error": inert(first.error), "frames": frames},
        "keys": group.keys,
        "keys_left_out": group.items - group.accepted - len(group.keys),
    }


_DOUBT_STEPS = [
    (RunOptions(in_doubt="again"), "after a look at the items in doubt: transform them"),
    (RunOptions(in_doubt="done"), "or leave them as they are"),
]


def _next_steps(request: Request, found: RunDetails, stage: Stage) -> list[Step]:
    """The steps for a run's dead letters, while they can be replayed."""
    record, open_letters = found.record, found.counts.dead - found.record.accepted_items
    if record.status == "paused":
        return [(continuing(record, request.stage, stage.names.logical(record.table)), "continue it")]
    if open_letters <= 0 or found.final or not (record.tolerated or record.status in LEFT_EARLY):
        return []
    keys = [key for group in found.groups for key in group.keys][:1]
    reason = RunOptions(reason="TEXT")
    in_doubt = {group.step == "doubt" for group in found.groups if group.items > group.accepted}
    steps = [
        *([(RunOptions(), "after a fix: replay them")] if in_doubt != {True} else []),
        *(_DOUBT_STEPS if True in in_doubt else []),
        *((replace(reason, accept=(key,)), "accept this one, and replay the others") for key in keys),
        (replace(reason, accept_all=True), "accept all of them"),
    ]
    retry = replace(request, command="retry", run=record.run, keys=False, verbose=False, json=False)
    return [(replace(retry, options=options), why) for options, why in steps]


# ---------------------------------------------------------------- all runs

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
