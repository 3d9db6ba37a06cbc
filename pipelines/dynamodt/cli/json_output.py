"""The result of a command, and the JSON that `--json` prints of it: one object per command; that of a failed command
has an `error`.

It contains no values of items, since it may be logged. `status --follow --json` prints one JSON object per line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamodt.cli.next_steps import left, not_applied, with_subject
from dynamodt.errors import CostReached, DynamodtError, Refused
from dynamodt.model.pages import Units
from dynamodt.model.reports import Cost, RunReport, TableReport, TableStatus, TakeOver, UndoReport, VersionStatus, pick
from dynamodt.model.runs import MAX_USD, Lease, PreparedRef, RunProgress, RunRecord, RunState, ScriptText
from dynamodt.model.tables import TableNames
from dynamodt.runs.display import json_line
from dynamodt.runs.history import now
from dynamodt.runs.pace import ActiveRun, ProgressRecorder, Speed
from dynamodt.state.runs import texts_reported

if TYPE_CHECKING:
    from rich.console import Console

    from dynamodt.deploy.deploy import Deployment
    from dynamodt.deploy.destroy import Removal
    from dynamodt.doctor.doctor import Examination
    from dynamodt.local.stage import LocalStatus

Document = dict[str, Any]


def error_document(error: BaseException) -> Document:
    """`{"what", "where", "hint", "exit_code"}` of any error; `"run"` is the run that a refusal names, `"limit"` the
    limit that has stopped a run."""
    if isinstance(error, DynamodtError):
        of_run = {"run": error.run} if isinstance(error, Refused) and error.run else {}
        limit = {"limit": MAX_USD} if isinstance(error, CostReached) else {}
        plain = {"what": error.what, "where": error.where, "hint": error.hint, "exit_code": error.exit_code}
        return {**plain, **of_run, **limit}
    return {"what": f"{type(error).__name__}: {error}", "where": "", "hint": "", "exit_code": 1}


def with_names(document: Any, names: TableNames) -> Any:
    """The document with tables by their logical names; `table_name` is the real one, where it differs."""
    if isinstance(document, list):
        return [with_names(each, names) for each in document]
    if not isinstance(document, dict) or not names.known:
        return document
    inner = {key: with_names(value, names) for key, value in document.items()}
    if "notices" in inner:
        inner["notices"] = [names.in_text(text) for text in inner["notices"]]
    real = inner.get("table")
    if not isinstance(real, str) or names.logical(real) == real:
        return inner
    return {"table": names.logical(real), "table_name": real, **{k: v for k, v in inner.items() if k != "table"}}


def tables_document(reports: Iterable[TableReport]) -> Document:
    """The document of `up` and `down`."""
    return {"tables": [_table(report) for report in reports]}


def undo_document(report: UndoReport) -> Document:
    """The document of `undo`. `first` has the keys of a few items that were not restored."""
    run = report.run
    first = [item._asdict() for item in report.first_not_restored]
    return {
        **pick(run, "table run version name direction status"),
        **_amounts(run),
        "restored": {"fully": report.fully, "partly": report.partly},
        "left": {"items": report.not_restored, "file": report.not_restored_at, "first": first},
        "missing_parts": report.missing,
        "at": report.at,
        **_given(refusal=report.refusal, error=report.error),
    }


def history_document(history: Mapping[str, Sequence[RunRecord]], younger: Mapping[str, str] = {}) -> Document:
    """The document of `history`: a table's runs in the order of the mapping's lists. `younger` has a sentence for each
    table that was created after its last run."""
    tables = [
        {"table": table, "runs": list(map(_record, runs)), **_given(younger_than_last_run=younger.get(table))}
        for table, runs in history.items()
    ]
    return {"tables": tables}


def status_document(statuses: Iterable[TableStatus]) -> Document:
    """The document of `status`."""
    return {"tables": [_status(status) for status in statuses]}


def check_document(found: Sequence[TableStatus]) -> Document:
    """The `check` of `status --check --json`: the versions that are left."""
    versions = [
        {"table": status.table, **pick(version, "version name state")} for status in found for version in left(status)
    ]
    passed = not any(not_applied(status) or status.error for status in found)
    return {"passed": passed, "left": versions}


def runs_document(runs: Iterable[RunState]) -> Document:
    """The document of `runs`."""
    return {"runs": [_run_state(run) for run in runs]}


def progress_document(run: ActiveRun, at: str, seconds: float) -> Document:
    """A line of `status --follow` about a run; `at` is the time, `seconds` the duration of the run."""
    run_progress, speed = run.run_progress, run.pace.speed() or Speed()
    left = run.pace.seconds_left()
    return {
        "at": at,
        **_version_of(run),
        "status": run_progress.idle.partition(":")[0] or "running",
        "held_by": run_progress.idle.partition(": ")[2],
        "percent": run.share.percent,
        "units": {"done": run_progress.totals.done, "planned": run_progress.planned},
        "counts": run_progress.totals.counts._asdict(),
        "contention": run_progress.totals.contention._asdict(),
        "consumed": rounded(rcu=run_progress.totals.units.rcu, wcu=run_progress.totals.units.wcu),
        "per_second": rounded(items=speed.items, rcu=speed.rcu, wcu=speed.wcu, bytes=speed.bytes),
        "budget": {"rcu": run_progress.rcu, "wcu": run_progress.wcu},
        "seconds": round(seconds, 3),
        "seconds_left": None if left is None else round(left, 1),
    }


def followed_document(reports: Iterable[RunReport]) -> Document:
    """The last line of `status --follow`: the result of each run."""
    return {"runs": [{"table": run.table, "direction": run.direction, **_run(run)} for run in reports]}


def reported_document(command: str, lease: Lease, limits: Units) -> Document:
    """The document of `pause`, `resume`, `abort`, `unlock` and `throttle`: the command, and the holder of the run."""
    budget = {"max_wcu": limits.wcu or lease.wcu or None, "max_rcu": limits.rcu or lease.rcu or None}
    run = {"table": lease.table, "command": command, "run": lease.run, **_holder(lease)}
    return {**run, "pause_reason": lease.pause_reason, **budget}


def baseline_document(taken: TakeOver) -> Document:
    """The document of `stamp`, `import-history` and `repair`: the runs that were recorded, or would be."""
    runs = [_record(run) for run in taken.records]
    versions = [outcome._asdict() for outcome in taken.outcomes]
    return {"table": taken.table, "at": taken.at, "recorded": runs, "versions": versions, "dry_run": taken.dry_run}


def prepared_document(table: str, version: int, prepared: PreparedRef, dry_run: bool) -> Document:
    """The document of `prepare`."""
    stored = pick(prepared, "url rows sha256 script_checksum created")
    return {"table": table, "version": version, **stored, "dry_run": dry_run}


def files_document(files: Iterable[Path], dry_run: bool) -> Document:
    """The document of `init` and `create`."""
    return {"files": [str(path) for path in files], "dry_run": dry_run}


def local_document(status: LocalStatus) -> Document:
    """The document of `local`; `url`, `pid` and `since` are null if it is not running."""
    document: Document = {"running": status.running, "url": None, "pid": None, "since": None}
    if status.running:
        document.update(url=status.url, pid=status.pid, since=str(status.since))
    return {**document, "folder": str(status.folder)}


def examination_document(found: Examination) -> Document:
    """The document of `doctor`, also stored as its report."""
    checks = [finding._asdict() | {"hint": str(finding.hint)} for finding in found.findings]
    return {"stage": found.stage, "wrong": len(found.wrong), "checks": checks, "report": found.report}


def _table(report: TableReport) -> Document:
    return {
        "table": report.table,
        "direction": report.direction,
        "versions": [_run(run) for run in report.versions],
        **_given(notices=list(report.notices), refusal=report.refusal),
        **_given(not_started=report.held_back, error=report.error),
    }


def _run(run: RunReport) -> Document:
    error = DynamodtError(run.error, where=f"{run.table} v{run.version} {run.name}") if run.error else None
    return {
        **pick(run, "version name run status"),
        **_amounts(run),
        **_given(cost=run.cost and _cost(run.cost), dead_letters=run.dead_letters, accepted=run.accepted),
        **_given(uncovered_since=run.uncovered, scripts=_texts(run.texts), error=error),
    }


def _given(**values: Any) -> Document:
    """Optional keys of a document: the values that are not empty, each error as its document."""
    given = {name: value for name, value in values.items() if value}
    return {name: error_document(one) if isinstance(one, BaseException) else one for name, one in given.items()}


def _cost(cost: Cost) -> Document:
    usd = None
    if cost.usd is not None:
        low, high = (round(amount, 6) for amount in cost.usd)
        usd = {"low": low, "high": high, "as_of": cost.as_of}
    return {
        **rounded(wcu=cost.wcu, wcu_most=cost.wcu_most, rcu=cost.rcu),
        "s3_requests": {"put": cost.puts, "get": cost.gets},
        "export_bytes": cost.export_bytes,
        "usd": usd,
    }


def _amounts(run: RunReport | RunRecord) -> Document:
    return {
        "counts": run.counts._asdict(),
        "consumed": rounded(rcu=run.consumed.rcu, wcu=run.consumed.wcu),
        "seconds": round(run.seconds, 3),
    }


def _texts(texts: Sequence[ScriptText]) -> list[Document]:
    return [text._asdict() for text in texts]


def _record(run: RunRecord) -> Document:
    return {
        **pick(run, "run version name direction checksum status started ended by reason commit"),
        **_amounts(run),
        "dead_letters": run.dead_letters,
        "error": error_document(DynamodtError(run.error)) if run.error else None,
        "undone": run.undone,
        "text": run.text,
        **({"text_before": run.text_before} if run.status == "repaired" else {}),
        **_given(undone_reason=run.undone_reason, accepted=accepted_documents(run)),
        **_given(scripts=_texts(texts_reported(run))),
    }


def accepted_documents(run: RunRecord) -> list[Document]:
    """The accepted dead letters of a run: for each command the number, the user, the time and the reason."""
    return [{**pick(one, "items by when why"), "reason": one.why} for one in run.accepted]


def _version_of(run: ActiveRun | RunRecord) -> Document:
    return pick(run, "table run version name direction")


def _run_state(state: RunState) -> Document:
    record, holder = state.record, state.holder
    return {
        **_version_of(record),
        "status": state.status,
        **pick(record, "started ended by reason commit"),
        "counts": state.counts._asdict(),
        "dead_letters": record.dead_letters,
        "error": record.error,
        **_given(accepted=record.accepted_items),
        "holder": _holder(holder) if holder else None,
    }


def _holder(lease: Lease) -> Document:
    return pick(lease, "user host pid since")


def rounded(**amounts: float) -> Document:
    return {name: round(amount, 3) for name, amount in amounts.items()}


def _status(status: TableStatus) -> Document:
    compared = {"younger_than_last_run": status.younger, "older_state": status.older_state}
    optional = _given(**compared, not_compared=status.not_compared, error=status.error)
    versions = list(map(_version_status, status.versions))
    return {"table": status.table, "at": status.at, "versions": versions, **optional}


def _version_status(version: VersionStatus) -> Document:
    run = version.run
    shown = run and {"id": run.run, **pick(run, "direction status started dead_letters error")}
    optional = _given(run=shown, dead=version.dead, held=version.held, changed=list(version.changed))
    return {**pick(version, "version name state path when"), **optional}


def deployment_document(made: Deployment) -> Document:
    """The document of `deploy`."""
    changes = [change._asdict() for change in made.changes]
    return {**pick(made, "stack status"), "changes": changes, "outputs": dict(made.outputs)}


def removal_document(removal: Removal) -> Document:
    """The document of `destroy`."""
    return {**pick(removal, "stack status"), "removed": list(removal.removed), "kept": list(removal.kept)}


class JsonLines(ProgressRecorder):
    """Passes each progress of a run to `emit` as a document, and notes to `notify`."""

    def __init__(self, emit: Callable[[Document], None], notify: Callable[[str], None]) -> None:
        super().__init__(watching=True)
        self._emit = emit
        self._notify = notify

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        super().progressed(table, run_progress)
        if table in self.running:
            run = self.running[table]
            document = progress_document(run, now(), self.clock() - run.since)
            self._emit(with_names(document, self.names))

    def notify(self, text: str) -> None:
        self._notify(self.names.in_text(text))


def print_line(document: dict[str, Any]) -> None:
    """Prints to stdout without a buffer. Raises BrokenPipeError if the reader has closed it."""
    sys.stdout.write(json_line(document))
    sys.stdout.flush()


# ---------------------------------------------------------------- with the errors of the command

_MOST_SERIOUS_FIRST = (130, 143, 1, 2, 3)


@dataclass(frozen=True)
class CommandResult:
    """`--json` prints `document`, `render` prints the same as text; `errors` are printed on stderr."""

    document: Document
    render: Callable[[Console], None]
    errors: tuple[BaseException, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of the most serious error: a stop, then 1, 2 and 3."""
        if not self.errors:
            return 0
        code: int = min(map(error_document, self.errors), key=_seriousness)["exit_code"]
        return code


def with_error(document: Document, errors: Sequence[BaseException]) -> Document:
    """The document with the most serious of the errors, the first of its kind, if there is any."""
    if not errors:
        return document
    return {**document, "error": min(map(error_document, errors), key=_seriousness)}


def _seriousness(error: Document) -> int:
    return _MOST_SERIOUS_FIRST.index(error["exit_code"])


def without_duplicates(errors: Sequence[BaseException]) -> list[BaseException]:
    """The errors, one for several tables only once."""
    seen: dict[object, BaseException] = {}
    for error in errors:
        text = (error.what, error.where, error.hint) if isinstance(error, DynamodtError) else id(error)
        first = seen.setdefault(text, error)
        if first is not error:
            with_subject(first, "")
    return list(seen.values())
