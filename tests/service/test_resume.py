"""The continuation of an unfinished run by the next command, also after changes by others in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.dynamodb.batch import DONE, BatchAnswer, Coming, Verdict, Writes
from dynamodt.errors import Aborted, DeadLetters, Refused, ScriptError, ServiceError
from dynamodt.model.reports import RunReport
from dynamodt.pipeline import signals
from dynamodt.rate import Backoff
from dynamodt.runs import execute, jobs, migration
from dynamodt.runs.control import control_run
from dynamodt.runs.options import RunOptions
from dynamodt.state.split_rows import SplitTotals
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.waiting import HOLD

pytestmark = pytest.mark.endpoints("ministack")  # it tests dynamodt's own rows


# Of a version, by its number.
MARK = """
IDEMPOTENT = True

def transform_up(item):
    return {{**item, "v{0}": 1}}

def transform_down(item):
    if item.get("bad"):
        raise ValueError("bad")
    return {{name: value for name, value in item.items() if name != "v{0}"}}
"""


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    for number in (1, 2):
        bench.script(name, MARK.format(number), number, f"mark{number}")
    return name


def test_an_unfinished_run_without_writes_is_replaced_after_other_runs(bench: Bench, table: str) -> None:
    """Items that it has found unchanged may have changed since."""
    bench.tables.put(table, {"id": 1, "bad": 1})
    assert bench.up(table, to=1)[0].error is None
    (failed,) = bench.down(table)
    assert isinstance(failed.error, DeadLetters)
    bench.tables.put(table, {"id": 1, "v1": 1})
    assert bench.up(table)[0].at == 2
    (left,) = (run for run in bench.history(table) if run.run == failed.versions[0].run)
    assert left.status == "replaced"
    bench.tables.put(table, *({"id": number, "v1": 1, "v2": 1} for number in range(2, 40)))
    assert bench.down(table, to=1)[0].at == 1
    (report,) = bench.down(table)
    assert report.error is None and report.versions[0].counts.changed == 39
    assert report.versions[0].run != failed.versions[0].run
    assert not any("v1" in item for item in bench.tables.items(table))


@pytest.mark.parametrize("accept", [False, True])
def test_a_retry_does_not_continue_a_run_without_writes_after_other_runs(
    bench: Bench, make_table: MakeTable, accept: bool
) -> None:
    """Its dead letters alone would be replayed, and items that it has found unchanged may have changed since."""
    table = make_table(id="N")
    kind = """
        def transform_up(item):
            return {{**item, "kind": {0!r}}}
    """
    bench.script(table, kind.format("old"), 1, "kind")
    bench.script(
        table,
        """
        def transform_up(item):
            if "bad" in item:
                raise ValueError("bad")
            return item if item["kind"] == "old" else {**item, "marked": 1}
        """,
        2,
        "mark",
    )
    bench.tables.put(table, {"id": 1}, {"id": 2, "bad": 1})
    (failed,) = bench.up(table)
    assert isinstance(failed.error, DeadLetters)
    first, second = (version.run for version in failed.versions)
    assert operations.undo(bench.stage, bench.folder, [table], first, RunOptions(), bench.recorder).error is None
    options = RunOptions(accept_all=accept, reason="test data" if accept else "")
    with pytest.raises(Refused, match=r"has written nothing, and run .* followed it") as refused:
        operations.retry(bench.stage, bench.folder, [table], second, options, bench.recorder)
    assert f"up --table {table} --to 2" in str(refused.value.hint)
    bench.script(table, kind.format("new"), 1, "kind")
    assert bench.up(table, to=1)[0].error is None
    with pytest.raises(Refused, match=r"has ended \(replaced\)"):
        operations.retry(bench.stage, bench.folder, [table], second, options, bench.recorder)
    bench.tables.put(table, {"id": 2, "kind": "new"})
    (report,) = bench.up(table, to=2)
    assert report.error is None and report.versions[0].counts.changed == 2
    assert all("marked" in item for item in bench.tables.items(table))


COUNTED = """
def transform_up(item):
    if "bad" in item:
        raise ValueError("bad")
    return {{**item, "n": item["n"] + {0}}}

def transform_down(item):
    return {{**item, "n": item["n"] - {0}}}
"""


def test_the_unfinished_run_that_has_written_is_continued_whatever_the_clocks(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has written nothing, on a machine whose clock is fast, has a later id than those that follow it."""
    table = make_table(id="N")
    bench.script(table, COUNTED.format(1), 1, "one")
    bench.script(table, COUNTED.format(10), 2, "ten")
    assert bench.up(table, to=1)[0].error is None
    bench.tables.put(table, {"id": 0, "n": 1, "bad": 1})
    with monkeypatch.context() as fast:
        fast.setattr(jobs, "datetime", Fast)
        assert isinstance(bench.up(table)[0].error, DeadLetters)
    bench.tables.delete(table, {"id": 0})
    assert bench.down(table)[0].error is None and bench.up(table, to=1)[0].error is None
    bench.tables.put(table, *({"id": number, "n": 1} for number in range(1, 40)), {"id": 0, "n": 1, "bad": 1})
    (failed,) = bench.up(table)
    assert isinstance(failed.error, DeadLetters) and failed.versions[0].counts.changed
    bench.tables.put(table, {"id": 0, "n": 1})
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].run == failed.versions[0].run
    assert {item["n"] for item in bench.tables.items(table)} == {11}
    shown = [run.record.run for run in operations.runs(bench.stage, bench.folder, [table])]
    assert shown == [run.run for run in reversed(bench.history(table))] and shown[0] == failed.versions[0].run


def test_a_run_whose_only_write_is_in_doubt_is_finished_or_undone_before_any_other(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The item may have the change: another run would transform it twice, or from the wrong version."""
    table, other = make_table(id="N"), make_table(id="N")
    bench.script(table, COUNTED.format(1), 1, "one")
    bench.script(table, COUNTED.format(10), 2, "ten")
    bench.tables.put(table, {"id": 1, "n": 0})
    assert bench.up(table, to=1)[0].error is None
    with unanswered(monkeypatch, lambda: bench.tables.put(table, {"id": 1, "n": 111})):  # the application adds 100
        (failed,) = bench.up(table)
    assert isinstance(failed.error, DeadLetters) and failed.versions[0].counts.changed == 0
    (down,) = bench.down(table)
    bench.script(table, f"TARGET_TABLE = {other!r}" + COUNTED.format(10), 2, "ten")
    (up,) = bench.up(table)
    for report in (down, up):
        assert isinstance(report.error, Refused) and f"dynamodt undo {failed.versions[0].run}" in str(report.error.hint)
    assert bench.tables.items(table) == [{"id": 1, "n": 111}] and bench.tables.items(other) == []


@contextmanager
def unanswered(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> Iterator[None]:
    """No write of one item is answered; `then` is called after one that is done."""
    send = Writes.batch

    def batch(self: Writes, statements: Any) -> Coming:
        if send(self, statements)().verdicts == [DONE]:
            then()
        return lambda: BatchAnswer([Verdict("doubt")], None)

    with monkeypatch.context() as patch:
        patch.setattr(Writes, "batch", batch)
        patch.setattr(Backoff, "delay", lambda self, attempt, random: 0.002)
        yield


@pytest.mark.parametrize("has_file", [True, False])
def test_the_status_shows_a_down_whose_only_write_is_in_doubt(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, has_file: bool
) -> None:
    table = make_table(id="N")
    path = bench.script(table, COUNTED.format(1))
    bench.tables.put(table, {"id": 1, "n": 0})
    assert bench.up(table)[0].error is None
    with unanswered(monkeypatch, lambda: bench.tables.put(table, {"id": 1, "n": 111})):
        (failed,) = bench.down(table)
    assert isinstance(failed.error, DeadLetters) and failed.versions[0].counts.changed == 0
    if not has_file:
        path.unlink()
    ((version,),) = (one.versions for one in operations.status(bench.stage, bench.folder, [table]))
    assert version.state == ("unfinished" if has_file else "missing")
    assert version.run is not None and version.run.run == failed.versions[0].run


class Fast(datetime):
    """The clock of a machine that is a day fast."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Fast:
        return super().now(tz) + timedelta(days=1)


def test_a_run_undone_before_its_continuation_is_begun_again(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, mended = make_table(id="N"), bench.folder / "mended"
    bench.script(
        table,
        f"""
        from pathlib import Path
        from dynamodt.errors import ScriptError

        def transform_up(item):
            if item["id"] == 7 and not Path({str(mended)!r}).exists():
                raise ScriptError("not yet")
            return {{**item, "n": item["n"] + 1}}
        """,
    )
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(40)))
    (failed,) = bench.up(table)
    assert isinstance(failed.error, ScriptError)
    (left,) = bench.history(table)
    mended.touch()
    held = execute.hold_leases

    def undone_first(*arguments: Any) -> Any:
        monkeypatch.setattr(execute, "hold_leases", held)
        undo = operations.undo(bench.stage, bench.folder, [table], left.run, RunOptions(), bench.recorder)
        assert undo.error is None
        return held(*arguments)

    monkeypatch.setattr(execute, "hold_leases", undone_first)
    (report,) = bench.up(table)
    assert report.error is None and [item["n"] for item in bench.tables.items(table)] == [1] * 40
    first, second = bench.history(table)
    assert (first.run, first.status) == (left.run, "undone") and (second.status, second.attempts) == ("succeeded", 1)


def test_a_run_soon_after_another_one_reads_consistently(
    bench: Bench, table: str, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eventually consistent scan may miss new items, which would never be transformed. They may be of another
    table's run."""
    seen: list[tuple[int, bool]] = []
    jobs = execute.jobs

    def noted(*arguments: Any, **options: Any) -> Any:
        found = jobs(*arguments, **options)
        seen.extend((job.script.sequence, job.consistent) for job in found)
        return found

    monkeypatch.setattr(execute, "jobs", noted)
    bench.tables.put(table, {"id": 1})
    bench.script(source := make_table(id="N"), f"TARGET_TABLE = '{table}'\ndef transform_up(item):\n    return item\n")
    bench.up(source)
    bench.up(table, to=1)
    assert seen == [(1, False), (1, True)]
    seen.clear()
    monkeypatch.setattr(migration, "was_held_recently", lambda lease: False)  # as if it had been long ago
    bench.up(table)
    bench.down(table, to=0)
    assert seen == [(2, False), (2, False), (1, True)]


def test_an_abort_between_two_versions_takes_effect(bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tables.put(table, {"id": 1})
    ended = bench.recorder.run_ended

    def aborted(report: RunReport) -> None:
        if report.version == 1:
            control_run(bench.stage, table, "abort")
        ended(report)

    monkeypatch.setattr(bench.recorder, "run_ended", aborted)
    (report,) = bench.up(table)
    assert isinstance(report.error, Aborted) and report.at == 1
    assert bench.tables.items(table) == [{"id": 1, "v1": 1}]
    monkeypatch.undo()
    assert bench.up(table)[0].at == 2


def test_workers_stop_when_the_state_table_is_unreachable(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their run is recorded as ended, and the next table's run begins."""
    table, poller = make_table(id="N"), iter(range(3))
    script, stopped = MARK.format(1), tmp_path / "stopped"
    bench.script(table, HOLD + script.replace("    return", f"    hold({str(stopped)!r})\n    return", 1))
    bench.tables.put(table, *({"id": number} for number in range(60)))
    look, out_of_reach = SplitTotals.poll, ServiceError("out of reach")

    def unreachable(self: SplitTotals) -> Any:
        if next(poller, None) is None:
            raise out_of_reach
        return look(self)

    def unheard(leases: Any, job: Any, why: str, error: Any = None) -> None:
        signals.context_of(job).stopped = True
        stopped.touch()
        raise out_of_reach

    monkeypatch.setattr(SplitTotals, "poll", unreachable)
    monkeypatch.setattr(signals, "stop", unheard)
    (report,) = bench.up(table)
    assert report.error is out_of_reach
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("run-")]
    monkeypatch.undo()
    (report,) = bench.up(table)
    assert report.error is None and sum("v1" in item for item in bench.tables.items(table)) == 60
