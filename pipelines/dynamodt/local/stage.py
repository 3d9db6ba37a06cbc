"""The embedded local stage: an AWS emulator that is started on demand and found by later commands.

`.dynamodt/local` holds its tables and buckets, its log, a record of the process, and a lock that the process holds as
long as it lives. A second lock, beside that folder so that it survives a reset, is held while a command starts or ends
the emulator. The tables and the bucket that the stage needs are created here; a deployment creates those of other
stages.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from dynamodt.config.settings import FILE_NAME
from dynamodt.config.stage import EMBEDDED_URL, LOCAL, embedded_stage
from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.network import Tolerated
from dynamodt.dynamodb.table import create_table, list_tables
from dynamodt.errors import Refused, ServiceError, UsageError, suggest
from dynamodt.local import emulator, install
from dynamodt.local.emulator import Record
from dynamodt.local.install import Environment
from dynamodt.model.runs import Lease
from dynamodt.model.tables import WORK_FOLDER, Connection, KeyAttribute, Stage, TableExtras
from dynamodt.runs.liveness import is_alive, polls
from dynamodt.state.storage import FolderStorage, for_the_owner_alone, make_work_folder

Notify = Callable[[str], None]

_STOP_SECONDS = 120.0
_SILENT_SECONDS = 150.0  # longer than a command waits for the emulator that it starts
_RECORD_SECONDS = 5.0  # longer than an emulator takes to write a lost record again
_EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")  # of two commands, the second finds the first's


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """The result of `dynamodt local status`. `url`, `pid` and `since` (ISO 8601, UTC) are empty or 0 if stopped."""

    running: bool
    url: str
    pid: int
    folder: Path  # of the data, absolute
    since: str


def open_stage(stage: Stage, folder: Path, notify: Notify = lambda _: None) -> Stage:
    """Returns the stage ready for use. For the embedded stage, the emulator runs, the endpoint is set, and the bucket
    and the tables of dynamodt.toml exist; any other stage is returned unchanged, without a request.

    Raises UsageError if `.dynamodt` cannot be created, ServiceError if the emulator cannot be installed or does not
    start.
    """
    if not stage.embedded:
        return stage
    connection = replace(stage.connection, endpoint_url=ensure_started(folder, notify))
    if stage.storage.in_s3:
        create_missing_bucket(connection, stage.storage.bucket)
    made = create_missing_tables(connection, stage.tables, stage.extras)
    for name in sorted(stage.tables.keys() - made):
        _note_what_it_lacks(connection, stage, name, notify)
    return replace(stage, connection=connection)


def ensure_started(folder: Path, notify: Notify = lambda _: None) -> str:
    """Starts the emulator of this folder unless it runs, and installs it first if it is not here; returns its URL. It
    listens on 127.0.0.1 only.

    Of two concurrent commands one starts it. An emulator of another release is restarted, so that all requests are
    answered by the release that they were written for. Reports lost changes and damaged files. Raises Refused if the
    emulator to restart has an active run, ServiceError if the emulator cannot be installed or does not start.
    """
    data = _data_folder(folder)
    make_work_folder(data.parent)
    record = _answering(data, notify)
    if record is None or record.release != install.release_of():
        found = install.environment(data.parent, notify)
        with _exclusive(data):
            _end_other_release(folder, data, found.release, notify)
            record = _found_or_started(data, found, notify)
    return emulator.url(record.port)


def variables(folder: Path, notify: Notify = lambda _: None) -> dict[str, str]:
    """The environment variables by which any AWS SDK reaches the embedded stage, which is started."""
    reach = open_stage(embedded_stage(folder), folder, notify).connection
    url = reach.endpoint_url or ""
    return {
        "AWS_ENDPOINT_URL": url,
        EMBEDDED_URL: url,
        "AWS_REGION": reach.region,
        "AWS_DEFAULT_REGION": reach.region,
        "AWS_ACCESS_KEY_ID": reach.access_key or "",
        "AWS_SECRET_ACCESS_KEY": reach.secret_key or "",
    }


def keep_out_of_git(stage: Stage, folder: Path) -> None:
    """Creates `.dynamodt`, which git ignores, if the stage's storage is a folder in it: neither prepared data nor
    journals are committed. Raises UsageError if it cannot be created."""
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


def stop(folder: Path, notify: Notify = lambda _: None) -> bool:
    """Ends the emulator and waits until its tables are saved. False if it was not running. An invalid dynamodt.toml
    does not prevent it, and is notified.

    Raises Refused while a run is active on its tables, or if they cannot be saved; ServiceError if it has not ended
    after two minutes (it is left running, since killing it could lose data), or could not save its tables.
    """
    data = _data_folder(folder)
    if not data.exists():
        return False
    with _exclusive(data):
        return _end(folder, data, notify)


def reset(folder: Path) -> None:
    """Ends the emulator and deletes its tables, buckets and log. Nothing outside of `.dynamodt/local` is touched.

    Raises Refused while a run is active on its tables.
    """
    data = _data_folder(folder)
    if not data.exists():
        return
    with _exclusive(data):
        record = _emulator_to_end(folder, data)
        if record is not None:
            record.process.kill()  # its data is deleted next
            _wait_for_end(data, record)
        shutil.rmtree(data)


# ---------------------------------------------------------------- the folder


def _data_folder(folder: Path) -> Path:
    return folder.resolve() / WORK_FOLDER / LOCAL


@contextmanager
def _exclusive(data: Path) -> Iterator[None]:
    """Excludes other commands that start or end the emulator."""
    make_work_folder(data.parent)
    with for_the_owner_alone(), install.exclusive_lock(data.parent / f"{LOCAL}.lock"):
        yield


# ---------------------------------------------------------------- the running emulator


def _answering(data: Path, notify: Notify) -> Record | None:
    """The record of this folder's emulator, if it answers."""
    record = emulator.read_record(data) if emulator.is_held(data) else None
    identity = emulator.identity(record) if record is not None else None
    if identity is not None and identity["failure"]:
        notify(f"{_cannot_save(identity)} (see {data / emulator.LOG_NAME} for the reason)")
    return record if identity is not None else None


def _cannot_save(identity: Mapping[str, Any]) -> str:
    return f"the embedded emulator cannot save its data: {identity['failure']}"


def _end_other_release(folder: Path, data: Path, release: str, notify: Notify) -> None:
    record = _answering(data, notify)
    if record is not None and record.release != release:
        notify("restarting the local stage: another release of the emulator is running")
        _end(folder, data)


def _found_or_started(data: Path, found: Environment, notify: Notify) -> Record:
    """The emulator, which another command may have started, or may be ending."""
    for _ in polls(_SILENT_SECONDS):
        lock = emulator.take(data)
        if lock is not None:
            with lock:
                return _start(data, found, lock, notify)
        record = _answering(data, notify)
        if record is not None:
            return record
    raise _out_of_reach(data, "does not answer")


def _start(data: Path, found: Environment, lock: IO[bytes], notify: Notify) -> Record:
    last = emulator.read_record(data)
    for message in emulator.recover(data, last is None or bool(last.stopped), found.formats):
        notify(message)
    token = secrets.token_hex(8)
    FolderStorage(data).check()  # on a full disk the emulator ends without a message
    process = emulator.spawn(found, data, last.port if last else 0, token, lock)
    record = emulator.wait_until_ready(process, token, data)
    emulator.mark_recovered(data)
    return record


def _recorded(data: Path) -> Record | None:
    """The record of the running emulator, which writes it again if it is lost."""
    return next(filter(None, (emulator.read_record(data) for _ in polls(_RECORD_SECONDS))), None)


def _out_of_reach(data: Path, reason: str) -> ServiceError:
    what = f"an embedded emulator holds the folder but {reason}: it may run in another container"
    hint = "stop it where it runs (" + suggest("local stop") + "), or work in a copy of the project"
    return ServiceError(what, where=str(data), hint=hint)


# ---------------------------------------------------------------- its end


def _end(folder: Path, data: Path, notify: Notify = lambda _: None) -> bool:
    """Ends the emulator, if it runs, once its data is saved."""
    record = _emulator_to_end(folder, data, notify)
    if record is not None:
        _refuse_to_lose(data, record)
        record.process.terminate()
        _wait_for_end(data, record)
        _check_saved(data)
    return record is not None


def _emulator_to_end(folder: Path, data: Path, notify: Notify = lambda _: None) -> Record | None:
    """The emulator, if it runs and can be ended."""
    if not emulator.is_held(data):
        return None
    record = _recorded(data)
    if record is None or not record.process.alive:
        raise _out_of_reach(data, "has no process on this system")
    if emulator.identity(record) is not None:
        _refuse_under_a_run(folder, record, notify)
    return record


def _refuse_under_a_run(folder: Path, record: Record, notify: Notify) -> None:
    """Raises Refused while a run is active: it would fail after a minute of retries, or lose its tables."""
    try:
        stage, known = embedded_stage(folder), True
    except UsageError as error:  # dynamodt.toml is being edited: it is not needed to end the emulator
        stage, known = embedded_stage(folder, by_file=False), False
        region = stage.connection.region
        notify(f"{FILE_NAME} is invalid: runs are looked for in each state table of region {region} ({error.what})")
    reach = replace(stage.connection, endpoint_url=emulator.url(record.port))
    for lease in _active_leases(replace(stage, connection=reach), known):
        raise Refused(
            f"a run is active on the local stage: {lease.run} (process {lease.pid})",
            where=f"table {lease.table}",
            hint="wait for it, or stop it first: " + suggest("abort", table=lease.table),
        )


def _active_leases(stage: Stage, known: bool) -> list[Lease]:
    """The leases of live runs; none if the stage has no state table. If the state table is not `known`, each table that
    could be one is searched. Raises ServiceError."""
    from dynamodt.state.state import State, may_be_state  # late: `local status` does not need it

    tables = list_tables(stage.connection)
    states = [name for name in tables if (name == stage.state_table if known else may_be_state(stage.connection, name))]
    leases = {name: State(stage.connection, name).leases for name in states}
    answers = [leases[state].begin_read(name) for state in states for name in tables if name != state]
    return [lease for lease in (answer() for answer in answers) if is_alive(lease)]


def _refuse_to_lose(data: Path, record: Record) -> None:
    """Raises Refused if the emulator has changes that it cannot save."""
    identity = emulator.identity(record)
    if identity is not None and identity["failure"]:
        hint = f"{_reason(data)}; free disk space, then stop it; to give up the data: " + suggest("local reset")
        raise Refused(f"{_cannot_save(identity)}, and would be lost", where=str(data), hint=hint)


def _wait_for_end(data: Path, record: Record) -> None:
    """Waits until the lock is free: a copy of the emulator that is still saving holds it, too."""
    if all(emulator.is_held(data) for _ in polls(_STOP_SECONDS)):
        hint = f"see the log; `kill -9 {record.pid}` ends it, but may lose the last changes"
        what = f"the embedded emulator (pid {record.pid}) has not ended after {_STOP_SECONDS:.0f} s"
        raise ServiceError(what, where=str(data / emulator.LOG_NAME), hint=hint)


def _check_saved(data: Path) -> None:
    since = emulator.unsaved_since(data)
    if since:
        what = f"the embedded emulator ended without saving the changes since {since}: they are lost"
        raise ServiceError(what, where=str(data / emulator.STATE), hint=_reason(data))


def _reason(data: Path) -> str:
    return f"the reason is in {data / emulator.LOG_NAME}"


# ---------------------------------------------------------------- tables and bucket


def create_missing_tables(
    connection: Connection, tables: Mapping[str, tuple[KeyAttribute, ...]], extras: Mapping[str, TableExtras] = {}
) -> tuple[str, ...]:
    """Creates the tables that do not exist (on-demand), with the indexes and the TTL of `extras`, waits until they are
    active, and returns their names. A table that exists is left unchanged, whatever its key. Raises ServiceError."""
    if not tables:
        return ()
    existing = set(list_tables(connection))
    missing = tuple(name for name in tables if name not in existing)
    for name in missing:
        _create_table(client(connection, "dynamodb"), name, tables[name], extras.get(name, TableExtras()))
    return missing


def create_missing_bucket(connection: Connection, bucket: str) -> bool:
    """Creates the bucket if it does not exist; returns whether it was created. Raises ServiceError."""
    s3, where = client(connection, "s3"), f"bucket {bucket}"
    with explained("HeadBucket", where), Tolerated(404):
        s3.head_bucket(Bucket=bucket)
        return False
    region = connection.region
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with explained("CreateBucket", where), Tolerated(*_EXISTS):
        s3.create_bucket(Bucket=bucket, **place)
        return True
    return False


def _create_table(dynamodb: Any, name: str, key: tuple[KeyAttribute, ...], extras: TableExtras) -> None:
    create_table(dynamodb, name, key, f"table {name}", extras.indexes)
    if extras.ttl:
        ttl = {"Enabled": True, "AttributeName": extras.ttl}
        with explained("UpdateTimeToLive", f"table {name}"):
            dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)


def _note_what_it_lacks(connection: Connection, stage: Stage, name: str, notify: Notify) -> None:
    """Reports the settings of dynamodt.toml that an existing table lacks: a table is created once."""
    dynamodb, extras = client(connection, "dynamodb"), stage.extras.get(name, TableExtras())
    with explained("DescribeTable", f"table {name}"):
        table = dynamodb.describe_table(TableName=name)["Table"]
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"] if extras.ttl else {}
    types = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
    shapes = (table, *(table.get("GlobalSecondaryIndexes") or ()))
    names = [(each.get("IndexName"), [k["AttributeName"] for k in each["KeySchema"]]) for each in shapes]
    there = {index: tuple((k, types[k]) for k in keys) for index, keys in names}
    lacks = ["this key"] if there[None] != stage.tables[name] else []
    lacks += [f"the index {index}" for index, of in extras.indexes.items() if there.get(index) != of]
    lacks += [f"TTL by {extras.ttl}"] if ttl.get("AttributeName", "") != extras.ttl else []
    if lacks:
        what = f"table {name} was created without {', '.join(lacks)} of dynamodt.toml; to create all tables again: "
        notify(what + suggest("local reset"))
