"""Runs that insert, move and delete items are killed twice and continued; their undo is killed twice and continued, too
(guarantees G3 and G5).

One plan reads an export and moves, fans out, splits, deletes and updates; one writes to another target; one scans and
has rows of `items()`; one is idempotent. Between the attempts the application changes and deletes items that the run
has not written yet. A build tries one schedule of each plan on ministack; `make test-chaos` (DYNAMODT_KILLS=48) tries
several, and also on DynamoDB Local, which has no exports.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest

from dynamodt.dynamodb.clients import client
from dynamodt.model.tables import StorageSpec
from dynamodt.pipeline.restoration import UNCONFIRMED
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage
from tests.emulators import Endpoint
from tests.service.bench import Bench, image
from tests.service.conftest import MakeTable
from tests.service.kills import KILLS, SEEDS, attempt

ITEMS = 120
OWN_ROWS = 30
OWN_FROM = 900
WRITES = ("batch+single", "sent+sent alone", "answered+answered alone")
CLAIMS = ("claim", "claimed", "checkpoint", "checkpointed")
RUN_MOMENTS = (*WRITES, *CLAIMS, "journal", "journaled", "intent", "intended")

MOVES = """
from dynamodt import Delete, Put

def transform_up(item):
    number, new = int(item["id"]), {**item, "n": item["n"] * 2}
    return [
        lambda: new,
        lambda: {**new, "id": number + 1000},
        lambda: [new, Put({"id": number + 2000, "n": 7})],
        lambda: [Put({**new, "id": number + 3000}), Put({**new, "id": number + 4000}), Delete()],
        lambda: [item, Put({"id": number + 5000, "n": 7})],
        lambda: Delete(),
    ][number % 6]()
"""
TARGET = """
TARGET_TABLE = "{target}"

def transform_up(item):
    return {{"id": item["id"] + 1000, "n": item["n"] * 2, "note": item["note"]}}
"""
ROWS = f"""
from dynamodt import Delete

def items():
    for number in range({OWN_ROWS}):
        yield {{"id": {OWN_FROM} + number, "n": 7}}

def transform_up(item):
    return Delete() if item["id"] % 5 == 0 else {{**item, "n": item["n"] * 2}}
"""
IDEMPOTENT = """
from dynamodt import Put
IDEMPOTENT = True

def transform_up(item):
    if item["id"] >= 1000:
        return item
    return [{**item, "twice": 2}, Put({"id": item["id"] + 1000, "n": 7})]
"""

Ends = dict[int, int]  # `n` of the items that become of one, by id


def moved(number: int) -> Ends:
    return (
        {number: 2},
        {number + 1000: 2},
        {number: 2, number + 2000: 7},
        {number + 3000: 2, number + 4000: 2},
        {number: 1, number + 5000: 7},
        {},
    )[number % 6]


@dataclass(frozen=True)
class Plan:
    """A version, and its effect on each item. `own` are the rows of its `items()`."""

    text: str
    ends: Callable[[int], Ends]
    own: tuple[int, ...] = ()
    export: bool = False
    target: bool = False
    undone: bool = True
    acts: Callable[[int], bool] = lambda number: True  # whether the application may change the item


PLANS = {
    # An item with an insertion stays unchanged: the order of an act and the insertion could not be determined.
    "moves": Plan(MOVES, moved, export=True, acts=lambda number: number % 6 != 4),
    "target": Plan(TARGET, lambda number: {number + 1000: 2}, target=True, acts=lambda number: False),
    "rows": Plan(
        ROWS,
        lambda number: {number: 2} if number % 5 else {},
        own=tuple(range(OWN_FROM, OWN_FROM + OWN_ROWS)),
    ),
    "idempotent": Plan(
        IDEMPOTENT, lambda number: {number: 1, number + 1000: 7}, undone=False, acts=lambda number: False
    ),
}


@dataclass
class Matrix:
    """One schedule of one plan: the table, the application's acts, and the attempts."""

    endpoint: Endpoint
    bench: Bench
    table: str
    target: str
    plan: Plan
    dice: random.Random

    def __post_init__(self) -> None:
        self.notes: dict[int, str] = {}
        self.deleted: set[int] = set()
        self.killed: list[str] = []
        self.bench.tables.put(self.table, *({"id": n, "n": 1, "note": "old"} for n in range(ITEMS)))
        self.bench.script(self.table, self.plan.text.format(target=self.target) if self.target else self.plan.text)

    def attempt(self, what: str, moment: str, count: int) -> bool:
        """Whether the run came to its end; it may also be killed."""
        storage = self.bench.stage.storage.url if self.plan.export else ""
        ended = attempt(self.endpoint, self.bench.folder, self.table, what, moment, count, storage)
        assert ended.returncode in (0, -9), (what, moment, count, ended.stderr)
        if ended.returncode:
            self.killed.append(f"{what} {moment} {count}")
        return ended.returncode == 0

    def kill_and_continue(self, what: str, deaths: list[tuple[str, int]], between: Callable[[], None]) -> None:
        for moment, count in deaths:
            if self.attempt(what, moment, count):
                return
            between()
        assert self.attempt(what, "never", 0)

    def act(self) -> None:
        """The application changes and deletes a few items, if the run has not written them yet."""
        for number in self.dice.sample(range(ITEMS), 12):
            if not self.plan.acts(number) or number in self.deleted:
                continue
            # An item that has an intent to be deleted, and is gone, counts as the run's deletion.
            if self.plan.ends(number) and self.dice.random() < 0.4:
                self.deleted.update([number] if self._act(number, "delete") else [])
            elif self._act(number, "note"):
                self.notes[number] = "live"

    def _act(self, number: int, what: str) -> bool:
        """Whether the item was as the run expects to find it."""
        dynamodb, call = self.endpoint.client, {"TableName": self.table, "Key": image({"id": number})}
        call |= {"ConditionExpression": "n = :one", "ExpressionAttributeValues": {":one": {"N": "1"}}}
        try:
            if what == "delete":
                dynamodb.delete_item(**call)
            else:
                call["ExpressionAttributeValues"] = {":one": {"N": "1"}, ":note": {"S": "live"}}
                dynamodb.update_item(**call, UpdateExpression="SET note = :note")
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    # ------------------------------------------------------------ what must hold

    def check_run(self) -> None:
        found = {int(item["id"]): item for item in self.bench.tables.items(self.target or self.table)}
        left = set(range(ITEMS)) - self.deleted
        expected = {key: n for number in left for key, n in self.plan.ends(number).items()}
        expected |= dict.fromkeys(self.plan.own, 7)
        assert {key: int(item["n"]) for key, item in found.items()} == expected, "not exactly once"
        for number, note in self.notes.items():
            for key, n in self.plan.ends(number).items() if number in left else ():
                assert n == 7 or found[key]["note"] == note, f"a live write is lost: {number}"
        state = State(self.endpoint.connection, f"state-{self.table}")
        (run,) = state.runs(self.table)
        assert run.status == "succeeded" and run.counts.balanced and run.counts.dead == 0, run
        assert list(state.applied(self.table)) == [1]

    def check_undone(self) -> None:
        unconfirmed = self._unconfirmed()
        assert not any(map(self.plan.ends, unconfirmed)), "only a deletion can be unconfirmed"
        left = [number for number in range(ITEMS) if number not in self.deleted | unconfirmed]
        originals = [{"id": number, "n": 1, "note": self.notes.get(number, "old")} for number in left]
        assert self.bench.tables.items(self.table) == originals
        assert not self.target or self.bench.tables.items(self.target) == []
        state = State(self.endpoint.connection, f"state-{self.table}")
        assert state.runs(self.table)[0].status == "undone" and not state.applied(self.table)

    def _unconfirmed(self) -> set[int]:
        """The items that the undo reports as gone, deleted by either the run or the application."""
        spec = self.bench.stage.storage if self.plan.export else StorageSpec(str(self.bench.folder / "storage"))
        storage = open_storage(self.endpoint.connection, spec)
        names = [name for name in storage.names(f"runs/{self.table}/") if name.endswith("/not-restored.jsonl")]
        lines = (json.loads(line) for name in names for line in (storage.read(name) or b"").splitlines())
        return {int(line["key"]["id"]["N"]) for line in lines if line["why"] == UNCONFIRMED}


SCHEDULES = max(1, KILLS // 8)


def cases() -> list[object]:
    """Each plan with the number of a schedule and its endpoint; in `make test` only the plan with the most kinds of
    changes."""
    found: list[object] = []
    for name, plan in PLANS.items():
        for number, seed in product(range(SCHEDULES), SEEDS):
            later = () if name == "moves" else (pytest.mark.chaos,)
            found.append(
                pytest.param("ministack", name, seed, number, id=f"ministack-{name}-{seed}-{number}", marks=later)
            )
            if not plan.export:
                other = pytest.param(
                    "dynamodb-local",
                    name,
                    seed,
                    number,
                    id=f"dynamodb-local-{name}-{seed}-{number}",
                    marks=pytest.mark.chaos,
                )
                found.append(other)
    return found


def two_deaths(dice: random.Random, moments: tuple[str, ...]) -> list[tuple[str, int]]:
    """Two kills, one at a write and one at any moment, in any order: each before, or after, a number of such
    moments."""
    found = [(dice.choice(WRITES), dice.randint(1, 4)), (dice.choice(moments), dice.randint(1, 3))]
    return dice.sample(found, 2)


@pytest.fixture
def make_matrix(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable
) -> Iterator[Callable[[Plan, random.Random], Matrix]]:
    made: list[str] = []

    def make(plan: Plan, dice: random.Random) -> Matrix:
        table = make_table(id="N")
        made.append(table)
        stored = _in_a_bucket(bench, endpoint) if plan.export else bench
        return Matrix(endpoint, stored, table, make_table(id="N") if plan.target else "", plan, dice)

    yield make
    for table in made:
        endpoint.client.delete_table(TableName=f"state-{table}")


def _in_a_bucket(bench: Bench, endpoint: Endpoint) -> Bench:
    name = f"kills-{bench.stage.state_table.replace('_', '-')}"
    client(endpoint.connection, "s3").create_bucket(Bucket=name)
    return replace(bench, stage=replace(bench.stage, storage=StorageSpec(f"s3://{name}/some")))


@pytest.mark.parametrize(("endpoint", "plan", "seed", "number"), cases(), indirect=["endpoint"])
@pytest.mark.scaled
def test_a_run_killed_twice_is_continued_and_undone_by_an_undo_killed_twice(
    make_matrix: Callable[[Plan, random.Random], Matrix], plan: str, seed: int, number: int
) -> None:
    dice = random.Random(f"{seed} {plan} {number}")
    matrix = make_matrix(PLANS[plan], dice)
    matrix.kill_and_continue("1", two_deaths(dice, RUN_MOMENTS), matrix.act)
    matrix.check_run()
    if matrix.plan.undone:
        matrix.kill_and_continue("undo", two_deaths(dice, (*WRITES, *CLAIMS)), lambda: None)
        matrix.check_undone()
    print(f"killed: {', '.join(matrix.killed) or 'never'}")
