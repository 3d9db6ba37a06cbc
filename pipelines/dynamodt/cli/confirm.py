"""The confirmation before a command reverts or deletes something: by an answer on a terminal, or by `--yes`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.cli.request import Request, as_typed
from dynamodt.config.stage import LOCAL
from dynamodt.errors import Refused, UsageError
from dynamodt.model.reports import counted
from dynamodt.model.tables import WORK_FOLDER, Stage
from dynamodt.runs.display import printable
from dynamodt.runs.options import CONFIRMED, Command

if TYPE_CHECKING:
    from dynamodt.deploy.destroy import Removal
    from dynamodt.model.runs import Lease, RunRecord
    from dynamodt.runs.context import Project


def is_asked(request: Request) -> bool:
    """Whether this command needs a confirmation that was not given with it."""
    return request.command in CONFIRMED and not (request.yes or request.options.dry_run)


def on_terminal(request: Request) -> bool:
    """Whether a question can be answered."""
    return not request.json and sys.stdin.isatty() and sys.stdout.isatty()


def _is_suggested(request: Request) -> bool:
    return request.command in CONFIRMED and request.options.dry_run and not on_terminal(request)


def confirm_change(request: Request, stage: Stage, folder: Path) -> Request:
    """The command as it was confirmed: a `down` goes to the version that was shown. A terminal shows the effects and
    asks; without one, only a protected stage needs `--yes`. Raises Refused for the answer no, for a missing `--yes`,
    and if the effects have changed before the answer."""
    if not is_asked(request):  # without a terminal, the command that a dry run suggests needs `--yes`
        return replace(request, yes=True) if stage.protected and _is_suggested(request) else request
    if on_terminal(request):
        from dynamodt.runs.context import Project

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
    from dynamodt.runs.lock import wait_until_free

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
    import questionary

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
    import questionary

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
    from dynamodt.runs.control import find_run

    stage, tables = project.stage, project.tables(command.tables)
    if command.command == "undo":
        return [_about_undo(stage, find_run(project, tables, command.run))]
    if command.command == "unlock":
        leases = [project.state.leases.read(table) for table in tables]
        return [_about_unlock(stage, lease) for lease in leases if lease.run]
    return [one for table in tables for one in _about_down(project, table, command.to)]


def _about_down(project: Project, table: str, goal: int | None) -> list[CommandEffect]:
    from dynamodt.runs.migration import plan_migration

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
    from dynamodt.runs.liveness import holder

    sentence = (
        f"table {stage.names.shown(lease.table)} of stage {stage.name}: its lease is taken from {holder(lease)}, which "
        "must be certainly dead"
    )
    return CommandEffect(sentence, f"{lease.run} {lease.token}")
