"""A migration as a process of its own, which kills itself at a given moment: `python -m tests.migrate_once`.

Arguments: endpoint, folder, table, version (or `undo`: of the table's last run), moment, count, and, where the version
is to read an export, the storage that is to hold it (`s3://...`). At the `count`-th time that the moment comes, the
process sends itself SIGKILL: nothing is cleaned up, as when a machine is lost. Moment `never` runs to the end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamodt import api as operations
from dynamodt.dynamodb.batch import Writes
from dynamodt.model.runs import Job
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.runs import exports, lock
from dynamodt.runs import jobs as planner
from dynamodt.runs.history import RunRecorder
from dynamodt.runs.options import RunOptions
from dynamodt.state import prepared
from dynamodt.state.journal import Journal
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.split_rows import SplitRows
from dynamodt.state.state import State
from tests import beam_once

BEFORE = {
    "claim": (SplitRows, "claim"),
    "journal": (Journal, "write"),
    "intent": (SplitRows, "intend"),
    "batch": (Writes, "batch"),
    "checkpoint": (SplitRows, "checkpoint"),
    "history": (State, "record"),
    "beat": (LeaseRows, "beat"),
    "prepared": (prepared, "_row"),
}
BEFORE_EXPORT = {
    "requested": (exports, "request"),  # the table's export, or an incremental one
    "kept": (RunRecorder, "keep"),
}
BEFORE_ALONE = {"single": (Writes, "single")}  # a transaction's
AFTER_ALONE = {"sent alone": (Writes, "single"), "answered alone": (Writes, "_only_answer")}
AFTER = {
    "claimed": (SplitRows, "claim"),
    "journaled": (Journal, "write"),
    "intended": (SplitRows, "intend"),
    "sent": (Writes, "batch"),
    "answered": (Writes, "_answers"),
    "checkpointed": (SplitRows, "checkpoint"),
    "recorded": (State, "record"),
}
MOMENTS = (*BEFORE, *AFTER)
ALONE = (*BEFORE_ALONE, *AFTER_ALONE)
PAGE_ITEMS = 20


class Countdown:
    def __init__(self, count: int) -> None:
        self.left = count

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, count: int) -> None:
    """Make the process kill itself at the moment; of several, `batch+single`, at the `count`-th of them."""
    countdown = Countdown(count)
    before, after = BEFORE | BEFORE_EXPORT | BEFORE_ALONE, AFTER | AFTER_ALONE
    for one in moment.split("+"):
        if one in before:
            _wrap(*before[one], before=countdown.tick)
        elif one in after:
            _wrap(*after[one], after=countdown.tick)


def _wrap(
    owner: Any, name: str, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before()
        answer = original(*args, **kwargs)
        if after is not None:
            after()
        return answer

    setattr(owner, name, wrapped)


def small_pages() -> None:
    """Small pages, so that a small table has many moments; a heartbeat ten times a second."""
    original = planner.jobs

    def jobs(*args: Any) -> list[Job]:
        from dataclasses import replace

        return [replace(job, page_items=PAGE_ITEMS) for job in original(*args)]

    _everywhere("jobs", jobs)
    lock.BEAT_SECONDS = 0.1


def _everywhere(name: str, value: Any) -> None:
    from dynamodt.runs import execute

    setattr(execute, name, value)


class Silent:
    def run_started(self, *args: object) -> None: ...
    def progressed(self, *args: object) -> None: ...
    def run_ended(self, *args: object) -> None: ...

    def notify(self, text: str) -> None:
        print(text, file=sys.stderr)


def main() -> int:
    url, folder, table, version, moment, count, *bucket = sys.argv[1:]
    connection = Connection("us-east-1", url, access_key="test", secret_key="test")
    storage = StorageSpec(*bucket or [str(Path(folder) / "storage")])
    stage = Stage("local", connection, storage, f"state-{table}", local=True)
    State(stage.connection, stage.state_table).ensure()
    arm(moment, int(count))
    beam_once.remember()
    small_pages()
    if moment == "prepared" or version == "prepare":
        operations.prepare(stage, Path(folder), table, 1, Silent())
        return 0
    if version == "undo":
        run = State(stage.connection, stage.state_table).runs(table)[-1].run
        return _code(operations.undo(stage, Path(folder), [table], run, RunOptions(), Silent()).error)
    master = os.environ.get("DYNAMODT_TEST_SPARK", "")
    options = RunOptions(source="export" if bucket else "", runner="spark" if master else "direct", spark_master=master)
    (report,) = operations.up(stage, Path(folder), [table], int(version), options, Silent())
    return _code(report.error)


def _code(error: BaseException | None) -> int:
    if error is None:
        return 0
    print(repr(error), error, file=sys.stderr)
    return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())
