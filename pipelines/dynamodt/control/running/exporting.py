"""An export as a version's source: chosen, requested, awaited, found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dynamodt.aws.backups import has_point_in_time_recovery
from dynamodt.aws.clients import client
from dynamodt.aws.export.datafiles import check_there
from dynamodt.aws.export.description import COMPLETED
from dynamodt.aws.export.layout import ExportFolder, find, folder_of, split_url
from dynamodt.aws.export.manifest import Manifest, check_same_table, data_files, read_manifest
from dynamodt.aws.export.objects import S3Objects
from dynamodt.aws.export.request import (
    ExportRequest,
    Exports,
    TableIdentity,
    awaited,
    aws_exports,
    identity,
    is_too_early,
    service_time,
)
from dynamodt.aws.export.stand_in import stand_in_exports
from dynamodt.control.running.history import Chronicle
from dynamodt.control.running.session import ABORT, Session
from dynamodt.control.terminal.pace import elapsed
from dynamodt.errors import Aborted, DynamodtError, Fenced, Refused, ServiceError, UsageError
from dynamodt.model import ExportSource, RunRecord, Stage, TableSpec

SCAN, EXPORT = "scan", "export"
WINDOWS = "windows"
NEW = "new"
_ASK_SECONDS = 20.0
_SECOND = timedelta(seconds=1)
_MOST_ASKED, _ASKED_AGAIN = 30, timedelta(minutes=1)  # of one moment: what was written last is not there at once


@dataclass(frozen=True, slots=True)
class Found:
    """A finished export of the table: where it is, its data files (the units of a pass), and its moment or its end."""

    source: ExportSource
    files: int
    items: int
    until: datetime | None


def sourced(session: Session, table: TableSpec, chronicle: Chronicle) -> Found:
    """The export that a run reads: the one that it began with, or a new one. It is kept in the run's record before the
    wait, so that a command that is typed again waits for the same export; one that will not do is forgotten, as long
    as nothing of it has been read.

    Raises Refused for a table or an export that will not do, UsageError for a place that holds none, RunFailed for an
    export that failed or is damaged, Aborted when the run is told to end meanwhile.
    """
    if not chronicle.record.exports:
        word = session.options.export or NEW
        if word == NEW:
            word = _request_full(session, table, chronicle.record)
        chronicle.keep(exports=(word,))
    with forgotten_if_bad(chronicle, 0, unread=not chronicle.record.units):
        found = _full(session, table, chronicle.record)
    chronicle.keep(units=found.files)
    rest = session.options.catch_up == SCAN and not session.options.dry_run
    return replace(found, source=replace(found.source, rest=rest))


@contextmanager
def forgotten_if_bad(chronicle: Chronicle, number: int, unread: bool) -> Iterator[None]:
    """An export that will not do is forgotten when nothing of it was read: the same command asks for another one."""
    try:
        yield
    except (ServiceError, Fenced, Aborted):
        raise
    except DynamodtError:
        record = chronicle.record
        if unread:
            chronicle.keep(exports=record.exports[:number], failed_exports=record.failed_exports + 1)
        raise


def _full(session: Session, table: TableSpec, record: RunRecord) -> Found:
    word = record.exports[0]
    found = ready(session, table, record, word)
    if found.source.incremental:
        hint = "name a full export, or let one be requested: --export new"
        raise UsageError("is an incremental export: it holds only what changed", where=word, hint=hint)
    return found


def _request_full(session: Session, table: TableSpec, record: RunRecord) -> str:
    """A new export of the whole table: at the next whole second, where the first window can start."""
    if session.stage.local:
        return request(session, ExportRequest(table, token_of(record, 0)))
    at = time_of(session.stage, table) + _SECOND  # not the one that it is in: an earlier version may have ended in it
    _watchful(session, record)(_SECOND.total_seconds())
    return request_in_time(session, record, ExportRequest(table, token_of(record, 0, at), at=at))


def request_in_time(session: Session, record: RunRecord, wanted: ExportRequest) -> str:
    """`request`, and again every minute while DynamoDB has not got the moment yet. Raises Refused, as `request` does,
    for any other reason, and when it is still too early after half an hour."""
    for _ in range(_MOST_ASKED):
        try:
            return request(session, wanted)
        except Refused as error:
            if not (is_too_early(error) and _recoverable(session.stage, wanted.table.name)):
                raise
        rest(session, record, _ASKED_AGAIN)
    return request(session, wanted)


def time_of(stage: Stage, table: TableSpec) -> datetime:
    """The second that DynamoDB is in."""
    return service_time(client(stage.connection, "dynamodb"), table.name)


def _recoverable(stage: Stage, table: str) -> bool:
    """Whether waiting may help: without point-in-time recovery each moment is refused, with the same code."""
    try:
        return has_point_in_time_recovery(stage.connection, table)
    except ServiceError:  # it may not be asked
        return True


def request(session: Session, wanted: ExportRequest) -> str:
    """Request an export, or find the one that this run has requested before; returns its ARN."""
    what = "what has changed" if wanted.since else "an export"
    wait = "" if session.stage.local else "; DynamoDB takes some minutes for it"
    session.observer.note(f"requesting {what} of {wanted.table.name}{wait}")
    return exports_of(session.stage).request(wanted).arn


def ready(session: Session, table: TableSpec, record: RunRecord, word: str) -> Found:
    """The export of an ARN, when it is finished, or at a place."""
    there = identity(client(session.stage.connection, "dynamodb"), table.name)
    if word.startswith("s3://"):
        bucket, prefix = split_url(word)
        return _found(session.stage, there, bucket, find(_objects(session.stage, bucket), prefix))
    exports = exports_of(session.stage)
    began = time.monotonic()
    for export in awaited(exports, word, _watchful(session, record), every=_ASK_SECONDS):
        if export.status == COMPLETED:
            return _found(session.stage, there, export.bucket, folder_of(export))
        session.observer.note(f"DynamoDB writes the export {export.id}: {elapsed(time.monotonic() - began)}")
    raise AssertionError("the last state of an export is that it is completed")


def _watchful(session: Session, record: RunRecord) -> Callable[[float], None]:
    """Sleeps, and looks whether the run is told to end meanwhile."""

    def sleep(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            if not session.options.dry_run and session.state.leases.read(record.table).stop == ABORT:
                raise Aborted("the run was aborted", where=f"run {record.run}", hint="the same command waits on")

    return sleep


def rest(session: Session, record: RunRecord, time_left: timedelta) -> None:
    """Wait until an export can be asked for, with a word on it."""
    if time_left > timedelta():
        session.observer.note(f"the export can be asked for at {datetime.now(UTC) + time_left:%H:%M:%S} UTC")
        _watchful(session, record)(time_left.total_seconds())


def exports_of(stage: Stage) -> Exports:
    """DynamoDB's exports; on a local stage, whose emulator writes no files, the stand-in's."""
    make = stand_in_exports if stage.local else aws_exports
    return make(stage.connection, stage.storage)


def token_of(record: RunRecord, number: int, *moments: datetime) -> str:
    """Stands for one export of a run, however often it is requested: 0 is the table's, the rest are its windows'. With
    its moments: a token that comes back with others is refused."""
    span = "".join(f"-{int(moment.timestamp())}" for moment in moments)
    return f"{record.run}-{number}-{record.failed_exports}{span}"


def _found(stage: Stage, table: TableIdentity, bucket: str, folder: ExportFolder) -> Found:
    objects = _objects(stage, bucket)
    manifest = read_manifest(objects, folder, table.arn)
    check_same_table(manifest, table, objects.place(folder.key))
    files = data_files(objects, manifest)
    check_there(objects, files)
    source = ExportSource(bucket, folder.key, table.arn, incremental=manifest.kind == "incremental")
    return Found(source, len(files), manifest.items, _moment(manifest))


def _moment(manifest: Manifest) -> datetime | None:
    return manifest.until if manifest.kind == "incremental" else manifest.at


def _objects(stage: Stage, bucket: str) -> S3Objects:
    return S3Objects(client(stage.connection, "s3"), bucket, stage.storage.kms_key)


def check_source(record: RunRecord, options_source: str, options_export: str) -> None:
    """Raises Refused when a run that goes on is given another source than it began with."""
    began = record.exports[0] if record.exports else ""
    other = options_source not in ("", record.source) or (options_export not in ("", NEW, began) and began)
    if other:
        said = f"the export {began}" if began else f"a {record.source}"
        raise Refused(
            f"run {record.run} began with {said}, and goes on with it",
            where=f"table {record.table}",
            hint=f"leave out --source and --export (or take back what it has done: dynamodt undo {record.run})",
            run=record.run,
        )
