"""The operations behind the command line, without a stage: a table's name determines the report.

Run as a program, it is the command line over these operations: `python -m tests.fake_operations up --table users`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from dynamodt.checks.check import CheckOptions
from dynamodt.cli import app as cli
from dynamodt.config.settings import Key
from dynamodt.errors import DeadLetters, DynamodtError, Refused, ScriptError, suggest
from dynamodt.model.pages import Contention, Counts, Totals, Units
from dynamodt.model.reports import (
    Finding,
    NotRestored,
    RunReport,
    Shown,
    TableCheck,
    TableReport,
    TableStatus,
    TakeOver,
    UndoReport,
    VersionCheck,
    VersionOutcome,
    VersionStatus,
)
from dynamodt.model.runs import Lease, PreparedRef, RunProgress, RunRecord, RunState
from dynamodt.model.tables import Connection, Direction, Item, KeyAttribute, Stage, StorageSpec
from dynamodt.runs.estimate import Span
from dynamodt.runs.forecast import TableForecast, VersionForecast
from dynamodt.runs.options import Observer, RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.validation import Validation, validate
from tests.waiting import HANG_SECONDS

ERRORS: dict[str, BaseException] = {
    "dead": DeadLetters("3 items could not be transformed", where="dead v2 split_name", hint="look into the file"),
    "script": ScriptError("transform_up returned None", where="transforms/script/v2_x.py, item id=1", hint="return it"),
    "refused": Refused("the prepared data is missing", where="refused v2", hint=suggest("prepare", table="refused")),
    "broken": KeyError("nobody expected this"),
    "interrupted": KeyboardInterrupt(),
}
STAGE = Stage(
    "local",
    Connection("eu-west-1", "http://127.0.0.1:4566"),
    StorageSpec("s3://dynamodt"),
    local=True,
    embedded=True,
    tables={"users": (KeyAttribute("id", "S"),)},
)
BEFORE: Item = {"id": "u1", "name": "Ada Lovelace", "age": Decimal(36), "address": {"city": "London", "zip": "W1"}}
AFTER: Item = {"id": "u1", "first_name": "Ada", "age": Decimal(36), "address": {"city": "Paris", "zip": "W1"}}
PREPARED = PreparedRef("s3://dynamodt/prepared/users/v3.parquet", 249, "ab" * 32, "cd" * 32, "2025-06-01T10:00:00Z")


def _at_once() -> None: ...


class FakeOperations:
    """`latest` versions each; tables named as in ERRORS fail; `step` is called before each report of progress."""

    def __init__(self, latest: int = 4, applied: int = 0, step: Callable[[], object] = _at_once) -> None:
        self.latest = latest
        self.applied = applied
        self.step = step
        self.calls: list[tuple[object, ...]] = []
        self.applied_only = False  # what `status` shows

    def open_stage(self, name: str, folder: Path, observer: Observer, tables: Sequence[str], /) -> Stage:
        self.calls.append(("open_stage", name))
        if name == "nowhere":
            raise Refused("there is no stage nowhere", where="dynamodt.toml")
        observer.notify("starting the local stage")
        return STAGE

    def up(
        self,
        stage: Stage,
        folder: Path,
        tables: Sequence[str],
        to: int | None,
        options: RunOptions,
        observer: Observer,
        /,
    ) -> list[TableReport]:
        self.calls.append(("up", tuple(tables), to, options))
        goal = self.latest if to is None else to
        versions = range(self.applied + 1, goal + 1)
        return [self._table(table, "up", versions, options, observer) for table in tables or ("users",)]

    def down(
        self,
        stage: Stage,
        folder: Path,
        tables: Sequence[str],
        to: int | None,
        options: RunOptions,
        observer: Observer,
        /,
    ) -> list[TableReport]:
        self.calls.append(("down", tuple(tables), to, options))
        versions = range(self.applied, self.applied - 1 if to is None else to, -1)
        return [self._table(table, "down", versions, options, observer) for table in tables]

    def undo(
        self, stage: Stage, folder: Path, tables: Sequence[str], run: str, options: RunOptions, observer: Observer, /
    ) -> UndoReport:
        self.calls.append(("undo", tuple(tables), run, options))
        if run in ERRORS:
            raise ERRORS[run]
        status = "dry-run" if options.dry_run else "undone"
        found = RunReport(
            "users", "up", 2, "split_name", "01RUN", status, Counts(1000, 990, 2, 5, 3), Units(0, 990), 0.5
        )
        found = replace(found, rehearsal=options.dry_run)
        first = (NotRestored({"id": {"S": "u1"}}, ("name", "age"), "changed since the run"),)
        return UndoReport(found, 1, 9, "s3://dynamodt/not-restored.jsonl", first)

    def retry(
        self, stage: Stage, folder: Path, tables: Sequence[str], run: str, options: RunOptions, observer: Observer, /
    ) -> list[TableReport]:
        self.calls.append(("retry", tuple(tables), run, options))
        return [self._table(run, "up", [2], options, observer)]

    def younger(self, stage: Stage, name: str, runs: Sequence[RunRecord], observer: object, /) -> str:
        return ""

    def history(self, stage: Stage, folder: Path, tables: Sequence[str], /) -> dict[str, list[RunRecord]]:
        run = RunRecord("users", "01RUN", 2, "split_name", "up", "ef" * 32, "succeeded", "2025-06-01T10:00:00Z")
        return {table: [run] for table in tables or ("users",)}

    def status(self, stage: Stage, folder: Path, tables: Sequence[str], /) -> list[TableStatus]:
        versions = (
            VersionStatus(1, "add_users", "applied", "transforms/users/v1_add_users.py", "2025-06-01T10:00:00Z"),
            VersionStatus(2, "split_name", "edited", "transforms/users/v2_split_name.py", "2025-06-01T10:00:00Z"),
            VersionStatus(3, "join_country", "pending", "transforms/users/v3_join_country.py"),
        )
        shown = versions[:1] if self.applied_only else versions
        return [TableStatus(table, 2, shown) for table in tables or ("users",)]

    def forecast(
        self, stage: Stage, folder: Path, tables: Sequence[str], to: int | None, options: RunOptions, sample: int, /
    ) -> list[TableForecast]:
        self.calls.append(("forecast", tuple(tables), to, options, sample))
        priced = VersionForecast(3, "join_country", seconds=Span(60, 60, 7200), usd=Span(1, 2, 3))
        return [TableForecast(table, 2, 3, versions=(priced,), as_of="2026-01-01") for table in tables or ("users",)]

    def validate(self, folder: Path, tables: Sequence[str] = ()) -> Validation:
        return validate(folder, tables)

    def runs(self, stage: Stage, folder: Path, tables: Sequence[str], /) -> list[RunState]:
        record = RunRecord("users", "01RUN", 2, "split_name", "up", "ef" * 32, "running", "2025-06-01T10:00:00Z")
        lease = Lease("users", 3, "01RUN", "ada", "laptop", 17, since="2025-06-01T10:00:00Z")
        return [RunState(record, "running", Counts(1000, 1000), lease)]

    def follow(
        self, stage: Stage, folder: Path, tables: Sequence[str], watcher: ProgressRecorder, /
    ) -> list[RunReport]:
        """A run is active on each of the tables; without a table, there is no run."""
        return [self._followed(table, watcher) for table in tables]

    def _followed(self, table: str, watcher: ProgressRecorder) -> RunReport:
        record = RunRecord(table, "01RUN", 2, "split_name", "up", "ef" * 32, "running", "2025-06-01T10:00:00Z")
        watcher.run_found(record, 1000, 12.0)
        for done in range(1, 11):
            self.step()
            watcher.tick()
            totals = Totals(Counts(done * 100, done * 100), Units(done * 6.5, done * 100.0), done, Contention(done, 1))
            watcher.progressed(table, RunProgress(totals, 10, 500.0, idle="paused" if done == 5 else ""))
            if table == "ctrl_c" and done == 4:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(HANG_SECONDS)  # until the signal ends it
        status = "failed" if table in ERRORS else "succeeded"
        report = RunReport(table, "up", 2, "split_name", "01RUN", status, Counts(1000, 1000), Units(65.0, 1000.0), 0.84)
        watcher.run_ended(report)
        return report

    def prepare(
        self,
        stage: Stage,
        folder: Path,
        table: str,
        version: int,
        observer: Observer,
        /,
        options: RunOptions = RunOptions(),
    ) -> PreparedRef:
        runner = [] if options.runner == "direct" else [options.runner]
        self.calls.append(("prepare", table, version, options.dry_run, *runner))
        return PREPARED

    def check(
        self,
        stage: Stage,
        folder: Path,
        names: Sequence[str],
        options: CheckOptions,
        observer: Observer,
        reading: RunOptions,
        /,
    ) -> list[TableCheck]:
        self.calls.append(("check", names, options, reading))
        image = {"id": {"S": "u1"}, "name": {"S": "Ada"}}
        shown = Shown((("item", image),), ("id",), False, {"id": {"S": "u1"}}, False)
        fault = Finding("fault", "raises", "ValueError: 'Ada'", where="transforms/bad/v1_a.py:3", items=2, shown=shown)
        found: list[TableCheck] = []
        for name in names:
            version = VersionCheck(1, "a", "a.py", 9, findings=(fault,) if name == "bad" else ())
            error = ERRORS.get(name)
            table = TableCheck(name, 0, "a file", 9, versions=() if error else (version,))
            found.append(replace(table, error=error if isinstance(error, DynamodtError) else None))
        return found

    def control_run(self, stage: Stage, table: str, command: str, limits: Units = Units()) -> Lease:
        self.calls.append(("control_run", table, command, limits))
        return Lease(table, 7, "20260131T000000Z", "somebody", "host", 17, since="2026-01-31T00:00:00Z")

    def declare(
        self, stage: str, folder: Path, tables: Sequence[str], key: str, /, dry_run: bool = False
    ) -> tuple[dict[str, Key], Path | None]:
        keys = {table: (KeyAttribute("id", "S"),) for table in tables if key}
        return keys, Path("dynamodt.toml") if key else None

    def init(
        self, stage: Stage, folder: Path, tables: Sequence[str], dry_run: bool, keys: Mapping[str, Key]
    ) -> list[Path]:
        return [Path("transforms") / table / "v1_first.py" for table in tables]

    def unprepared(self, stage: Stage, folder: Path, table: str, at: int, /) -> int:
        return 0

    def without_table(self, stage: Stage, tables: Sequence[str], /) -> list[str]:
        return []

    def create(self, folder: Path, table: str, name: str, /, dry_run: bool = False) -> list[Path]:
        return [Path("transforms") / table / f"v2_{name}.py"]

    def stamp(
        self, stage: Stage, folder: Path, table: str, to: int, observer: Observer, options: RunOptions, /
    ) -> TakeOver:
        self.calls.append(("stamp", table, to, options.dry_run))
        return TakeOver(table, tuple(_recorded(table, n, "stamped") for n in range(1, to + 1)), to, 4, options.dry_run)

    def repair(
        self, stage: Stage, folder: Path, table: str, to: int | None, observer: Observer, options: RunOptions, /
    ) -> TakeOver:
        reason = options.reason
        self.calls.append(("repair", table, to, reason, options.dry_run))
        outcomes = (VersionOutcome(1, "initial", "accepted"), VersionOutcome(2, "split_name", "unchanged"))
        return TakeOver(
            table,
            (
                replace(
                    _recorded(table, 1, "repaired"), reason=reason, text_before="s3://b/was.py", text="s3://b/is.py"
                ),
            ),
            2,
            4,
            options.dry_run,
            outcomes,
        )

    def import_history(
        self, stage: Stage, folder: Path, table: str, observer: Observer, options: RunOptions, /
    ) -> TakeOver:
        self.calls.append(("import_history", table, options.dry_run))
        return TakeOver(table, (_recorded(table, 1, "adopted"),), 1, 4, options.dry_run)

    def _table(
        self, table: str, direction: Direction, versions: Sequence[int], options: RunOptions, observer: Observer
    ) -> TableReport:
        runs = []
        for version in versions:
            error = ERRORS.get(table)
            runs.append(self._run(table, direction, version, options, observer, error))
            if error is not None:
                return TableReport(table, direction, tuple(runs), version - 1, error, self.latest)
        at = versions[-1] - (direction == "down") if versions and not options.dry_run else self.applied
        return TableReport(table, direction, tuple(runs), at, None, self.latest)

    def _run(
        self,
        table: str,
        direction: Direction,
        version: int,
        options: RunOptions,
        observer: Observer,
        error: BaseException | None,
    ) -> RunReport:
        observer.run_started(RunRecord(table, "01RUN", version, "split_name", direction, "", "running", ""), 1000)
        print("the author's script prints this")
        for done in range(1, 11):
            self.step()
            totals = Totals(Counts(done * 100, done * 100), Units(done * 6.5, done * 100.0), done)
            observer.progressed(table, RunProgress(totals, 10))
            if table == "ctrl_c" and done == 4:
                raise KeyboardInterrupt
            if table == "sigterm" and done == 4:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(HANG_SECONDS)  # until the signal ends it
        report = RunReport(
            table,
            direction,
            version,
            "split_name",
            "01RUN",
            "failed" if error else "dry-run" if options.dry_run else "succeeded",
            Counts(1000, 994, 0, 2, 1, 3) if error else Counts(1000, 1000),
            Units(65.0, 1000.0),
            0.84,
            dead_letters=".dynamodt/dead/01RUN.jsonl" if isinstance(error, DynamodtError) else "",
            samples=((BEFORE, AFTER), ({**BEFORE, "id": "u2"}, None), ({}, {**AFTER, "id": "u3"})),
            key_names=("id",),
            rehearsal=options.dry_run,
        )
        observer.run_ended(report)
        return report


def _recorded(table: str, version: int, status: str) -> RunRecord:
    at = "2025-06-01T10:00:00+00:00"
    return RunRecord(table, f"0{version}RUN", version, "split_name", "up", "ef" * 32, status, at, at, "ada@host")


def main() -> int:
    step = sys.stdin.readline if "STEPS" in os.environ else _at_once
    operations = FakeOperations(applied=int(os.environ.get("APPLIED", "0")), step=step)
    cli.load_api = lambda: operations
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
