"""What `deploy` and `destroy` have done, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from dynamodt.control.requests import Request
from dynamodt.control.terminal.next_steps import NextStep, after_deploy

if TYPE_CHECKING:
    from dynamodt.aws.stacks import ResourceChange
    from dynamodt.control.deploying.deploy import Deployment
    from dynamodt.control.deploying.destroy import Removal

_WORDS = {
    "created": "is deployed",
    "updated": "is updated",
    "unchanged": "Nothing to do: it is deployed as it is here",
    "dry-run": "dry run: nothing was changed",
}
_BY_EMAIL, _ADDRESS = "AlarmsByEmail", "AlarmsTo"  # in the template: the subscription, and whose it is
_MARKS = {"Add": "+", "Remove": "-", "Modify": "~", "Import": "+"}


def deployment_document(made: Deployment) -> dict[str, Any]:
    """What `deploy --json` prints."""
    return {
        "stack": made.stack,
        "status": made.status,
        "changes": [change._asdict() for change in made.changes],
        "outputs": dict(made.outputs),
    }


def removal_document(removal: Removal) -> dict[str, Any]:
    """What `destroy --json` prints."""
    return {
        "stack": removal.stack,
        "status": removal.status,
        "removed": list(removal.removed),
        "kept": list(removal.kept),
    }


def print_deployment(console: Console, request: Request, made: Deployment) -> None:
    """What was changed, where things are, and what comes next."""
    console.print(Text.assemble((made.stack, "bold"), f"  {_WORDS[made.status]}"), soft_wrap=True)
    for change in made.changes:
        console.print(_change(change), soft_wrap=True)
    for line in _outputs(made):
        console.print(line, soft_wrap=True)
    if any(change.resource == _BY_EMAIL for change in made.changes) and _ADDRESS in made.outputs:
        told = f"AWS has sent a mail to {made.outputs[_ADDRESS]}: until it is confirmed, no alarm arrives there"
        console.print(Text(told, "yellow"), soft_wrap=True)
    console.print()
    steps = after_deploy(request, made.status == "dry-run")
    if made.status != "dry-run" or made.changes:
        console.print(_next(steps), soft_wrap=True)


def print_removal(console: Console, request: Request, removal: Removal) -> None:
    """What has gone, and what has stayed."""
    if removal.status == "nothing":
        console.print(Text.assemble(("Nothing to do: ", "bold"), f"{removal.stack} is not there"), soft_wrap=True)
    word = "would be deleted" if removal.status == "dry-run" else "deleted"
    for one in removal.removed:
        console.print(Text.assemble((f"{word}  ", "bold"), one), soft_wrap=True)
    for one in removal.kept:
        console.print(Text.assemble(("stays  ", "dim"), one), soft_wrap=True)
    if removal.kept and not request.purge:
        console.print(Text("`deploy` would find and use what stays", "dim"), soft_wrap=True)


def _change(change: ResourceChange) -> Text:
    line = Text(f"  {_MARKS.get(change.action, change.action)} {change.resource}  ")
    line.append(change.type, "dim")
    return line.append("  a new one takes its place", "yellow") if change.replacement else line


def _outputs(made: Deployment) -> Iterator[Text]:
    if made.status == "dry-run":
        return
    width = max(map(len, made.outputs), default=0)
    for name, value in made.outputs.items():
        yield Text.assemble((f"{name:<{width}}", "dim"), f"  {value}")


def _next(steps: list[NextStep]) -> Text:
    width = max(len(step.command) for step in steps)
    lines = (Text.assemble((f"{step.command:<{width}}", "bold"), (f"  {step.why}", "dim")) for step in steps)
    return Text.assemble(("next  ", "dim"), Text("\n      ").join(lines))
