"""The run that a person means: by its id, or the beginning of it."""

from __future__ import annotations

from collections.abc import Sequence

from dynamodt.aws.state import State
from dynamodt.errors import UsageError
from dynamodt.model import RunRecord

_SHOWN = 3


def find_run(state: State, tables: Sequence[str], run: str) -> RunRecord:
    """The one run of these tables whose id begins with `run`. Raises UsageError when there is none, or several."""
    found = [record for table in tables for record in state.runs(table) if record.run.startswith(run)]
    exact = [record for record in found if record.run == run]
    if not found:
        raise UsageError(f"there is no run {run}", where=f"tables {', '.join(tables)}", hint="dynamodt history")
    if len(found) > 1 and not exact:
        some = [f"{record.run} ({record.table} v{record.version} {record.direction})" for record in found[:_SHOWN]]
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(f"{len(found)} runs begin with {run}: {', '.join(some)}{more}", hint="write more of the id")
    return (exact or found)[0]
