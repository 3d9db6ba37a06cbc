"""The embedded local stage: an AWS emulator that is started on demand and found again by the next command.

Everything of it is in `.dynamodt/local`: its tables and buckets, its log, a record of the process, and a lock that the
process holds as long as it lives. Another lock is beside that folder, so that it outlives a reset: for the moment in
which a command starts or ends the emulator.

What the embedded stage needs before its first command: tables and a bucket. Elsewhere deployment makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.table import list_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamodt.model.tables import Connection, KeyAttribute
import fcntl
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from dynamodt.config.stage import LOCAL, load_stage
from dynamodt.errors import Refused, ServiceError
from dynamodt.local import data as emulator_data
from dynamodt.local import emulator
from dynamodt.local.emulator import Record
from dynamodt.model.tables import WORK_FOLDER, Connection, Stage
from dynamodt.state.storage import FolderStorage, for_the_owner_alone, make_work_folder

_KEY_ROLES = ("HASH", "RANGE")
_WAIT = {"Delay": 1, "MaxAttempts": 60}
_MADE_MEANWHILE = ("ResourceInUseException", "BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def create_missing_tables(connection: Connection, tables: Mapping[str, tuple[KeyAttribute, ...]]) -> tuple[str, ...]:
    """Creates those of the tables that do not exist (on-demand), waits until they are active, and returns their names.

    One call a hundred tables when all of them exist. A table that exists is left as it is, whatever its key. Raises
    ServiceError.
    """
    if not tables:
        return ()
    existing = set(list_tables(connection))
    missing = tuple(name for name in tables if name not in existing)
    for name in missing:
        with explained("CreateTable", f"table {name}"):
            _create_table(client(connection, "dynamodb"), name, tables[name])
    return missing


def create_missing_bucket(connection: Connection, bucket: str) -> bool:
    """Creates the bucket when it does not exist, and says whether it did. Raises ServiceError.

    One call when it exists.
    """
    s3 = client(connection, "s3")
    with explained("CreateBucket", f"bucket {bucket}"):
        return not _bucket_exists(s3, bucket) and _create_bucket(s3, bucket, connection.region)


def _create_table(dynamodb: Any, name: str, key: tuple[KeyAttribute, ...]) -> None:
    schema = [{"AttributeName": k.name, "KeyType": role} for k, role in zip(key, _KEY_ROLES, strict=False)]
    types = [{"AttributeName": k.name, "AttributeType": k.type} for k in key]
    try:
        dynamodb.create_table(
            TableName=name, KeySchema=schema, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
        )
    except ClientError as error:
        _pass_if_made_meanwhile(error)
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig=_WAIT)


def _bucket_exists(s3: Any, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def _create_bucket(s3: Any, bucket: str, region: str) -> bool:
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=bucket, **place)
    except ClientError as error:
        _pass_if_made_meanwhile(error)
        return False
    return True


def _pass_if_made_meanwhile(error: ClientError) -> None:
    """Two commands may start on an empty stage at once; the second finds what the first has just made."""
    if error.response["Error"]["Code"] not in _MADE_MEANWHILE:
        raise error


_STOP_SECONDS = 120.0
_SILENT_SECONDS = 150.0  # longer than another command waits for the one that it starts
_RECORD_SECONDS = 5.0  # longer than an emulator takes to see that its record is lost
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """What `dynamodt local status` shows. `url`, `pid` and `since` (ISO 8601, UTC) are empty or 0 when stopped."""

    running: bool
    url: str
    pid: int
    folder: Path  # absolute; where the data lives
    since: str


def _ignore(_: str) -> None:
    pass


def open_stage(stage: Stage, folder: Path, note: Callable[[str], None] = _ignore) -> Stage:
    """The stage ready for use. For the embedded one: the emulator runs, its endpoint is filled in, and the bucket and
    the tables of dynamodt.toml exist. Any other stage is returned as it is, and nothing is contacted.

    Raises UsageError when the emulator is not installed or `.dynamodt` cannot be made, ServiceError when the emulator
    does not start.
    """
    if not stage.embedded:
        return stage
    connection = replace(stage.connection, endpoint_url=ensure_started(folder, note))

    if stage.storage.url.startswith("s3://"):
        create_missing_bucket(connection, urlsplit(stage.storage.url).netloc)
    create_missing_tables(connection, stage.tables)
    return replace(stage, connection=connection)


def ensure_started(folder: Path, note: Callable[[str], None] = _ignore) -> str:
    """The URL of the emulator of this folder, started when it does not run. It listens on 127.0.0.1 only.

    Two commands at the same moment start one. What an unclean end of the last one has cost, and a file that cannot be
    read, are noted. Raises UsageError when it is not installed, ServiceError when it does not come up.
    """
    data = _data_folder(folder)
    make_work_folder(data.parent)
    record = _answering(data, note)
    if record is None:
        with _alone(data):
            record = _found_or_started(data, note)
    return emulator.url(record.port)


def keep_out_of_git(stage: Stage, folder: Path) -> None:
    """Make `.dynamodt`, which git ignores, where the stage's storage is a folder within it: prepared data and journals
    have no place in the author's repository. Raises UsageError when it cannot be made."""
    work = folder.resolve() / WORK_FOLDER
    if Path(stage.storage.url).is_relative_to(work):
        make_work_folder(work)


def status(folder: Path) -> LocalStatus:
    """Whether the emulator of this folder runs, and where. Starts nothing."""
    data = _data_folder(folder)
    record = _recorded(data) if emulator.is_held(data) else None
    if record is None:
        return LocalStatus(False, "", 0, data, "")
    return LocalStatus(True, emulator.url(record.port), record.pid, data, record.since)


def stop(folder: Path) -> bool:
    """Ends the emulator and waits until its tables are on disk. False when it was not running.

    Raises Refused while a run is at work on its tables, or where they cannot be saved; ServiceError when it has not
    ended after two minutes (it is then left alone, since to kill it could lose data), or could not write its tables.
    """
    data = _data_folder(folder)
    if not data.exists():
        return False
    with _alone(data):
        record = _to_end(folder, data)
        if record is not None:
            _refuse_to_lose(data, record)
            record.process.terminate()
            _wait_for_end(data, record)
            _check_saved(data)
    return record is not None


def reset(folder: Path) -> None:
    """Ends the emulator and deletes its tables, buckets and log. Nothing outside of `.dynamodt/local` is touched.

    Raises Refused while a run is at work on its tables.
    """
    data = _data_folder(folder)
    if not data.exists():
        return
    with _alone(data):
        record = _to_end(folder, data)
        if record is not None:
            record.process.kill()  # what it would write is about to be deleted
            _wait_for_end(data, record)
        shutil.rmtree(data)


# ---------------------------------------------------------------- the one that runs


def _answering(data: Path, note: Callable[[str], None]) -> Record | None:
    """The emulator of this very folder, when it answers."""
    record = emulator.read_record(data) if emulator.is_held(data) else None
    said = emulator.identity(record) if record is not None else None
    if said is not None and said["failure"]:
        note(
            f"the embedded emulator cannot save its data: {said['failure']} ({data / emulator.LOG_NAME} has the reason)"
        )
    return record if said is not None else None


def _found_or_started(data: Path, note: Callable[[str], None]) -> Record:
    """The emulator, which another command may have started by now, or may be about to end."""
    deadline = time.monotonic() + _SILENT_SECONDS
    while True:
        lock = emulator.take(data)
        if lock is not None:
            with lock:
                return _start(data, lock, note)
        record = _answering(data, note)
        if record is not None:
            return record
        if time.monotonic() > deadline:
            raise _out_of_reach(data, "it does not answer")
        time.sleep(_POLL_SECONDS)


def _start(data: Path, lock: IO[bytes], note: Callable[[str], None]) -> Record:
    last = emulator.read_record(data)
    for said in emulator_data.recover(data, stopped=last is None or bool(last.stopped)):
        note(said)
    token = secrets.token_hex(8)
    FolderStorage(data).check()  # on a full disk it ends without a word
    process = emulator.spawn(data, last.port if last else 0, token, lock)
    record = emulator.wait_until_ready(process, token, data)
    emulator_data.mark_recovered(data)
    return record


def _to_end(folder: Path, data: Path) -> Record | None:
    """The emulator that a command may end now; None when none runs."""
    if not emulator.is_held(data):
        return None
    record = _recorded(data)
    if record is None or not record.process.alive:
        raise _out_of_reach(data, "its process is not one of this system's")
    if emulator.identity(record) is not None:
        _refuse_under_a_run(folder, record)
    return record


def _recorded(data: Path) -> Record | None:
    """The record of the emulator that runs, which writes it anew where it was lost."""
    deadline = time.monotonic() + _RECORD_SECONDS
    while True:
        record = emulator.read_record(data)
        if record is not None or time.monotonic() > deadline:
            return record
        time.sleep(_POLL_SECONDS)


def _refuse_to_lose(data: Path, record: Record) -> None:
    """What cannot be saved now is lost with the emulator."""
    said = emulator.identity(record)
    if said is not None and said["failure"]:
        what = f"the embedded emulator cannot save its data: {said['failure']}, and would be lost"
        hint = f"{_log_of(data)}; free some space, then stop it; to give the data up: dynamodt local reset"
        raise Refused(what, where=str(data), hint=hint)


def _refuse_under_a_run(folder: Path, record: Record) -> None:
    """A run would wait for the endpoint for more than a minute, and fail; a reset would delete what it works on."""
    from dynamodt.runs.control import runs_at_work

    stage = load_stage(LOCAL, folder)
    reach = Connection(stage.connection.region, emulator.url(record.port), access_key="local", secret_key="local")
    for lease in runs_at_work(replace(stage, connection=reach)):
        raise Refused(
            f"a run is at work on the local stage: {lease.run} (process {lease.pid})",
            where=f"table {lease.table}",
            hint=f"wait for it, or stop it first: dynamodt abort --table {lease.table}",
        )


def _wait_for_end(data: Path, record: Record) -> None:
    """Returns when the lock is free: a copy of the emulator that still writes holds it, too."""
    deadline = time.monotonic() + _STOP_SECONDS
    while emulator.is_held(data):
        if time.monotonic() > deadline:
            hint = f"look into the log; `kill -9 {record.pid}` ends it, but may lose what was written last"
            what = f"the embedded emulator (pid {record.pid}) has not ended after {_STOP_SECONDS:.0f} s"
            raise ServiceError(what, where=str(data / emulator.LOG_NAME), hint=hint)
        time.sleep(_POLL_SECONDS)


def _check_saved(data: Path) -> None:
    since = emulator_data.unsaved_since(data)
    if since:
        what = f"the embedded emulator ended, but could not save what was written since {since}: that is lost"
        raise ServiceError(
            what, where=str(data / emulator_data.STATE), hint=f"{data / emulator.LOG_NAME} has the reason"
        )


def _log_of(data: Path) -> str:
    return f"the reason is in {data / emulator.LOG_NAME}"


def _out_of_reach(data: Path, reason: str) -> ServiceError:
    what = f"an embedded emulator holds the folder, and {reason}: it may run in another container"
    hint = "end it where it runs (`dynamodt local stop`), or work in a copy of the project"
    return ServiceError(what, where=str(data), hint=hint)


# ---------------------------------------------------------------- the folder


def _data_folder(folder: Path) -> Path:
    return folder.resolve() / WORK_FOLDER / LOCAL


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Starting and stopping are done by one command at a time. The system frees the lock of one that dies."""
    make_work_folder(data.parent)
    with for_the_owner_alone(), (data.parent / f"{LOCAL}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
