"""The results of `deploy` and `destroy` as text: a stack's changes and outputs, and what was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dynamodt.cli.report import show, steps_text
from dynamodt.cli.request import Request, after_deploy

if TYPE_CHECKING:
    from dynamodt.deploy.deploy import Deployment
    from dynamodt.deploy.destroy import Removal
    from dynamodt.deploy.stacks import ResourceChange


_WORDS = {
    "created": "is deployed",
    "updated": "is updated",
    "unchanged": "Nothing to do: the stack is up to date",
    "dry-run": "dry run: nothing was changed",
}
_BY_EMAIL, _ADDRESS = "AlarmsByEmail", "AlarmsTo"  # in the template: the subscription, and its address
_MARKS = {"Add": "+", "Remove": "-", "Modify": "~", "Import": "+"}


def print_deployment(console: Console, request: Request, made: Deployment) -> None:
    """The changes, the stack's outputs, and what to try next."""
    show(console, Text.assemble((made.stack, "bold"), f"  {_WORDS[made.status]}"))
    show(console, *map(_change, made.changes), *_outputs(made))
    if any(change.resource == _BY_EMAIL for change in made.changes) and _ADDRESS in made.outputs:
        mail = f"AWS has sent a mail to {made.outputs[_ADDRESS]}: alarms are sent there after it is confirmed"
        show(console, Text(mail, "yellow"))
    console.print()
    steps = after_deploy(request, made.status == "dry-run")
    if made.status != "dry-run" or made.changes:
        show(console, steps_text(steps, console.width))


def print_removal(console: Console, request: Request, removal: Removal) -> None:
    """What was deleted, and what stays."""
    if removal.status == "nothing":
        show(console, Text.assemble(("Nothing to do: ", "bold"), f"{removal.stack} does not exist"))
    word = "would be deleted" if removal.status == "dry-run" else "deleted"
    show(console, *(Text.assemble((f"{word}  ", "bold"), one) for one in removal.removed))
    show(console, *(Text.assemble(("stays  ", "dim"), one) for one in removal.kept))
    if removal.kept and not request.purge:
        show(console, Text("`deploy` uses what stays again", "dim"))


def _change(change: ResourceChange) -> Text:
    line = Text(f"  {_MARKS.get(change.action, change.action)} {change.resource}  ")
    line.append(change.type, "dim")
    return line.append("  is replaced", "yellow") if change.replacement else line


def _outputs(made: Deployment) -> Iterator[Text]:
    if made.status == "dry-run":
        return
    width = max(map(len, made.outputs), default=0)
    for name, value in made.outputs.items():
        yield Text.assemble((f"{name:<{width}}", "dim"), f"  {value}")
