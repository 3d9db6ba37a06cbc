"""The result of `plan`: as text, as Markdown for a pull request, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from dynamodt.cli.json_output import Document, error_document, rounded
from dynamodt.cli.next_steps import Step, step_after_sample
from dynamodt.cli.report import facts_lines, print_steps, show
from dynamodt.cli.request import Request, completed, program
from dynamodt.model.reports import counted, pick
from dynamodt.model.tables import TableNames
from dynamodt.runs.cost import usd
from dynamodt.runs.display import printable
from dynamodt.runs.estimate import Span, VersionEstimate, sum_if_known

if TYPE_CHECKING:
    from dynamodt.runs.forecast import Obstacle, TableForecast, VersionForecast

# ---------------------------------------------------------------- figures


def _number(span: Span) -> str:
    """`1,240 (1,160 to 1,320)`, or the one number where the bounds are the same."""
    return _spanned(span, lambda value: f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:,.1f}")


def _percent(span: Span) -> str:
    return _spanned(span.times(100.0), lambda value: f"{value:.3g} %")


def _money(span: Span) -> str:
    return _spanned(span, usd)


def _time(span: Span) -> str:
    return _spanned(span, _duration)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _spanned(span: Span, shown: Any) -> str:
    likely, low, high = shown(span.likely), shown(span.low), shown(span.high)
    return likely if low == high else f"{likely} ({low} to {high})"


def _bytes(span: Span) -> str:
    units = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"), (1, "B"))
    unit, name = next((one for one in units if span.high >= one[0]), units[-1])
    return _spanned(span.times(1 / unit), lambda value: f"{value:,.3g}") + f" {name}"


# ---------------------------------------------------------------- the facts of a plan, in order


def _items(found: TableForecast) -> str:
    sample = f"{counted(len(found.sample.images), 'item')} sampled" if not found.sample.whole else "all of them sampled"
    return f"{counted(found.items, 'item')} ({found.counted}), {sample} for {found.sample.read_units:,.1f} read units"


def _version_facts(version: VersionForecast) -> Iterator[tuple[str, str]]:
    estimate = version.estimate
    if estimate is None:
        yield "no estimate", version.unknown
        return
    yield "changes", _changes(estimate)
    if estimate.dead:
        yield "dead letters", f"{estimate.dead:,} of the sample, the first: {estimate.error}"
    yield "write units", _write_units(estimate)
    yield "read units", f"{version.rcu:,.1f}" + (", an export instead" if version.export_bytes else "")
    if estimate.journal_bytes.high:
        puts = f" in {_number(version.puts)} requests to S3" if version.puts.high else ""
        yield "journal", _bytes(estimate.journal_bytes) + puts
    if version.seconds is not None:
        yield "time", _time(version.seconds)
    if version.usd is not None:
        yield "cost", _money(version.usd)


def _changes(estimate: VersionEstimate) -> str:
    rows = f", of them {counted(estimate.rows, 'row')} of items()" if estimate.rows else ""
    share = f"{_percent(estimate.share)} of the items: " if estimate.sample_items else ""
    return f"{share}{_number(estimate.changed)}{rows}"


def _write_units(estimate: VersionEstimate) -> str:
    if not estimate.indexes:
        return _number(estimate.wcu)
    parts = [f"table {_number(estimate.table)}"]
    parts += [f"index {name} {_number(units)}" for name, units in estimate.indexes.items()]
    return f"{_number(estimate.wcu)}: {', '.join(parts)}"


def _table_facts(found: TableForecast) -> Iterator[tuple[str, str]]:
    if found.seconds is not None:
        yield "time", f"{_time(found.seconds)} at the budget; {found.rate.why}"
    else:
        yield "time", f"not known: {found.unknown or found.rate.why}"
    if found.usd is not None:
        yield "cost", f"{_money(found.usd)}, on demand at AWS's prices of {found.as_of}"
    else:
        yield "cost", f"not known: {found.unknown or found.priceless or 'a price of the region is not known'}"


# ---------------------------------------------------------------- text


def print_plan(console: Console, request: Request, found: Sequence[TableForecast], names: TableNames) -> None:
    for table in found:
        if table.error is not None:
            continue
        show(console, Text.assemble((names.shown(table.table), "bold"), _position(table)))
        if table.versions:
            show(console, Text(f"  {_items(table)}", "dim"))
        for version in table.versions:
            show(console, Text(f"  v{version.version} {version.name}", "bold"))
            show(console, *facts_lines(dict(_version_facts(version)), "    "))
        if table.versions:
            show(console, *facts_lines(dict(_table_facts(table)), "  "))
        show(console, *(_obstacle(request, obstacle, names) for obstacle in table.obstacles))
    show(console, *(Text(line, "bold") for line in _totals(found)))
    if steps := _next_steps(request, found, names):
        console.print()
        print_steps(console, request, steps)


def _next_steps(request: Request, found: Sequence[TableForecast], names: TableNames) -> list[Step]:
    """The dry run of each table without an obstacle."""
    ready = (
        table for table in found if table.versions and not table.error and not any(one.stops for one in table.obstacles)
    )
    return [step_after_sample(request, names.logical(table.table)) for table in ready]


def _position(found: TableForecast) -> str:
    pending = counted(len(found.versions), "version") + " pending" if found.versions else "nothing pending"
    behind = f" of {found.latest}" if found.latest > found.at else ""
    return f" at version {found.at}{behind}, {pending}"


def _obstacle(request: Request, obstacle: Obstacle, names: TableNames) -> Text:
    mark, style = ("stops it", "bold red") if obstacle.stops else ("note", "yellow")
    line = Text.assemble("  ", (mark, style), f"  {printable(obstacle.text)}")
    return line.append(f"\n    {_hint(request, obstacle, names)}", "dim") if obstacle.hint else line


def _hint(request: Request, obstacle: Obstacle, names: TableNames) -> str:
    return completed(obstacle.hint, request, names).written(program())


def _totals(found: Sequence[TableForecast]) -> Iterator[str]:
    pending = [table for table in found if table.versions]
    if len(pending) < 2:
        return
    seconds, cost = sum_if_known(table.seconds for table in pending), sum_if_known(table.usd for table in pending)
    if parts := [*([_time(seconds)] if seconds else []), *([_money(cost)] if cost else [])]:
        yield f"together  {', '.join(parts)}"


# ---------------------------------------------------------------- Markdown


def print_plan_markdown(console: Console, request: Request, found: Sequence[TableForecast], names: TableNames) -> None:
    """One section for each table, with a table of its versions."""
    for table in found:
        show(console, *(Text(line) for line in _markdown(request, table, names)))


def _markdown(request: Request, found: TableForecast, names: TableNames) -> Iterator[str]:
    yield f"### {_cell(names.shown(found.table))}{_position(found) if found.error is None else ''}"
    yield ""
    if found.error is not None:
        yield f"**error**: {_cell(str(found.error))}"
        yield ""
        return
    if found.versions:
        yield _cell(_items(found))
        yield "\n| version | changes | write units | read units | time | cost |\n| --- | --- | --- | --- | --- | --- |"
        for version in found.versions:
            facts = dict(_version_facts(version))
            named = ("changes", "write units", "read units", "time", "cost")
            cells = [f"v{version.version} {version.name}", *(facts.get(name, "not known") for name in named)]
            yield f"| {' | '.join(map(_cell, cells))} |"
        yield ""
        yield from (f"- {name}: {_cell(text)}" for name, text in _table_facts(found))
    for obstacle in found.obstacles:
        hint = f" ({_cell(_hint(request, obstacle, names))})" if obstacle.hint else ""
        yield f"- {'**stops it**' if obstacle.stops else 'note'}: {_cell(obstacle.text)}{hint}"
    yield ""


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("\n", " ")


# ---------------------------------------------------------------- JSON


def plan_document(found: Sequence[TableForecast]) -> Document:
    """The document of `plan`."""
    return {"tables": [_table(table) for table in found]}


def _table(found: TableForecast) -> Document:
    if found.error is not None:
        return {"table": found.table, "error": error_document(found.error)}
    return {
        **pick(found, "table at latest"),
        "items": {
            "count": found.items,
            "counted": found.counted,
            "sampled": len(found.sample.images),
            "whole": found.sample.whole,
            **rounded(read_units=found.sample.read_units),
        },
        "versions": [_version(version) for version in found.versions],
        "budget": {**rounded(rcu=found.rate.rcu, wcu=found.rate.wcu), "why": found.rate.why},
        "seconds": _span(found.seconds),
        "usd": _usd(found.usd, found.as_of),
        "no_price": found.priceless,
        "obstacles": [{**pick(one, "kind text stops"), "hint": str(one.hint)} for one in found.obstacles],
    }


def _version(version: VersionForecast) -> Document:
    document: Document = pick(version, "version name unknown")
    estimate = version.estimate
    if estimate is None:
        return document
    return {
        **document,
        "share": _span(estimate.share, 6),
        "changed": _span(estimate.changed),
        "dead_letters": {"of_sample": estimate.dead, "first": estimate.error.partition(":")[0]},
        "wcu": {
            **(_span(estimate.wcu) or {}),
            "table": _span(estimate.table),
            "indexes": {name: _span(units) for name, units in estimate.indexes.items()},
        },
        **rounded(rcu=version.rcu),
        "stream_records": _span(estimate.records),
        "journal": {"bytes": _span(estimate.journal_bytes), "put_requests": _span(version.puts)},
        "export_bytes": version.export_bytes,
        "seconds": _span(version.seconds),
        "usd": _span(version.usd, 6),
    }


def _span(span: Span | None, digits: int = 3) -> Document | None:
    return None if span is None else {name: round(value, digits) for name, value in span._asdict().items()}


def _usd(span: Span | None, as_of: str) -> Document | None:
    found = _span(span, 6)
    return None if found is None else {**found, "as_of": as_of}
