"""The budget of a run, from the command's limit to each request: the real allocator and governors on fake rows, with
a clock that the test moves (guarantee G7)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.table import Capacity
from dynamodt.errors import ServiceError
from dynamodt.model.pages import Units
from dynamodt.model.runs import Job, JournalSource, Lease, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.rate_limit import RateLimitedQueue, WorkerRateLimiter
from dynamodt.rate import TokenBucket
from dynamodt.runs.budget import CAPACITY_SECONDS, Allocator, CapacityWatch, budget, limit_budget, watch_capacity
from dynamodt.runs.context import RunContext
from dynamodt.runs.control import throttled
from dynamodt.runs.options import RunOptions
from dynamodt.runs.runner import report_slow
from dynamodt.state.lease_rows import LeaseRows
from tests.fakes import FakeState

SPEC = TableSpec("things", (KeyAttribute("id", "N"),), item_count=1000, size_bytes=1000 * 1024)
STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/prefix"))
SCRIPT = Script("things", 1, "change", "v1_change.py", "", "")
JOB = Job("run", STAGE, SPEC, SCRIPT, "up", splits=4, governed=True)


class World:
    """Some workers and the process that follows the run; `passed` has (seconds, write units)."""

    def __init__(self, job: Job = JOB, **limits: float) -> None:
        self.now = 0.0
        self.job = job
        self.state = FakeState()
        self.state.leases.take(Lease("things", 1, "run", **limits), over=Lease("things", 0))
        self.rows = self.state.workers("run", 1)
        self.allocator = Allocator(job, self.state.leases, self.rows, clock=lambda: self.now)
        self.passed: list[tuple[float, float]] = []
        self.real_price = 1.0

    def worker(self, name: str) -> WorkerRateLimiter:
        return WorkerRateLimiter(self.job, self.rows, name, clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        raise Asleep

    def write(self, worker: WorkerRateLimiter, estimate: float) -> bool:
        """One request, if it may go out now."""
        try:
            taken = worker.writes.enter(estimate)
        except Asleep:
            return False
        units = estimate * self.real_price
        self.passed.append((self.now, units))
        worker.writes.leave(taken, estimate, units)
        return True

    def live(self, seconds: float, workers: list[WorkerRateLimiter], dice: random.Random, most: float = 25.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.05
            self.allocator.tick()
            for worker in workers:
                while self.write(worker, dice.uniform(1.0, most)):
                    if len(self.passed) > 100_000:
                        return

    def units(self, start: float = 0.0, end: float = inf) -> float:
        return sum(units for at, units in self.passed if start <= at < end)


class Asleep(Exception):
    """Raised where the worker would wait, since all workers run in one thread."""


@pytest.mark.parametrize("limit", [50.0, 500.0, 2000.0])
@pytest.mark.parametrize("workers", [1, 7])
def test_all_workers_together_keep_to_the_budget_in_every_ten_seconds(limit: float, workers: int) -> None:
    world, dice = World(wcu=limit, rcu=limit), random.Random(workers)
    world.live(40.0, [world.worker(f"w{n}") for n in range(workers)], dice)
    for start in range(30):
        assert world.units(start, start + 10.0) <= 1.1 * 10.0 * limit
    assert world.units(20.0, 40.0) >= 0.85 * 20.0 * limit, "the budget is not used"


def test_a_run_starts_at_a_low_rate() -> None:
    world = World(wcu=1000.0)
    world.live(3.0, [world.worker("w")], random.Random(1))
    assert 0 < world.units() < 0.5 * 3.0 * 1000.0


def test_the_units_of_indexes_count_once_the_service_reports_them() -> None:
    world = World(wcu=200.0)
    world.real_price = 3.0  # two indexes: each write costs three units, and the estimate knows of one
    world.live(30.0, [world.worker("w")], random.Random(2), most=5.0)
    assert 0.85 * 2000.0 <= world.units(15.0, 25.0) <= 1.1 * 2000.0


def test_units_beyond_a_request_s_estimate_are_charged_afterwards() -> None:
    world = World()
    rate_queue = RateLimitedQueue(TokenBucket(10.0, lambda: world.now), 1.0, lambda: None, world.sleep)
    world.now = 0.25
    rate_queue.leave(rate_queue.enter(1.0), 1.0, 50.0)
    world.now = 5.0  # 50 units have come in by then, and 50 are spent
    with pytest.raises(Asleep):
        rate_queue.enter(1.0)


def test_the_estimate_of_a_request_follows_the_reported_units() -> None:
    world = World()
    rate_queue = RateLimitedQueue(TokenBucket(30.0, lambda: world.now), 1.0, lambda: None, world.sleep)
    assert rate_queue.within(1.0, 1.0) == 30.0
    for _ in range(20):
        world.now += 10.0
        rate_queue.leave(rate_queue.enter(1.0), 1.0, 3.0)
    assert rate_queue.within(1.0, 1.0) == pytest.approx(10.0, rel=0.01)


def test_a_new_worker_gets_its_allocation_and_the_sum_stays() -> None:
    world, dice = World(wcu=400.0), random.Random(3)
    first = world.worker("a")
    world.live(20.0, [first], dice)
    world.live(20.0, [first, world.worker("b")], dice)
    for start in range(30):
        assert world.units(start, start + 10.0) <= 1.1 * 4000.0
    used = {worker.name: worker.report.used.wcu for worker in world.rows.all()}
    assert used["b"] >= 1500.0, "the newcomer starves"


def test_the_allocation_of_a_silent_worker_goes_to_the_others() -> None:
    world, dice = World(wcu=400.0), random.Random(4)
    first, second = world.worker("a"), world.worker("b")
    world.live(20.0, [first, second], dice)
    world.live(40.0, [first], dice)
    assert world.units(50.0, 60.0) >= 0.85 * 4000.0


def test_a_higher_or_lower_limit_applies_within_seconds() -> None:
    world, dice = World(wcu=1000.0), random.Random(5)
    worker = world.worker("w")
    world.live(20.0, [worker], dice)
    world.state.leases.set("things", 1, wcu=100.0)
    world.live(20.0, [worker], dice)
    assert world.units(23.0, 33.0) <= 1.1 * 1000.0
    world.state.leases.set("things", 1, wcu=2000.0)
    world.live(40.0, [worker], dice)
    assert world.units(70.0, 80.0) >= 0.85 * 20_000.0


def test_a_run_without_a_limit_is_not_slowed_until_a_limit_is_set() -> None:
    world = World(replace(JOB, governed=False))
    worker = world.worker("w")
    world.live(2.0, [worker], random.Random(6))
    assert world.units() > 50_000
    world.passed.clear()
    world.state.leases.set("things", 1, wcu=100.0)
    for _ in range(60):
        world.now += 0.05
        world.allocator.tick()
        world.write(worker, 1.0)
    start = world.now
    world.live(10.0, [worker], random.Random(7))
    assert world.units(start) <= 1.1 * 1000.0


def test_throttles_lower_the_rate_of_an_on_demand_table_and_without_them_it_grows() -> None:
    world, dice = World(), random.Random(8)
    worker = world.worker("w")
    world.live(10.0, [worker], dice)
    grown = world.units(9.0, 10.0)
    assert grown > 2000.0  # from 1,000 on
    worker.writes.throttled()
    world.live(3.0, [worker], dice)
    assert world.units(12.0, 13.0) < 0.9 * grown


# ---------------------------------------------------------------- many workers


def test_a_few_throttled_workers_of_many_do_not_slow_the_others() -> None:
    """Otherwise one busy partition, or a hot key of the application, would stop a large run."""
    world, dice = World(wcu=4000.0), random.Random(11)
    workers = [world.worker(f"w{n}") for n in range(40)]
    world.live(25.0, workers, dice)
    for _ in range(10):
        workers[7].writes.throttled(25)
        world.live(2.0, workers, dice)
    assert world.units(35.0, 45.0) >= 0.85 * 40_000.0
    before = world.units(40.0, 45.0) / 5.0
    for worker in workers[:4]:
        worker.writes.throttled()
    world.live(6.0, workers, dice)
    assert world.units(49.0, 51.0) / 2.0 < 0.85 * before, "a tenth of the workers is more than a few"


def test_throttled_writes_leave_the_reads_as_they_are() -> None:
    world, dice = World(wcu=1000.0, rcu=1000.0), random.Random(12)
    worker = world.worker("w")
    world.live(20.0, [worker], dice)
    before = worker.reads.within(1.0, 1.0)
    worker.writes.throttled()
    world.live(4.0, [worker], dice)
    assert worker.reads.within(1.0, 1.0) == before > 0.0


def test_workers_that_wait_for_an_allocation_poll_once_a_second() -> None:
    world = World(wcu=100.0)
    worker = world.worker("w")
    for _ in range(200):  # ten seconds without a grant
        world.now += 0.05
        worker._tick()
    (row,) = world.rows.all()
    assert row.report.beat <= 12


def test_a_worker_with_a_small_allocation_reports_less_often() -> None:
    world, dice = World(wcu=1000.0), random.Random(13)
    workers = [world.worker(f"w{n}") for n in range(20)]
    world.live(40.0, workers, dice)
    before = sum(row.report.beat for row in world.rows.all())
    world.live(20.0, workers, dice)
    reports = sum(row.report.beat for row in world.rows.all()) - before
    assert 20 * 4 <= reports <= 20 * 6  # 50 units a second each: one report for 200 of them


def test_a_throttled_worker_reports_soon() -> None:
    world, dice = World(wcu=40.0), random.Random(17)
    worker = world.worker("w")
    world.live(40.0, [worker], dice)
    while world.now - worker._reported_at > 0.1:  # it has just reported, and would not for four seconds
        world.live(0.05, [worker], dice)
    worker.writes.throttled()
    world.live(1.2, [worker], dice)
    assert [row.report.throttles.writes for row in world.rows.all()] == [1]


def test_a_run_that_throttles_slow_down_reports_it_once() -> None:
    """Until its first page is complete, the progress has the limit only."""
    world, dice, said, reported = World(wcu=800.0), random.Random(4), list[str](), set[str]()
    worker = world.worker("w")
    for _ in range(60):
        world.live(1.0, [worker], dice)
        report_slow(world.allocator, reported, said.append)
        worker.writes.throttled()
    assert len(said) == 1 and said[0].startswith("writes are throttled: the run slows down to ")


def test_while_many_workers_join_an_old_allocation_is_not_reserved_for_long() -> None:
    """Each refresh grants a smaller allocation, and no worker has confirmed the newest one yet."""
    world, dice = World(wcu=2000.0), random.Random(14)
    workers: list[WorkerRateLimiter] = []
    for number in range(40):
        workers.append(world.worker(f"w{number}"))
        world.live(0.5, workers, dice, most=5.0)
    granted = sum(row.grant.rate.wcu for row in world.rows.all() if row.grant)
    allowed = world.allocator.ramps[1].rate  # type: ignore[index]
    assert granted >= 0.7 * allowed
    waiting = sum(row.grant is None or row.grant.rate.wcu == 0.0 for row in world.rows.all())
    assert waiting <= 10


def test_the_first_workers_of_a_fleet_get_at_most_one_partition_s_rate() -> None:
    world, dice = World(replace(JOB, shards=4), wcu=100_000.0, rcu=100_000.0), random.Random(15)
    world.live(5.0, [world.worker("w")], dice)
    (row,) = world.rows.all()
    assert row.grant is not None and row.grant.rate == Units(rcu=3000.0, wcu=1000.0)


def test_many_grants_are_sent_in_parallel() -> None:
    world, sent = World(wcu=1000.0, rcu=1000.0), []

    class Executor:
        def map(self, function: Any, *arguments: Any) -> Any:
            sent.append(len(arguments[0]))
            return map(function, *arguments)

    world.allocator = Allocator(world.job, world.state.leases, world.rows, lambda: world.now, Executor())  # type: ignore[arg-type]
    world.live(5.0, [world.worker(f"w{n}") for n in range(9)], random.Random(16))
    assert 9 in sent and all(row.grant for row in world.rows.all())


def test_a_page_is_no_larger_than_a_few_seconds_of_the_budget() -> None:
    world, dice = World(wcu=50.0, rcu=1000.0), random.Random(9)
    worker = world.worker("w")
    world.live(30.0, [worker], dice)
    assert 100 <= worker.page_items(1000) <= 200
    world.state.leases.set("things", 1, wcu=100_000.0, rcu=5.0)
    world.live(60.0, [worker], dice)
    assert 30 <= worker.page_items(1000) <= 40  # five read units a second, eight items of a kilobyte each


def test_pages_without_items_do_not_change_the_estimate() -> None:
    world = World(rcu=100.0, wcu=100.0)
    worker = world.worker("w")
    world.live(30.0, [worker], random.Random(10))
    before = worker.reads.within(1.0, 1.0)
    taken = worker.reads.enter(1.0)
    worker.reads.leave(taken, worker.read_estimate(0), 0.5)
    assert worker.reads.within(1.0, 1.0) == before


@pytest.mark.parametrize(
    ("stage", "options", "limits"),
    [
        (STAGE, RunOptions(), Units(rcu=500.0, wcu=50.0)),
        (STAGE, RunOptions(share=10.0), Units(rcu=100.0, wcu=10.0)),
        (STAGE, RunOptions(max_wcu=7.0), Units(rcu=500.0, wcu=7.0)),
        (replace(STAGE, local=True), RunOptions(), Units()),
        (replace(STAGE, local=True), RunOptions(max_rcu=3.0), Units(rcu=3.0)),
    ],
)
def test_limits_come_from_the_options_and_otherwise_from_the_provisioned_capacity(
    stage: Stage, options: RunOptions, limits: Units
) -> None:
    table = replace(SPEC, read_units=1000, write_units=100)
    assert budget(stage, table, table, options) == limits


def test_a_governed_pipeline_waits_for_its_allocation(
    bench: Any, monkeypatch: pytest.MonkeyPatch, make_bench: Callable[..., Any]
) -> None:
    bench.dynamodb.put(*({"id": n} for n in range(20)))
    job = bench.job("def transform_up(item):\n    return {**item, 'n': 1}\n", governed=True)
    rows = bench.state.workers(job.base_run, job.attempt)
    granted: list[str] = []

    def grant_first(self: Any, name: str, report: Any, original: Any = type(rows).report) -> Any:
        before = original(self, name, report)
        if before is None and not granted and report.beat >= 3:
            assert bench.dynamodb.calls["Scan"] == 0, "it reads before anything is granted"
            Allocator(job, bench.state.leases, self, clock=count(0.0, 10.0).__next__).tick()
            granted.append(name)
        return before

    monkeypatch.setattr(type(rows), "report", grant_first)
    bench.state.lease(job)
    bench.state.leases.set(job.lease, job.attempt, wcu=1e6, rcu=1e6)
    assert bench.execute(job).changed == 20
    assert granted


@pytest.mark.parametrize(("source_writes", "target_writes", "wcu"), [(10, 400, 5), (400, 10, 5), (0, 8, 4), (8, 0, 4)])
def test_a_share_applies_to_the_source_s_reads_and_to_the_smaller_write_capacity(
    source_writes: int, target_writes: int, wcu: float
) -> None:
    """Each item for the target is a transaction with a check of its source, which costs as much as a write."""
    source = replace(SPEC, read_units=100, write_units=source_writes)
    target = replace(SPEC, name="others", read_units=7, write_units=target_writes)
    assert budget(STAGE, source, target, RunOptions()) == Units(rcu=50.0, wcu=wcu)


def test_the_limits_of_a_run_to_another_table_are_reported_and_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    run, target = Scaled(rcu=100, wcu=10), replace(SPEC, name="others", write_units=400)
    limit_budget(run.context, "things", replace(SPEC, write_units=10), target)
    assert "at most 5 WCU/s, a share of the capacity of table things" in run.notes[0]
    now = {"things": Capacity(100, 60), "others": Capacity(7, 400)}
    monkeypatch.setattr("dynamodt.runs.budget.capacity", lambda connection, name: now[name])
    watch = watch_capacity(run.context, replace(JOB, target=target))
    assert watch is not None
    watch.tick()
    lease = run.state.leases.read("things")
    assert (lease.rcu, lease.wcu) == (50.0, 30.0)


def test_the_reads_of_an_undo_are_limited_by_the_table_that_it_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    run, target = Scaled(rcu=100, wcu=10), replace(SPEC, name="others", write_units=400)
    now = {"things": Capacity(100, 60), "others": Capacity(8, 400)}
    monkeypatch.setattr("dynamodt.runs.budget.capacity", lambda connection, name: now[name])
    watch = watch_capacity(run.context, replace(JOB, target=target, source=JournalSource("run")))
    assert watch is not None
    watch.tick()
    assert run.state.leases.read("things").rcu == 4.0


@pytest.mark.parametrize(("options", "said"), [(RunOptions(), True), (RunOptions(max_wcu=9.0), False)])
def test_an_index_that_limits_the_run_is_reported(options: RunOptions, said: bool) -> None:
    state, notes = FakeState(), list[str]()
    state.leases.take(Lease("things", 1, "run"), over=Lease("things", 0))
    observer = SimpleNamespace(notify=notes.append)
    context = RunContext(STAGE, Path(), options, observer, runner=None, token=1)  # type: ignore[arg-type]
    vars(context)["state"] = state
    limited = replace(SPEC, write_units=20, limiting_index="by-email")
    limit_budget(context, "things", limited, limited)
    assert ["at most 10 WCU/s" in note and "of index by-email of table things" in note for note in notes] == [
        True
    ] * said


# ---------------------------------------------------------------- capacity that changes


class Scaled:
    """A run whose table's capacity changes, with its lease; `notes` are the notified messages."""

    def __init__(self, options: RunOptions = RunOptions(), **capacity: int) -> None:
        self.now, self.reads, self.notes = 0.0, 0, list[str]()
        self.capacity: Units | ServiceError = Units(capacity.get("rcu", 0), capacity.get("wcu", 0))
        self.state = FakeState()
        self.state.leases.take(Lease("things", 1, "run"), over=Lease("things", 0))
        observer = SimpleNamespace(notify=self.notes.append)
        self.context = RunContext(STAGE, Path(), options, observer, runner=None, token=1)  # type: ignore[arg-type]
        vars(self.context)["state"] = self.state
        table = replace(SPEC, read_units=capacity.get("rcu", 0), write_units=capacity.get("wcu", 0))
        limit_budget(self.context, "things", table, table)

    def read(self) -> Units:
        self.reads += 1
        if isinstance(self.capacity, ServiceError):
            raise self.capacity
        return self.capacity

    def watch(self) -> CapacityWatch:
        return CapacityWatch(JOB, self.context, self.read, lambda: self.now)

    def throttle(self, **limits: float) -> None:
        self.state.leases.change("things", 1, partial(throttled, Units(**limits)))

    def later(self, watch: CapacityWatch, capacity: Units | ServiceError) -> tuple[float, float]:
        self.capacity, self.now = capacity, self.now + CAPACITY_SECONDS
        watch.tick()
        lease = self.state.leases.read("things")
        return lease.rcu, lease.wcu


def test_the_budget_follows_the_capacity_every_minute() -> None:
    run = Scaled(rcu=100, wcu=10)
    watch = run.watch()
    watch.tick()
    watch.tick()
    assert run.reads == 1, "at the start, since the plan may be old"
    assert run.later(watch, Units(100, 10)) == (50.0, 5.0) and run.notes == []
    assert run.later(watch, Units(100, 400)) == (50.0, 200.0)
    assert run.later(watch, ServiceError("no")) == (50.0, 200.0)
    assert run.later(run.watch(), Units(60, 20)) == (30.0, 10.0), "the next phase has a watch of its own"
    assert run.later(watch, Units()) == (0.0, 0.0), "on demand by now"
    assert run.later(watch, Units(0, 80)) == (0.0, 40.0) and len(run.notes) == 4


def test_a_limit_that_an_operator_or_an_option_has_set_stays() -> None:
    run = Scaled(RunOptions(max_rcu=7.0), rcu=100, wcu=10)
    watch = run.watch()
    run.throttle(wcu=3.0)
    assert run.later(watch, Units(900, 900)) == (7.0, 3.0) and run.notes == []


def test_a_limit_that_an_operator_sets_to_its_old_value_stays() -> None:
    run = Scaled(rcu=100, wcu=10)
    watch = run.watch()
    run.throttle(wcu=5.0)
    assert run.later(watch, Units(100, 900)) == (50.0, 5.0) and run.notes == []
    run.throttle(rcu=9.0)
    assert run.later(watch, Units(900, 900)) == (9.0, 5.0)


def test_a_limit_that_an_operator_sets_while_the_capacity_is_followed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's write is between the watch's read of the lease and its write."""
    run, leases = Scaled(rcu=100, wcu=10), LeaseRows
    read, acts = leases.read, [lambda: run.throttle(wcu=3.0)]

    def read_first(self: LeaseRows, *arguments: Any) -> Lease:
        seen = read(self, *arguments)
        if acts:
            acts.pop()()
        return seen

    watch = run.watch()
    monkeypatch.setattr(LeaseRows, "read", read_first)
    assert run.later(watch, Units(100, 900)) == (50.0, 3.0) and run.notes == []


@pytest.mark.parametrize(
    ("stage", "options", "watched"),
    [
        (STAGE, RunOptions(), True),
        (STAGE, RunOptions(max_rcu=1.0), True),
        (STAGE, RunOptions(max_rcu=1.0, max_wcu=1.0), False),
        (replace(STAGE, local=True), RunOptions(), False),
    ],
)
def test_capacity_is_watched_where_the_limits_depend_on_it(stage: Stage, options: RunOptions, watched: bool) -> None:
    context = replace(Scaled().context, stage=stage, options=options)
    assert (watch_capacity(context, JOB) is not None) == watched


# ---------------------------------------------------------------- control, whatever the rate


class Left(Exception):
    """The lease while a request waits for the budget."""


def stopped_after(naps: int) -> tuple[Callable[[float], None], Callable[[], None]]:
    """A sleep that does not advance the clock, and a stop after this number of sleeps."""
    slept: list[float] = []

    def wait_or_stop() -> None:
        if len(slept) == naps:
            raise Left

    return slept.append, wait_or_stop


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.5])
def test_a_request_that_waits_for_the_budget_ends_when_the_run_is_stopped(rate: float) -> None:
    sleep, wait_or_stop = stopped_after(3)
    rate_queue = RateLimitedQueue(TokenBucket(rate, lambda: 0.0), 1.0, lambda: None, sleep, wait_or_stop)
    with pytest.raises(Left):
        rate_queue.enter(1000.0)
    with pytest.raises(Left):  # the next in line
        rate_queue.enter(1.0)


def test_a_read_that_waits_for_the_budget_ends_when_the_run_is_stopped() -> None:
    sleep, wait_or_stop = stopped_after(3)
    rate_limiter = WorkerRateLimiter(JOB, World().rows, "a", clock=lambda: 0.0, sleep=sleep, wait_or_stop=wait_or_stop)
    with pytest.raises(Left):
        rate_limiter.page_items(1000)


def test_a_read_that_is_throttled_reports_it_and_ends_when_the_run_is_stopped() -> None:
    sleep, wait_or_stop = stopped_after(3)
    world = World()
    worker = WorkerRateLimiter(JOB, world.rows, "a", clock=lambda: 0.0, sleep=sleep, wait_or_stop=wait_or_stop)
    worker.reads.throttled()
    with pytest.raises(Left):
        worker.rest(20.0)
    (row,) = world.rows.all()
    assert row.report.throttles.reads == 1


@pytest.mark.parametrize(("units", "throttles"), [(40.0, 1), (3_950.0, 0)])
def test_keys_that_are_left_unread_count_as_a_throttle_unless_the_answer_is_full(units: float, throttles: int) -> None:
    """An answer of DynamoDB has at most 16 MB, which are 4,096 units."""
    keys = [{"id": {"N": str(number)}} for number in range(2)]
    consumed = [{"TableName": "things", "CapacityUnits": units}]
    first = {
        "Responses": {"things": keys[:1]},
        "UnprocessedKeys": {"things": {"Keys": keys[1:]}},
        "ConsumedCapacity": consumed,
    }
    answers = iter([first, {"Responses": {"things": keys[1:]}}])
    wire: Any = SimpleNamespace(begin=lambda operation, body: lambda: next(answers))
    queue = RateLimitedQueue(TokenBucket(inf, lambda: 0.0), 1.0, lambda: None, lambda seconds: None)
    assert len(Reads(wire, SPEC, rate_queue=queue, sleep=lambda seconds: None).items(keys).items) == 2
    assert queue.throttles == throttles


@pytest.mark.parametrize(("consistent", "units"), [(False, 128.0), (True, 256.0)])
def test_a_page_waits_for_the_units_of_its_megabyte_at_most(consistent: bool, units: float) -> None:
    """Items are larger than DescribeTable's old counts say: by the price of the first pages, 800 would cost 38,100."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    queue = RateLimitedQueue(TokenBucket(100.0, lambda: now[0]), 381.0, lambda: None, sleep)
    answer = {"Items": [], "ScannedCount": 0, "ConsumedCapacity": {"CapacityUnits": units}}
    wire: Any = SimpleNamespace(begin=lambda operation, body: lambda: answer)
    Reads(wire, SPEC, rate_queue=queue, units=lambda items: items / 8.0).scan(0, 1, None, 800, consistent)
    assert now[0] == pytest.approx(units / 100.0)


def test_a_request_within_the_budget_does_not_poll_the_lease() -> None:
    sleep, wait_or_stop = stopped_after(0)
    assert RateLimitedQueue(TokenBucket(inf, lambda: 0.0), 1.0, lambda: None, sleep, wait_or_stop).enter(1000.0) == 0.0
