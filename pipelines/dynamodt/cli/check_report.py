"""The findings of `check` as text, as JSON and as Markdown for a pull request.

Text shows the smallest item of each finding, as a dry run shows items. JSON and Markdown, which are kept elsewhere,
show it only where its values were replaced, and otherwise the types of its attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from dynamodt.cli.json_output import error_document
from dynamodt.cli.next_steps import Step, step_after_sample
from dynamodt.cli.report import facts_lines, print_steps, show
from dynamodt.cli.request import Request
from dynamodt.errors import DynamodtError
from dynamodt.model.reports import Effect, Finding, Shown, TableCheck, VersionCheck, counted, pick
from dynamodt.model.tables import Image, TableNames
from dynamodt.runs.display import clip, key_line, printable, value_text
from dynamodt.runs.options import Command
from dynamodt.script.codec import decode

if TYPE_CHECKING:
    from rich.console import Console


_STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}
_WIDE = 160
_MOST_PATHS = 8


def failures(found: Sequence[TableCheck], names: TableNames) -> tuple[DynamodtError, ...]:
    """An error for each table with a fault, and for each table whose check an error has ended."""
    errors: list[DynamodtError] = []
    for table in found:
        if table.error is not None:
            errors.append(table.error)
        for version in table.versions:
            if version.faults:
                what = f"{counted(len(version.faults), 'fault')}: {', '.join(_names(version))}"
                where = f"{names.shown(table.table)} v{version.version} {version.name}"
                errors.append(DynamodtError(what, where=where))
    return tuple(errors)


def _checked_tables(found: Sequence[TableCheck]) -> list[TableCheck]:
    """The tables whose check no error has ended."""
    return [table for table in found if table.error is None]


def _names(version: VersionCheck) -> list[str]:
    return list(dict.fromkeys(finding.name for finding in version.faults))


# ---------------------------------------------------------------- facts in words


def _facts(table: TableCheck, version: VersionCheck) -> Iterator[tuple[str, str]]:
    """A version's properties, as pairs of a name and a text."""
    effect = version.effect
    items = counted(version.items, "item") + (", derived from later ones" if version.derived else "")
    yield "tried on", f"{items}, {counted(version.variants, 'variant')}"
    yield "effect", _effect(effect)
    if version.deterministic is not None:
        yield "deterministic", "yes" if version.deterministic else "no"
    if version.idempotent is not None:
        yield "idempotent", _idempotent(version)
    yield "reversible", _REVERSIBLE[version.reversible]
    if effect.leaves:
        yield "indexes", f"items leave {', '.join(effect.leaves)}"
    if effect.growth.before:
        before, after, most = effect.growth
        yield "size", f"the widest item: {before:,} bytes, then {after:,}; an item grows by at most {most:,}"
    if version.micros is not None:
        yield "time", f"{version.micros:,.1f} µs an item"
    if version.prepared:
        yield "prepared data", _PREPARED[version.prepared]
    if version.bound is not None:
        yield "sample", _bound(table, version, version.bound)


_REVERSIBLE = {
    "yes": "yes",
    "lossy": "not exactly: transform_up loses values",
    "no": "no",
    "none": "no: there is no transform_down to run",
    "": "not known",
}
_PREPARED = {"used": "used", "missing": "missing: tried without it, so errors are only warnings"}


def _idempotent(version: VersionCheck) -> str:
    if version.declared_idempotent:
        return "yes, as declared" if version.idempotent else "no, although it is declared"
    return "yes, as far as tried; IDEMPOTENT is not set" if version.idempotent else "no, and not declared"


def _effect(effect: Effect) -> str:
    if effect.kind in ("", "none"):
        return "none: no item changes" if effect.kind else "not known: no item was transformed"
    parts = [*_paths(effect)]
    parts += [f"{label} {counted(number, 'item')}" for label, number in _amounts(effect) if number]
    texts = {
        "expanding": "expanding: no existing attribute is changed or removed",
        "contracting": "contracting: running code may need what it changes or removes",
        "both": "expanding and contracting: running code may need what it changes or removes",
    }
    return f"{texts[effect.kind]}; {'; '.join(parts)}"


def _amounts(effect: Effect) -> tuple[tuple[str, int], ...]:
    return (
        ("changes", effect.changed),
        ("leaves", effect.unchanged),
        ("moves", effect.moved),
        ("deletes", effect.deleted),
        ("adds", effect.inserted),
        ("writes to the target", effect.into_target),
    )


def _paths(effect: Effect) -> Iterator[str]:
    for label in ("added", "changed", "retyped", "removed"):
        found = [(path.path, getattr(path, label)) for path in effect.paths if getattr(path, label)]
        if found:
            first = ", ".join(f"{printable(path)} ({number:,})" for path, number in found[:_MOST_PATHS])
            yield f"{label}: {first}" + (f" and {len(found) - _MOST_PATHS} more" if len(found) > _MOST_PATHS else "")


def _bound(table: TableCheck, version: VersionCheck, bound: float) -> str:
    """The bound that the sample gives for the table."""
    if table.whole:
        return f"all {counted(table.items, 'item')} of the table were tried"
    share = f"{100 * bound:.0f} %" if bound >= 0.1 else f"{100 * bound:.2g} %"
    items = counted(version.items, "item")
    return f"none of {items} shows a fault: with 95 % certainty at most {share} of the table's do"


def _heading(table: TableCheck) -> str:
    units = f", {table.read_units:,.0f} read units" if table.read_units else ""
    return f"version {table.at}; {counted(table.items, 'item')} of {table.source}{units}"


def _result(version: VersionCheck) -> str:
    numbers = {level: sum(f.level == level for f in version.findings) for level in ("fault", "warning")}
    return ", ".join(counted(number, level) for level, number in numbers.items() if number) or "no fault"


# ---------------------------------------------------------------- text


def print_check(console: Console, request: Request, found: Sequence[TableCheck], names: TableNames) -> None:
    """Each table's sample and versions, with what was found, and what to try next."""
    for table in _checked_tables(found):
        show(console, Text.assemble((names.shown(table.table), "bold"), f"  {printable(_heading(table))}"))
        show(console, *(Text(f"  {printable(notice)}", "yellow") for notice in table.notices))
        for version in table.versions:
            _print_version(console, table, version)
        if table.saved:
            show(console, Text(f"  saved {table.saved}: the sample with its values replaced"))
        console.print()
    print_steps(console, request, _next_steps(request, _checked_tables(found), names))


def _next_steps(request: Request, found: Sequence[TableCheck], names: TableNames) -> list[Step]:
    """The commands for missing prepared data, for tests on saved samples, and for a dry run of the tables without a
    fault."""
    saved = any(table.saved for table in found)
    steps: list[Step] = [("pytest --dynamodt", "test the versions on what was saved")] if saved else []
    for table in found:
        name = (names.logical(table.table),)
        unprepared = [version.version for version in table.versions if version.prepared == "missing"]
        for number in unprepared:
            prepare = Command("prepare", request.stage, name, number=number)
            steps.append((prepare, "gather the data that the version joins"))
        if not table.faults and not unprepared and any(version.version > table.at for version in table.versions):
            steps.append(step_after_sample(request, *name))
    return steps


def _print_version(console: Console, table: TableCheck, version: VersionCheck) -> None:
    style = "bold red" if version.faults else "green"
    show(console, Text.assemble((f"  v{version.version} {version.name}  ", "bold"), (_result(version), style)))
    show(console, *facts_lines(dict(_facts(table, version)), "    "))
    for finding in version.findings:
        _print_finding(console, finding)


def _label(shown: Shown, label: str) -> str:
    """An item's label; for a variant, with the key of the sampled item that it was made from."""
    if label != "item" or not (shown.variant or shown.invented):
        return label
    key = f" {key_line(decode(shown.of), shown.key)}" if shown.of else ""
    what = ("a variant of the item" if key else "a generated item") if shown.variant else "the item"
    return f"{what}{key}{', with replaced values' if shown.invented else ''}"


def _print_finding(console: Console, finding: Finding) -> None:
    items = f" ({counted(finding.items, 'item')})" if finding.items else ""
    line = Text.assemble(
        (f"    {finding.level} ", _STYLES[finding.level]), (f"{finding.name}: ", "bold"),
        printable(finding.what) + items, (f"  {finding.where}" if finding.where else "", "dim"),
    )  # fmt: skip
    show(console, line)
    if finding.shown is not None:
        for label, image in finding.shown.images:
            labelled = f"        {_label(finding.shown, label)}: "
            show(console, Text.assemble((labelled, "dim"), clip(value_text(decode(image)), _WIDE)))
    if finding.hint and finding.level == "fault":
        show(console, Text(f"        {printable(finding.hint)}", "dim"))


# ---------------------------------------------------------------- JSON


def check_document(found: Sequence[TableCheck]) -> dict[str, Any]:
    """The document of `check`. Items have replaced values only."""
    return {"faults": sum(table.faults for table in found), "tables": [_table(table) for table in found]}


def _table(table: TableCheck) -> dict[str, Any]:
    if table.error is not None:
        return {"table": table.table, "error": error_document(table.error)}
    sample = {**pick(table, "source items whole"), "read_units": round(table.read_units, 1)}
    return {
        **pick(table, "table at"),
        "sample": sample,
        "notices": list(table.notices),
        "saved": table.saved,
        "versions": [_version(version) for version in table.versions],
    }


def _version(version: VersionCheck) -> dict[str, Any]:
    effect = version.effect
    return {
        **pick(version, "version name path items derived variants deterministic reversible prepared bound"),
        "idempotent": {"found": version.idempotent, "declared": version.declared_idempotent},
        "micros": None if version.micros is None else round(version.micros, 2),
        "effect": {
            **pick(effect, "kind changed unchanged moved deleted inserted into_target"),
            "attributes": [path._asdict() for path in effect.paths],
            "leaves_indexes": list(effect.leaves),
            "bytes": effect.growth._asdict(),
        },
        "findings": [_finding(finding) for finding in version.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    shown = finding.shown
    known = (
        [] if shown is None else [{"label": label, "item": _loggable(shown, image)} for label, image in shown.images]
    )
    return {
        **pick(finding, "level name where items"),
        "what": _loggable_text(finding),
        "hint": str(finding.hint),
        "example": known,
        **({} if shown is None else {"variant": shown.variant, "of": dict(shown.of)}),
    }


def _loggable_text(finding: Finding) -> str:
    """A finding's text, without an error message that may contain an item's value."""
    if finding.name == "raises" and finding.shown is not None and not finding.shown.invented:
        return finding.what.rpartition("Error:")[0] + "Error" if "Error:" in finding.what else "an error"
    return finding.what


def _loggable(shown: Shown, image: Image) -> dict[str, Any]:
    """The item, if its values are replaced ones; otherwise its key, and the types of its attributes."""
    if shown.invented:
        return dict(image)
    return {name: value if name in shown.key else next(iter(value)) for name, value in image.items()}


# ---------------------------------------------------------------- Markdown


def print_markdown(console: Console, request: Request, found: Sequence[TableCheck], names: TableNames) -> None:
    """The findings as Markdown: a section for each table, a table of properties for each version."""
    show(console, *(Text(line) for table in _checked_tables(found) for line in _markdown(table, names)))


def _markdown(table: TableCheck, names: TableNames) -> Iterator[str]:
    yield f"## {_plain(names.shown(table.table))}: {counted(table.faults, 'fault')}"
    yield ""
    yield f"At {_plain(_heading(table))}."
    for notice in table.notices:
        yield f"\n> {_plain(notice)}"
    for version in table.versions:
        yield f"\n### v{version.version} {_plain(version.name)}: {_result(version)}\n\n| | |\n| --- | --- |"
        yield from (f"| {name} | {_plain(text)} |" for name, text in _facts(table, version))
        for finding in version.findings:
            yield from _markdown_finding(finding)
    yield ""


def _markdown_finding(finding: Finding) -> Iterator[str]:
    items = f" ({counted(finding.items, 'item')})" if finding.items else ""
    where = f" `{_code(finding.where)}`" if finding.where else ""
    yield f"\n- **{finding.level}**, {finding.name}: {_plain(_loggable_text(finding))}{items}{where}"
    if finding.shown is not None:
        for label, image in finding.shown.images:
            yield f"  - {_plain(_label(finding.shown, label))}: `{_code(_public_text(finding.shown, image))}`"
    if finding.hint and finding.level == "fault":
        yield f"  - {_plain(str(finding.hint))}"


def _public_text(shown: Shown, image: Image) -> str:
    if shown.invented:
        return clip(value_text(decode(image)), _WIDE)
    types = ", ".join(f"{name}: {next(iter(value))}" for name, value in image.items() if name not in shown.key)
    return clip(f"{key_line(decode(image), shown.key)}; types {types or 'none'}", _WIDE)


def _plain(text: str) -> str:
    """A text whose characters are escaped for Markdown and HTML."""
    text = printable(text).replace("\n", " ").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_|[]#" else c for c in text)


def _code(text: str) -> str:
    return printable(text).replace("\n", " ").replace("`", "'")
