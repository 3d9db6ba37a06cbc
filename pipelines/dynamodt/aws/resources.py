"""What a worker needs of AWS, made on the worker from a value that travels: no client is ever pickled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from dynamodt.aws.batch import Caller
from dynamodt.aws.clients import client
from dynamodt.aws.export.objects import Objects, S3Objects
from dynamodt.aws.lease_rows import LeaseRows
from dynamodt.aws.rows import QuickRows
from dynamodt.aws.state import State
from dynamodt.aws.storage import Storage, open_storage
from dynamodt.aws.unit_rows import UnitRows
from dynamodt.aws.wire import Wire
from dynamodt.aws.worker_rows import WorkerRows
from dynamodt.model import Stage


class Connected(Caller, Protocol):
    """A `Caller` with connections to close."""

    def close(self) -> None: ...


class StateTable(Protocol):
    """What the stages need of `aws.state.State`."""

    @property
    def leases(self) -> LeaseRows: ...

    def units(self, run: str) -> UnitRows: ...

    def workers(self, run: str, attempt: int, spread: int = ...) -> WorkerRows: ...


class Resources(Protocol):
    """Makes what the stages use. Picklable; `AwsResources` is the real one, the tests have one on fakes."""

    def wire(self, connections: int) -> Connected: ...

    def state(self) -> StateTable: ...

    def storage(self) -> Storage: ...

    def objects(self, bucket: str) -> Objects: ...

    def clock(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class AwsResources:
    """The resources of a stage. Each method raises ServiceError when there are no credentials."""

    stage: Stage

    def wire(self, connections: int) -> Wire:
        """The hot calls, over so many kept connections."""
        return Wire(self.stage.connection, connections)

    def state(self) -> State:
        """Our own table."""
        return State(self.stage.connection, self.stage.state_table, QuickRows)

    def storage(self) -> Storage:
        """Prepared data, dead letters, samples."""
        return open_storage(self.stage.connection, self.stage.storage)

    def objects(self, bucket: str) -> Objects:
        """A bucket that holds an export."""
        return S3Objects(client(self.stage.connection, "s3"), bucket, self.stage.storage.kms_key)

    def clock(self) -> float:
        """Seconds, from any beginning."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, before a retry."""
        time.sleep(seconds)
