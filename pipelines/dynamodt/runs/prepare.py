"""Executes a version's `prepare`: its context, and the counting of its rows while they are stored."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from dynamodt.config.names import tables_in_use, with_names
from dynamodt.dynamodb import table as tables_of_stage
from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.reads import WholeScan, projected, segments
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import ServiceError, UsageError
from dynamodt.model.runs import PreparedRef, Script
from dynamodt.model.tables import Image, Item, name_in_requests
from dynamodt.pipeline.author_output import labelled
from dynamodt.runs.budget import read_limiter
from dynamodt.runs.history import now
from dynamodt.runs.jobs import was_held_recently
from dynamodt.runs.options import Observer
from dynamodt.runs.plan import check_script
from dynamodt.script.apply import prepare_rows
from dynamodt.script.codec import decode
from dynamodt.state import prepared as prepared_data

if TYPE_CHECKING:
    from dynamodt.runs.context import Project

_NOTIFY_SECONDS = 2.0


class PreparationContext:
    """The context of a script's `prepare`: the table's folder, the names of table and stage, the version's number, and
    readers of tables. `close` ends iterators that were not read to the end."""

    def __init__(self, project: Project, script: Script) -> None:
        self._project = project
        self._stage = project.stage
        self._script = script
        self._opened: list[Generator[Item, None, None]] = []
        self.folder = project.folder / "transforms" / project.stage.names.logical(script.table)
        self.table = script.table
        self.stage = project.stage.name
        self.version = script.sequence

    def client(self, service: str) -> Any:
        """A boto3 client of the stage's account and region, for any service, and of S3 for buckets of any account."""
        return client(self._stage.connection, service, owner="")

    def items(
        self, table: str | None = None, index: str | None = None, projection: Sequence[str] | None = None
    ) -> Iterator[Item]:
        """All items of this table or of another one of the project, by its logical name, or of one of its indexes; with
        `projection`, only these attributes, or paths within them (`address.city`).

        Eight pages of at most 1 MB are in memory. Raises UsageError for a table that the project does not use, for an
        index that does not exist, and for an invalid projection; ServiceError.
        """
        real = self._real(table)
        where = f"{self._script.path}: context.items, table {self._stage.names.shown(real)}"
        found = self._scan(real, index, projection, where)
        self._opened.append(found)
        return found

    def _real(self, table: str | None) -> str:
        """The table's real name. Raises UsageError for a table that the jobs of the stage may not read."""
        if table is None:
            return self._script.table
        known = tables_in_use(self._project.folder)
        logical = self._stage.names.logical(table)
        if logical not in known:
            raise UsageError(
                f"{table} has no folder in transforms/",
                where=f"{self._script.path}: context.items",
                hint=f"the tables of this project are {', '.join(known)}; a job may read no other one. For another one "
                "use context.client('dynamodb'), and give the jobs a policy for it (policy_arns)",
            )
        return with_names(self._stage, self._project.folder, (logical,)).names.real(logical)

    def _scan(
        self, real: str, index: str | None, projection: Sequence[str] | None, where: str
    ) -> Generator[Item, None, None]:
        connection = self._stage.connection
        try:
            spec = tables_of_stage.describe(connection, real)
        except ServiceError as error:
            raise ServiceError(error.what, where=where, hint=error.hint) from error
        units: float = spec.read_units
        body: dict[str, Any] = {"TableName": name_in_requests(real), "ConsistentRead": False}
        if index is not None:
            units = tables_of_stage.index_capacity(connection, spec, index, where)
            body["IndexName"] = index
        else:
            body["ConsistentRead"] = was_held_recently(self._project.state.leases.read(real))
        if projection is not None:
            body |= projected(projection, where)
        limiter = read_limiter(self._stage, units, self._project.options)
        each = spec.item_units(body["ConsistentRead"])
        return _decoded(WholeScan(Wire(connection.of_table(real)), body, segments(spec), where, limiter, each).items())

    def prepared(self, version: int) -> Mapping[Any, Any]:
        """The prepared rows of an earlier version of the table, read-only. Raises UsageError for a version that is not
        earlier, or has no `prepare`; Refused if it is not prepared, or was prepared by another text."""
        earlier = self._project.versions(self._script.table)[: self._script.sequence - 1]
        script = next((one for one in earlier if one.sequence == version and one.has_prepare), None)
        if script is None:
            numbers = ", ".join(str(one.sequence) for one in earlier if one.has_prepare)
            hint = f"the earlier versions with prepared data: {numbers}" if numbers else "no earlier version has any"
            where = f"{self._script.path}: context.prepared"
            what = f"there is no earlier version {version!r} with a prepare function"
            raise UsageError(what, where=where, hint=hint)
        return prepared_data.load(self._project.storage, script, self._project.prepared(script))

    def close(self) -> None:
        """Ends the iterators that `prepare` has not read to their ends."""
        for one in self._opened:
            one.close()


def _decoded(images: Generator[Image, None, None]) -> Generator[Item, None, None]:
    with closing(images):
        yield from map(decode, images)


def counted(rows: Iterator[tuple[Any, Any]], observer: Observer) -> Iterator[tuple[Any, Any]]:
    """The rows unchanged; their number is reported every two seconds."""
    notified = time.monotonic()
    for number, row in enumerate(rows, start=1):
        if time.monotonic() - notified >= _NOTIFY_SECONDS:
            notified = time.monotonic()
            observer.notify(f"prepared {number:,} rows")
        yield row


def prepare(project: Project, script: Script) -> PreparedRef:
    """Run the script's `prepare` in this process and store its rows. A dry run only counts them."""
    check_script(script)
    if not project.options.dry_run:
        project.storage.check()
    with labelled(script), closing(PreparationContext(project, script)) as context:
        rows = counted(prepare_rows(script, context), project.observer)
        if not project.options.dry_run:
            return prepared_data.save(project.storage, script, rows, now(), project.place_of(script.table))
        number = sum(1 for _ in rows)
    return PreparedRef(url="", rows=number, sha256="", script_checksum=script.checksum, created=now())
