"""A DynamoDB in memory with the faults of a real one, and the other resources of a run.

`FakeDynamoDB.call` takes the bodies that are sent to the service: it parses the PartiQL text and the expressions that
`dynamodb.statements` writes, so a wrong statement fails here too. Faults are queued by the test.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from operator import eq, le, lt
from typing import Any, ClassVar

import orjson

from dynamodt.dynamodb.wire import InDoubt, Refusal, Throttled, Unsent
from dynamodt.model.runs import Job, Lease
from dynamodt.model.tables import Image, Item, TableSpec
from dynamodt.script.codec import encode, key_text, same
from dynamodt.state.lease_rows import LeaseRows, WorkerRows
from dynamodt.state.row_codec import ConditionFailed as RowConditionFailed
from dynamodt.state.row_codec import RowKey
from dynamodt.state.split_rows import SplitRows

_TOKEN = re.compile(r'\s*("(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'|[A-Za-z]+|[=,?{}:])')

_WRITES = ("BatchExecuteStatement", "BatchWriteItem", "UpdateItem", "DeleteItem", "PutItem", "TransactWriteItems")
_THROTTLES = ("ThrottlingError", "ProvisionedThroughputExceeded")


class ConditionFailed(Exception):
    def __init__(self, image: Image | None) -> None:
        super().__init__("The conditional request failed")
        self.image = image


class Duplicate(Exception):
    pass


def begun(call: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """The result of `Wire.begin`: the request is already executed; its error is raised when the result is asked for."""
    future: Future[Any] = Future()
    try:
        future.set_result(call(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future.result


@dataclass
class FakeDynamoDB:
    """`page` items a scan page; `faults` are taken one a write request; `before_write` may act as the application."""

    spec: TableSpec
    page: int = 5
    hands_back: bool = True  # ReturnValuesOnConditionCheckFailure in batches, which not every emulator has
    items: dict[str, Image] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=deque)
    read_faults: deque[str] = field(default_factory=deque)  # one a Scan
    before_write: Callable[[FakeDynamoDB], None] | None = None
    calls: Counter[str] = field(default_factory=Counter)
    others: dict[str, dict[str, Image]] = field(default_factory=dict)  # the items of other tables, by its name
    keys: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # and their key attributes; of the state table pk, sk
    tokens: set[str] = field(default_factory=set)  # of transactions that took effect: sent again, they are no-ops
    lock: threading.RLock = field(default_factory=threading.RLock)
    refused: frozenset[str] = frozenset()  # attributes for which the request of a batch is refused
    longest: float = inf  # characters of a statement: a longer one has its whole request refused

    def put(self, *items: Item) -> None:
        for item in items:
            image = encode(item)
            self.items[self._text(image)] = image

    def get(self, item: Item) -> Image | None:
        return self.items.get(self._text(encode(item)))

    def delete(self, item: Item) -> None:
        self.items.pop(self._text(encode(item)), None)

    def close(self) -> None:
        pass

    def call(self, operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        request = orjson.loads(body if isinstance(body, bytes) else orjson.dumps(body))
        with self.lock:
            self.calls[operation] += 1
            perform: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, f"_{operation.lower()}")
            if operation in _WRITES and self.faults and self.faults[0] == "repeated":
                self.faults[0] = ""
                self.faults.appendleft("")  # one for each execution
                with suppress(Refusal):
                    perform(request)
            return orjson.loads(orjson.dumps(perform(request)))

    def begin(self, operation: str, body: dict[str, Any] | bytes) -> Callable[[], dict[str, Any]]:
        return begun(self.call, operation, body)

    # ------------------------------------------------------------ reads

    def _scan(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = self.read_faults.popleft() if self.read_faults else ""
        if fault == "throttled":
            raise Throttled("ProvisionedThroughputExceededException")
        if fault == "reset":
            raise InDoubt("reset before its end")
        total, segment = request["TotalSegments"], request["Segment"]
        mine = [text for text in sorted(self.items) if sum(text.encode()) % total == segment]
        start = request.get("ExclusiveStartKey")
        if start is not None:
            mine = [text for text in mine if text > self._text(start)]
        page = [self.items[text] for text in mine[: min(self.page, request.get("Limit", self.page))]]
        answer: dict[str, Any] = {
            "Items": page,
            "ScannedCount": len(page),
            "ConsumedCapacity": {"CapacityUnits": 0.5},
        }
        if len(mine) > len(page):
            answer["LastEvaluatedKey"] = self._key(page[-1])
        return answer

    def _batchgetitem(self, request: dict[str, Any]) -> dict[str, Any]:
        ((table, wanted),) = request["RequestItems"].items()
        keys, items = wanted["Keys"], self._items(table)
        texts = [self._text(key, table) for key in keys]
        assert len(set(texts)) == len(texts) <= 100, "a key twice, or too many"
        rest = keys[3:]  # answers in part, as a full one does
        found = [items[text] for text in texts[:3] if text in items]
        left = {table: {"Keys": rest, "ConsistentRead": True}} if rest else {}
        return {"Responses": {table: found}, "UnprocessedKeys": left}

    # ------------------------------------------------------------ writes

    def _fault(self) -> str:
        if self.before_write is not None:
            self.before_write(self)
        fault = self.faults.popleft() if self.faults else ""
        if fault == "unsent":
            raise Unsent("the endpoint refuses connections", "check the network")
        return fault

    def _batchexecutestatement(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = self._fault()
        if fault == "throttled":
            raise Throttled("ProvisionedThroughputExceededException")
        if fault == "lost":
            raise InDoubt("reset before it was applied")
        if any(len(statement["Statement"]) > self.longest for statement in request["Statements"]):
            raise Refusal("ValidationException", "the statement is too long", {})
        responses = [self._answered(s, fault, i) for i, s in enumerate(request["Statements"])]
        if fault == "reset":
            raise InDoubt("reset after it was applied")
        units = len(responses) - sum(one.get("Error", {}).get("Code") in _THROTTLES for one in responses)
        return {"Responses": responses, "ConsumedCapacity": [{"CapacityUnits": float(units)}]}

    def _batchwriteitem(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = self._fault()
        if fault == "throttled":
            raise Throttled("ProvisionedThroughputExceededException")
        if fault == "lost":
            raise InDoubt("reset before it was applied")
        ((table, writes),) = request["RequestItems"].items()
        keys = [self._text(w["PutRequest"]["Item"] if "PutRequest" in w else w["DeleteRequest"]["Key"]) for w in writes]
        assert len(set(keys)) == len(keys) <= 25, "a key twice, or too many"
        if any(write.get("PutRequest", {}).get("Item", {}).keys() & self.refused for write in writes):
            raise Refusal("ValidationException", "an index does not take it", {})
        left = [write for n, write in enumerate(writes) if fault == "partial" and n % 2]
        for key, write in zip(keys, writes, strict=True):
            if write not in left and "PutRequest" in write:
                self.items[key] = write["PutRequest"]["Item"]
            elif write not in left:
                self.items.pop(key, None)
        if fault == "reset":
            raise InDoubt("reset after it was applied")
        units = [{"CapacityUnits": float(len(writes) - len(left))}]
        return {"UnprocessedItems": {table: left} if left else {}, "ConsumedCapacity": units}

    def _answered(self, statement: dict[str, Any], fault: str, index: int) -> dict[str, Any]:
        if fault == "full" or (fault == "partial" and index % 2):
            return {"Error": {"Code": _THROTTLES[index // 2 % 2]}}
        if fault == "contended" and index % 2:
            return {"Error": {"Code": "TransactionConflict", "Message": "a transaction has the item"}}
        if fault == "partial-500" and index % 2:
            return {"Error": {"Code": "InternalServerError", "Message": "try again"}}
        try:
            self._execute(statement["Statement"], statement["Parameters"])
        except ConditionFailed as error:
            shown = {"Item": error.image} if error.image and self.hands_back else {}
            return {"Error": {"Code": "ConditionalCheckFailed", "Message": str(error), **shown}}
        except Duplicate:
            return {"Error": {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}}
        return {"TableName": self.spec.name}

    def _execute(self, text: str, parameters: list[dict[str, Any]]) -> None:
        parsed = Parsed(text, parameters)
        table, items = parsed.table, self._items(parsed.table)
        assert table == self.spec.name or table in self.keys
        if parsed.command == "INSERT":
            return self._insert(table, parsed.sets)
        key = {name: parsed.equal.pop(name) for name in self._key_names(table)}
        image = items.get(self._text(key, table))
        if image is None and parsed.command == "DELETE":
            return None
        self._check(image, parsed.equal, parsed.missing)
        assert image is not None
        if parsed.command == "DELETE":
            del items[self._text(key, table)]
        else:
            self._store(table, image, parsed.sets, parsed.removes)
        return None

    def _insert(self, table: str, image: Image) -> None:
        items, text = self._items(table), self._text(image, table)
        if text in items:
            raise Duplicate
        items[text] = image

    def _store(self, table: str, image: Image, sets: Image, removes: list[str]) -> None:
        after = {**image, **sets}
        for name in removes:
            after.pop(name, None)
        self._items(table)[self._text(image, table)] = after

    def _check(self, image: Image | None, equal: Image, missing: list[str]) -> None:
        holds = image is not None and all(n in image and same(image[n], v) for n, v in equal.items())
        if not holds or any(name in (image or {}) for name in missing):
            raise ConditionFailed(image)

    # ------------------------------------------------------------ single writes and transactions

    def _updateitem(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._alone(self._update, request)

    def _deleteitem(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._alone(self._remove, request)

    def _putitem(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._alone(self._put, request)

    def _alone(self, write: Callable[[dict[str, Any]], None], request: dict[str, Any]) -> dict[str, Any]:
        fault = self._fault()
        if fault == "throttled":
            raise Throttled("ThrottlingException")
        if fault == "lost":
            raise InDoubt("reset before it was applied")
        asks = "ReturnValuesOnConditionCheckFailure" in request
        if asks and "Expected" in request:
            raise Refusal("ValidationException", "Can not use both expression and non-expression parameters", {})
        try:
            write(request)
        except ConditionFailed as error:
            shown = {"Item": error.image} if error.image and asks else {}
            raise Refusal("ConditionalCheckFailedException", str(error), shown) from error
        if fault == "reset":
            raise InDoubt("reset after it was applied")
        return {"ConsumedCapacity": {"CapacityUnits": 1.0}}

    def _put(self, request: dict[str, Any]) -> None:
        assert request["ConditionExpression"] == "attribute_not_exists(#k)"
        items, text = self._items(request["TableName"]), self._text(request["Item"], request["TableName"])
        if text in items:
            raise ConditionFailed(items[text])
        items[text] = request["Item"]

    def _absent_or_as_read(self, request: dict[str, Any]) -> None:
        image = self._items(request["TableName"]).get(self._text(request["Key"], request["TableName"]))
        if request["ConditionExpression"] != "attribute_not_exists(#k)":
            self._check(image, *self._condition(request))
        elif image is not None:
            raise ConditionFailed(image)

    def _remove(self, request: dict[str, Any]) -> None:
        items, text = self._items(request["TableName"]), self._text(request["Key"], request["TableName"])
        self._check(items.get(text), *self._condition(request))
        del items[text]

    def _update(self, request: dict[str, Any]) -> None:
        table = request["TableName"]
        image = self._items(table).get(self._text(request["Key"], table))
        equal, missing = self._condition(request)
        self._check(image, equal, missing)
        assert image is not None
        sets, removes = self._clauses(request)
        self._store(table, image, sets, removes)

    def _clauses(self, request: dict[str, Any]) -> tuple[Image, list[str]]:
        if "AttributeUpdates" in request:
            updates = request["AttributeUpdates"]
            sets = {name: update["Value"] for name, update in updates.items() if update["Action"] == "PUT"}
            return sets, [name for name, update in updates.items() if update["Action"] == "DELETE"]
        assert len(request["UpdateExpression"]) <= 4096
        names, values = request["ExpressionAttributeNames"], request.get("ExpressionAttributeValues", {})
        set_text, _, remove_text = request["UpdateExpression"].partition("REMOVE ")
        pairs = [pair.split("=") for pair in set_text.removeprefix("SET ").strip().split(",") if pair]
        sets = {names[short]: values[value] for short, value in pairs}
        return sets, [names[short] for short in remove_text.split(",") if short]

    def _condition(self, request: dict[str, Any]) -> tuple[Image, list[str]]:
        if "Expected" in request:
            return self._expected(request["Expected"])
        names, values = request["ExpressionAttributeNames"], request.get("ExpressionAttributeValues", {})
        equal, missing = {}, []
        terms = request["ConditionExpression"].split(" AND ")
        assert len(request["ConditionExpression"]) <= 4096 and 2 * len(terms) - 1 <= 300
        for term in terms:
            if term.startswith("attribute_not_exists"):
                missing.append(names[term[21:-1]])
            elif not term.startswith("attribute_exists"):
                short, value = term.split("=")
                equal[names[short]] = values[value]
        assert len(terms) > len(equal) + len(missing), "holds for an absent item, which would be created"
        return equal, missing

    def _expected(self, expected: dict[str, Any]) -> tuple[Image, list[str]]:
        assert set(self.spec.key_names) <= expected.keys(), "would create an absent item"
        compared = {name: one["AttributeValueList"][0] for name, one in expected.items() if "AttributeValueList" in one}
        return compared, [name for name, one in expected.items() if one == {"Exists": False}]

    def _transactwriteitems(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = self._fault()
        if fault == "throttled":
            raise Throttled("ThrottlingException")
        if fault == "lost":
            raise InDoubt("reset before it was applied")
        if request["ClientRequestToken"] in self.tokens:
            return {}
        before, others = dict(self.items), {name: dict(items) for name, items in self.others.items()}
        met = [self._met(next(iter(action.values()))) for action in request["TransactItems"]]
        assert len(set(met)) == len(met) <= 100, "two actions for one item, or too many"
        reasons = [self._action(action) for action in request["TransactItems"]]
        if any(reason["Code"] != "None" for reason in reasons):
            self.items, self.others = before, others
            codes = ", ".join(reason["Code"] for reason in reasons)
            raise Refusal("TransactionCanceledException", f"cancelled [{codes}]", {"CancellationReasons": reasons})
        self.tokens.add(request["ClientRequestToken"])
        if fault == "reset":
            raise InDoubt("reset after it was applied")
        return {}

    def _action(self, action: dict[str, Any]) -> dict[str, Any]:
        try:
            if "Put" in action:
                self._put(action["Put"])
            elif "Delete" in action:
                self._remove(action["Delete"])
            elif "ConditionCheck" in action:
                self._absent_or_as_read(action["ConditionCheck"])
            else:
                self._update(action["Update"])
        except (ConditionFailed, Duplicate):
            return {"Code": "ConditionalCheckFailed"}
        return {"Code": "None"}

    def _met(self, action: dict[str, Any]) -> tuple[str, str]:
        return action["TableName"], self._text(action.get("Key") or action["Item"], action["TableName"])

    def _items(self, table: str) -> dict[str, Image]:
        return self.items if table == self.spec.name else self.others.setdefault(table, {})

    def _key(self, image: Image, table: str = "") -> Image:
        return {name: image[name] for name in self._key_names(table)}

    def _key_names(self, table: str) -> tuple[str, ...]:
        return self.spec.key_names if table in ("", self.spec.name) else self.keys.get(table, ("pk", "sk"))

    def _text(self, image: Image, table: str = "") -> str:
        return key_text(self._key(image, table))


class Parsed:
    """A PartiQL statement in one of the shapes that `dynamodb.statements` writes; any other text fails an assertion."""

    def __init__(self, text: str, parameters: list[dict[str, Any]]) -> None:
        self._tokens = self._tokenize(text)
        self._parameters = iter(parameters)
        self.sets: Image = {}
        self.removes: list[str] = []
        self.equal: Image = {}
        self.missing: list[str] = []
        self.command = self._next()
        {"UPDATE": self._update, "INSERT": self._insert, "DELETE": self._delete}[self.command]()
        assert next(self._parameters, None) is None, "parameters left over"
        assert 2 * len([*self.equal, *self.missing]) - 1 <= 300, "too many operators"

    @staticmethod
    def _tokenize(text: str) -> deque[str]:
        assert len(text) <= 8192
        tokens: deque[str] = deque()
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            assert match, f"not PartiQL: {text[position:]}"
            tokens.append(match.group(1))
            position = match.end()
        return tokens

    def _next(self) -> str:
        return self._tokens.popleft()

    def _expect(self, *words: str) -> None:
        for word in words:
            found = self._next()
            assert found == word, f"{found} instead of {word}"

    def _name(self) -> str:
        token = self._next()
        quote = token[0]
        assert quote in "\"'", f"{token} is not quoted"
        assert token[1] not in "#:", f"{token} would be taken for a placeholder"
        return token[1:-1].replace(quote * 2, quote)

    def _update(self) -> None:
        self.table = self._name()
        if self._tokens[0] == "SET":
            self._next()
            self._assignment()
            while self._tokens[0] == ",":
                self._next()
                self._assignment()
        while self._tokens[0] == "REMOVE":
            self._next()
            self.removes.append(self._name())
        self._where()

    def _assignment(self) -> None:
        name = self._name()
        self._expect("=", "?")
        self.sets[name] = next(self._parameters)

    def _where(self) -> None:
        self._expect("WHERE")
        self._term()
        while self._tokens:
            self._expect("AND")
            self._term()

    def _term(self) -> None:
        name = self._name()
        if self._tokens[0] == "IS":
            self._expect("IS", "MISSING")
            self.missing.append(name)
        else:
            self._expect("=", "?")
            self.equal[name] = next(self._parameters)

    def _insert(self) -> None:
        self._expect("INTO")
        self.table = self._name()
        self._expect("VALUE", "{")
        while self._tokens[0] != "}":
            name = self._name()
            self._expect(":", "?")
            self.sets[name] = next(self._parameters)
            if self._tokens[0] == ",":
                self._next()
        self._expect("}")
        assert not self._tokens

    def _delete(self) -> None:
        self._expect("FROM")
        self.table = self._name()
        self._where()


class FakeRows:
    """The state table's plain calls, in memory; the classes above them are the real ones."""

    table = "state"
    where = "state table state"

    def __init__(self) -> None:
        self.rows: dict[RowKey, Item] = {}
        self.updates = 0
        self.asked = 0  # rows requested by get_all

    def get(self, key: RowKey) -> Item | None:
        return self.rows.get(key)

    def begin_get(self, key: RowKey) -> Callable[[], Item | None]:
        """The rows at the time of the request."""
        row = self.get(key)
        return lambda: row

    def put(self, key: RowKey, row: Item) -> None:
        self.rows[key] = {"pk": key[0], "sk": key[1], **row}

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        self.updates += 1
        found = self.rows.get(key, {})
        ways = [way.split(" AND ") for way in condition.split(" OR ")] if condition else [[]]
        if not any(all(self._holds(found, term, values) for term in way) for way in ways):
            raise RowConditionFailed(str(key))
        self.rows[key] = {"pk": key[0], "sk": key[1], **found, **row}
        return self.rows[key]

    def _holds(self, found: Item, term: str, values: Item) -> bool:
        if term.startswith("attribute_not_exists("):
            return term[21:-1] not in found
        name, sign, placeholder = term.split()
        compared = {"=": eq, "<=": le, "<": lt}[sign]
        return bool(name in found and compared(found[name], values[placeholder.removeprefix(":")]))

    def query(self, pk: str, prefix: str) -> Iterator[Item]:
        return iter([row for (row_pk, sk), row in sorted(self.rows.items()) if row_pk == pk and sk.startswith(prefix)])

    def get_all(self, keys: list[RowKey]) -> Iterator[Item]:
        self.asked += len(keys)
        return iter([self.rows[key] for key in keys if key in self.rows])


class FakeState:
    """A state table whose rows are in memory."""

    def __init__(self) -> None:
        self.rows = FakeRows()
        self.leases = LeaseRows(self.rows)  # type: ignore[arg-type]

    def splits(self, run: str) -> SplitRows:
        return SplitRows(self.rows, run)  # type: ignore[arg-type]

    def workers(self, run: str, attempt: int, shards: int = 1) -> WorkerRows:
        return WorkerRows(self.rows, run, attempt, shards)  # type: ignore[arg-type]

    def lease(self, job: Job) -> None:
        """Give the job's lease to the job's attempt, whichever process holds it."""
        before = self.leases.read(job.lease)
        assert self.leases.take(Lease(job.lease, job.attempt, job.run), over=before)


@dataclass(frozen=True)
class FakeResources:
    """Finds its fakes by name, in the process that made them: the value itself is pickled with the pipeline."""

    name: str
    output: ClassVar[None] = None
    made: ClassVar[dict[str, tuple[Any, Any, Any, Any]]] = {}
    slept: ClassVar[dict[str, float]] = {"seconds": 0.0}  # by all threads

    def wire(self, connections: int) -> Any:
        return self.made[self.name][0]

    def state(self) -> Any:
        return self.made[self.name][1]

    def storage(self) -> Any:
        return self.made[self.name][2]

    def objects(self, source: Any) -> Any:
        return self.made[self.name][3]

    def clock(self) -> float:
        """A clock that moves only by sleeping: no test depends on the machine's speed."""
        return self.slept["seconds"]

    def sleep(self, seconds: float) -> None:
        """The clock moves on by the seconds, and no test waits for them."""
        self.slept["seconds"] += seconds


def named_resources(name: str, dynamodb: Any, state: Any, storage: Any, objects: Any = None) -> FakeResources:
    FakeResources.made[name] = (dynamodb, state, storage, objects)
    return FakeResources(name)


def numbers(count: int) -> Iterator[Item]:
    return ({"id": number, "n": number, "note": f"item {number}"} for number in range(count))
