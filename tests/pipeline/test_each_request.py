"""A retry, a `down` that skips the dead letters of its `up`, and an undo: each dies at each of its requests, and is
continued."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job, JournalSource
from dynamodt.pipeline.migrate import migrate, undo
from dynamodt.runs.jobs import new_run, retry_job
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.object_keys import DEAD, key_of_job
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB, FakeState
from tests.fuzz.faults import Died, FuzzedDynamoDB, FuzzedRows, FuzzedStorage, Life, SteadyResources, World
from tests.inline import run_inline, without_signatures, without_threads
from tests.pipeline.conftest import NUMBERED, Bench
from tests.pipeline.exporter import Exporter, by_id

MOVES = """
from dynamodt import Delete, Put

def transform_up(item):
    if item["id"] > 99:
        return item
    number, new = int(item["id"]), {**item, "n": item["n"] // item["good"] * 2}
    return [
        lambda: new,
        lambda: {**new, "id": number + 100},
        lambda: [new, Put({"id": number + 200, "n": 7})],
        lambda: Delete(),
    ][number % 4]()
"""
HALVES = """
def transform_up(item):
    return {**item, "n": item["n"] // item["good"] * 2}

def transform_down(item):
    return {**item, "n": item["n"] / 2}
"""
ITEMS = range(8)
MOST = 400  # requests of one of these


class Mortal(FuzzedDynamoDB):
    """A fuzzed DynamoDB without the checks of insertions."""

    _transactwriteitems = FakeDynamoDB._transactwriteitems


@dataclass
class Scene:
    """The state before the job that dies. It is made once, and restored before each death."""

    bench: Bench
    world: World
    flow: Callable[..., None]
    job: Job

    def __post_init__(self) -> None:
        self._before = deepcopy(self._stores())

    def _stores(self) -> list[Any]:
        dynamodb, rows = self.bench.dynamodb, self.bench.state.rows.rows
        return [dynamodb.items, dynamodb.others, dynamodb.tokens, rows, self.bench.storage.objects]  # type: ignore[attr-defined]

    def put_back(self) -> None:
        for store, before in zip(self._stores(), deepcopy(self._before), strict=True):
            store.clear()
            store.update(before)

    def dies(self, requests: int) -> bool:
        """Whether the job dies before it has made this number of requests; if so, another attempt continues it."""
        try:
            self._attempt(self.job, Life(requests))
        except Died:
            self._attempt(replace(self.job, attempt=self.job.attempt + 1), Life())
            return True
        return False

    def _attempt(self, job: Job, life: Life) -> None:
        self.bench.state.lease(job)
        self.world.life = life
        try:
            run_inline(self.flow, job, self.bench.resources)
        finally:
            self.world.life = Life()

    def counts(self) -> Counts:
        return self.bench.state.splits(self.job.run).totals(self.job.splits).counts


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    without_threads(monkeypatch)
    without_signatures(monkeypatch)
    return World(Random(0))


@pytest.fixture
def bench(world: World, tmp_path: Path) -> Bench:
    """Eight items, of which the last four are bad."""
    dynamodb, state, storage = Mortal(NUMBERED, world=world), FakeState(), FuzzedStorage(world)
    state.rows = FuzzedRows(world)
    state.leases = LeaseRows(state.rows)  # type: ignore[arg-type]
    name = uuid4().hex
    SteadyResources.made[name] = (dynamodb, state, storage, FakeObjects())
    dynamodb.put(*({"id": number, "n": 4, "good": int(number < 4)} for number in ITEMS))
    return Bench(tmp_path, dynamodb, state, storage, SteadyResources(name), SteadyResources.made[name][3])  # type: ignore[arg-type]


def done(bench: Bench, flow: Callable[..., None], job: Job) -> Job:
    bench.state.lease(job)
    run_inline(flow, job, bench.resources)
    return job


def dead(bench: Bench, job: Job) -> tuple[str, ...]:
    return tuple(bench.storage.names(key_of_job(job, DEAD)))


def retry(bench: Bench, world: World) -> Scene:
    """A retry after the application has corrected the bad items."""
    exporter = Exporter(bench)
    job = done(bench, migrate, replace(exporter.job(exporter.export(), MOVES), max_errors=9, page_items=2))
    bench.dynamodb.put(*({"id": number, "n": 4, "good": 1} for number in ITEMS if number > 3))
    again = replace(retry_job(job, 1, dead(bench, job)), attempt=2, earlier=(job.run,))
    return Scene(bench, world, migrate, again)


def down(bench: Bench, world: World) -> Scene:
    """The application has changed one of the items that the `up` has left."""
    job = done(bench, migrate, bench.job(HALVES, max_errors=9))
    bench.dynamodb.put({"id": 7, "n": 6, "good": 0})
    parts = tuple((part, None) for part in dead(bench, job))
    return Scene(bench, world, migrate, replace(job, run=new_run(), direction="down", attempt=2, untransformed=parts))


def undo_of_a_retry(bench: Bench, world: World) -> Scene:
    again = retry(bench, world).job
    done(bench, migrate, again)
    return Scene(
        bench, world, undo, replace(again, run=f"{again.run}/undo1", attempt=3, source=JournalSource(again.run))
    )


MADE = {0: 8, 101: 8, 2: 8, 202: 7, 4: 8, 105: 8, 6: 8, 206: 7}
RETRIED = dict.fromkeys((4, 5, 6, 7), 4)


@pytest.mark.parametrize(
    ("scene", "items", "counts"),
    [
        (retry, MADE, Counts(changed=4, dead=-4)),
        (down, dict.fromkeys(ITEMS, 4) | {7: 6}, Counts(read=8, changed=4, unchanged=3, dead=1)),
        (undo_of_a_retry, {number: n for number, n in MADE.items() if number % 100 < 4} | RETRIED, None),
    ],
)
def test_a_job_that_dies_at_any_request_is_completed_by_the_next_attempt(
    bench: Bench, world: World, scene: Callable[..., Scene], items: dict[int, int], counts: Counts | None
) -> None:
    made = scene(bench, world)
    deaths = 0
    while made.dies(deaths):
        assert by_id(bench) == items, f"after {deaths} requests"
        assert counts in (None, made.counts()) and made.counts().balanced
        made.put_back()
        deaths += 1
        assert deaths < MOST
    assert by_id(bench) == items and deaths > 9
