"""`-i`: a question for each option that is not given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import questionary

from dynamodt.cli.confirm import is_asked
from dynamodt.cli.help_text import HELP
from dynamodt.cli.request import Request, as_typed
from dynamodt.config.settings import FILE_NAME, read_settings
from dynamodt.runs.options import (
    BASELINE,
    CHECK,
    MIGRATIONS,
    OF_A_RUN,
    PLAN,
    READING,
    SHOW,
    Option,
    options_of,
    takes_several_tables,
)
from dynamodt.script import read
from dynamodt.script.names import parse_version_file, version_files

_FOLLOW = "follow"  # `status --follow`
_LEAVE = "leave"
_COMMANDS = (
    *("up", "down", "status", _FOLLOW, "runs", "history", "prepare", "create", *BASELINE, "init"),
    *(SHOW, CHECK, PLAN, "undo", "retry", "pause", "resume", "throttle", "abort", "unlock", _LEAVE),
)


def choose(request: Request, folder: Path) -> Request | None:
    """Asks for the options that `request` lacks and shows the equivalent command line; None if the user leaves the
    menu, or does not confirm the command that was given. Without a given command, the menu returns to its first
    question.

    Raises KeyboardInterrupt on Ctrl-C, UsageError where a table's versions are not in order.
    """
    while (asked := _command(replace(request, interactive=False), folder)).command != _LEAVE:
        for question in (_stage, _tables, _version, _texts, _accepting, _dry_run):
            asked = question(asked, folder)
        questionary.print(f"\n  {as_typed(asked)}\n", style="bold")
        # commands such as `down` ask themselves, and show their effects
        if is_asked(asked) or _answer(questionary.confirm("Run it?")):
            return asked
        if request.command:
            break
    return None


def _command(request: Request, folder: Path) -> Request:
    if request.command:
        return request
    choices = [questionary.Choice(f"{command:<14}  {_about(command)}", value=command) for command in _COMMANDS]
    command = _answer(questionary.select("Which command?", choices))
    return replace(request, command="status", follow=True) if command == _FOLLOW else replace(request, command=command)


def _about(command: str) -> str:
    own = {_FOLLOW: "Watch the active runs until they end.", _LEAVE: "End the menu."}
    return own.get(command) or HELP[command].partition("\n")[0]


def _stage(request: Request, folder: Path) -> Request:
    known = ["local", *sorted(read_settings(folder / FILE_NAME).keys() - {"local"})]
    if request.stage != "local" or len(known) == 1:
        return request
    return replace(request, stage=_answer(questionary.select("On which stage?", known)))


def _tables(request: Request, folder: Path) -> Request:
    known = read.tables(folder / "transforms", needed=False)
    if request.tables or request.command in (*OF_A_RUN, SHOW):
        return request
    if request.command == "init" or not known:
        text = _answer(questionary.text("Which tables? (names, with spaces between them; none: all)"))
        return replace(request, tables=tuple(text.split()))
    if takes_several_tables(request.command):
        chosen = _answer(questionary.checkbox("Which tables? (none: all)", list(known)))
        return replace(request, tables=tuple(chosen))
    return replace(request, tables=(_answer(questionary.select("Which table?", list(known))),))


def _version(request: Request, folder: Path) -> Request:
    given = request.number if request.command == "prepare" else request.to
    if request.command not in (*MIGRATIONS, "prepare", "stamp") or len(request.tables) != 1 or given is not None:
        return request
    numbered = _numbered(folder, request.tables[0])
    if request.command == "prepare":
        return replace(request, number=_answer(questionary.select("For which version?", numbered)))
    if request.command == "stamp":
        choices = [questionary.Choice("v0  none", value=0), *numbered]
        return replace(request, to=_answer(questionary.select("Which is the last applied version?", choices)))
    return replace(request, to=_target(request.command, numbered))


def _target(command: str, numbered: Sequence[questionary.Choice]) -> int | None:
    if command == "up":
        choices = [questionary.Choice("the latest", value=-1), *numbered]
    else:
        none = questionary.Choice("v0  all versions rolled back", value=0)
        choices = [questionary.Choice("the one before", value=-1), none, *numbered]
    number: int = _answer(questionary.select(f"{command.capitalize()} to which version?", choices))
    return None if number < 0 else number


def _texts(request: Request, folder: Path) -> Request:
    """The options that are typed as text: a name, a run, or rates, if none is given."""
    takes_key = len(request.tables) == 1 and request.stage == "local"
    asked = [one for one in options_of(request.command) if one.question and (one.field != "key" or takes_key)]
    if any(option.value(request) != option.default for option in asked):
        return request
    for option in asked:
        rate = option.kind is float
        text = _answer(questionary.text(option.question, validate=_is_rate if rate else None)).strip()
        request = _with(request, option, float(text or 0) if rate else text)
    return request


def _accepting(request: Request, folder: Path) -> Request:
    """The dead letters that `retry` accepts, and the reason; empty: it replays all."""
    given = request.options
    if request.command != "retry" or given.accept or given.accept_all:
        return request
    key = _answer(questionary.text("Accept a dead letter as it is? (its key, or all; none: replay them)")).strip()
    if not key:
        return request
    reason = given.reason or _answer(questionary.text("Why may it stay as it is?", validate=_is_text)).strip()
    accept = () if key == "all" else (key,)
    return replace(request, options=replace(given, accept=accept, accept_all=not accept, reason=reason))


def _is_text(text: str) -> bool | str:
    return bool(text.strip()) or "the history shows it"


def _with(request: Request, option: Option, value: Any) -> Request:
    owner, _, name = option.field.rpartition(".")
    if owner == "limits":
        return replace(request, limits=request.limits._replace(**{name: value}))
    if owner == "options":
        return replace(request, options=replace(request.options, **{name: value}))
    return replace(request, **{name: value})


def _is_rate(text: str) -> bool | str:
    return not text or text.replace(".", "", 1).isdecimal() or "a number, such as 200"


def _dry_run(request: Request, folder: Path) -> Request:
    takes = any(option.field == "options.dry_run" for option in options_of(request.command))
    if not takes or request.command in READING or request.options.dry_run:
        return request
    # except on this machine, a dry run is the default
    dry_run = _answer(questionary.confirm("A dry run, which writes nothing?", default=request.stage != "local"))
    return replace(request, options=replace(request.options, dry_run=dry_run))


def _numbered(folder: Path, table: str) -> list[questionary.Choice]:
    files = version_files(folder / "transforms", table)
    found = [parse_version_file(path.name, str(path)) for path in files]
    return [questionary.Choice(f"v{number}  {name}", value=number) for number, name in found]


def _answer(question: questionary.Question) -> Any:
    return question.unsafe_ask()
