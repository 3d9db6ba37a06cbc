"""A DynamoDB, a state table and a storage that lose, delay and repeat requests; processes die at any of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from dynamodt.dynamodb.wire import InDoubt
from dynamodt.model.tables import Item
from dynamodt.script.codec import decode
from dynamodt.state.row_codec import RowKey
from tests.fakes import FakeDynamoDB, FakeResources, FakeRows

READS = ("Scan", "BatchGetItem", "GetItem", "Query")
ANSWERED = ("throttled", "unsent", "partial", "partial-500", "full", "lost", "reset")  # those of FakeDynamoDB
ROW_FAULTS = (
    "twice",
    "again",
    "dying",
)  # twice: carried out once more, later; dying: late, and its sender dies at once
LATE, TWICE = "late", "twice"  # heard after later ones, and never answered; heard and answered, and heard once more


class Died(Exception):
    """The process of this attempt has died."""


@dataclass
class Life:
    """The number of requests that an attempt's process makes before it dies."""

    left: int = 1_000_000

    @property
    def ends(self) -> bool:
        """Whether another attempt follows."""
        return self.left < 1_000

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Died("the machine is lost")


@dataclass
class Network:
    """Requests that are carried out after later ones: each with the number of writes that overtake it."""

    waiting: list[tuple[int, Callable[[], object]]] = field(default_factory=list)
    carrying: bool = False

    def delay(self, writes: int, request: Callable[[], object]) -> None:
        self.waiting.append((writes, request))

    def passed(self) -> None:
        """A write has been carried out."""
        self.waiting = [(writes - 1, request) for writes, request in self.waiting]
        due = [request for writes, request in self.waiting if writes < 0]
        self.waiting = [one for one in self.waiting if one[0] >= 0]
        self._carry_out(due)

    def flush(self) -> None:
        """Delivers all delayed requests."""
        due, self.waiting = [request for _, request in self.waiting], []
        self._carry_out(due)

    def _carry_out(self, requests: list[Callable[[], object]]) -> None:
        self.carrying = True
        try:
            for request in requests:
                request()
        finally:
            self.carrying = False


@dataclass
class World:
    """The state that the fakes of one case share. `acts` is called before each request that writes to the table."""

    dice: random.Random
    faults: float = 0.0  # how often a request that writes meets one
    kinds: tuple[str, ...] = ANSWERED
    row_faults: float = 0.0
    life: Life = field(default_factory=Life)
    network: Network = field(default_factory=Network)
    acts: Callable[[], None] = lambda: None
    slow: bool = False  # one that is carried out twice may be so when its phase has ended
    stale: list[str] = field(default_factory=list)  # insertions from an item that had changed by then

    def fault(self) -> str:
        if self.network.carrying or self.dice.random() >= self.faults:
            return ""
        return self.dice.choice(self.kinds)


_ROW = {"S": "/row"}  # of a row of the state table, and of items without a source


@dataclass
class FuzzedDynamoDB(FakeDynamoDB):
    world: World = field(default_factory=lambda: World(random.Random(0)))

    def call(self, operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        if self.world.network.carrying:
            return super().call(operation, body)
        self.world.life.tick()
        if operation in READS:
            return super().call(operation, body)
        self.world.acts()
        answer = self._written(operation, orjson.loads(body if isinstance(body, bytes) else orjson.dumps(body)))
        self.world.network.passed()
        return answer

    def _written(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        fault = self.world.fault()
        if fault in (LATE, TWICE):
            most = 40 if self.world.slow and fault == TWICE else 6
            self.world.network.delay(self.world.dice.randint(0, most), lambda: self._again(operation, request))
        if fault == LATE:
            raise InDoubt("it is late")
        if fault not in ("", TWICE):
            self.faults.append(fault)
        return super().call(operation, request)

    def _transactwriteitems(self, request: dict[str, Any]) -> dict[str, Any]:
        sent_before = request["ClientRequestToken"] in self.tokens
        answer = super()._transactwriteitems(request)
        puts = [action["Put"]["Item"] for action in request["TransactItems"] if "Put" in action]
        items = [decode(image) for image in puts if "/row" not in image.get("src", _ROW)["S"]]
        if items and not sent_before and not self._hands_over(request):
            notes = {image["src"]["S"]: image["note"]["S"] for image in self.items.values()}
            stale = [item for item in items if notes.get(item["src"].partition("/")[0]) != item["note"]]
            self.world.stale.extend(map(str, stale))
        return answer

    def _hands_over(self, request: dict[str, Any]) -> bool:
        """Whether the item that the new ones are made of is itself another one afterwards."""
        return not any("ConditionCheck" in action for action in request["TransactItems"])

    def _again(self, operation: str, request: dict[str, Any]) -> None:
        """Carries a request out again; its answer is discarded."""
        try:
            super().call(operation, request)
        except Exception:
            return


class FuzzedRows(FakeRows):
    """The state table's rows. A request whose answer is lost is sent again at once, or later by the network: a row that
    another owner has written since must not be put back by it. One may arrive when its sender has died."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def get(self, key: RowKey) -> Item | None:
        self._tick()
        return super().get(key)

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        if self.world.network.carrying:
            return super().update(key, row, condition, **values)
        self._tick()
        fault = self.world.dice.choice(ROW_FAULTS) if self.world.dice.random() < self.world.row_faults else ""
        if fault in ("twice", "dying"):
            self.world.network.delay(self.world.dice.randint(0, 6), lambda: self._again(key, row, condition, values))
        if fault == "dying" and self.world.life.ends:
            self.world.life.left = 0
            raise Died("the machine is lost, and its last request on its way")
        found = super().update(key, row, condition, **values)
        if fault == "again":
            found = super().update(key, row, condition, **values)
        self.world.network.passed()
        return found

    def _again(self, key: RowKey, row: Item, condition: str, values: Item) -> None:
        try:
            super().update(key, row, condition, **values)
        except Exception:
            return

    def _tick(self) -> None:
        if not self.world.network.carrying:
            self.world.life.tick()


class FuzzedStorage:
    """The stage's storage in memory: a process may die before it writes or reads an object."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.objects: dict[str, bytes] = {}

    def write(self, name: str, data: bytes) -> None:
        self.world.life.tick()
        self.objects[name] = data

    def read(self, name: str) -> bytes | None:
        self.world.life.tick()
        return self.objects.get(name)

    def names(self, prefix: str) -> Iterator[str]:
        return iter(sorted(name for name in self.objects if name.startswith(prefix)))

    def place(self, name: str) -> str:
        return name


@dataclass(frozen=True)
class SteadyResources(FakeResources):
    """Resources with a clock that advances a little at each reading: a case must not depend on the speed of the
    machine."""

    times: ClassVar[dict[str, float]] = {}

    def clock(self) -> float:
        self.times[self.name] = self.times.get(self.name, 0.0) + 0.01
        return self.times[self.name]
