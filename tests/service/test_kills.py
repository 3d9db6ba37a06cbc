"""A migration that is not idempotent, killed again and again, with writers going on all along (guarantee G3).

In each CI run a few kills; `make test-chaos` (DYNAMODT_KILLS=48) tries many more.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest

from dynamodt.script.codec import decode
from dynamodt.state.state import State
from tests import ROOT
from tests.emulators import Endpoint, one_judge_is_quick
from tests.migrate_once import MOMENTS
from tests.service.conftest import MakeTable
from tests.waiting import HANG_SECONDS

KILLS = int(os.environ.get("DYNAMODT_KILLS", "4"))
# Where it is killed often, each attempt must leave something to do.
ITEMS, PAUSE = (1000, 0.02) if KILLS < 12 else (3000, 0.004)
SEED = int(os.environ.get("DYNAMODT_SEED", "20"))
SCRIPT = """
sequence = 1


def prepare(context):
    for number in range(200):
        yield number, 1


def transform_up(item, prepared):
    return {**item, "n": item["n"] + prepared[7]}
"""
SOON = 12 if KILLS < 20 else 4  # where it is killed often, each attempt must leave something to do
COUNTS = {"history": 1, "recorded": 1, "beat": 3, "claim": 2, "claimed": 4}  # moments that come only a few times
AT_THE_END = ("history", 2)  # when everything is written, and before it is recorded


class Writer(threading.Thread):
    """The application: writes notes and deletes items, and remembers what it did."""

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
    words = [sys.executable, "-m", "tests.migrate_once", endpoint.url, str(folder), table, what, moment, str(count)]
    words += [storage] if storage else []
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'pipelines'}"}
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )


def fill(endpoint: Endpoint, table: str) -> None:
    for start in range(0, ITEMS, 25):
        puts = [
            {"PutRequest": {"Item": {"id": {"N": str(n)}, "n": {"N": "0"}, "note": {"S": "old"}}}}
            for n in range(start, start + 25)
        ]
        endpoint.client.batch_write_item(RequestItems={table: puts})


def scan(endpoint: Endpoint, table: str) -> dict[int, dict[str, Any]]:
    pages = endpoint.client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {int(image["id"]["N"]): decode(image) for page in pages for image in page["Items"]}


@one_judge_is_quick
@pytest.mark.scaled
def test_killed_at_any_moment_every_item_is_moved_exactly_once(
    endpoint: Endpoint, make_table: MakeTable, tmp_path: Path
) -> None:
    table = make_table(id="N")
    fill(endpoint, table)
    script = tmp_path / "transforms" / table / "v1_add_one.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    dice = random.Random(SEED)
    moments = [moment for moment in MOMENTS if moment != "prepared"]
    dice.shuffle(moments)
    writers = [Writer(endpoint, table, seed) for seed in (0, 1)]
    for writer in writers:
        writer.start()
    try:
        assert attempt(endpoint, tmp_path, table, "prepare", "prepared", 100).returncode == -9
        refused = attempt(endpoint, tmp_path, table, "1", "never", 0)
        assert refused.returncode == 3, refused.stderr  # what was prepared by halves does not count
        assert attempt(endpoint, tmp_path, table, "prepare", "never", 0).returncode == 0
        killed = kill_on(endpoint, tmp_path, table, dice, moments)
        last = attempt(endpoint, tmp_path, table, "1", "never", 0)
    finally:
        for writer in writers:
            writer.ended.set()
            writer.join()
    assert last.returncode == 0, last.stderr
    print(f"killed {killed} times")
    assert killed >= min(KILLS, 40) - 1, "it was hardly ever killed: this has shown nothing"
    check(endpoint, table, writers)


def kill_on(endpoint: Endpoint, folder: Path, table: str, dice: random.Random, moments: list[str]) -> int:
    """Start it again and again, each time to be killed; returns how often it was."""
    deaths = [(moments[number % len(moments)], dice.randint(1, SOON)) for number in range(KILLS - 1)]
    for number, (moment, count) in enumerate([*deaths, AT_THE_END]):
        known = COUNTS.get(moment, count) if number < KILLS - 1 else count
        ended = attempt(endpoint, folder, table, "1", moment, known)
        if ended.returncode == 0:
            return number
        assert ended.returncode == -9, (moment, ended.stderr)
    return KILLS


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
