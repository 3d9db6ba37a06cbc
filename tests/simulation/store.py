"""The services of a fleet, in simulated time: the state table, the user's table and the stage's storage.

A partition accepts 1,000 write units and 3,000 read units a second, and saves at most those of one second: DynamoDB's
burst capacity, and its moving of hot keys to partitions of their own, are left out. Every request is counted by
partition, by partition key and by purpose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import md5
from random import Random
from typing import Any
from zlib import crc32

import orjson

from dynamodt.dynamodb.wire import Throttled
from dynamodt.errors import ServiceError
from dynamodt.model.tables import Image, Item
from dynamodt.rate import Backoff
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.row_codec import RowKey
from tests.fakes import FakeRows, FakeState, Parsed
from tests.simulation.loop import Loop, Pool

WRITES, READS = 1000.0, 3000.0
_KILOBYTE = 1024


class Partition:
    """The two buckets of a partition."""

    def __init__(self, loop: Loop, writes: float = WRITES, reads: float = READS) -> None:
        self._loop = loop
        self._rates = {"write": writes, "read": reads}
        self._left = dict(self._rates)
        self._at = dict.fromkeys(self._rates, 0.0)

    def takes(self, kind: str, units: float) -> bool:
        """Whether a request passes; if any units are left, it passes completely."""
        now, rate = self._loop.now, self._rates[kind]
        self._left[kind] = min(rate, self._left[kind] + (now - self._at[kind]) * rate)
        self._at[kind] = now
        if self._left[kind] <= 0.0:
            return False
        self._left[kind] -= units
        return True


class Latency:
    """The duration of a request: a median, and sometimes several times as much."""

    def __init__(self, dice: Random, median: float) -> None:
        self._dice = dice
        self._median = median

    def __call__(self) -> float:
        return self._median * self._dice.lognormvariate(0.0, 0.4)


class StateRows(FakeRows):
    """The state table: rows that cost time and units. A throttled request is repeated, as by botocore."""

    _BACKOFF = Backoff(base=1.0, cap=20.0, attempts=6)

    def __init__(self, loop: Loop, dice: Random, partitions: int) -> None:
        super().__init__()
        self._loop = loop
        self._dice = dice
        self._latency = Latency(dice, 0.004)
        self._partitions = [Partition(loop) for _ in range(partitions)]
        self._placed: dict[str, int] = {}
        self._by_pk: dict[str, dict[str, Item]] = defaultdict(dict)
        self.by_partition: Counter[tuple[int, str, int]] = Counter()  # partition, kind, second: units
        self.by_key: Counter[tuple[str, str, int]] = Counter()  # partition key, kind, second: units
        self.by_purpose: Counter[tuple[str, str]] = Counter()  # purpose, kind: units
        self.requests: Counter[int] = Counter()  # second: requests
        self.throttled = 0

    def get(self, key: RowKey) -> Item | None:
        self._send("read", [(key, self.rows.get(key))], _purpose(key, "read"))
        return super().get(key)

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        after = {**self.rows.get(key, {"pk": key[0], "sk": key[1]}), **row}
        self._send("write", [(key, after)], _purpose(key, "write"))
        written = super().update(key, row, condition, **values)
        self._by_pk[key[0]][key[1]] = written
        return written

    def query(self, pk: str, prefix: str) -> Any:
        rows = [row for sk, row in self._by_pk[pk].items() if sk.startswith(prefix)]
        whole = {str(number): value for number, value in enumerate(rows)}
        self._send("read", [((pk, prefix), whole)], "workers: look")
        return iter([self._by_pk[pk][row["sk"]] for row in rows])

    def get_all(self, keys: list[RowKey]) -> Any:
        for start in range(0, len(keys), 100):
            some = keys[start : start + 100]
            self._send("read", [(key, self.rows.get(key)) for key in some], "units: progress")
            yield from [self.rows[key] for key in some if key in self.rows]

    def _send(self, kind: str, rows: Sequence[tuple[RowKey, Item | None]], purpose: str) -> None:
        for attempt in range(1, self._BACKOFF.attempts + 1):
            self._loop.sleep(self._latency())
            self.requests[int(self._loop.now)] += 1
            if self._phases(kind, rows, purpose):
                return
            self.throttled += 1
            self._loop.sleep(self._BACKOFF.delay(attempt, self._dice.random))
        raise ServiceError(f"the state table throttles: {rows[0][0]}")

    def _phases(self, kind: str, rows: Sequence[tuple[RowKey, Item | None]], purpose: str) -> bool:
        second = int(self._loop.now)
        for (pk, _), row in rows:
            units = _units(kind, row)
            partition = self.partition(pk)
            if not self._partitions[partition].takes(kind, units):
                return False
            self.by_partition[partition, kind, second] += units
            self.by_key[pk, kind, second] += units
            self.by_purpose[purpose, kind] += units
        return True

    def partition(self, pk: str) -> int:
        """The partition of a key, by its hash."""
        if pk not in self._placed:
            self._placed[pk] = md5(pk.encode()).digest()[0] * len(self._partitions) // 256
        return self._placed[pk]


class State(FakeState):
    """As `state.state.State`, over rows that cost time and units."""

    def __init__(self, rows: StateRows) -> None:
        super().__init__()
        self.rows = rows
        self.leases = LeaseRows(rows)  # type: ignore[arg-type]


def _purpose(key: RowKey, kind: str) -> str:
    pk, sk = key
    if sk == "LEASE":
        return f"lease: {'word' if kind == 'write' else 'look'}"
    return "workers: report, grant" if "WORKERS" in pk else "units: claim, intent, checkpoint"


def _units(kind: str, row: Item | None) -> int:
    size = 0 if row is None else _size(row)
    return max(1, -(-size // (_KILOBYTE if kind == "write" else 4 * _KILOBYTE)))


def _size(value: Any) -> int:
    """The approximate size of a row's value in bytes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _size(one) for name, one in value.items())
    return 3 + sum(map(_size, value)) if isinstance(value, list | tuple) else 8


class Things:
    """The user's table: splits of `items` items each, of 1 KB up to nearly twice `kilobytes`, in the order of their
    hashes. Half of the items are in an index, so that a write takes 1.5 times the units.

    It has the interface of `dynamodb.wire.Wire`.
    """

    def __init__(
        self, loop: Loop, dice: Random, units: int, items: int, kilobytes: int, partitions: Sequence[Partition]
    ) -> None:
        self._loop = loop
        self._units = units
        self._items = items
        self._partitions = partitions
        self._latency = {"read": Latency(dice, 0.015), "write": Latency(dice, 0.012)}
        self._pads = ["x" * (_KILOBYTE * (size - 1) + 900) for size in range(1, 2 * kilobytes)]
        self.numbers: dict[str, int] = {}  # items that were written, and how often
        self.spent: Counter[tuple[str, int]] = Counter()  # kind, tenth of a second: units
        self.by_partition: Counter[tuple[int, int]] = Counter()  # partition, second: write units
        self.throttled: Counter[int] = Counter()  # second: statements

    def image(self, key: str) -> Image:
        """An item as it is now."""
        pad = self._pads[crc32(key.encode()) % len(self._pads)]
        return {"id": {"S": key}, "pad": {"S": pad}, "n": {"N": str(self.numbers.get(key, 0))}}

    def partition(self, key: str) -> int:
        """Neighbouring splits are in one partition."""
        return int(key.partition("-")[0]) * len(self._partitions) // self._units

    def call(self, operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        request = orjson.loads(body) if isinstance(body, bytes) else body
        self._loop.sleep(self._latency["write" if operation == "BatchExecuteStatement" else "read"]())
        answer: dict[str, Any] = getattr(self, f"_{operation.lower()}")(request)
        return answer

    def _scan(self, body: dict[str, Any]) -> dict[str, Any]:
        split, start = body["Segment"], body.get("ExclusiveStartKey")
        first = int(start["id"]["S"].partition("-")[2]) + 1 if start else 0
        images, size = [], 0
        for number in range(first, min(self._items, first + body["Limit"])):
            images.append(self.image(f"{split}-{number}"))
            size += len(images[-1]["pad"]["S"])
            if size >= _KILOBYTE * _KILOBYTE:
                break
        if not self._partitions[self.partition(f"{split}-0")].takes("read", size / 8192):
            raise Throttled("ProvisionedThroughputExceededException")
        last = first + len(images) == self._items
        more = {} if last else {"LastEvaluatedKey": {"id": images[-1]["id"]}}
        return {"Items": images, **self._consumed("read", max(0.5, size / 8192)), **more}

    def _batchgetitem(self, body: dict[str, Any]) -> dict[str, Any]:
        ((name, wanted),) = body["RequestItems"].items()
        images = [self.image(key["id"]["S"]) for key in wanted["Keys"]]
        units = sum(len(image["pad"]["S"]) for image in images) / 4096
        return {"Responses": {name: images}, "ConsumedCapacity": [self._consumed("read", units)["ConsumedCapacity"]]}

    def _batchexecutestatement(self, body: dict[str, Any]) -> dict[str, Any]:
        answers = [self._execute(one["Statement"], one["Parameters"]) for one in body["Statements"]]
        consumed = self._consumed("write", sum(units for _, units in answers))
        return {"Responses": [answer for answer, _ in answers], "ConsumedCapacity": [consumed["ConsumedCapacity"]]}

    def _execute(self, text: str, parameters: list[Any]) -> tuple[dict[str, Any], float]:
        """The answer to one statement, and its units."""
        statement = _parsed(text, len(parameters))
        key = parameters[statement.equal["id"]]["S"]  # type: ignore[call-overload]
        kilobytes = 1 + crc32(key.encode()) % len(self._pads)
        partition, second = self.partition(key), int(self._loop.now)
        if not self._partitions[partition].takes("write", kilobytes):
            self.throttled[second] += 1
            return {"Error": {"Code": "ThrottlingError"}}, 0.0
        self.by_partition[partition, second] += kilobytes
        image = self.image(key)
        if any(image.get(name) != parameters[place] for name, place in statement.equal.items()):  # type: ignore[call-overload]
            return {"Error": {"Code": "ConditionalCheckFailed", "Item": image}}, kilobytes
        self.numbers[key] = int(parameters[statement.sets["n"]]["N"])  # type: ignore[call-overload]
        return {}, kilobytes * (1.0 + crc32(key[::-1].encode()) % 2)

    def _consumed(self, kind: str, units: float) -> dict[str, Any]:
        self.spent[kind, int(10 * self._loop.now)] += units  # type: ignore[assignment]
        return {"ConsumedCapacity": {"CapacityUnits": units}}


@lru_cache
def _parsed(text: str, parameters: int) -> Parsed:
    """A statement, with the places of its parameters where their values would be."""
    statement = Parsed(text, list(range(parameters)))  # type: ignore[arg-type]
    assert statement.command == "UPDATE" and not (statement.removes or statement.missing), text
    return statement


class Connections:
    """A worker's connections to the table, with this number of requests at once."""

    def __init__(self, things: Things, pool: Pool) -> None:
        self._things = things
        self._pool = pool
        self.call = things.call

    def begin(self, operation: str, body: dict[str, Any] | bytes) -> Callable[[], dict[str, Any]]:
        """Send a request; what is returned waits for its answer."""
        result: Callable[[], dict[str, Any]] = self._pool.submit(self._things.call, operation, body).result
        return result

    def close(self) -> None: ...


class Bucket:
    """The stage's storage, as `state.storage.Storage` has it: the journal, and samples."""

    def __init__(self, loop: Loop, dice: Random) -> None:
        self._loop = loop
        self._latency = Latency(dice, 0.030)
        self._objects: dict[str, bytes] = {}
        self.puts: Counter[int] = Counter()  # second: requests

    def write(self, name: str, data: bytes) -> None:
        self._loop.sleep(self._latency())
        self.puts[int(self._loop.now)] += 1
        self._objects[name] = bytes(memoryview(data))  # a copy: what zstandard returns holds far more than its bytes

    def read(self, name: str) -> bytes | None:
        self._loop.sleep(self._latency())
        return self._objects.get(name)

    def place(self, name: str) -> str:
        return f"s3://bucket/{name}"
