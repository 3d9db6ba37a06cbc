"""The clients of a worker. They are made on the worker, from a value that travels with the pipeline, since no client
can be pickled."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.wire import Wire
from dynamodt.export.objects import S3Objects
from dynamodt.model.runs import ExportSource
from dynamodt.model.tables import Stage
from dynamodt.pipeline.author_output import Origin
from dynamodt.state.state import State
from dynamodt.state.storage import Storage, open_storage


@dataclass(frozen=True, slots=True)
class Resources:
    """Makes the clients of the DoFns. Each method raises ServiceError when there are no credentials. `output` receives
    the lines of a script that a worker process executes."""

    stage: Stage
    table: str = ""  # the table that is read and written
    output: Origin | None = None

    def wire(self, connections: int) -> Wire:
        """The calls of the data plane, over a number of kept connections."""
        return Wire(self.stage.connection.of_table(self.table), connections)

    def state(self) -> State:
        """The state table."""
        return State(self.stage.connection, self.stage.state_table)

    def storage(self) -> Storage:
        """The storage: prepared data, dead letters, samples."""
        return open_storage(self.stage.connection, self.stage.storage)

    def objects(self, source: ExportSource) -> S3Objects:
        """The bucket that holds an export."""
        s3 = client(self.stage.connection, "s3", owner=source.owner)
        return S3Objects(s3, source.bucket, self.stage.storage.kms_key)

    def clock(self) -> float:
        """Seconds since an arbitrary moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, before a retry."""
        time.sleep(seconds)
