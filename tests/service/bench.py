"""Whole runs against an endpoint: a folder with `transforms/`, a stage of its own, and a view of the tables without
dynamodt's codec (boto3's serializer writes the items and reads them back)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from dynamodt import api as operations
from dynamodt.errors import DynamodtError
from dynamodt.model.pages import Counts, Totals
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.runs import PreparedRef, RunRecord, Script
from dynamodt.model.tables import Item, Stage, StorageSpec
from dynamodt.runs import recording
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.recording import LeftDeadLetters, completion_error
from dynamodt.script.read import read_versions
from dynamodt.state.state import State
from tests.emulators import Endpoint

SPLIT = """
from dynamodt import without

def transform_up(item):
    first, _, last = item["name"].partition(" ")
    return {**item, "first": first, "last": last}

def transform_down(item):
    return without(item, "first", "last")
"""

_BATCH = 25


class _Deserializer(TypeDeserializer):
    """Reads 1E+125 too, which the service gives as a number of 126 digits."""

    def _deserialize_n(self, value: str) -> Decimal:
        return Decimal(value)


_to_image = TypeSerializer()
_from_image = _Deserializer()


@dataclass(frozen=True)
class Tables:
    """The application's side: puts items, reads all of them back."""

    client: Any

    def put(self, table: str, *items: Item) -> None:
        """Store the items, replacing those with the same keys."""
        requests = [{"PutRequest": {"Item": image(item)}} for item in items]
        for start in range(0, len(requests), _BATCH):
            left: dict[str, Any] = {table: requests[start : start + _BATCH]}
            while left:
                left = self.client.batch_write_item(RequestItems=left).get("UnprocessedItems")

    def delete(self, table: str, *keys: Item) -> None:
        for key in keys:
            self.client.delete_item(TableName=table, Key=image(key))

    def items(self, table: str) -> list[Item]:
        """Every item, strongly consistent, in the order of its key attributes' text."""
        pages = self.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return sorted((item(entry) for page in pages for entry in page["Items"]), key=_order)


def image(item: Item) -> dict[str, Any]:
    return {name: _to_image.serialize(value) for name, value in item.items()}


def item(image: dict[str, Any]) -> Item:
    return {name: _from_image.deserialize(value) for name, value in image.items()}


def _order(item: Item) -> list[str]:
    return [repr(item[name]).rjust(24) for name in ("id", "pk", "sk") if name in item]


class Recorder(ProgressRecorder):
    """Keeps what is notified."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def notify(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Bench:
    """The folder of one project, with the commands of a user."""

    folder: Path
    stage: Stage
    tables: Tables
    recorder: Recorder = field(default_factory=Recorder)

    def script(self, table: str, text: str, number: int = 1, name: str = "change") -> Path:
        """Write the version file `v<number>_<name>.py`; its `sequence` comes by itself."""
        path = self.folder / "transforms" / table / f"v{number}_{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sequence = {number}\n{dedent(text)}", encoding="utf-8")
        return path

    def beside(self, name: str, text: str) -> Path:
        """Write a file below `transforms/` that versions import or open."""
        path = self.folder / "transforms" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def up(self, *tables: str, to: int | None = None, **options: Any) -> list[TableReport]:
        return operations.up(self.stage, self.folder, tables, to, RunOptions(**options), self.recorder)

    def down(self, *tables: str, to: int | None = None, **options: Any) -> list[TableReport]:
        return operations.down(self.stage, self.folder, tables, to, RunOptions(**options), self.recorder)

    def prepare(self, table: str, number: int = 1, options: RunOptions = RunOptions()) -> PreparedRef:
        return operations.prepare(self.stage, self.folder, table, number, self.recorder, options=options)

    def read(self, table: str, number: int = 1) -> Script:
        return read_versions(self.folder / "transforms", table, self.stage.names)[number - 1]

    def run(self, table: str, text: str, **options: Any) -> Counts:
        """Apply the text as version 1 of the table, which must succeed; returns its counts."""
        return self.succeeded(table, text, **options).counts

    def succeeded(self, table: str, text: str, **options: Any) -> RunReport:
        self.script(table, text)
        (report,) = self.up(table, **options)
        assert report.error is None, report.error
        (run,) = report.versions
        assert run.counts.balanced
        return run

    def succeeded_dry(self, table: str, text: str) -> RunReport:
        return self.succeeded(table, text, dry_run=True)

    def failed(self, table: str, text: str, **options: Any) -> TableReport:
        """Apply the text as version 1 of the table, which must fail and leave no version applied. With `max_errors` the
        run continues after dead letters, as in `run_past_dead_letters`."""
        self.script(table, text)
        report = self.run_past_dead_letters(table, **options)
        assert report.error is not None
        assert self.applied(table) == [] and report.at == 0
        return report

    def run_past_dead_letters(self, table: str, command: str = "up", **options: Any) -> TableReport:
        """The report of a run that continues after dead letters and fails at its end: it is unfinished, and all other
        items are written."""

        def strict(
            totals: Totals, splits: int, where: str, dead_letters: LeftDeadLetters, run: str
        ) -> DynamodtError | None:
            return completion_error(totals, splits, where, dead_letters._replace(tolerated=0), run)

        with patch.object(recording, "completion_error", strict):
            (report,) = getattr(self, command)(table, **options)
        assert isinstance(report, TableReport)
        return report

    def history(self, table: str) -> list[RunRecord]:
        return operations.history(self.stage, self.folder, [table])[table]

    def applied(self, table: str) -> list[int]:
        return sorted(State(self.stage.connection, self.stage.state_table).applied(table))

    def dead_letters(self, report: TableReport) -> list[dict[str, Any]]:
        """The dead letters of the table's last run, from the file that its report names."""
        lines = Path(report.versions[-1].dead_letters).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def make_bench(endpoint: Endpoint, folder: Path) -> Bench:
    """A stage with folder storage and an empty state table of its own."""
    storage, state = StorageSpec(str(folder / "storage")), f"state_{uuid4().hex[:12]}"
    stage = Stage("test", endpoint.connection, storage, state, local=True)  # local: not governed unless asked
    State(stage.connection, stage.state_table).ensure()
    return Bench(folder, stage, Tables(endpoint.client))
