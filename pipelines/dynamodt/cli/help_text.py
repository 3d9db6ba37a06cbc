"""What the shell shows of the commands: the text of `--help`, and the completion of values.

The text is in `help.txt` beside this module. A section begins with `=== COMMAND`, in the order of `dynamodt --help`.
Those in capitals are parts of several commands, which a line `=> PART` takes in. A line `\\b` keeps the lines of its
paragraph as they are.

Tables, stages and choices are completed by the files of the folder, and run ids by the history.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from dynamodt.errors import DynamodtError
from dynamodt.runs.options import GLUE, Option


def _sections() -> dict[str, str]:
    text = "\n" + Path(__file__).with_name("help.txt").read_text(encoding="utf-8").replace("\\b\n", "\b\n")
    heads_and_bodies = (section.split("\n\n", 1) for section in text.split("\n=== ")[1:])
    found = {head: body.strip("\n") + "\n" for head, body in heads_and_bodies}
    for part in [head for head in found if head.isupper()]:
        found.update({head: body.replace(f"=> {part}\n", found[part]) for head, body in found.items()})
    return found


_TEXTS = _sections()
EPILOG = _TEXTS["EXIT CODES"]
HELP = {"" if head == "dynamodt" else head: text for head, text in _TEXTS.items() if not head.isupper()}


# ---------------------------------------------------------------- completion

_SECONDS = 3.0  # for the history of a stage; without an answer nothing is completed


def completion_of(option: Option) -> Callable[[typer.Context, str], list[str]] | None:
    """The completion of an option's value in a shell; None if the option takes any value."""
    if not option.choices and option.field not in ("tables", "stage", "run", "options.runner"):
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [one for one in offered(option, ctx.params) if one.startswith(incomplete)]

    return complete


def offered(option: Option, parsed: Mapping[str, Any]) -> Sequence[str]:
    """The values of an option; `parsed` are those of the options before it."""
    if option.field == "options.runner":
        return "direct", "spark", GLUE
    known: dict[str, Callable[[], Sequence[str]]] = {
        "tables": _tables,
        "stage": _stages,
        "run": lambda: _runs(parsed.get("stage") or "local", parsed.get("tables") or ()),
    }
    return known[option.field]() if option.field in known else option.choices


def _tables() -> Sequence[str]:
    """The tables that have a folder here."""
    from dynamodt.script.names import tables

    return tables(Path("transforms"), needed=False)


def _stages() -> Sequence[str]:
    """The stages of dynamodt.toml here."""
    from dynamodt.config.settings import FILE_NAME, read_settings

    try:
        return sorted({"local", *read_settings(Path(FILE_NAME))})
    except (DynamodtError, OSError):
        return ["local"]


def _runs(stage: str, tables: str | Sequence[str]) -> Sequence[str]:
    """The ids of the stage's runs, the newest first. None from a stage that does not run or does not answer."""

    def give_up(*_: Any) -> None:
        raise TimeoutError

    with suppress(Exception):
        signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            return _history(stage, tables)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return []


def _history(stage_name: str, named: str | Sequence[str]) -> list[str]:
    from dynamodt.config.names import with_names
    from dynamodt.config.stage import load_stage
    from dynamodt.local import stage as local
    from dynamodt.runs.context import Project

    folder = Path.cwd()
    stage = load_stage(stage_name, folder)
    if stage.embedded and not local.status(folder).running:
        return []
    project = Project(with_names(local.open_stage(stage, folder), folder), folder)
    names = (named,) if isinstance(named, str) else named
    return sorted((run.run for table in project.tables(names) for run in project.state.runs(table)), reverse=True)
