"""A version loaded and applied to items in memory, without a table: for `check`, and for authors' tests."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Any, Final

from dynamodt.errors import ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Direction, Image, TableSpec
from dynamodt.script.apply import Apply, Attempt, ChangeOf, Request, any_request, attempt_change
from dynamodt.script.functions import Transform, frozen


def rehearsed_run(number: int = 0) -> str:
    """The id of a run for a STAMP, which no run has; another one for each number."""
    return f"20000101T000000.{number:06d}Z-000000"


REHEARSED: Final = rehearsed_run()


class Rehearsal:
    """One direction of a version, loaded, with its prepared rows and its tables: a context manager, within which
    `attempt` applies the version to one item at a time, and `change_of` returns its change alone.

    The constructor executes the script. Entering the context calls `setup` and `start_bundle` of its class, leaving it
    `finish_bundle` and `teardown`. `prepared` is read-only for the script, as in a run. `request` makes the requests of
    a run (`dynamodb.statements`), whose limits are then checked, too. `snapshot`: an export is read, so that the
    version may put items into its own table; None: as in the script's SOURCE. Raises ScriptError.
    """

    def __init__(
        self,
        script: Script,
        table: TableSpec,
        direction: Direction = "up",
        *,
        prepared: Mapping[Any, Any] = MappingProxyType({}),
        target: TableSpec | None = None,
        run: str = REHEARSED,
        request: Request = any_request,
        snapshot: bool | None = None,
    ) -> None:
        self.table = table
        self._transform = Transform(script, direction)
        self._request = request
        self.change_of: ChangeOf = Apply(
            script,
            self._transform,
            table,
            run=run,
            prepared=MappingProxyType(frozen(dict(prepared))),
            target=target,
            snapshot=script.source == "export" if snapshot is None else snapshot,
        ).change_of

    def __enter__(self) -> Rehearsal:
        self._transform.setup()
        self._transform.start_bundle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._transform.finish_bundle()
        with suppress(*([] if error is None else [ScriptError])):  # the first error is the one to report
            self._transform.teardown()

    def attempt(self, image: Image) -> Attempt:
        """Applies the version to an item of the table."""
        return attempt_change(image, self.change_of, self._request)
