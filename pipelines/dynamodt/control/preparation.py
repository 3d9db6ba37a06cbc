"""What a script's `prepare` is given, and how its progress is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynamodt.aws.clients import client
from dynamodt.control.requests import Observer
from dynamodt.model import Script, Stage

_TELL_SECONDS = 2.0


class PreparationContext:
    """`folder` is the table's folder; `table`, `stage` and `version` are names and a number."""

    def __init__(self, stage: Stage, folder: Path, script: Script) -> None:
        self._connection = stage.connection
        self.folder = folder
        self.table = script.table
        self.stage = stage.name
        self.version = script.sequence

    def client(self, service: str) -> Any:
        """A boto3 client of the stage's account and region, for any service."""
        return client(self._connection, service)


def counted(rows: Iterator[tuple[Any, Any]], observer: Observer) -> Iterator[tuple[Any, Any]]:
    """The rows as they are, with a word every two seconds on how many there were."""
    told = time.monotonic()
    for number, row in enumerate(rows, start=1):
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            observer.note(f"prepared {number:,} rows")
        yield row
