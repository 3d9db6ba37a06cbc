"""An export as a version's source: requested, awaited, read, and followed by what catches up with later writes.

A run catches up by incremental exports, until one brings no change, or by a final scan. Each export is kept in the
run's record before it is awaited, so that a continued run waits for the same one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.table import has_point_in_time_recovery
from dynamodt.errors import Aborted, DynamodtError, Fenced, Refused, RunFailed, ServiceError, UsageError
from dynamodt.export.datafiles import check_there
from dynamodt.export.manifest import Manifest, check_same_table, data_files, read_manifest
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import (
    COMPLETED,
    LONGEST,
    SHORTEST,
    ExportFolder,
    ExportRequest,
    Exports,
    TableIdentity,
    awaited,
    aws_exports,
    find,
    folder_of,
    identity,
    is_too_early,
    service_time,
    split_url,
    whole_second,
)
from dynamodt.export.stand_in import stand_in_exports
from dynamodt.model.runs import ABORT, FINAL_SCAN, DeadLetterSource, ExportSource, Job, RunRecord, ScanSource
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.history import RunRecorder
from dynamodt.runs.jobs import NONE, SCAN, WINDOWS, segments
from dynamodt.runs.pace import elapsed
from dynamodt.state.phases import incremental_run

if TYPE_CHECKING:
    from dynamodt.runs.context import Follower, RunContext

NEW = "new"
_MOST_EXPORTS = 100
_ASK_SECONDS = 20.0
_SECOND = timedelta(seconds=1)
_MOST_ASKED, _ASKED_AGAIN = 30, timedelta(minutes=1)  # of one moment: what was written last is not there at once


@dataclass(frozen=True, slots=True)
class SourceExport:
    """A finished export of the table: where it is, its data files (the units of a pass), and its moment or its end."""

    source: ExportSource
    files: int
    items: int
    until: datetime | None


def sourced(context: RunContext, table: TableSpec, recorder: RunRecorder) -> SourceExport:
    """The export that a run reads: the one that it began with, or a new one. It is kept in the run's record before the
    wait, so that a command that is typed again waits for the same export; one that will not do is forgotten, as long
    as nothing of it has been read.

    Raises Refused for a table or an export that will not do, UsageError for a place that holds none, RunFailed for an
    export that failed or is damaged, Aborted when the run is told to end meanwhile.
    """
    if not recorder.record.exports:
        word = context.options.export or NEW
        if word == NEW:
            word = _request_full(context, table, recorder.record)
        recorder.keep(exports=(word,))
    with forgotten_if_bad(recorder, 0, unread=not recorder.record.splits):
        found = _full(context, table, recorder.record)
    recorder.keep(splits=found.files)
    final_scan = context.options.catch_up == SCAN and not context.options.dry_run
    return replace(found, source=replace(found.source, final_scan=final_scan))


@contextmanager
def forgotten_if_bad(recorder: RunRecorder, number: int, unread: bool) -> Iterator[None]:
    """An export that will not do is forgotten when nothing of it was read: the same command asks for another one."""
    try:
        yield
    except (ServiceError, Fenced, Aborted):
        raise
    except DynamodtError:
        record = recorder.record
        if unread:
            recorder.keep(exports=record.exports[:number], failed_exports=record.failed_exports + 1)
        raise


def _full(context: RunContext, table: TableSpec, record: RunRecord) -> SourceExport:
    word = record.exports[0]
    found = ready(context, table, record, word)
    if found.source.incremental:
        hint = "name a full export, or let one be requested: --export new"
        raise UsageError("is an incremental export: it holds only what changed", where=word, hint=hint)
    return found


def _request_full(context: RunContext, table: TableSpec, record: RunRecord) -> str:
    """A new export of the whole table: at the next whole second, where the first window can start."""
    if context.stage.local:
        return request(context, ExportRequest(table, token_of(record, 0)))
    at = time_of(context.stage, table) + _SECOND  # not the one that it is in: an earlier version may have ended in it
    _watchful(context, record)(_SECOND.total_seconds())
    return request_in_time(context, record, ExportRequest(table, token_of(record, 0, at), at=at))


def request_in_time(context: RunContext, record: RunRecord, wanted: ExportRequest) -> str:
    """`request`, and again every minute while DynamoDB has not got the moment yet. Raises Refused, as `request` does,
    for any other reason, and when it is still too early after half an hour."""
    for _ in range(_MOST_ASKED):
        try:
            return request(context, wanted)
        except Refused as error:
            if not (is_too_early(error) and _recoverable(context.stage, wanted.table.name)):
                raise
        rest(context, record, _ASKED_AGAIN)
    return request(context, wanted)


def time_of(stage: Stage, table: TableSpec) -> datetime:
    """The second that DynamoDB is in."""
    return service_time(client(stage.connection, "dynamodb"), table.name)


def _recoverable(stage: Stage, table: str) -> bool:
    """Whether waiting may help: without point-in-time recovery each moment is refused, with the same code."""
    try:
        return has_point_in_time_recovery(stage.connection, table)
    except ServiceError:  # it may not be asked
        return True


def request(context: RunContext, wanted: ExportRequest) -> str:
    """Request an export, or find the one that this run has requested before; returns its ARN."""
    what = "what has changed" if wanted.since else "an export"
    wait = "" if context.stage.local else "; DynamoDB takes some minutes for it"
    context.observer.note(f"requesting {what} of {wanted.table.name}{wait}")
    return exports_of(context.stage).request(wanted).arn


def ready(context: RunContext, table: TableSpec, record: RunRecord, word: str) -> SourceExport:
    """The export of an ARN, when it is finished, or at a place."""
    there = identity(client(context.stage.connection, "dynamodb"), table.name)
    if word.startswith("s3://"):
        bucket, prefix = split_url(word)
        return _found(context.stage, there, bucket, find(_objects(context.stage, bucket), prefix))
    exports = exports_of(context.stage)
    began = time.monotonic()
    for export in awaited(exports, word, _watchful(context, record), every=_ASK_SECONDS):
        if export.status == COMPLETED:
            return _found(context.stage, there, export.bucket, folder_of(export))
        context.observer.note(f"DynamoDB writes the export {export.id}: {elapsed(time.monotonic() - began)}")
    raise AssertionError("the last state of an export is that it is completed")


def _watchful(context: RunContext, record: RunRecord) -> Callable[[float], None]:
    """Sleeps, and looks whether the run is told to end meanwhile."""

    def sleep(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            if not context.options.dry_run and context.state.leases.read(record.table).stop == ABORT:
                raise Aborted("the run was aborted", where=f"run {record.run}", hint="the same command waits on")

    return sleep


def rest(context: RunContext, record: RunRecord, time_left: timedelta) -> None:
    """Wait until an export can be asked for, with a word on it."""
    if time_left > timedelta():
        context.observer.note(f"the export can be asked for at {datetime.now(UTC) + time_left:%H:%M:%S} UTC")
        _watchful(context, record)(time_left.total_seconds())


def exports_of(stage: Stage) -> Exports:
    """DynamoDB's exports; on a local stage, whose emulator writes no files, the stand-in's."""
    make = stand_in_exports if stage.local else aws_exports
    return make(stage.connection, stage.storage)


def token_of(record: RunRecord, number: int, *moments: datetime) -> str:
    """Stands for one export of a run, however often it is requested: 0 is the table's, the rest are its windows'. With
    its moments: a token that comes back with others is refused."""
    span = "".join(f"-{int(moment.timestamp())}" for moment in moments)
    return f"{record.run}-{number}-{record.failed_exports}{span}"


def _found(stage: Stage, table: TableIdentity, bucket: str, folder: ExportFolder) -> SourceExport:
    objects = _objects(stage, bucket)
    manifest = read_manifest(objects, folder, table.arn)
    check_same_table(manifest, table, objects.place(folder.key))
    files = data_files(objects, manifest)
    check_there(objects, files)
    source = ExportSource(bucket, folder.key, table.arn, incremental=manifest.kind == "incremental")
    return SourceExport(source, len(files), manifest.items, _moment(manifest))


def _moment(manifest: Manifest) -> datetime | None:
    return manifest.until if manifest.kind == "incremental" else manifest.at


def _objects(stage: Stage, bucket: str) -> S3Objects:
    return S3Objects(client(stage.connection, "s3"), bucket, stage.storage.kms_key)


@dataclass
class CatchingUp:
    """The phases of a run after its export's: incremental exports, or a final scan.

    `main` is the export's phase, `phases` are all that are known so far.
    """

    context: RunContext
    recorder: RunRecorder
    found: SourceExport
    main: Job
    phases: list[Job]
    follower: Follower
    run_phases: Callable[[RunContext, list[Job], Follower], None]

    def run(self) -> None:
        """Catch up as `options.catch_up` says. Raises what ends it early."""
        asked = self.context.options.catch_up or WINDOWS
        if asked == NONE or self.context.options.dry_run:
            return
        if asked == SCAN:
            self._final_scan()
        else:
            self._incremental_exports()

    def _final_scan(self) -> None:
        record = self.recorder.record
        if not record.final_scan:
            splits = segments(self.main.table, self.context.options.workers)
            self.recorder.keep(final_scan=splits, planned=record.planned + splits)
        self._phase(_final_scan_job(self.main, self.recorder.record))

    def _incremental_exports(self) -> None:
        """Ends with the first incremental export that brings no change."""
        since = self.found.until
        for number in range(1, _MOST_EXPORTS + 1):
            assert since is not None
            export = self._export(number, since)
            job = incremental_job(self.main, number, export)
            self._phase(job)
            if not self.follower.complete(job) or self.follower.changed(job) == 0:
                return
            since = export.until
        raise RunFailed(
            f"after {_MOST_EXPORTS} incremental exports there are still changes to make",
            where=f"table {self.main.table.name}",
            hint="does the application write the new shape by now? It must, before the data is transformed",
        )

    def _export(self, number: int, since: datetime) -> SourceExport:
        """An incremental export that the run has requested before, or the next one."""
        recorder = self.recorder
        if number >= len(recorder.record.exports):
            recorder.keep(exports=(*recorder.record.exports, self._request(number, since)))
        record = recorder.record
        unread = number > len(record.incremental_exports)
        with forgotten_if_bad(recorder, number, unread):
            found = ready(self.context, self.main.table, record, record.exports[number])
        if unread:
            recorder.keep(
                incremental_exports=(*record.incremental_exports, found.files), planned=record.planned + found.files
            )
        return found

    def _request(self, number: int, since: datetime) -> str:
        context, record = self.context, self.recorder.record
        if context.stage.local:  # its stand-in goes on from the very moment
            return request(context, ExportRequest(self.main.table, token_of(record, number), since=since))
        since = whole_second(since)
        earliest = since + SHORTEST  # DynamoDB's rule; the stand-in knows none
        rest(context, record, earliest - time_of(context.stage, self.main.table))
        until = min(max(earliest, time_of(context.stage, self.main.table)), since + LONGEST)
        token = token_of(record, number, since, until)
        wanted = ExportRequest(self.main.table, token, since=since, until=until)
        return request_in_time(context, record, wanted)

    def _phase(self, job: Job) -> None:
        if all(job.run != known.run for known in self.phases):
            self.phases.append(job)
            self.follower.add(job)
        retried = tuple(one.run for one in self.phases if isinstance(one.source, DeadLetterSource))
        self.run_phases(self.context, [replace(job, retried=retried)], self.follower)


def begun_later(record: RunRecord, main: list[Job]) -> list[Job]:
    """The passes after the export's that an earlier attempt has begun, for the dead letters that they have left."""
    like = next((job for job in main if job.export is not None), None)
    if like is None:
        return []
    incremental_exports = [
        replace(like, run=incremental_run(record.run, number), splits=units)
        for number, units in enumerate(record.incremental_exports, 1)
    ]
    return [*incremental_exports, *([_final_scan_job(like, record)] if record.final_scan else [])]


def _final_scan_job(main: Job, record: RunRecord) -> Job:
    return replace(main, run=record.run + FINAL_SCAN, source=ScanSource(), splits=record.final_scan)


def incremental_job(main: Job, number: int, window: SourceExport) -> Job:
    """The pass over a window: all items that it shows, or, where a second transformation would harm, only those that
    came into being in it: the others were there when the export was made, and are done."""
    source = replace(window.source, created_only=not main.script.idempotent)
    return replace(main, run=incremental_run(main.base_run, number), splits=window.files, source=source)
