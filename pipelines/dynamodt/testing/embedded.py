"""A table of an embedded emulator for authors' tests; the first test that needs it starts the emulator."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamodt import api
from dynamodt.config.names import with_names
from dynamodt.config.stage import embedded_stage
from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.reads import WholeScan
from dynamodt.dynamodb.table import describe
from dynamodt.dynamodb.wire import shared_wire
from dynamodt.errors import UsageError
from dynamodt.local import stage as local
from dynamodt.model.reports import RunReport
from dynamodt.model.tables import Direction, Item, KeyAttribute, Stage, StorageSpec, TableNames
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.script.codec import decode, encode
from dynamodt.state.state import State
from dynamodt.testing.rehearsal import given_key

_BUCKET = "dynamodt-tests"


class Emulator:
    """The emulator of a test session, whose data is in `data`; `project` is the folder with `transforms/`."""

    def __init__(self, project: Path, data: Path) -> None:
        self._project = project
        self._data = data
        self._started = False

    def table(self, name: str, key: Mapping[str, str] | None = None) -> EmbeddedTable:
        """A new table for the versions of `transforms/NAME`, without items, for one test alone."""
        suffix = secrets.token_hex(4)
        known = embedded_stage(self._project)
        connection = replace(known.connection, endpoint_url=local.ensure_started(self._data))
        self._started = True
        local.create_missing_bucket(connection, _BUCKET)
        stage = replace(
            known,
            connection=connection,
            state_table=f"dynamodt-state-{suffix}",
            storage=StorageSpec(f"s3://{_BUCKET}/{suffix}"),
            names=TableNames(pattern=f"{{table}}-{suffix}"),
        )
        stage = with_names(stage, self._project, [name])
        State(stage.connection, stage.state_table).ensure()
        return EmbeddedTable(_create_tables(stage, known, name, given_key(key)), self._project, name)

    def stop(self) -> None:
        """End the emulator, if it was started."""
        if self._started:
            local.stop(self._data)


def _create_tables(stage: Stage, known: Stage, name: str, key: tuple[KeyAttribute, ...]) -> Stage:
    """The stage, once its tables are created: the named one, and those of dynamodt.toml that its versions write to."""
    keys = {**known.tables, **({name: key} if key else {})}
    if name not in keys:
        hint = 'pass key={"id": "S"}, or name the table in dynamodt.toml'
        raise UsageError(f"the key of table {name} is not known", hint=hint)
    real = {logical: stage.names.real(logical) for logical in keys if logical in {*stage.names.known, name}}
    extras = {real[logical]: extra for logical, extra in known.extras.items() if logical in real}
    tables = {table: keys[logical] for logical, table in real.items()}
    local.create_missing_tables(stage.connection, tables, extras)
    return replace(stage, tables=tables, extras=extras)


class EmbeddedTable:
    """A table of the emulator, and the versions of its folder.

    `name` is its real name, which no other table has, and `client` a boto3 client of the emulator.
    """

    def __init__(self, stage: Stage, project: Path, logical: str) -> None:
        self.name = stage.names.real(logical)
        self.client: Any = client(stage.connection, "dynamodb")
        self._stage = stage
        self._project = project
        self._logical = logical

    def put(self, *items: Item) -> None:
        """Write items, and replace existing ones."""
        for item in items:
            shared_wire(self._stage.connection).call("PutItem", {"TableName": self.name, "Item": encode(item)})

    def items(self, table: str = "") -> list[Item]:
        """All items, in the order of their keys; or those of the target table with this logical name."""
        name = self._stage.names.real(table) if table else self.name
        wire, body = shared_wire(self._stage.connection), {"TableName": name, "ConsistentRead": True}
        images = WholeScan(wire, body, 1, f"table {name}").items()
        names = describe(self._stage.connection, name).key_names
        return sorted(map(decode, images), key=lambda item: [item[each] for each in names])

    def prepare(self, version: int) -> None:
        """Run the `prepare` of a version. Raises DynamodtError."""
        api.prepare(self._stage, self._project, self._logical, version, ProgressRecorder())

    def up(self, to: int | None = None) -> list[RunReport]:
        """Apply the pending versions, as `dynamodt up` does; returns the runs. Raises the error that ends them."""
        return self._migrate("up", to)

    def down(self, to: int | None = None) -> list[RunReport]:
        """Revert the latest version, or all above `to`; returns the runs. Raises the error that ends them."""
        return self._migrate("down", to)

    def _migrate(self, direction: Direction, to: int | None) -> list[RunReport]:
        run = api.up if direction == "up" else api.down
        (report,) = run(self._stage, self._project, [self._logical], to, RunOptions(), ProgressRecorder())
        if report.error is not None:
            raise report.error
        return list(report.versions)
