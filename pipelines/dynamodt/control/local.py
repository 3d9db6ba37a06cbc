"""The embedded local stage: an AWS emulator that is started on demand and found again by the next command.

Everything of it is in `.dynamodt/local`: its tables and buckets, its log, and a record of the process. The lock stands
beside that folder, so that it outlives a reset.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from dynamodt.control import emulator
from dynamodt.control.process import Process
from dynamodt.control.stage import LOCAL, WORK_FOLDER
from dynamodt.errors import ServiceError, UsageError
from dynamodt.model import Stage

_RECORD = "emulator.json"
_STOP_SECONDS = 20.0
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """What `dynamodt local status` shows. `url`, `pid` and `since` (ISO 8601, UTC) are empty or 0 when stopped."""

    running: bool
    url: str
    pid: int
    folder: Path  # absolute; where the data lives
    since: str


@dataclass(frozen=True, slots=True)
class _Record:
    """The emulator that was started last for `folder`. It stays when that has ended: for the port."""

    folder: str
    port: int
    pid: int
    started: str
    since: str

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started)


def open_stage(stage: Stage, folder: Path) -> Stage:
    """The stage ready for use. For the embedded one: the emulator runs, its endpoint is filled in, and the bucket and
    the tables of dynamodt.toml exist. Any other stage is returned as it is, and nothing is contacted.

    Raises UsageError when the emulator is not installed or `.dynamodt` cannot be made, ServiceError when the emulator
    does not start.
    """
    if not stage.embedded:
        return stage
    connection = replace(stage.connection, endpoint_url=ensure_started(folder))
    from dynamodt.aws.provision import create_missing_bucket, create_missing_tables

    if stage.storage.url.startswith("s3://"):
        create_missing_bucket(connection, urlsplit(stage.storage.url).netloc)
    create_missing_tables(connection, stage.tables)
    return replace(stage, connection=connection)


def ensure_started(folder: Path) -> str:
    """The URL of the emulator of this folder, started when it does not run. It listens on 127.0.0.1 only.

    Two commands at the same moment start one. Raises UsageError when it is not installed, ServiceError when it does
    not come up.
    """
    data = _data_folder(folder)
    record = _running(data)
    if record is None or not emulator.answers(record.port):
        with _locked(data):
            record = _running(data) or _start(data)
            emulator.wait_until_ready(record.process, record.port, data)
    return emulator.url(record.port)


def keep_out_of_git(stage: Stage, folder: Path) -> None:
    """Make `.dynamodt`, which git ignores, where the stage's storage is a folder within it: prepared data and journals
    have no place in the author's repository. Raises UsageError when it cannot be made."""
    work = folder.resolve() / WORK_FOLDER
    if Path(stage.storage.url).is_relative_to(work):
        _make_work_folder(work)


def status(folder: Path) -> LocalStatus:
    """Whether the emulator of this folder runs, and where. Starts nothing."""
    data = _data_folder(folder)
    record = _running(data)
    if record is None:
        return LocalStatus(False, "", 0, data, "")
    return LocalStatus(True, emulator.url(record.port), record.pid, data, record.since)


def stop(folder: Path) -> bool:
    """Ends the emulator and waits until its tables are on disk. False when it was not running.

    Raises ServiceError when it has not ended after 20 s; it is then left alone, since to kill it would lose the tables.
    """
    data = _data_folder(folder)
    if _running(data) is None:
        return False
    with _locked(data):
        record = _running(data)
        if record is not None:
            record.process.terminate()
            _wait_for_end(record)
    return record is not None


def reset(folder: Path) -> None:
    """Ends the emulator and deletes its tables, buckets and log. Nothing outside of `.dynamodt/local` is touched."""
    data = _data_folder(folder)
    if not data.exists():
        return
    with _locked(data):
        record = _running(data)
        if record is not None:
            record.process.kill()  # what it would write down is about to be deleted
            record.process.wait(_KILL_SECONDS)
        shutil.rmtree(data)


def _wait_for_end(record: _Record) -> None:
    if not record.process.wait(_STOP_SECONDS):
        hint = f"look into the log; `kill -9 {record.pid}` ends it, but loses what was written since it started"
        what = f"the embedded emulator (pid {record.pid}) has not ended after {_STOP_SECONDS:.0f} s"
        raise ServiceError(what, where=str(Path(record.folder, emulator.LOG_NAME)), hint=hint)


def _data_folder(folder: Path) -> Path:
    return folder.resolve() / WORK_FOLDER / LOCAL


# ---------------------------------------------------------------- the one that runs


def _running(data: Path) -> _Record | None:
    """The emulator of this very folder that runs now. The record of a copied folder speaks of the original's."""
    record = _read(data)
    return record if record and record.folder == str(data) and record.process.alive else None


def _start(data: Path) -> _Record:
    last = _read(data)
    port = emulator.free_port(last.port if last else 0)
    process = emulator.spawn(data, port)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    record = _Record(str(data), port, process.pid, process.started, since)
    _write(data, record)  # before it answers: a command killed now leaves nothing that the next would not find
    return record


def _read(data: Path) -> _Record | None:
    try:
        return _Record(**json.loads((data / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # absent, or of another version: as if nothing had been started


def _write(data: Path, record: _Record) -> None:
    fresh = data / f"{_RECORD}.new"
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(data / _RECORD)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Starting and stopping are done by one command at a time. The system frees the lock of one that dies."""
    import fcntl

    _make_work_folder(data.parent)
    with (data.parent / f"{LOCAL}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_work_folder(work: Path) -> None:
    ignore = work / ".gitignore"
    try:
        work.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")  # data of tables has no place in the author's repository
    except OSError as error:
        hint = "run dynamodt in a folder that you may write to"
        raise UsageError(f"the folder cannot be made: {error.strerror}", where=str(work), hint=hint) from error
