"""DynamoDB with its state table, and S3, in memory, below the clients of every command: the whole of a command runs as
it is, in the caller's thread. Requests are lost, late or carried out twice; the process is killed at any of them.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from botocore.exceptions import ClientError

from dynamodt.dynamodb import clients, wire
from dynamodt.dynamodb.wire import InDoubt, Throttled, Unsent
from dynamodt.export import datafiles, stand_in
from dynamodt.model.runs import Job, JournalSource, Script
from dynamodt.model.tables import Image
from dynamodt.pipeline.migrate import Resources, context_of, migrate, undo
from dynamodt.rate import Backoff
from dynamodt.runs import history, jobs, lock, runner, undo_checks
from dynamodt.script import read
from dynamodt.script.codec import same
from tests.fakes import ConditionFailed, FakeDynamoDB
from tests.fuzz.faults import READS, Network
from tests.inline import InlineExecutor, run_inline, without_signatures, without_threads

STATE = "state"
NEVER = 1_000_000  # requests: more than any command makes
_FAULTS = ("throttled", "unsent", "lost", "reset", "late", "twice")
_TERM = re.compile(r"attribute_(not_)?exists\(([^)]+)\)|(\S+?)\s*(<=|<|=)\s*(:\w+)")


class Killed(BaseException):
    """The process is killed: no request of it is carried out any more."""


@dataclass
class Service(FakeDynamoDB):
    """`acts` is called before each request that writes to a table other than the state table."""

    dice: random.Random = field(default_factory=random.Random)
    often: float = 0.0  # how often a request meets a fault
    left: int = NEVER  # requests until the process is killed
    left_writes: int = NEVER  # those that write to other tables than the state table
    interrupt: int = NEVER  # until Ctrl-C, which waits for the end of a pipeline
    outage: tuple[int, str] = (NEVER, "")  # until a table, or the storage (""), does not respond any more
    soon: tuple[int, Callable[[], None]] = (NEVER, lambda: None)  # until this is called
    acts: Callable[[], None] = lambda: None
    piping: bool = False  # a pipeline runs
    identities: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    network: Network = field(default_factory=Network)

    def table(self, name: str) -> dict[str, Image]:
        return self._items(name)

    def tick(self, of: str) -> None:
        """A request to a table, or to the storage."""
        self.left, self.interrupt = self.left - 1, self.interrupt - 1
        self.outage, self.soon = (self.outage[0] - 1, self.outage[1]), (self.soon[0] - 1, self.soon[1])
        if self.left < 0:
            raise Killed
        if self.interrupt < 0 and not self.piping:
            self.interrupt = NEVER
            raise KeyboardInterrupt
        if self.soon[0] < 0:
            self.soon = NEVER, self.soon[1]
            self.soon[1]()
        if self.outage[0] < 0 and self.outage[1] == of:
            raise InDoubt("an outage") if of else _refused("SlowDown", "of S3")

    def call(self, operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        request = orjson.loads(body if isinstance(body, bytes) else orjson.dumps(body))
        of = request.get("TableName") or next(iter(request.get("RequestItems", ("",))))
        self.tick(of or self.spec.name)
        if operation not in READS and of != STATE:
            self.acts()
            self._write(operation, request)
        fault = self.dice.choice(_FAULTS) if self.dice.random() < self.often else ""
        if fault == "throttled":
            raise Throttled("ProvisionedThroughputExceededException")
        if fault == "unsent":
            raise Unsent("the endpoint refuses connections", "check the network")
        if fault in ("late", "twice") and operation not in READS:
            self.network.delay(self.dice.randint(0, 12), lambda: self._again(operation, request))
        if fault in ("late", "lost"):
            raise InDoubt("no answer")
        answer = super().call(operation, request)
        if operation not in READS:
            self.network.passed()
        if fault == "reset":
            raise InDoubt("reset after it was carried out")
        return answer

    def _write(self, operation: str, request: dict[str, Any]) -> None:
        """The process may be killed before a write, or before its answer."""
        self.left_writes -= 1
        if self.left_writes < 0:
            self.left = -1
            if self.dice.random() < 0.5:
                self._again(operation, request)
            raise Killed

    def _again(self, operation: str, request: dict[str, Any]) -> None:
        try:
            super().call(operation, request)
        except Exception:
            return

    # ------------------------------------------------------------ the state table

    def _getitem(self, request: dict[str, Any]) -> dict[str, Any]:
        found = self.table(request["TableName"]).get(self._text(request["Key"], request["TableName"]))
        return {} if found is None else {"Item": found}

    def _query(self, request: dict[str, Any]) -> dict[str, Any]:
        values, rows = request["ExpressionAttributeValues"], self.table(request["TableName"])
        pk, sk = values[":pk"]["S"], values[":sk"]["S"]
        found = (row for _, row in sorted(rows.items()) if row["pk"]["S"] == pk)
        return {"Items": [row for row in found if row["sk"]["S"].startswith(sk)]}

    def _put(self, request: dict[str, Any]) -> None:
        if request["TableName"] != STATE:
            return super()._put(request)
        self._meets(request, request["Item"])
        self.table(STATE)[self._text(request["Item"], STATE)] = request["Item"]
        return None

    def _remove(self, request: dict[str, Any]) -> None:
        if request["TableName"] != STATE:
            return super()._remove(request)
        self._meets(request, request["Key"])
        self.table(STATE).pop(self._text(request["Key"], STATE), None)
        return None

    def _absent_or_as_read(self, request: dict[str, Any]) -> None:
        if request["TableName"] == STATE:
            self._meets(request, request["Key"])
        else:
            super()._absent_or_as_read(request)

    def _update(self, request: dict[str, Any]) -> None:
        if request["TableName"] != STATE:
            return super()._update(request)
        found = self._meets(request, request["Key"]) or request["Key"]
        names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
        pairs = [pair.split("=") for pair in request["UpdateExpression"].removeprefix("SET ").split(",")]
        sets = {names[name.strip()]: values[value.strip()] for name, value in pairs}
        self.table(STATE)[self._text(request["Key"], STATE)] = {**found, **sets}
        return None

    def _updateitem(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = super()._updateitem(request)
        return {**answer, "Attributes": self._getitem(request).get("Item", {})}

    def _meets(self, request: dict[str, Any], key: Image) -> Image | None:
        """The row, which meets the condition of a request. Raises ConditionFailed."""
        row, condition = self.table(STATE).get(self._text(key, STATE)), request.get("ConditionExpression", "")
        ways = [way.split(" AND ") for way in condition.split(" OR ")] if condition else [[]]
        if not any(all(self._holds(term.strip(), request, row or {}) for term in way) for way in ways):
            raise ConditionFailed(row)
        return row

    def _holds(self, term: str, request: dict[str, Any], row: Image) -> bool:
        names, matched = request.get("ExpressionAttributeNames", {}), _TERM.fullmatch(term)
        assert matched, f"not a condition: {term}"
        negated, asked, name, sign, placeholder = matched.groups()
        if asked:
            return (names.get(asked, asked) in row) != bool(negated)
        found, value = row.get(names.get(name, name)), request["ExpressionAttributeValues"][placeholder]
        if found is None or found.keys() != value.keys():
            return False
        less = sign != "=" and float(found["N"]) < float(value["N"])
        return less or (sign != "<" and same(found, value))


class _Client:
    """The clients of DynamoDB, for descriptions, and of S3. They do not have any other call."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._present = service
        self.meta = self.events = self

    @property
    def _service(self) -> Service:
        return self._present()

    def register(self, *arguments: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        def unknown(**request: Any) -> Any:
            raise _refused("UnknownOperationException", name)

        return unknown

    def describe_table(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        self._service.tick("a description")
        names, items = self._service._key_names(TableName), self._service.table(TableName)
        table = {
            "TableName": TableName,
            "TableId": self._service.identities.get(TableName, "first"),
            "TableArn": f"arn:aws:dynamodb:eu-west-1:000000000000:table/{TableName}",
            "CreationDateTime": datetime(2026, 1, 1, tzinfo=UTC),
            "ItemCount": len(items),
            "TableSizeBytes": 100 * len(items),
            "KeySchema": [{"AttributeName": name, "KeyType": "HASH"} for name in names],
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "N"} for name in names],
        }
        return {"Table": table}

    def put_object(self, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:  # noqa: N803
        self._service.tick("")
        self._service.objects[Key] = bytes(Body)
        return {"ETag": _etag(Body)}

    def get_object(self, Key: str, Range: str = "", **_: Any) -> dict[str, Any]:  # noqa: N803
        data = self._content(Key)
        first, _dash, last = Range.removeprefix("bytes=").partition("-")
        return {"Body": io.BytesIO(data[int(first or 0) : int(last or len(data)) + 1]), "ETag": _etag(data)}

    def head_object(self, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        data = self._content(Key)
        return {"ETag": _etag(data), "ContentLength": len(data)}

    def upload_fileobj(self, file: Any, bucket: str, key: str, **_: Any) -> None:
        self.put_object(key, file.read())

    def download_file(self, bucket: str, key: str, path: str) -> None:
        Path(path).write_bytes(self._content(key))

    def _content(self, key: str) -> bytes:
        self._service.tick("")
        if key not in self._service.objects:
            raise _refused("NoSuchKey", "GetObject")
        return self._service.objects[key]

    def get_paginator(self, operation: str) -> Any:
        return self

    def paginate(self, Prefix: str = "", Delimiter: str = "", **_: Any) -> Iterator[dict[str, Any]]:  # noqa: N803
        self._service.tick("")
        names = [key.removeprefix(Prefix) for key in sorted(self._service.objects) if key.startswith(Prefix)]
        folders = dict.fromkeys(name.split("/")[0] + "/" for name in names if Delimiter and "/" in name)
        files = [name for name in names if not (Delimiter and "/" in name)]
        prefixes = [{"Prefix": Prefix + one} for one in folders]
        yield {"IsTruncated": False, "Contents": [{"Key": Prefix + one} for one in files], "CommonPrefixes": prefixes}


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _refused(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


class _Pipeline:
    """Replaces the thread of a pipeline."""

    service: Callable[[], Service]

    def __init__(self, job: Job, options: Any) -> None:
        self.error: BaseException | None = None
        self.ended, service = self, type(self).service()
        service.piping = True
        try:
            run_inline(
                undo if isinstance(job.source, JournalSource) else migrate, job, Resources(job.stage, job.table.name)
            )
        except BaseException as error:
            self.error = error
            context_of(job).end()
            if not isinstance(error, Exception):
                raise
        finally:
            service.piping = False

    def wait(self, seconds: float) -> bool:
        return True


class _Pool(InlineExecutor):
    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        return list(map(function, *arguments))


class Clock:
    """Moves a little at each reading, and by sleeping. Each life begins at the same moment, with its own random
    numbers, so that its seed determines all that happens."""

    now = 0.0
    dice = random.Random()

    def restart(self, seed: int) -> None:
        self.now, self.dice = datetime(2026, 2, 1, tzinfo=UTC).timestamp(), random.Random(seed)
        random.seed(seed)  # the jitter of retries, and of commands that wait

    def read(self, *_: Any) -> float:
        self.now += 0.001
        return self.now

    def sleep(self, *seconds: Any) -> None:
        self.now += seconds[-1]

    def token(self, size: int) -> str:
        return self.dice.randbytes(size).hex()

    def moments(self) -> type[datetime]:
        """`datetime`, by this clock."""
        read = self.read

        class Moment(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return cls.fromtimestamp(read(), tz)

        return Moment


def _remembering(read_script: Callable[..., Script]) -> Callable[..., Script]:
    """Reads each text once: these scripts use no other file."""
    known: dict[tuple[str, str], Script] = {}

    def remembered(path: Path, *others: Any) -> Script:
        key = path.name, path.read_text()
        if key not in known:
            known[key] = read_script(path, *others)
        return known[key]

    return remembered


def install(patch: pytest.MonkeyPatch, service: Callable[[], Service]) -> Clock:
    """Every client of this process is one of the present service. Returns the clock, which each life restarts."""
    clock = Clock()
    without_threads(patch)
    without_signatures(patch)
    for module in (datafiles, undo_checks):
        patch.setattr(module, "ThreadPoolExecutor", _Pool)
    patch.setattr(wire.Wire, "__init__", lambda self, *arguments: None)
    patch.setattr(wire.Wire, "begin", lambda self, operation, body: service().begin(operation, body))
    patch.setattr(wire.Wire, "close", lambda self: None)
    patch.setattr(clients, "_make_client", lambda *arguments: _Client(service))
    patch.setattr(clients, "_config", lambda *arguments: None)
    patch.setattr(Backoff, "delay", lambda self, attempt, random: 0.0)
    patch.setattr(Resources, "clock", clock.read)
    patch.setattr(Resources, "sleep", clock.sleep)
    patch.setattr(time, "sleep", clock.sleep)
    patch.setattr(time, "monotonic", clock.read)
    patch.setattr(time, "time", clock.read)
    patch.setattr(secrets, "token_hex", clock.token)
    for module in (jobs, history):
        patch.setattr(module, "datetime", clock.moments())
    patch.setattr(lock, "POLL_SECONDS", 0.0)
    patch.setattr(lock, "BEAT_SECONDS", float(NEVER))
    patch.setattr(stand_in.stand_in_exports, "__defaults__", (clock.read,))
    patch.setattr(read, "read_script", _remembering(read.read_script))
    patch.setattr(_Pipeline, "service", staticmethod(service), raising=False)
    patch.setattr(runner, "_Background", _Pipeline)
    patch.setattr(runner, "ticks", lambda context, job: [])
    return clock
