"""What is asked on a terminal: by `-i`, each option that is not given; before a command reverts or deletes something, a
confirmation, which `--yes` gives, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import questionary

from dynamodt.cli.console import HELP, on_terminal
from dynamodt.cli.request import Request, as_typed
from dynamodt.config.settings import FILE_NAME, read_settings
from dynamodt.config.stage import LOCAL
from dynamodt.errors import Refused, UsageError
from dynamodt.model.reports import counted
from dynamodt.model.runs import Lease, RunRecord
from dynamodt.model.tables import WORK_FOLDER, Stage
from dynamodt.runs.context import Project
from dynamodt.runs.control import find_run
from dynamodt.runs.display import printable
from dynamodt.runs.liveness import holder
from dynamodt.runs.lock import wait_until_free
from dynamodt.runs.migration import plan_migration
from dynamodt.runs.options import (
    BASELINE,
    CHECK,
    CONFIRMED,
    MIGRATIONS,
    OF_A_RUN,
    PLAN,
    READING,
    SHOW,
    Command,
    Option,
    options_of,
    takes_several_tables,
)
from dynamodt.script.names import parse_version_file, tables, version_files

if TYPE_CHECKING:
    from dynamodt.deploy.destroy import Removal


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
    known = tables(folder / "transforms", needed=False)
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


# ---------------------------------------------------------------- confirmation


def is_asked(request: Request) -> bool:
    """Whether this command needs a confirmation that was not given with it."""
    return request.command in CONFIRMED and not (request.yes or request.options.dry_run)


def confirm_change(request: Request, stage: Stage, folder: Path) -> Request:
    """The command as it was confirmed: a `down` goes to the version that was shown. A terminal shows the effects and
    asks; without one, only a protected stage needs `--yes`. Raises Refused for the answer no, for a missing `--yes`,
    and if the effects have changed before the answer."""
    if not is_asked(request):
        return request
    if on_terminal(request):
        project, where = Project(stage, folder, request.options), f"stage {stage.name}"
        request = _waited(project, request)
        shown = effects(project, request)
        _ask(request, [one.sentence for one in shown], where)
        if [one.of for one in effects(project, request)] != [one.of for one in shown]:
            what = "another command changed the table or its lease before the answer; nothing was done"
            raise Refused(what, where=where, hint="to see the current effects: " + as_typed(request))
        return replace(request, to=shown[0].to) if len(shown) == 1 and request.to is None else request
    _refuse_protected(request, stage)
    return request


def _waited(project: Project, request: Request) -> Request:
    """A `down` with `--wait-lock`, after its wait: the run that it waits for may apply another version. The effects are
    shown afterwards, and the confirmed command does not wait again."""
    if request.command != "down" or not request.options.wait_lock:
        return request
    wait_until_free(project, project.tables(request.tables))
    return replace(request, options=replace(request.options, wait_lock=""))


def confirm_reset(request: Request, stage: Stage, folder: Path) -> None:
    """Asks before `local reset`, if there is anything to delete."""
    data = folder / WORK_FOLDER / LOCAL
    if not (is_asked(request) and data.exists()):
        return
    if on_terminal(request):
        what = f"the emulator's tables, with all items, its buckets and its log are deleted: {data}"
        _ask(request, [what], str(data))
    else:
        _refuse_protected(request, stage)


def _refuse_protected(request: Request, stage: Stage) -> None:
    """Raises Refused on a protected stage: there is no terminal for the question."""
    if stage.protected:
        raise Refused(
            f"the stage is protected: `{request.command}` asks for confirmation, and there is no terminal",
            where=f"stage {stage.name}",
            hint="to confirm it: " + as_typed(replace(request, yes=True)),
        )


def _ask(request: Request, effects: Sequence[str], where: str) -> None:
    if not effects:  # the command will report why
        return
    for one in effects:
        questionary.print(f"  {printable(one)}")
    if not questionary.confirm("Go ahead?", default=False).ask():
        hint = f"to do it, answer y, or: {as_typed(replace(request, yes=True))}"
        raise Refused("not confirmed: nothing was changed", where=where, hint=hint)


def confirm_removal(request: Request, planned: Removal) -> None:
    """Returns if the deletion is confirmed, by `--yes` or by an answer; with `--purge` the answer is the stage's name.

    Raises UsageError without a terminal, Refused if the answer is no.
    """
    if request.yes:
        return
    if not on_terminal(request):
        what = "`destroy` asks for confirmation, and there is no terminal"
        raise UsageError(what, hint="pass --yes, or --dry-run first")
    for one in planned.removed:
        questionary.print(f"  will be deleted: {printable(one)}")
    for one in planned.kept:
        questionary.print(f"  stays:           {printable(one)}")
    if request.purge:
        sure = questionary.text(f"Deleted data cannot be restored. Type the stage's name ({request.stage}):").ask()
    else:
        sure = request.stage if questionary.confirm("Delete it?", default=False).ask() else ""
    if sure != request.stage:
        raise Refused("nothing was deleted", where=f"stage {request.stage}", hint=f"to delete it: {as_typed(request)}")


# ---------------------------------------------------------------- what is shown before the answer


class CommandEffect(NamedTuple):
    """A command's effect on a table, as a sentence. `of` identifies what is rolled back or undone; after a `down` the
    version `to`."""

    sentence: str
    of: str
    to: int | None = None


def effects(project: Project, command: Command) -> list[CommandEffect]:
    """The effects of `down`, `undo` or `unlock`; empty if it will be refused or has nothing to do. Raises as
    `find_run`."""
    stage, tables = project.stage, project.tables(command.tables)
    if command.command == "undo":
        return [_about_undo(stage, find_run(project, tables, command.run))]
    if command.command == "unlock":
        leases = [project.state.leases.read(table) for table in tables]
        return [_about_unlock(stage, lease) for lease in leases if lease.run]
    return [one for table in tables for one in _about_down(project, table, command.to)]


def _about_down(project: Project, table: str, goal: int | None) -> list[CommandEffect]:
    stage, migration = project.stage, plan_migration(project, table, "down", goal, quiet=True)
    planned = migration.planned
    if planned is None or not migration.has_steps:
        return []
    versions = ", ".join(f"v{step.script.sequence} {step.script.name}" for step in planned.steps)
    what = "are rolled back" if len(planned.steps) > 1 else "is rolled back"
    at = planned.steps[-1].script.sequence - 1
    to = f"{what}, to version {at}"
    items = counted(planned.table.item_count, "item")
    sentence = f"table {stage.names.shown(table)} of stage {stage.name}, about {items}: {versions} {to}"
    return [CommandEffect(sentence, versions, at)]


def _about_undo(stage: Stage, record: RunRecord) -> CommandEffect:
    items = counted(record.counts.changed, "changed item")
    sentence = (
        f"table {stage.names.shown(record.table)} of stage {stage.name}: run {record.run} of v{record.version} "
        f"{record.name} ({record.direction}, {record.status}) is undone, {items}"
    )
    return CommandEffect(sentence, f"{record.run} {record.status} {record.attempts}")


def _about_unlock(stage: Stage, lease: Lease) -> CommandEffect:
    sentence = (
        f"table {stage.names.shown(lease.table)} of stage {stage.name}: its lease is taken from {holder(lease)}, which "
        "must be certainly dead"
    )
    return CommandEffect(sentence, f"{lease.run} {lease.token}")
