"""After an export: what was written since its moment, window by window, until one brings no change."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from dynamodt.aws.export.request import LONGEST, SHORTEST, ExportRequest, whole_second
from dynamodt.control.planner import segments
from dynamodt.control.running.exporting import (
    WINDOWS,
    Found,
    forgotten_if_bad,
    ready,
    request,
    request_in_time,
    rest,
    time_of,
    token_of,
)
from dynamodt.control.running.history import Chronicle
from dynamodt.control.running.session import Follower, Session, run_passes
from dynamodt.core.passes import window_run
from dynamodt.errors import DynamodtError, Refused, RunFailed
from dynamodt.model import REST, Job, RunRecord, Script

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


def check_moment(found: Found, script: Script, catch_up: str) -> None:
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
        self, session: Session, chronicle: Chronicle, found: Found, main: Job, passes: list[Job], follower: Follower
    ) -> None:
        self._session = session
        self._chronicle = chronicle
        self._found = found
        self._main = main
        self._passes = passes
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
        record = self._chronicle.record
        if not record.rest:
            units = segments(self._main.table, self._session.options.workers)
            self._chronicle.keep(rest=units, planned=record.planned + units)
        return self._pass(_rest_job(self._main, self._chronicle.record))

    def _windows(self) -> BaseException | None:
        """Ends with the first window that brings no change."""
        since = self._found.until
        for number in range(1, _MOST_WINDOWS + 1):
            assert since is not None
            window = self._window(number, since)
            job = window_job(self._main, number, window)
            error = self._pass(job)
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

    def _window(self, number: int, since: datetime) -> Found:
        """A window that the run has asked for before, or the next one."""
        chronicle = self._chronicle
        if number >= len(chronicle.record.exports):
            chronicle.keep(exports=(*chronicle.record.exports, self._request(number, since)))
        record = chronicle.record
        unread = number > len(record.windows)
        with forgotten_if_bad(chronicle, number, unread):
            found = ready(self._session, self._main.table, record, record.exports[number])
        if unread:
            chronicle.keep(windows=(*record.windows, found.files), planned=record.planned + found.files)
        return found

    def _request(self, number: int, since: datetime) -> str:
        session, record = self._session, self._chronicle.record
        if session.stage.local:  # its stand-in goes on from the very moment
            return request(session, ExportRequest(self._main.table, token_of(record, number), since=since))
        since = whole_second(since)
        earliest = since + SHORTEST  # DynamoDB's rule; the stand-in knows none
        rest(session, record, earliest - time_of(session.stage, self._main.table))
        until = min(max(earliest, time_of(session.stage, self._main.table)), since + LONGEST)
        token = token_of(record, number, since, until)
        wanted = ExportRequest(self._main.table, token, since=since, until=until)
        return request_in_time(session, record, wanted)

    def _pass(self, job: Job) -> BaseException | None:
        if all(job.run != known.run for known in self._passes):
            self._passes.append(job)
            self._follower.add(job)
        retried = tuple(one.run for one in self._passes if one.letters)
        return run_passes(self._session, [replace(job, retried=retried)], self._follower)


def begun_later(record: RunRecord, main: list[Job]) -> list[Job]:
    """The passes after the export's that an earlier attempt has begun, for the dead letters that they have left."""
    like = next((job for job in main if job.export is not None), None)
    if like is None:
        return []
    windows = [
        replace(like, run=window_run(record.run, number), units=units) for number, units in enumerate(record.windows, 1)
    ]
    return [*windows, *([_rest_job(like, record)] if record.rest else [])]


def _rest_job(main: Job, record: RunRecord) -> Job:
    return replace(main, run=record.run + REST, export=None, units=record.rest)


def window_job(main: Job, number: int, window: Found) -> Job:
    """The pass over a window: all items that it shows, or, where a second transformation would harm, only those that
    came into being in it: the others were there when the export was made, and are done."""
    source = replace(window.source, created_only=not main.script.idempotent)
    return replace(main, run=window_run(main.base_run, number), units=window.files, export=source)
