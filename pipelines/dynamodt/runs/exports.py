"""After an export: what was written since its moment, window by window, until one brings no change.

An export as a version's source: chosen, requested, awaited, found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

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
from dynamodt.model.runs import ABORT, FINAL_SCAN, ExportSource, Job, RunRecord, ScanSource, Script
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.history import RunRecorder
from dynamodt.runs.pace import elapsed
from dynamodt.runs.plan import segments
from dynamodt.runs.session import Follower, Session, run_phases
from dynamodt.state.phases import incremental_run

SCAN, EXPORT = "scan", "export"
WINDOWS = "windows"
NEW = "new"
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


def sourced(session: Session, table: TableSpec, run_recorder: RunRecorder) -> SourceExport:
    """The export that a run reads: the one that it began with, or a new one. It is kept in the run's record before the
    wait, so that a command that is typed again waits for the same export; one that will not do is forgotten, as long
    as nothing of it has been read.

    Raises Refused for a table or an export that will not do, UsageError for a place that holds none, RunFailed for an
    export that failed or is damaged, Aborted when the run is told to end meanwhile.
    """
    if not run_recorder.record.exports:
        word = session.options.export or NEW
        if word == NEW:
            word = _request_full(session, table, run_recorder.record)
        run_recorder.keep(exports=(word,))
    with forgotten_if_bad(run_recorder, 0, unread=not run_recorder.record.splits):
        found = _full(session, table, run_recorder.record)
    run_recorder.keep(splits=found.files)
    final_scan = session.options.catch_up == SCAN and not session.options.dry_run
    return replace(found, source=replace(found.source, final_scan=final_scan))


@contextmanager
def forgotten_if_bad(run_recorder: RunRecorder, number: int, unread: bool) -> Iterator[None]:
    """An export that will not do is forgotten when nothing of it was read: the same command asks for another one."""
    try:
        yield
    except (ServiceError, Fenced, Aborted):
        raise
    except DynamodtError:
        record = run_recorder.record
        if unread:
            run_recorder.keep(exports=record.exports[:number], failed_exports=record.failed_exports + 1)
        raise


def _full(session: Session, table: TableSpec, record: RunRecord) -> SourceExport:
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


def ready(session: Session, table: TableSpec, record: RunRecord, word: str) -> SourceExport:
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


SCAN, NONE = "scan", "none"
_MOST_WINDOWS = 100


def check_export(script: Script, catch_up: str) -> None:
    """Raises Refused for a script that an export would mislead: its images are older than the table's items."""
    if script.guard == "changed" and not script.idempotent:
        raise Refused(
            'GUARD = "changed" cannot be used with an export: what the script has read of an item may be hours old, '
            "and the guard does not compare it",
            where=script.path,
            hint="leave out GUARD, or read the table itself (--source scan), or set IDEMPOTENT = True, if a second "
            "application harms nothing",
        )
    _check_catch_up(script, catch_up)


def check_moment(found: SourceExport, script: Script, catch_up: str) -> None:
    """Raises Refused for an export whose moment is within a second: its first window would begin before it, and show
    items of the export as new ones."""
    moment = found.until
    if moment is None or not moment.microsecond or script.idempotent or (catch_up or WINDOWS) != WINDOWS:
        return
    raise Refused(
        f"the export shows the table at {moment:%H:%M:%S.%f} UTC, and a window starts at a whole second: what came "
        "into being in between would be transformed twice",
        where=f"s3://{found.source.bucket}/{found.source.folder}",
        hint="let a new one be requested (--export new), or request it with an ExportTime of whole seconds; or go on "
        "without windows: --catch-up none",
    )


def _check_catch_up(script: Script, catch_up: str) -> None:
    """Raises Refused for a last scan that could not tell what is done already."""
    if catch_up == SCAN and not (script.idempotent or script.stamp):
        raise Refused(
            "a last scan would transform items twice: the script is not IDEMPOTENT, and marks nothing",
            where=script.path,
            hint="catch up by windows (--catch-up windows), or set STAMP or IDEMPOTENT in the script",
        )


class CatchingUp:
    """The passes of a run after its export's. `main` is the export's pass, `passes` are all that are known so far."""

    def __init__(
        self,
        session: Session,
        run_recorder: RunRecorder,
        found: SourceExport,
        main: Job,
        phases: list[Job],
        follower: Follower,
    ) -> None:
        self._session = session
        self._run_recorder = run_recorder
        self._found = found
        self._main = main
        self._phases = phases
        self._follower = follower

    def run(self) -> BaseException | None:
        """Catch up as the run was asked to; returns what ended it early."""
        asked = self._session.options.catch_up or WINDOWS
        if asked == NONE or self._session.options.dry_run:
            return None
        try:
            return self._last_scan() if asked == SCAN else self._windows()
        except (DynamodtError, KeyboardInterrupt) as error:
            return error

    def _last_scan(self) -> BaseException | None:
        record = self._run_recorder.record
        if not record.final_scan:
            units = segments(self._main.table, self._session.options.workers)
            self._run_recorder.keep(final_scan=units, planned=record.planned + units)
        return self._phase(_final_scan_job(self._main, self._run_recorder.record))

    def _windows(self) -> BaseException | None:
        """Ends with the first window that brings no change."""
        since = self._found.until
        for number in range(1, _MOST_WINDOWS + 1):
            assert since is not None
            window = self._window(number, since)
            job = incremental_job(self._main, number, window)
            error = self._phase(job)
            if error is not None or not self._follower.complete(job):
                return error
            if self._follower.changed(job) == 0:
                return None
            since = window.until
        return RunFailed(
            f"after {_MOST_WINDOWS} windows there are still changes to make",
            where=f"table {self._main.table.name}",
            hint="does the application write the new shape by now? It must, before the data is transformed",
        )

    def _window(self, number: int, since: datetime) -> SourceExport:
        """A window that the run has asked for before, or the next one."""
        run_recorder = self._run_recorder
        if number >= len(run_recorder.record.exports):
            run_recorder.keep(exports=(*run_recorder.record.exports, self._request(number, since)))
        record = run_recorder.record
        unread = number > len(record.incremental_exports)
        with forgotten_if_bad(run_recorder, number, unread):
            found = ready(self._session, self._main.table, record, record.exports[number])
        if unread:
            run_recorder.keep(
                incremental_exports=(*record.incremental_exports, found.files), planned=record.planned + found.files
            )
        return found

    def _request(self, number: int, since: datetime) -> str:
        session, record = self._session, self._run_recorder.record
        if session.stage.local:  # its stand-in goes on from the very moment
            return request(session, ExportRequest(self._main.table, token_of(record, number), since=since))
        since = whole_second(since)
        earliest = since + SHORTEST  # DynamoDB's rule; the stand-in knows none
        rest(session, record, earliest - time_of(session.stage, self._main.table))
        until = min(max(earliest, time_of(session.stage, self._main.table)), since + LONGEST)
        token = token_of(record, number, since, until)
        wanted = ExportRequest(self._main.table, token, since=since, until=until)
        return request_in_time(session, record, wanted)

    def _phase(self, job: Job) -> BaseException | None:
        if all(job.run != known.run for known in self._phases):
            self._phases.append(job)
            self._follower.add(job)
        retried = tuple(one.run for one in self._phases if one.replays)
        return run_phases(self._session, [replace(job, retried=retried)], self._follower)


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
