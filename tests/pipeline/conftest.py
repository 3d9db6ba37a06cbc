"""A run of the real composition on a fake DynamoDB, in one call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job, Script
from dynamodt.model.tables import Connection, Item, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.migrate import migrate
from dynamodt.runs.jobs import new_run
from dynamodt.script.codec import decode
from dynamodt.script.read import read_script
from dynamodt.state.prepared import save
from dynamodt.state.storage import FolderStorage
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB, FakeResources, FakeState, named_resources

NUMBERED = TableSpec("things", (KeyAttribute("id", "N"),))


@dataclass
class Bench:
    """The fakes of one test, and `run`, which migrates the table by a script's text."""

    folder: Path
    dynamodb: FakeDynamoDB
    state: FakeState
    storage: FolderStorage
    resources: FakeResources
    objects: FakeObjects  # the one bucket that there is

    def script(self, text: str, sequence: int = 1) -> Script:
        path = self.folder / "transforms" / "things" / f"v{sequence}_change.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sequence = {sequence}\n" + dedent(text))
        return read_script(path, self.folder)

    def job(self, text: str, **changes: Any) -> Job:
        stage = Stage("test", Connection("us-east-1"), StorageSpec(str(self.folder)), "state", local=True)
        job = Job(new_run(), stage, self.dynamodb.spec, self.script(text), "up", splits=3, page_items=5, writers=2)
        return replace(job, **changes)

    def prepare(self, job: Job, rows: dict[Any, Any]) -> Job:
        return replace(job, prepared=save(self.storage, job.script, rows.items(), "now"))

    def execute(self, job: Job) -> Counts:
        self.state.lease(job)
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            migrate(pipeline, job, self.resources)
        totals = self.state.splits(job.run).totals(job.splits)
        assert totals.counts.balanced, totals
        return totals.counts

    def die_after(self, job: Job, writes: int) -> None:
        """The run's process dies after this number of writing requests."""
        left = iter([True] * writes)

        def dies(dynamodb: FakeDynamoDB) -> None:
            if not next(left, False):
                raise RuntimeError("the machine is lost")

        self.dynamodb.before_write = dies
        with pytest.raises(Exception, match="the machine is lost"):
            self.execute(job)
        self.dynamodb.before_write = None

    def run(self, text: str, **changes: Any) -> Counts:
        return self.execute(self.job(text, **changes))

    def items(self) -> list[Item]:
        return sorted(map(decode, self.dynamodb.items.values()), key=lambda item: str(item["id"]).rjust(9))

    def dead_letters(self) -> list[str]:
        return [line for name in self.storage.names("runs/") if "/dead/" in name for line in self._lines(name)]

    def _lines(self, name: str) -> list[str]:
        return (self.storage.read(name) or b"").decode().splitlines()


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(spec: TableSpec = NUMBERED, **faults: Any) -> Bench:
        dynamodb, state, storage = FakeDynamoDB(spec, **faults), FakeState(), FolderStorage(tmp_path / "storage")
        objects = FakeObjects()
        resources = named_resources(uuid4().hex, dynamodb, state, storage, objects)
        return Bench(tmp_path, dynamodb, state, storage, resources, objects)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def without_error_logs() -> Iterator[None]:
    """The fuzzers cause thousands of errors, which workers log."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)
