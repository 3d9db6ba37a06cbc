"""An export as a version's source: it is requested, awaited and read, and later writes are caught up with.

A run catches up by incremental exports, until one brings no change, or by a final scan. The run's record names each
export before it is awaited, so that a continued run waits for the same export.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.reads import segments
from dynamodt.errors import Aborted, DynamodtError, Fenced, Refused, RunFailed, ServiceError, UsageError, suggest
from dynamodt.export.datafiles import check_same_table, check_there, data_files, digest_of, read_manifest
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import (
    COMPLETED,
    LONGEST,
    SHORTEST,
    ExportFolder,
    ExportRequest,
    Exports,
    TableIdentity,
    aws_exports,
    find,
    folder_of,
    identity,
    poll_until_completed,
    service_time,
    split_url,
    whole_second,
)
from dynamodt.export.stand_in import stand_in_exports
from dynamodt.model.runs import ABORT, ExportSource, Job, RunRecord
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.context import Follower, RunContext, run_phases
from dynamodt.runs.history import RunRecorder, changed_since
from dynamodt.runs.jobs import NEW, NONE, SCAN, WINDOWS, final_scan_job, incremental_job, or_without_period
from dynamodt.runs.pace import elapsed
from dynamodt.state.runs import Phase, or_undo, retry_run
from dynamodt.state.split_rows import totals_of
from dynamodt.state.storage import owner_of

if TYPE_CHECKING:
    from dynamodt.export.datafiles import DataFile, Manifest
    from dynamodt.state.state import State

_MOST_EXPORTS = 100
_ASK_SECONDS = 20.0
_SECOND = timedelta(seconds=1)
_MOST_ASKED, _ASKED_AGAIN = 30, timedelta(minutes=1)  # requests for one moment, as it becomes exportable later


@dataclass(frozen=True, slots=True)
class SourceExport:
    """A finished export of the table, with its moment or end. `name` has its ARN and a digest of its list of files."""

    source: ExportSource
    files: int
    items: int
    until: datetime | None
    name: str = ""


def source_export(context: RunContext, table: TableSpec, recorder: RunRecorder) -> SourceExport:
    """The export that a run reads: the one with which it began, or a new one. An unusable export is removed from the
    record if none of it was read.

    Raises Refused for an unusable table or export, UsageError for a place without an export, RunFailed for an export
    that failed or is damaged, Aborted when the run is aborted.
    """
    if not recorder.record.exports:
        export = context.options.export or NEW
        if export == NEW:
            export = _request_full(context, table, recorder.record)
            _keep_requested(recorder, export)
        else:
            owner = _owner_fact(context, export)
            recorder.keep(exports=(export,), began={**recorder.record.began, **owner})
    with forget_unusable(recorder, 0, unread=not recorder.record.splits):
        found = _full(context, table, recorder.record)
        if context.options.export not in ("", NEW) and not recorder.record.splits:
            _check_recent(context.state, recorder.record, found)
    places = (_place(context, recorder.record), *recorder.record.exports[1:])
    recorder.keep(exports=places, splits=found.files, began={**recorder.record.began, _EXPORT: found.name})
    final_scan = context.options.catch_up == SCAN and not context.options.dry_run
    return replace(found, source=replace(found.source, final_scan=final_scan))


def _check_recent(state: State, record: RunRecord, found: SourceExport) -> None:
    later = changed_since(state, record, found.until) if found.until else None
    if later is not None:
        what = f"the export is older than the last change of the table, by run {later.run}"
        raise Refused(what, where=f"table {record.table}", hint="leave out --export: a new one is requested")


def export_already_read(record: RunRecord) -> SourceExport:
    """The export of a run that has read all of it, for a replay of its dead letters: its files are not needed, and may
    be gone."""
    return SourceExport(ExportSource("", "", "", final_scan=bool(record.final_scan)), record.splits, 0, None)


def _keep_requested(recorder: RunRecorder, arn: str) -> None:
    """Records an export that the run has requested: `destroy` deletes the files of such exports only."""
    record = recorder.record
    recorder.keep(exports=(*record.exports, arn), requested=tuple(dict.fromkeys((*record.requested, arn))))


@contextmanager
def forget_unusable(recorder: RunRecorder, number: int, unread: bool) -> Iterator[None]:
    """Removes an unusable export from the record if none of it was read, so that the same command requests another one.
    Otherwise the run needs it, or is undone: the hint of the error names both."""
    try:
        yield
    except (ServiceError, Fenced, Aborted):
        raise
    except DynamodtError as error:
        record = recorder.record
        if unread:
            recorder.keep(exports=record.exports[:number], failed_exports=record.failed_exports + 1)
        elif not isinstance(error, Refused):
            again = suggest(record.direction, table=record.table, export="s3://BUCKET/PREFIX")
            copy = "" if number else "; or name a copy: " + again
            raise error.hinted("restore it" + copy + or_undo(record)) from error
        raise


def _full(context: RunContext, table: TableSpec, record: RunRecord) -> SourceExport:
    export = _place(context, record)
    found = await_export(context, table, record, export)
    if found.source.incremental:
        hint = "name a full export, or let one be requested: --export new"
        raise UsageError("is an incremental export: it holds only what changed", where=export, hint=hint)
    if record.splits and (known := record.began.get(_EXPORT, found.name)) != found.name:
        what = f"run {record.run} began with the export {known}, and {found.name} is there now"
        hint = "restore that one, and run the same command again" + or_undo(record)
        raise Refused(what, where=export, hint=hint, run=record.run)
    return found


def _place(context: RunContext, record: RunRecord) -> str:
    """Where a run's export is: once it is partly read, a command may name a copy of it."""
    named = context.options.export
    return named if record.splits and named.startswith("s3://") else record.exports[0]


def _request_full(context: RunContext, table: TableSpec, record: RunRecord) -> str:
    """Request an export of the whole table at the next whole second, where an incremental export can start."""
    if context.stage.local:
        return request(context, ExportRequest(table, token_of(record, 0)))
    at = time_of(context.stage, table) + _SECOND  # the next one: an earlier version may have ended in this one
    _abortable_sleep(context, record)(2 * _SECOND.total_seconds())  # a moment in the future is refused for good
    return request_when_available(context, record, ExportRequest(table, token_of(record, 0, at), at=at))


def request_when_available(context: RunContext, record: RunRecord, wanted: ExportRequest) -> str:
    """`request`, repeated every minute while the moment is too early for DynamoDB. Raises Refused for any other reason,
    and after half an hour."""
    for _ in range(_MOST_ASKED):
        try:
            return request(context, wanted)
        except Refused as error:
            if not is_too_early(error):
                raise
        pause(context, record, _ASKED_AGAIN)
    return request(context, wanted)


# Captured on the service (the public catalogue ack-api-quirks, DDB-EXPORT-001, -004, -019). Other messages of this
# code ("Export Time is invalid", "cannot be less than the table creation time") concern moments that stay unusable.
_TOO_EARLY = ("not available for specified export time", "greater than the current time", "less than 15 minutes")


def is_too_early(error: Refused) -> bool:
    """Whether the error is that DynamoDB cannot export up to this moment yet: the last writes take some minutes."""
    detail = getattr(error.__cause__, "response", {}).get("Error", {})
    early = any(words in detail.get("Message", "") for words in _TOO_EARLY)
    return early and detail.get("Code") == "InvalidExportTimeException"


def time_of(stage: Stage, table: TableSpec) -> datetime:
    """DynamoDB's clock, to the second."""
    return service_time(client(stage.connection, "dynamodb"), table.name)


def request(context: RunContext, wanted: ExportRequest) -> str:
    """Request an export, or find the one that this run has requested before; returns its ARN."""
    what = "an incremental export" if wanted.since else "an export"
    wait = "" if context.stage.local else "; DynamoDB takes some minutes for it"
    context.observer.notify(f"requesting {what} of {wanted.table.name}{wait}")
    return exports_of(context.stage).request(wanted).arn


def await_export(context: RunContext, table: TableSpec, record: RunRecord, place: str) -> SourceExport:
    """The export with an ARN, once it is finished, or the one at a location in S3."""
    there = identity(client(context.stage.connection, "dynamodb"), table.name)
    if place.startswith("s3://"):
        bucket, prefix = split_url(place)
        known = record.began.get(_OWNER.format(bucket))
        owner = owner_of(context.stage, bucket) if known is None else known
        return _source_export(context.stage, there, bucket, owner, find(_objects(context.stage, bucket, owner), prefix))
    exports = exports_of(context.stage)
    began = time.monotonic()
    for export in poll_until_completed(exports, place, _abortable_sleep(context, record), every=_ASK_SECONDS):
        if export.status == COMPLETED:
            return _source_export(context.stage, there, export.bucket, export.owner, folder_of(export))
        context.observer.notify(f"DynamoDB writes the export {export.id}: {elapsed(time.monotonic() - began)}")
    raise AssertionError("the last state of an export is that it is completed")


def _abortable_sleep(context: RunContext, record: RunRecord) -> Callable[[float], None]:
    """A sleep that raises Aborted when the run is aborted."""

    def sleep(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            if not context.options.dry_run and context.state.leases.read(record.table).stop == ABORT:
                hint = "the same command continues to wait"
                raise Aborted("the run was aborted", where=f"run {record.run}", hint=hint)

    return sleep


def pause(context: RunContext, record: RunRecord, time_left: timedelta) -> None:
    """Wait until an export can be requested, and report it."""
    if time_left > timedelta():
        context.observer.notify(f"the export can be requested at {datetime.now(UTC) + time_left:%H:%M:%S} UTC")
        _abortable_sleep(context, record)(time_left.total_seconds())


def exports_of(stage: Stage) -> Exports:
    """DynamoDB's exports; on a local stage, whose emulator writes no files, the stand-in's."""
    return (stand_in_exports if stage.local else aws_exports)(stage.connection, stage.storage)


def token_of(record: RunRecord, number: int, *moments: datetime) -> str:
    """The client token of one export of a run: number 0 is the full export, others are incremental. It includes the
    moments, since DynamoDB refuses a repeated token with other parameters."""
    span = "".join(f"-{int(moment.timestamp())}" for moment in moments)
    return f"{record.run}-{number}-{record.failed_exports}{span}"


def _source_export(stage: Stage, table: TableIdentity, bucket: str, owner: str, folder: ExportFolder) -> SourceExport:
    objects = _objects(stage, bucket, owner)
    manifest = _manifest(objects, folder, table)
    files = data_files(objects, manifest)
    check_there(objects, files)
    source = ExportSource(bucket, folder.key, table.arn, owner, incremental=manifest.kind == "incremental")
    until = manifest.until if source.incremental else manifest.at
    return SourceExport(source, len(files), manifest.items, until, f"{manifest.arn} (files {digest_of(files)})")


def open_export(stage: Stage, table: TableSpec, place: str) -> tuple[tuple[DataFile, ...], S3Objects]:
    """The data files of a finished full export of the table, by its ARN or its place in S3, and the objects to read
    them. Raises as a run with this export would; UsageError for an export that is incremental or not finished."""
    there = identity(client(stage.connection, "dynamodb"), table.name)
    if place.startswith("s3://"):
        bucket, prefix = split_url(place)
        objects = _objects(stage, bucket, owner_of(stage, bucket))
        folder = find(objects, prefix)
    else:
        export = exports_of(stage).describe(place)
        if export.status != COMPLETED:
            raise UsageError(f"the export is {export.status}", where=place, hint="wait for it, or name another one")
        objects, folder = _objects(stage, export.bucket, export.owner), folder_of(export)
    manifest = _manifest(objects, folder, there)
    if manifest.kind == "incremental":
        raise UsageError("is an incremental export", where=place, hint="name a full export")
    return data_files(objects, manifest), objects


def _manifest(objects: S3Objects, folder: ExportFolder, table: TableIdentity) -> Manifest:
    """The export's manifest. Raises as `read_manifest`, and as `check_same_table` for another table's export."""
    manifest = read_manifest(objects, folder, table.arn)
    check_same_table(manifest, table, objects.place(folder.key))
    return manifest


def _objects(stage: Stage, bucket: str, owner: str) -> S3Objects:
    return S3Objects(client(stage.connection, "s3", owner=owner), bucket, stage.storage.kms_key)


_OWNER, _EXPORT = "owner of the bucket {}", "export"


def _owner_fact(context: RunContext, place: str) -> dict[str, str]:
    """The owner of a bucket that is named by its URL, as a fact of the run's start: a continued run does not read a
    bucket that another account has created under the name of a deleted one."""
    if not place.startswith("s3://"):
        return {}
    bucket = split_url(place)[0]
    return {_OWNER.format(bucket): owner_of(context.stage, bucket)}


_READ_TOO_LONG = (
    "warning: the export was read for more than 24 hours, and several incremental exports follow: an item that the "
    "application deleted in one of them, created again in a later one, and has changed after it was transformed, is "
    "transformed once more (not with STAMP or IDEMPOTENT)"
)


@dataclass
class CatchingUp:
    """The phases of a run after its export's: incremental exports, or a final scan.

    `main` is the export's phase, `phases` are all phases that are known so far.
    """

    context: RunContext
    recorder: RunRecorder
    found: SourceExport
    main: Job
    phases: list[Job]
    follower: Follower

    def run(self) -> None:
        """Catch up in the way of `options.catch_up`. Raises the error that ends it early."""
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
        self._phase(final_scan_job(self.main, self.recorder.record))

    def _incremental_exports(self) -> None:
        """Process incremental exports until one that this attempt has requested brings no change."""
        since = self.found.until
        for number in range(1, _MOST_EXPORTS + 1):
            assert since is not None
            is_new = number >= len(self.recorder.record.exports)
            export = self._export(number, since)
            job = incremental_job(self.main, number, export)
            self._phase(job)
            if not self.follower.complete(job) or (is_new and not self._has_changed(job)):
                return
            since = export.until
        raise RunFailed(
            f"after {_MOST_EXPORTS} incremental exports there are still changes to make",
            where=f"table {self.main.table.name}",
            hint="check that the application writes the new shape: it must, before the data is transformed",
        )

    def _has_changed(self, job: Job) -> bool:
        """Whether an incremental export, or a replay of its dead letters, has changed an item: the application still
        writes items that need it, and may have done so until now."""
        again = [Phase(retry_run(job.run, number), 1) for number in range(1, self.recorder.record.retries + 1)]
        return bool(self.follower.changed(job) or totals_of(self.context.state, again).counts.changed)

    def _export(self, number: int, since: datetime) -> SourceExport:
        """An incremental export that the run has requested before, or the next one."""
        recorder = self.recorder
        if number >= len(recorder.record.exports):
            _keep_requested(recorder, self._request(number, since))
        record = recorder.record
        unread = number > len(record.incremental_exports)
        with forget_unusable(recorder, number, unread):
            found = await_export(self.context, self.main.table, record, record.exports[number])
        if unread:
            known = (*record.incremental_exports, found.files)
            recorder.keep(incremental_exports=known, planned=record.planned + found.files)
        return found

    def _request(self, number: int, since: datetime) -> str:
        context, record = self.context, self.recorder.record
        if context.stage.local:  # the stand-in continues from the exact moment
            return request(context, ExportRequest(self.main.table, token_of(record, number), since=since))
        since = whole_second(since)
        earliest = since + SHORTEST  # DynamoDB's minimum; the stand-in has none
        pause(context, record, earliest - time_of(context.stage, self.main.table))
        at = time_of(context.stage, self.main.table)
        until = min(max(earliest, at), since + LONGEST)
        if number == 1 and at > until and not (self.main.script.idempotent or self.main.script.stamp):
            context.observer.notify(_READ_TOO_LONG)
        token = token_of(record, number, since, until)
        wanted = ExportRequest(self.main.table, token, since=since, until=until)
        try:
            return request_when_available(context, record, wanted)
        except Refused as error:
            raise error.hinted(error.hint + or_without_period(record, self.main.script)) from error

    def _phase(self, job: Job) -> None:
        if all(job.run != known.run for known in self.phases):
            self.phases.append(job)
            self.follower.add(job)
        earlier = tuple(one.run for one in self.phases if one.run != job.run)
        run_phases(self.context, [replace(job, earlier=earlier)], self.follower)
