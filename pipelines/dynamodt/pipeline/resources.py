"""What a worker needs of AWS, made on the worker from a value that travels: no client is ever pickled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.wire import Wire
from dynamodt.export.objects import S3Objects
from dynamodt.model.tables import Stage
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.quick_rows import QuickRows
from dynamodt.state.split_rows import SplitRows
from dynamodt.state.state import State
from dynamodt.state.storage import Storage, open_storage
from dynamodt.state.worker_rows import WorkerRows


class StateTable(Protocol):
    """What the stages need of `state.state.State`."""

    @property
    def leases(self) -> LeaseRows: ...

    def splits(self, run: str) -> SplitRows: ...

    def workers(self, run: str, attempt: int, shards: int = ...) -> WorkerRows: ...


class Resources(Protocol):
    """Makes what the stages use. Picklable; `AwsResources` is the real one, the tests have one on fakes."""

    def wire(self, connections: int) -> Wire: ...

    def state(self) -> StateTable: ...

    def storage(self) -> Storage: ...

    def objects(self, bucket: str) -> S3Objects: ...

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

    def objects(self, bucket: str) -> S3Objects:
        """A bucket that holds an export."""
        return S3Objects(client(self.stage.connection, "s3"), bucket, self.stage.storage.kms_key)

    def clock(self) -> float:
        """Seconds, from any beginning."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, before a retry."""
        time.sleep(seconds)
