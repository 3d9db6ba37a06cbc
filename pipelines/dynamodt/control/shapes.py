"""The JSON that `--json` prints: one object a command, of plain types only. A failed one has an `error`.

Item values never appear here: this output ends in logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynamodt.control.requests import LocalStatus
from dynamodt.errors import DynamodtError
from dynamodt.model import Lease, PreparedRef, RunRecord, RunReport, TableReport, TableStatus, TakeOver, Units

Document = dict[str, Any]


def error_document(error: BaseException) -> Document:
    """`{"what", "where", "hint", "exit_code"}` of any error."""
    if isinstance(error, DynamodtError):
        return {"what": error.what, "where": error.where, "hint": error.hint, "exit_code": error.exit_code}
    return {"what": f"{type(error).__name__}: {error}", "where": "", "hint": "", "exit_code": 1}


def tables_document(reports: Iterable[TableReport]) -> Document:
    """What `up` and `down` print."""
    return {"tables": [_table(report) for report in reports]}


def history_document(history: Mapping[str, Sequence[RunRecord]]) -> Document:
    """What `history` prints: a table's runs in the order of the mapping's lists."""
    return {"tables": [{"table": table, "runs": [_record(run) for run in runs]} for table, runs in history.items()]}


def status_document(statuses: Iterable[TableStatus]) -> Document:
    """What `status` prints."""
    return {"tables": [_status(status) for status in statuses]}


def told_document(verb: str, lease: Lease, limits: Units) -> Document:
    """What `pause`, `resume`, `abort`, `unlock` and `throttle` print: what was done, and to whose run."""
    holder = {"user": lease.user, "host": lease.host, "pid": lease.pid, "since": lease.since, "hold": lease.hold}
    budget = {"max_wcu": limits.wcu or lease.wcu or None, "max_rcu": limits.rcu or lease.rcu or None}
    return {"table": lease.table, "verb": verb, "run": lease.run, **holder, **budget}


def take_over_document(taken: TakeOver) -> Document:
    """What `stamp` and `adopt` print: the runs that were recorded, or would be."""
    runs = [_record(run) for run in taken.records]
    return {"table": taken.table, "at": taken.at, "recorded": runs, "dry_run": taken.dry_run}


def prepared_document(table: str, version: int, prepared: PreparedRef, dry_run: bool) -> Document:
    """What `prepare` prints."""
    return {
        "table": table,
        "version": version,
        "url": prepared.url,
        "rows": prepared.rows,
        "sha256": prepared.sha256,
        "script_checksum": prepared.script_checksum,
        "created": prepared.created,
        "dry_run": dry_run,
    }


def files_document(files: Iterable[Path], dry_run: bool) -> Document:
    """What `init` and `create` print."""
    return {"files": [str(path) for path in files], "dry_run": dry_run}


def local_document(status: LocalStatus) -> Document:
    """What `local` prints; `url`, `pid` and `since` are null while it is not running."""
    document: Document = {"running": status.running, "url": None, "pid": None, "since": None}
    if status.running:
        document.update(url=status.url, pid=status.pid, since=str(status.since))
    return {**document, "folder": str(status.folder)}


def _table(report: TableReport) -> Document:
    document: Document = {
        "table": report.table,
        "direction": report.direction,
        "versions": [_run(run) for run in report.versions],
    }
    return document if report.error is None else {**document, "error": error_document(report.error)}


def _run(run: RunReport) -> Document:
    document = {"version": run.version, "name": run.name, "run": run.run, "status": run.status, **_amounts(run)}
    if run.dead_letters:
        document["dead_letters"] = run.dead_letters
    if run.error:
        where = f"{run.table} v{run.version} {run.name}"
        document["error"] = error_document(DynamodtError(run.error, where=where))
    return document


def _amounts(run: RunReport | RunRecord) -> Document:
    return {
        "counts": run.counts._asdict(),
        "consumed": {"rcu": round(run.consumed.rcu, 3), "wcu": round(run.consumed.wcu, 3)},
        "seconds": round(run.seconds, 3),
    }


def _record(run: RunRecord) -> Document:
    return {
        "run": run.run,
        "version": run.version,
        "name": run.name,
        "direction": run.direction,
        "checksum": run.checksum,
        "status": run.status,
        "started": run.started,
        "ended": run.ended,
        "by": run.by,
        **_amounts(run),
        "dead_letters": run.dead_letters,
        "error": error_document(DynamodtError(run.error)) if run.error else None,
    }


def _status(status: TableStatus) -> Document:
    versions = [
        {"version": v.version, "name": v.name, "state": v.state, "path": v.path, "when": v.when}
        for v in status.versions
    ]
    return {"table": status.table, "at": status.at, "versions": versions}
