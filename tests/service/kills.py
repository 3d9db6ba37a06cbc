"""Runs that kill themselves at a given moment, an application that writes all the time, and the conditions that must
hold afterwards."""

from __future__ import annotations

import os
import random
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3

from dynamodt.script.codec import decode
from dynamodt.state.state import State
from tests import programs
from tests.emulators import Endpoint

KILLS = int(os.environ.get("DYNAMODT_KILLS", "4"))
# Where it is killed often, each attempt must leave something to do.
ITEMS, PAUSE = (1000, 0.02) if KILLS < 12 else (3000, 0.004)
SEEDS = [int(seed) for seed in os.environ.get("DYNAMODT_SEED", "20").split(",")]  # each test is run with each
COUNTS = {"history": 1, "recorded": 1, "beat": 3, "claim": 2, "claimed": 4}  # moments that come only a few times


class Writer(threading.Thread):
    """The application: writes notes and deletes items, and records its writes."""

    def __init__(self, endpoint: Endpoint, table: str, seed: int, pause: float = PAUSE) -> None:
        super().__init__(daemon=True)
        self.pause = pause  # seconds between two writes
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.table = boto3.resource("dynamodb", endpoint_url=endpoint.url, **keys).Table(table)
        self.dice = random.Random(seed)
        self.ids = range(seed % 2, ITEMS, 2)  # each has items of its own, so that it knows what must be there
        self.notes: dict[int, str] = {}
        self.deleted: set[int] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ended.wait(self.pause):
            number += 1
            key = self.dice.choice(self.ids)
            if key in self.deleted:
                continue
            if self.dice.random() < 0.03:
                self.table.delete_item(Key={"id": key})
                self.deleted.add(key)
            else:
                self._note(key, f"note {number}")

    def _note(self, key: int, note: str) -> None:
        self.table.update_item(
            Key={"id": key}, UpdateExpression="SET note = :note", ExpressionAttributeValues={":note": note}
        )
        self.notes[key] = note


def attempt(endpoint: Endpoint, folder: Path, table: str, what: str, moment: str, count: int, storage: str = "") -> Any:
    words = (endpoint.url, folder, table, what, moment, count, *([storage] if storage else []))
    return programs.run("tests.migrate_once", *words)


def fill(endpoint: Endpoint, folder: Path, table: str, script: str) -> None:
    """Fills the table, and writes its version 1."""
    write_script(folder, table, script)
    for start in range(0, ITEMS, 25):
        puts = [
            {"PutRequest": {"Item": {"id": {"N": str(n)}, "n": {"N": "0"}, "note": {"S": "old"}}}}
            for n in range(start, start + 25)
        ]
        endpoint.client.batch_write_item(RequestItems={table: puts})


def write_script(folder: Path, table: str, text: str) -> None:
    path = folder / "transforms" / table / "v1_add_one.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def scan(endpoint: Endpoint, table: str) -> dict[int, dict[str, Any]]:
    pages = endpoint.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {int(image["id"]["N"]): decode(image) for page in pages for image in page["Items"]}


def check(endpoint: Endpoint, table: str, writers: list[Writer]) -> None:
    left = scan(endpoint, table)
    deleted = writers[0].deleted | writers[1].deleted
    notes = writers[0].notes | writers[1].notes
    assert set(left) == set(range(ITEMS)) - deleted, "a deleted item is back, or one is lost"
    wrong = {key: item["n"] for key, item in left.items() if item["n"] != Decimal(1)}
    assert not wrong, f"not exactly once: {wrong}"
    lost = {key for key, item in left.items() if item["note"] != notes.get(key, "old")}
    assert not lost, f"live writes are lost: {lost}"
    state = State(endpoint.connection, f"state-{table}")
    (run,) = state.runs(table)
    assert run.status == "succeeded" and run.counts.balanced and run.counts.dead == 0
    assert run.counts.changed + run.counts.vanished >= len(left)
    assert [version.version for version in state.applied(table).values()] == [1]
    endpoint.client.delete_table(TableName=f"state-{table}")
