"""What every connector has: its endpoint, and its budget of capacity units.

An `Endpoint` is a value that travels with the pipeline, from which a worker makes its clients of DynamoDB and S3.
Region, endpoint, proxies and credentials that are not given are found on the worker, as by botocore. No client and no
secret is pickled.

A `Budget` is a number of units a second, without a state table. Each process of the runner has an equal part of it,
which its threads share. Beam's in-process runners have one process, or as many as `--direct_num_workers` gives with
`--direct_running_mode=multi_processing`. For another runner, the number is not known when a pipeline is built, and must
be given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn, TypeGuard
from urllib.parse import urlsplit
from uuid import uuid4

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.pvalue import PBegin

from dynamodt.dynamodb.clients import client, region_of
from dynamodt.dynamodb.network import environment_endpoints, environment_region
from dynamodt.dynamodb.reads import RateLimitedQueue, UnlimitedQueue
from dynamodt.dynamodb.table import describe
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import AGAIN, CONTINUES, DynamodtError, UsageError
from dynamodt.export.objects import S3Objects
from dynamodt.model.tables import Connection, TableSpec, is_elsewhere
from dynamodt.pipeline import rate_limit
from dynamodt.pipeline.engine import processes_of
from dynamodt.rate import TokenBucket
from dynamodt.script.names import is_table_name

_AGAIN = "run the pipeline again"
_CONNECTIONS = 64  # kept open by a process to one endpoint
_ARN = re.compile(r"arn:[a-z-]+:dynamodb:[a-z0-9-]+:[0-9]*:table/[A-Za-z0-9_.-]{1,255}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The location of a connector's tables. `endpoint_url` is that of an emulator or a VPC endpoint, `profile` an AWS
    profile of the worker. Raises UsageError for a malformed URL or an empty name."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        for name in ("region", "endpoint_url", "profile"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, str) and given):
                raise UsageError(f"{name} is {given!r}", hint=f"leave {name} out, or give it as a text")
        parts = urlsplit(self.endpoint_url) if self.endpoint_url is not None else None
        if parts is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise UsageError(f"endpoint_url is {self.endpoint_url!r}", hint="write http://HOST:PORT")

    def connection(self, table: str = "") -> Connection:
        """The connection to the account and region of a table. Raises UsageError without a region."""
        region = self.region or environment_region() or region_of(self.profile)
        if region is None and is_elsewhere(table):
            region = table.split(":")[3]
        if region is None:
            hint = "give the connector its region, or set AWS_REGION for the workers"
            raise UsageError("there is no AWS region", where=_place(table), hint=hint)
        found = Connection(region, self.endpoint_url and self.endpoint_url.rstrip("/"), self.profile)
        if self.endpoint_url is None:
            url, others = environment_endpoints()
            found = replace(found, endpoint_url=url, endpoints=others)
        return found.of_table(table)

    def wire(self, table: str) -> Wire:
        """The calls to a table, over connections that the threads of this process share. Raises ServiceError without
        credentials."""
        return _wire(self.connection(table))

    def describe(self, table: str) -> TableSpec:
        """The table's key, indexes, size and capacity. Raises ServiceError, naming the table."""
        return describe(self.connection(table), table)

    def dynamodb(self, region: str) -> Any:
        """A boto3 client for DynamoDB, in this region unless the endpoint has another one."""
        at = self if self.region else replace(self, region=region)
        return client(at.connection(), "dynamodb")

    def objects(self, bucket: str, region: str = "", owner: str = "") -> S3Objects:
        """A bucket of S3; `owner` is the account that must own it (empty: any)."""
        at = self if self.region or not region else replace(self, region=region)
        return S3Objects(client(at.connection(), "s3", owner=owner), bucket)

    def shown(self) -> dict[str, str | None]:
        """The fields for Beam's `display_data`."""
        return {"region": self.region, "endpoint_url": self.endpoint_url, "profile": self.profile}


@lru_cache(maxsize=32)
def _wire(connection: Connection) -> Wire:
    return Wire(connection, _CONNECTIONS)


def _place(table: str) -> str:
    return f"table {table}" if table else "dynamodt.io"


@contextmanager
def in_full() -> Iterator[None]:
    """Adds the place and the next step to the text of an error of the code within, or of a function with this
    decorator: tracebacks, and errors that Beam passes on from a worker, show nothing else. A pipeline begins anew when
    it is run again, unlike a command."""
    try:
        yield
    except DynamodtError as error:
        if error.hint and error.hint in str(error):  # of a function within
            raise
        hint = error.hint.replace(CONTINUES, _AGAIN).replace(AGAIN, _AGAIN)
        raise type(error)("; ".join(filter(None, (str(error), hint))), hint=hint) from error


@dataclass(kw_only=True, eq=False, repr=False)
class Connector(beam.PTransform):
    """A transform that uses an `Endpoint`, whose fields are its arguments. A subclass adds its own arguments as fields,
    and checks them in `__post_init__`."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        beam.PTransform.__init__(self)
        self._where = type(self).__name__
        self._endpoint = Endpoint(self.region, self.endpoint_url, self.profile)


def check_begin(given: Any, transform: Any) -> None:
    """Raises UsageError for a transform that begins a pipeline, but is applied to a PCollection."""
    name = type(transform).__name__
    if not isinstance(given, PBegin):
        hint = f"apply it to the pipeline; {name.replace('Read', 'ReadAll', 1)} reads what the elements name"
        raise UsageError("it begins a pipeline, and cannot be applied to a PCollection", where=name, hint=hint)


def no_such_output(outputs: Any, name: str) -> NoReturn:
    """Raises AttributeError for an attribute that a tuple of outputs lacks. Beam shows it for a transform that is
    applied to all outputs."""
    kind = type(outputs).__name__
    fields = " and ".join(outputs._fields)
    raise AttributeError(f"{kind} has no {name}: it has the outputs {fields}; apply the next transform to one of them")


def check_flag(option: str, given: object, where: str) -> bool:
    """Raises UsageError for anything but True and False, which DynamoDB would refuse or treat as True."""
    if not isinstance(given, bool):
        raise UsageError(f"{option} is {given!r}", where=where, hint="give True or False")
    return given


def check_table(table: object, where: str) -> str:
    """The table, a name or an ARN. Raises UsageError at `where` for anything else."""
    if not isinstance(table, str) or not (is_table_name(table) or _ARN.fullmatch(table)):
        hint = "a name has 3 to 255 characters out of a-z, A-Z, 0-9, '_', '-' and '.'; a table elsewhere has an ARN"
        raise UsageError(f"{table!r} is not the name or the ARN of a DynamoDB table", where=where, hint=hint)
    return table


# ---------------------------------------------------------------- the budget

METRICS = "dynamodt.io"  # the namespace of the connectors' metrics
_REQUEST_SECONDS = 0.25  # the time for which a bucket saves up
_IN_PROCESS = ("SwitchingDirectRunner", "BundleBasedDirectRunner", "FnApiRunner", "PrismRunner", "InProcess")


@dataclass(frozen=True, slots=True)
class Budget:
    """`units` a second over all `processes` of a transform, which `key` distinguishes from others; None: no limit."""

    units: float | None = None
    processes: int | None = None
    key: str = ""

    @classmethod
    def of(cls, option: str, units: float | None, processes: int | None, where: str) -> Budget:
        """The budget of a transform, from its argument `option`. Raises UsageError for anything but positive
        numbers."""
        if units is not None and not (_is_number(units) and units > 0):
            raise UsageError(f"{option} is {units!r}", where=where, hint=f"leave {option} out, or give units a second")
        if processes is not None and not (type(processes) is int and processes > 0):
            hint = "give the number of worker processes, or leave it out on Beam's in-process runner"
            raise UsageError(f"processes is {processes!r}", where=where, hint=hint)
        return cls(units, processes, uuid4().hex)

    def on(self, pipeline: Any, where: str) -> Budget:
        """The budget with the number of the runner's processes. Raises UsageError if it is needed and not known."""
        if self.units is None or self.processes is not None:
            return self
        runner = type(pipeline.runner).__name__
        if runner not in _IN_PROCESS:
            hint = "give processes=N, the number of worker processes (of Spark: executors x cores), each of which gets "
            what = f"a budget on {runner} needs the number of worker processes that share it"
            raise UsageError(what, where=where, hint=hint + "an N-th of the budget")
        return replace(self, processes=processes_of(pipeline.options.view_as(DirectOptions)))

    def shown(self, option: str) -> dict[str, float | None]:
        """The entries of `display_data`."""
        return {option: self.units, "processes": self.processes}

    def queue(self) -> RateLimitedQueue:
        """The part of this process, which its threads share."""
        return UnlimitedQueue() if self.units is None else _queue(self)


class _Part(rate_limit.RateLimitedQueue):
    """The part of a process. A request takes at most the units of a fraction of a second, so that a low budget is kept
    in each second, not only on average."""

    def within(self, seconds: float, estimate: float) -> float:
        return super().within(min(seconds, _REQUEST_SECONDS), estimate)


def _is_number(given: object) -> TypeGuard[float]:
    return isinstance(given, int | float) and not isinstance(given, bool)


@lru_cache(maxsize=256)
def _queue(budget: Budget) -> RateLimitedQueue:
    rate = (budget.units or 0.0) / (budget.processes or 1)
    return _Part(TokenBucket(rate, time.monotonic), 1.0, lambda: None, time.sleep)


class UnitCounter:
    """A counter of capacity units. Beam's counters have whole numbers only: fractions are kept for the next count."""

    def __init__(self, name: str) -> None:
        self._counter = Metrics.counter(METRICS, name)
        self._rest = 0.0

    def add(self, units: float) -> None:
        self._rest += units
        whole = int(self._rest)
        self._rest -= whole
        self._counter.inc(whole)
