"""Following runs by the state table alone: begin, progress and end, and the cost of a poll."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace

from dynamodt.model.pages import Counts, Totals, Units
from dynamodt.model.reports import VersionStatus
from dynamodt.model.runs import Lease
from dynamodt.runs.control import run_states, runs_and_lease, version_states
from dynamodt.runs.liveness import Process
from dynamodt.state.split_rows import RunTotals
from tests.unit.followed_runs import RECORD, Seen, Stage


def test_a_run_is_followed_to_its_end_and_the_next_ones_of_the_same_up() -> None:
    stage, seen = Stage(), Seen()
    second, short, third = (replace(RECORD, run=f"0{n}RUN", version=n, status="succeeded") for n in (2, 3, 4))
    stage.write(replace(RECORD, run="00RUN", version=1, status="succeeded"))  # before: not followed
    stage.write(replace(second, status="running"))
    stage.hold(second)

    def next_version() -> None:
        stage.write(second)
        stage.write(short)  # it ended before the first read
        stage.write(replace(third, status="running"))
        stage.next_run(third)

    def end() -> None:
        stage.write(replace(third, status="failed", counts=Counts(7, 7)))
        stage.release()

    stage.steps = [lambda: stage.split("02RUN", 0, 100), lambda: stage.split("02RUN", 1, 100), next_version, end]
    assert stage.follow(seen, "users") == [("02RUN", 2, "succeeded"), ("03RUN", 3, "succeeded"), ("04RUN", 4, "failed")]
    assert seen.percents == [("02RUN", 0), ("02RUN", 25), ("02RUN", 50), ("04RUN", 0)]
    assert [report.run for report in seen.ended] == ["02RUN", "03RUN", "04RUN"]
    assert seen.ended[-1].counts == Counts(7, 7)
    assert seen.running == {}


def test_a_run_whose_process_died_is_gone() -> None:
    stage, seen = Stage(), Seen()
    stage.write(RECORD)
    stage.hold(RECORD)
    stage.split("01RUN", 2, 30)

    def dies() -> None:
        stage.hold(RECORD, beat=0.0)

    stage.steps = [dies]
    assert stage.follow(seen, "users") == [("01RUN", 2, "gone")]
    assert seen.ended[0].counts.read == 30  # from its units: it has recorded none
    assert stage.now >= Lease("users", 1).ttl, "by the time that it was watched, whatever the clocks of others say"


def test_a_run_whose_process_on_this_host_ended_is_reported_as_gone_at_once() -> None:
    stage, seen, here = Stage(), Seen(), Process.of(os.getpid())
    assert here is not None
    stage.write(RECORD)
    dead = Lease("users", 1, RECORD.run, "ada", socket.gethostname(), here.pid, f"{here.started}0")
    assert stage.state.leases.take(dead, over=Lease("users", 0))
    assert stage.follow(seen, "users") == [] and stage.now == 0.0
    assert "ada" in seen.notes[-1] and "gone" in seen.notes[-1]


def test_the_target_of_another_table_s_run_has_no_active_run_of_its_own() -> None:
    stage = Stage()
    stage.write(RECORD)
    theirs = Lease("users", 1, "02RUN", "ada", "elsewhere", 17, owner="people", beat=1e12)
    assert stage.state.leases.take(theirs, over=Lease("users", 0))
    assert stage.follow(Seen(), "users") == [] and stage.now == 0.0
    assert [run.status for run in run_states(stage.state, "users")] == ["gone"]


def test_following_ends_at_once_without_an_active_run() -> None:
    stage = Stage()
    assert stage.follow(Seen(), "users", "orders") == []
    assert stage.now == 0.0


def test_the_begin_and_the_end_of_a_pause_are_reported() -> None:
    stage, seen = Stage(), Seen()
    stage.write(RECORD)
    stage.hold(RECORD)

    def tell(**what: object) -> Callable[[], None]:
        return lambda: stage.state.leases.set("users", 1, **what)

    stage.steps = [
        tell(paused=True),
        tell(paused=False),
        tell(pause_reason="latency"),
        tell(pause_reason=""),
        stage.release,
    ]
    stage.follow(seen, "users")
    assert [note.partition(": ")[2] for note in seen.notes] == ["paused", "continues", "held: latency", "continues"]


def test_the_next_table_of_an_up_is_followed_too() -> None:
    stage = Stage()
    orders = replace(RECORD, table="orders", run="02RUN")
    stage.write(RECORD)
    stage.hold(RECORD)

    def users_end() -> None:
        stage.write(replace(RECORD, status="succeeded"))
        stage.release()

    def orders_begin() -> None:
        stage.write(orders)
        stage.hold(orders, table="orders")

    def orders_end() -> None:
        stage.write(replace(orders, status="succeeded"))
        stage.release("orders")

    stage.steps = [users_end, lambda: None, orders_begin, orders_end]
    assert stage.follow(Seen(), "orders", "users") == [("02RUN", 2, "succeeded"), ("01RUN", 2, "succeeded")]


def test_completed_splits_are_not_read_again() -> None:
    stage = Stage()
    for split in range(3):
        stage.split("01RUN", split, 10)
    stage.split("01RUN/retry1", 0, 0)
    totals, record = RunTotals(stage.state), replace(RECORD, retries=1)
    assert totals.poll(record).counts.read == 30
    assert stage.rows.asked == 4 + 1 + 2
    stage.split("01RUN", 3, 5, done=False)
    assert totals.poll(record) == Totals(Counts(35, 35), Units(5.0, 35.0), 4)
    assert stage.rows.asked == 7 + 1 + 1 + 1  # the fourth unit, the version's own rows, their retry


def test_a_large_run_is_polled_less_often() -> None:
    stage = Stage()
    large = replace(RECORD, splits=5000)
    stage.write(large)
    stage.hold(large)

    def end() -> None:
        stage.write(replace(large, status="succeeded"))
        stage.release()

    stage.steps = [end]
    stage.follow(Seen(), "users")
    assert stage.now >= 10.0


def test_the_runs_of_a_table_are_listed_with_their_counts() -> None:
    stage = Stage()
    stage.write(replace(RECORD, run="00RUN", status="failed", counts=Counts(9, 8, dead=1)))
    stage.write(RECORD)
    stage.split("01RUN", 0, 30)
    stage.hold(RECORD)
    now, before = run_states(stage.state, "users")
    assert (now.record.run, now.status, now.counts.read) == ("01RUN", "running", 30)
    assert now.holder is not None and now.holder.user == "ada"
    assert (before.record.run, before.status, before.counts.dead, before.holder) == ("00RUN", "failed", 1, None)
    stage.release()
    assert [(run.status, run.holder) for run in run_states(stage.state, "users")] == [("gone", None), ("failed", None)]


def test_a_version_with_an_active_run_is_running() -> None:
    stage = Stage()
    pending = (VersionStatus(2, "b", "pending"),)
    assert version_states(stage.state, pending, runs_and_lease(stage.state, "users")) == pending
    stage.write(RECORD)
    stage.hold(RECORD)
    assert version_states(stage.state, pending, runs_and_lease(stage.state, "users"))[0].state == "running"
    stage.release()
    assert version_states(stage.state, pending, runs_and_lease(stage.state, "users"))[0].state == "unfinished"
