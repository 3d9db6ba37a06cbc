"""`-i`: questions in place of options. What the command line has said already is not asked again.

Whether a person really wants what cannot be taken back.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import questionary

from dynamodt.cli.next_steps import as_typed
from dynamodt.config.settings import FILE_NAME, read_settings
from dynamodt.errors import Refused, UsageError
from dynamodt.model.pages import Units
from dynamodt.runs.options import MOVES, OF_A_RUN, Request, command_line
from dynamodt.runs.shown import printable
from dynamodt.script import versions
from dynamodt.script.names import parse_version_file, version_files

if TYPE_CHECKING:
    from dynamodt.deploy.destroy import Removal


_COMMANDS = {
    "up": "apply pending versions",
    "down": "take versions back",
    "status": "what is applied, what is pending",
    "follow": "watch what is at work",
    "runs": "the runs, the newest first",
    "history": "what ran, when, by whom",
    "prepare": "gather a version's data from outside",
    "create": "write the next version's file",
    "stamp": "record which versions stand, and run nothing",
    "adopt": "take a predecessor's history over",
    "init": "a folder and a template v1 for a table",
    "undo": "take a run back by its journal",
    "retry": "replay a run's dead letters",
    "pause": "let the run on a table rest",
    "resume": "let it go on",
    "throttle": "change its rate",
    "abort": "end it after its page",
    "unlock": "break the lease of a run that is surely dead",
}
_SEVERAL_TABLES = ("up", "status", "runs", "history")
_FOLLOW = "follow"  # `status --follow`
_DRY_RUN = ("up", "down", "undo", "prepare", "create", "init", "stamp", "adopt")


def choose(request: Request, folder: Path) -> Request | None:
    """Asks for what `request` leaves open and shows the equivalent command line; None when it is not to run.

    Raises KeyboardInterrupt on Ctrl-C, UsageError where a table's versions are not in order.
    """
    asked = replace(request, interactive=False)
    for question in (_command, _stage, _tables, _version, _name, _run, _limits, _dry_run):
        asked = question(asked, folder)
    questionary.print(f"\n  {command_line(asked)}\n", style="bold")
    return asked if _answer(questionary.confirm("Run it?")) else None


def _command(request: Request, folder: Path) -> Request:
    if request.command:
        return request
    choices = [questionary.Choice(f"{command:<8}  {about}", value=command) for command, about in _COMMANDS.items()]
    command = _answer(questionary.select("What is to be done?", choices))
    return replace(request, command="status", follow=True) if command == _FOLLOW else replace(request, command=command)


def _stage(request: Request, folder: Path) -> Request:
    known = ["local", *sorted(read_settings(folder / FILE_NAME).keys() - {"local"})]
    if request.stage != "local" or len(known) == 1:
        return request
    return replace(request, stage=_answer(questionary.select("On which stage?", known)))


def _tables(request: Request, folder: Path) -> Request:
    transforms = folder / "transforms"
    known = versions.tables(transforms) if transforms.is_dir() else ()
    if request.tables or request.command in OF_A_RUN:
        return request
    if request.command == "init" or not known:
        text = _answer(questionary.text("Which tables? (names, with spaces between them; none: all)"))
        return replace(request, tables=tuple(text.split()))
    if request.command in _SEVERAL_TABLES:
        chosen = _answer(questionary.checkbox("Which tables? (none: all)", list(known)))
        return replace(request, tables=tuple(chosen))
    return replace(request, tables=(_answer(questionary.select("Which table?", list(known))),))


def _version(request: Request, folder: Path) -> Request:
    given = request.number if request.command == "prepare" else request.to
    if request.command not in (*MOVES, "prepare", "stamp") or len(request.tables) != 1 or given is not None:
        return request
    numbered = _numbered(folder, request.tables[0])
    if request.command == "prepare":
        return replace(request, number=_answer(questionary.select("For which version?", numbered)))
    if request.command == "stamp":
        choices = [questionary.Choice("v0  none of them", value=0), *numbered]
        return replace(request, to=_answer(questionary.select("Which is the last that stands?", choices)))
    return replace(request, to=_target(request.command, numbered))


def _target(command: str, numbered: Sequence[questionary.Choice]) -> int | None:
    if command == "up":
        choices = [questionary.Choice("the latest", value=-1), *numbered]
    else:
        none = questionary.Choice("v0  all versions taken back", value=0)
        choices = [questionary.Choice("the one before", value=-1), none, *numbered]
    number: int = _answer(questionary.select(f"{command.capitalize()} to which version?", choices))
    return None if number < 0 else number


def _name(request: Request, folder: Path) -> Request:
    if request.command != "create" or request.name:
        return request
    return replace(request, name=_answer(questionary.text("What does the version do? (as in split_name)")).strip())


def _run(request: Request, folder: Path) -> Request:
    if request.command not in OF_A_RUN or request.run:
        return request
    asked = questionary.text("Which run? (its id, or how it begins: `dynamodt history` shows them)")
    return replace(request, run=_answer(asked).strip())


def _limits(request: Request, folder: Path) -> Request:
    if request.command != "throttle" or any(request.limits):
        return request
    wcu = _answer(questionary.text("Write units a second? (none: as it is)", validate=_is_rate))
    rcu = _answer(questionary.text("Read units a second? (none: as it is)", validate=_is_rate))
    return replace(request, limits=Units(rcu=float(rcu or 0), wcu=float(wcu or 0)))


def _is_rate(text: str) -> bool | str:
    return not text or text.replace(".", "", 1).isdecimal() or "a number, such as 200"


def _dry_run(request: Request, folder: Path) -> Request:
    if request.command not in _DRY_RUN or request.options.dry_run:
        return request
    # away from this machine the careful answer is the default
    dry_run = _answer(questionary.confirm("A dry run, which writes nothing?", default=request.stage != "local"))
    return replace(request, options=replace(request.options, dry_run=dry_run))


def _numbered(folder: Path, table: str) -> list[questionary.Choice]:
    files = version_files(folder / "transforms", table)
    found = [parse_version_file(path.name, str(path)) for path in files]
    return [questionary.Choice(f"v{number}  {name}", value=number) for number, name in found]


def _answer(question: questionary.Question) -> Any:
    return question.unsafe_ask()


def confirm(request: Request, planned: Removal) -> None:
    """Returns when it is to be done: `--yes` says so, or the person who is asked. Data goes by the stage's name alone.

    Raises UsageError where nobody can be asked, Refused where the answer is no.
    """
    if request.yes:
        return
    if request.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("`destroy` asks before it does it, and nobody is there", hint="say --yes, or --dry-run first")
    import questionary

    for one in planned.removed:
        questionary.print(f"  will be deleted: {printable(one)}")
    for one in planned.kept:
        questionary.print(f"  stays:           {printable(one)}")
    if request.purge:
        sure = questionary.text(f"What is deleted cannot be had again. The stage's name ({request.stage})?").ask()
    else:
        sure = request.stage if questionary.confirm("Delete it?", default=False).ask() else ""
    if sure != request.stage:
        raise Refused(
            "nothing was deleted", where=f"stage {request.stage}", hint=f"if it is to be: {as_typed(request)}"
        )
