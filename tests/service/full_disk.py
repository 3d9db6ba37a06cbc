"""A process with a small disk of its own, in a mount namespace that ends with it.

`python -m tests.service.full_disk CASE FOLDER URL` prints what a user would see, as one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynamodt.config.stage import load_stage
from dynamodt.errors import DynamodtError
from dynamodt.local import stage as local
from dynamodt.model.runs import Script
from dynamodt.state import prepared
from dynamodt.state.state import State
from dynamodt.state.storage import FolderStorage, make_work_folder, open_storage
from tests.emulators import Endpoint
from tests.service.bench import make_bench

SCRIPT = """
def transform_up(item):
    if "bad" in item:
        raise ValueError("bad")
    return {**item, "n": item.get("n", 0) + 1}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "n"}
"""
_ITEMS = 400
_DISK = 64 << 20


def mounted(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={_DISK},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
    return folder


@contextmanager
def full(disk: Path, left: int) -> Iterator[None]:
    """A context in which only this number of bytes is free."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while (chunk := left_on(disk) - left) > 0:
            file.write(bytes(min(chunk, 1 << 20)))
            file.flush()
    yield
    ballast.unlink()


def left_on(disk: Path) -> int:
    found = os.statvfs(disk)
    return max(0, found.f_bavail * found.f_frsize)


def shown(error: DynamodtError | None) -> dict[str, str] | None:
    return error and {"what": error.what, "where": error.where, "hint": error.hint}


def of_a_run(folder: Path, url: str, *, dead: bool) -> dict[str, Any]:
    """A run whose storage is full after some of its pages; and the same command, once there is space."""
    bench = make_bench(Endpoint("ministack", url), folder)
    table, options = f"full_{folder.name}", {"max_errors": _ITEMS} if dead else {}
    bench.tables.client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    more = {"bad": True} if dead else {}
    for number in range(_ITEMS):
        bench.tables.put(table, {"id": number, "x": random.randbytes(1000), **more})
    bench.script(table, SCRIPT)
    disk = mounted(folder / "storage")
    with full(disk, 200_000):  # a journal of all items has 400 KB, their dead letters more
        (failed,) = bench.up(table, **options)
        (record,) = State(bench.stage.connection, bench.stage.state_table).runs(table)
    (again,) = bench.up(table, **options)
    return {
        "error": shown(failed.error),
        "record": [record.status, record.error],
        "same run": [run.run for run in again.versions] == [record.run],
        "counts": again.versions[-1].counts._asdict(),
        "n": sorted({int(item.get("n", 0)) for item in bench.tables.items(table)}),
    }


def of_the_embedded_stage(folder: Path) -> dict[str, Any]:
    """An object of the emulator's S3, and a change of its tables, while its disk is full."""
    disk = mounted(folder / ".dynamodt")
    stage = local.open_stage(load_stage("local", folder), folder)
    storage, errors = open_storage(stage.connection, stage.storage), []
    with full(disk, 100_000):
        try:
            storage.write("runs/a", random.randbytes(300_000))
        except DynamodtError as error:
            errors.append(shown(error))
    kept = random.randbytes(300_000)
    storage.write("runs/a", kept)
    local.stop(folder)
    stage = local.open_stage(load_stage("local", folder), folder)
    found = open_storage(stage.connection, stage.storage).read("runs/a") == kept
    local.stop(folder)
    return {"errors": errors, "kept over a stop": found}


def of_the_work_folder(folder: Path) -> dict[str, Any]:
    """The work folder of a project whose disk is full."""
    disk = mounted(folder / "project")
    errors = []
    with full(disk, 0):
        for attempt in (lambda: make_work_folder(disk / ".dynamodt"), lambda: local.ensure_started(disk)):
            try:
                attempt()
            except DynamodtError as error:
                errors.append(shown(error))
    make_work_folder(disk / ".dynamodt")
    return {"errors": errors, "ignored": (disk / ".dynamodt" / ".gitignore").read_text()}


def of_the_temporary_files(folder: Path) -> dict[str, Any]:
    """Prepared data that is gathered, and read by a worker, where the folder of temporary files is full."""
    disk = mounted(folder / "temporary")
    tempfile.tempdir = str(disk)
    storage, errors = FolderStorage(folder / "storage"), []
    script = Script("users", 1, "v1", "v1_a.py", "", "", prepare_checksum="p")
    rows = {str(number): random.randbytes(60).hex() for number in range(5000)}
    with full(disk, 50_000):
        try:
            prepared.save(storage, script, rows.items(), "now")
        except DynamodtError as error:
            errors.append(shown(error))
    found = prepared.save(storage, script, rows.items(), "now")
    with full(disk, 50_000):
        try:
            prepared.load(storage, script, found)
        except DynamodtError as error:
            errors.append(shown(error))
    left = [path.name for path in disk.iterdir()]
    return {"errors": errors, "rows": len(prepared.load(storage, script, found)), "left": left}


if __name__ == "__main__":
    case, folder, url = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    cases: dict[str, Any] = {
        "journal": lambda: of_a_run(folder, url, dead=False),
        "dead": lambda: of_a_run(folder, url, dead=True),
        "embedded": lambda: of_the_embedded_stage(folder),
        "temporary": lambda: of_the_temporary_files(folder),
        "work": lambda: of_the_work_folder(folder),
    }
    json.dump(cases[case](), sys.stdout)
