"""Whether a person really wants what cannot be taken back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dynamodt.control.requests import Request
from dynamodt.control.terminal.escaping import printable
from dynamodt.control.terminal.next_steps import as_typed
from dynamodt.errors import Refused, UsageError

if TYPE_CHECKING:
    from dynamodt.control.deploying.destroy import Removal


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
