"""One run per table: the lease, and what its holder's workers see of it (guarantee G4)."""

from __future__ import annotations

import os
import random
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.errors import Busy, Fenced, Refused, ScriptError, ServiceError, suggest
from dynamodt.model.pages import Units
from dynamodt.model.runs import Job, Lease, RunRecord
from dynamodt.model.tables import Connection, Item, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline import signals
from dynamodt.pipeline.signals import POLL_SECONDS, Interrupted, Signal, context_of, report_errors, reported_error, stop
from dynamodt.runs import control
from dynamodt.runs.context import RunContext
from dynamodt.runs.control import _unlock
from dynamodt.runs.liveness import BEAT_SECONDS, LeaseWatch, Life, Process, observed_life
from dynamodt.runs.lock import TTL_SECONDS, acquire, hold_lease, hold_leases, new_lease
from dynamodt.runs.options import RunOptions
from dynamodt.script.codec import encode
from dynamodt.state.lease_rows import Report
from dynamodt.state.row_codec import RowKey
from tests.fakes import FakeState
from tests.pipeline.conftest import Bench

NOW = 1_000_000.0


class Clock:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.now = NOW
        self.meanwhile: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def state() -> FakeState:
    return FakeState()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def foreign(token: int = 1, beat: float = NOW) -> Lease:
    """Held by a process of another host."""
    return Lease("things", token, "theirs", "someone", "elsewhere", 42, "boot:1", "then", beat, TTL_SECONDS)


def take(state: FakeState, clock: Clock, notes: list[str] | None = None) -> Lease:
    told = [] if notes is None else notes
    return acquire(state.leases, "things", "mine", told.append, clock.time, clock.sleep)


def hold(state: FakeState, lease: Lease) -> None:
    assert state.leases.take(lease, over=state.leases.read(lease.table))


def test_a_free_table_is_taken_and_the_token_grows(state: FakeState, clock: Clock) -> None:
    assert take(state, clock).token == 1
    state.leases.release("things", 1)
    assert take(state, clock).token == 2
    assert state.leases.read("things").run == "mine"


def test_a_second_run_is_refused_with_the_holder_and_the_command_unlock(state: FakeState, clock: Clock) -> None:
    hold(state, foreign())
    clock.meanwhile = lambda: state.leases.beat("things", 1, NOW)
    with pytest.raises(Refused, match=r"someone@elsewhere.*42.*theirs.*then") as refused:
        take(state, clock)
    assert "dynamodt unlock --table things" in refused.value.hint


def test_an_unlocked_holder_is_fenced_without_a_successor(state: FakeState, clock: Clock) -> None:
    mine = take(state, clock)
    signal = Signal(state.leases, job(mine.token))
    assert not signal.stopping()
    _unlock(state.leases, state.leases.read("things"))
    assert state.leases.read("things").run == ""
    with pytest.raises(Fenced):
        state.leases.beat("things", mine.token, NOW)
    with pytest.raises(Fenced):
        Signal(state.leases, job(mine.token)).check_owner()


@pytest.mark.parametrize("how", ["dead", "failed", "unlocked"])
def test_no_former_worker_writes_once_the_lease_is_taken(state: FakeState, clock: Clock, how: str) -> None:
    """It records an intent and writes as long as its last poll of the lease is recent: a command that replaces its run,
    or undoes it, must see that intent."""
    mine = take(state, clock)
    worker = Signal(state.leases, job(mine.token), clock.time, clock.sleep)
    worker.check_owner()
    clock.sleep(0.1)
    if how == "failed":
        state.leases.set("things", mine.token, stop="error")
        state.leases.release("things", mine.token)
    elif how == "unlocked":
        _unlock(state.leases, state.leases.read("things"))
    worker.check_owner()
    assert take(state, clock).token > mine.token
    with pytest.raises(Fenced):
        worker.check_owner()


def test_the_leases_of_a_run_get_their_replicas_when_its_runner_is_ready(state: FakeState, clock: Clock) -> None:
    mine = take(state, clock)
    fences = (("others", acquire(state.leases, "others", "mine", print, clock.time, clock.sleep).token),)
    runner: Any = SimpleNamespace(ready=lambda options, notify: replace(options, workers=120))
    stage = job(mine.token).stage
    context = RunContext(stage, Path(), RunOptions(), runner=runner, token=mine.token, fences=fences)
    context.__dict__["state"] = state
    assert context.ready("things").options.workers == 120
    for table, token in (("things", mine.token), *fences):
        assert [state.leases.read(table, replica).token for replica in range(4)] == [token, token, token, 0]


def test_a_released_lease_is_taken_at_once(state: FakeState, clock: Clock) -> None:
    state.leases.release("things", take(state, clock).token)
    assert take(state, clock).token == 2 and clock.now == NOW


def test_a_holder_with_a_new_heartbeat_is_not_unlocked(state: FakeState, clock: Clock) -> None:
    mine = take(state, clock)
    seen = state.leases.read("things")
    state.leases.beat("things", mine.token, NOW + 5.0)
    with pytest.raises(Refused, match="heartbeat"):
        _unlock(state.leases, seen)
    assert state.leases.read("things").token == mine.token


def test_the_lease_of_a_live_process_of_this_host_is_never_taken(state: FakeState, clock: Clock) -> None:
    parent = Process.of(os.getppid())
    assert parent is not None
    theirs = new_lease("things", 1, "theirs", NOW)
    hold(state, theirs._replace(pid=parent.pid, started=parent.started))
    with pytest.raises(Refused):
        take(state, clock)


def test_a_lease_of_this_process_is_held_until_it_is_released(state: FakeState, clock: Clock) -> None:
    with hold_lease(state.leases, "things", "mine", print), pytest.raises(Refused):
        take(state, clock)
    assert take(state, clock).token == 2


def test_a_lease_that_could_not_be_released_blocks_no_later_run(state: FakeState, clock: Clock) -> None:
    def out_of_reach(table: str, token: int) -> None:
        raise ServiceError("out of reach")

    state.leases.release = out_of_reach  # type: ignore[method-assign]
    with hold_lease(state.leases, "things", "mine", print):
        pass
    assert state.leases.read("things").run == "mine"
    assert take(state, clock).token == 2


def test_a_dead_process_of_this_host_is_taken_over_at_once(state: FakeState, clock: Clock) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    here = Process.of(os.getpid())
    assert here is not None
    hold(state, foreign()._replace(host=socket.gethostname(), pid=child, started=here.started))
    notes: list[str] = []
    assert take(state, clock, notes).token == 2 and clock.now == NOW + POLL_SECONDS
    assert "took over the lease on things" in notes[0]


def test_a_recycled_pid_is_not_the_holder(state: FakeState, clock: Clock) -> None:
    here = Process.of(os.getpid())
    assert here is not None
    hold(state, foreign()._replace(host=socket.gethostname(), pid=os.getpid(), started=f"{here.started}0"))
    assert take(state, clock).token == 2


def test_another_machine_of_the_same_name_is_not_this_host(state: FakeState, clock: Clock) -> None:
    """A cloned machine, or a container: its processes cannot be observed here."""
    hold(state, foreign()._replace(host=socket.gethostname(), pid=os.getpid(), started="another boot:pid:[7]:1"))
    clock.meanwhile = lambda: state.leases.beat("things", 1, clock.now)
    with pytest.raises(Refused):
        take(state, clock)


SKEWS = [-1e6, -3600.0, -60.0, -20.0, 0.0, 60.0, 3600.0, 1e6]


@pytest.mark.parametrize("skew", SKEWS)
def test_a_live_holder_is_respected_whatever_its_clock_says(state: FakeState, clock: Clock, skew: float) -> None:
    hold(state, foreign(beat=NOW + skew))
    clock.meanwhile = lambda: state.leases.beat("things", 1, clock.now + skew)
    with pytest.raises(Refused):
        take(state, clock)
    assert clock.now - NOW < BEAT_SECONDS


def test_a_live_holder_is_respected_although_its_clock_stands_still(state: FakeState, clock: Clock) -> None:
    hold(state, foreign())
    clock.meanwhile = lambda: state.leases.beat("things", 1, NOW)
    with pytest.raises(Refused):
        take(state, clock)


@pytest.mark.parametrize("skew", SKEWS)
def test_a_silent_holder_elsewhere_is_waited_for_with_a_countdown(state: FakeState, clock: Clock, skew: float) -> None:
    hold(state, foreign(beat=NOW + skew))
    notes: list[str] = []
    assert take(state, clock, notes).token == 2
    assert clock.now - NOW == pytest.approx(TTL_SECONDS, abs=1)
    assert any("ends in 30 s" in note for note in notes) and any("ends in 2 s" in note for note in notes)


def test_a_control_command_is_no_heartbeat(state: FakeState, clock: Clock) -> None:
    hold(state, foreign())

    def pause() -> None:
        with suppress(Fenced):  # it is taken over
            state.leases.set("things", 1, paused=True)

    clock.meanwhile = pause
    assert take(state, clock).token == 2
    assert not state.leases.read("things").paused


def test_the_lease_of_a_suspended_process_of_this_host_ends_after_its_duration(state: FakeState, clock: Clock) -> None:
    """Both processes use the system's clock, so that the time before the first poll counts."""
    parent = Process.of(os.getppid())
    assert parent is not None
    theirs = new_lease("things", 1, "theirs", NOW)
    ticks = theirs.ticks - 20.0
    hold(state, theirs._replace(pid=parent.pid, started=parent.started, ticks=ticks))
    notes: list[str] = []
    assert take(state, clock, notes).token == 2
    assert "ends in 10 s" in notes[0]


def test_a_watch_distinguishes_a_live_a_dead_and_an_unknown_holder(state: FakeState, clock: Clock) -> None:
    watch = LeaseWatch(clock.time)
    assert watch.poll(state.leases, "things")[1] is Life.NONE  # type: ignore[arg-type]
    hold(state, foreign())
    assert watch.poll(state.leases, "things")[1] is Life.UNKNOWN
    state.leases.beat("things", 1, NOW)
    clock.now += 5.0
    assert watch.poll(state.leases, "things")[1] is Life.SEEN
    clock.now += 20.0
    assert watch.poll(state.leases, "things")[1] is Life.UNKNOWN
    clock.now += 10.0
    assert watch.poll(state.leases, "things")[1] is Life.OVER
    hold(state, foreign(2))
    assert watch.poll(state.leases, "things")[1] is Life.UNKNOWN, "another holder may be as dead as the one before"
    assert observed_life(state.leases, "things", clock.sleep, watch)[1] is Life.OVER


# ---------------------------------------------------------------- several tables


def test_a_run_holds_and_releases_all_of_its_tables(state: FakeState) -> None:
    with hold_leases(state.leases, "things", ["others", "a"], "mine", print) as (lease, fences):
        assert (lease.table, lease.owner) == ("things", "")
        assert fences == (("a", 1), ("others", 1))
        others = state.leases.read("others")
        assert (others.run, others.owner) == ("mine", "things")
        with (
            pytest.raises(Busy, match="run mine of table things") as refused,
            hold_lease(state.leases, "others", "theirs", print),
        ):
            pass
        assert "abort --table things" in refused.value.hint and "unlock --table others" in refused.value.hint
        assert refused.value.table == "others"
    assert [state.leases.read(name).run for name in ("a", "others", "things")] == ["", "", ""]


def test_a_table_that_another_run_holds_is_named_and_the_others_are_released(state: FakeState) -> None:
    with hold_lease(state.leases, "others", "theirs", print):
        with (
            pytest.raises(Busy, match="run theirs") as refused,
            hold_leases(state.leases, "things", ["others", "a"], "mine", print),
        ):
            pass
        assert refused.value.where == "table others"
        assert [state.leases.read(name).run for name in ("a", "others", "things")] == ["", "theirs", ""]


def test_leases_are_taken_in_the_order_of_their_names(state: FakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    take = state.leases.take

    def noted(lease: Lease, over: Lease) -> bool:
        taken.append(lease.table)
        return take(lease, over)

    monkeypatch.setattr(state.leases, "take", noted)
    for table, other in (("a", "b"), ("b", "a")):
        with hold_leases(state.leases, table, [other], "mine", print):
            pass
    assert taken == ["a", "b", "a", "b"]


def test_a_control_command_for_a_run_goes_to_its_own_table(state: FakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "State", lambda *_: state)
    stage = Stage("test", Connection("us-east-1"), StorageSpec(""), local=True)
    with hold_leases(state.leases, "things", ["others"], "mine", print):
        for command in ("pause", "resume", "abort", "throttle"):
            with pytest.raises(Refused, match="of table things writes to") as refused:
                control.control_run(stage, "others", command, Units(wcu=5.0))
            limits = " --wcu 5" if command == "throttle" else ""
            assert refused.value.hint == f"dynamodt {command} --table things{limits}"
        control.control_run(stage, "things", "pause")
        assert state.leases.read("things").paused
        control.control_run(stage, "others", "unlock")
        assert state.leases.read("others").run == ""


def test_a_run_that_is_ending_is_neither_resumed_nor_paused(state: FakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord("things", "mine", 2, "x", "down", "", "running", "")
    monkeypatch.setattr(state, "run", lambda *_: record, raising=False)
    monkeypatch.setattr(control, "State", lambda *_: state)
    stage = Stage("test", Connection("us-east-1"), StorageSpec(""), local=True)
    with hold_leases(state.leases, "things", [], "mine", print):
        for _ in range(2):
            control.control_run(stage, "things", "abort")
            before = state.leases.read("things")
            for command in ("pause", "resume", "throttle"):
                with pytest.raises(Refused, match=r"run mine is ending \(it was aborted\)") as refused:
                    control.control_run(stage, "things", command, Units(wcu=5.0))
                assert "dynamodt down --table things --to 1 continues it" in refused.value.hint
            assert state.leases.read("things") == before


def test_a_worker_is_fenced_by_the_loss_of_any_lease(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    hold(state, foreign(7)._replace(table="others"))
    mine = replace(job(1), fences=(("others", 7),))
    signal = Signal(state.leases, mine, clock.time, clock.sleep)
    signal.check_owner()
    assert signals.lost_lease_error(state.leases, mine) is None
    hold(state, foreign(8)._replace(table="others"))
    clock.now += 0.5
    for look in (signal.check_owner, signal.stopping):
        with pytest.raises(Fenced, match="table others"):
            look()
    found = signals.lost_lease_error(state.leases, mine)
    assert found is not None and "runs --table others" in found.hint
    with pytest.raises(Fenced), report_errors(state.leases, mine):
        raise Fenced("a worker has noticed")
    assert context_of(mine).stopped, "all of its split groups end, not one split"
    assert state.leases.read("things").stop == ""


def test_a_silent_holder_that_beats_again_keeps_its_lease(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(beat=NOW - 20))
    clock.meanwhile = lambda: state.leases.beat("things", 1, clock.now)
    with pytest.raises(Refused):
        take(state, clock)


def test_of_two_simultaneous_takers_one_gets_the_lease(state: FakeState) -> None:
    seen = state.leases.read("things")
    assert state.leases.take(foreign(), over=seen)
    assert not state.leases.take(foreign()._replace(run="another"), over=seen)


# ---------------------------------------------------------------- what workers see


def job(attempt: int = 1, run: str = "mine") -> Job:
    stage = Stage("test", Connection("us-east-1"), StorageSpec(""), local=True)
    table = TableSpec("things", (KeyAttribute("id", "N"),))
    return Job(run, stage, table, None, "up", splits=1, attempt=attempt)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_contexts", {})


def test_a_worker_that_was_suspended_is_fenced_before_it_writes_again(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    signal.check_owner()
    hold(state, foreign(2))
    signal.check_owner()  # it has just read the lease: the guard and the journal cover its next requests
    clock.now += 0.5
    with pytest.raises(Fenced):
        signal.check_owner()


def test_polling_the_lease_takes_at_most_two_reads_a_second(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    reads: list[str] = []
    original = state.leases.begin_read

    def counted(table: str, replica: int = 0) -> Callable[[], Lease]:
        reads.append(table)
        return original(table, replica)

    state.leases.begin_read = counted  # type: ignore[method-assign]
    for _ in range(1000):
        clock.now += 0.01  # ten seconds in all
        signal.check_owner()
    assert len(reads) <= 21


def test_a_paused_run_waits_between_two_pages(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    state.leases.set("things", 1, paused=True)
    rested: list[float] = []

    def someone() -> None:
        rested.append(clock.now)
        if len(rested) == 4:
            state.leases.set("things", 1, paused=False)

    clock.meanwhile = someone
    assert not Signal(state.leases, job(1), clock.time, clock.sleep).stopping()
    assert len(rested) == 4


@pytest.mark.parametrize("first", ["paused", "pause_reason"])
def test_a_run_continues_once_neither_a_pause_nor_an_alarm_stops_it(state: FakeState, clock: Clock, first: str) -> None:
    hold(state, foreign(1))
    state.leases.set("things", 1, paused=True, pause_reason="the alarm x is in ALARM")
    released = {"paused": {"paused": False}, "pause_reason": {"pause_reason": ""}}
    order = [released.pop(first), *released.values()]
    rested: list[float] = []

    def someone() -> None:
        rested.append(clock.now)
        if len(rested) % 2 == 0:
            state.leases.set("things", 1, **order.pop(0))

    clock.meanwhile = someone
    assert not Signal(state.leases, job(1), clock.time, clock.sleep).stopping()
    assert len(rested) == 4 and order == []


def test_a_paused_run_can_be_stopped(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    state.leases.set("things", 1, pause_reason="the alarm x is in ALARM")
    clock.meanwhile = lambda: state.leases.set("things", 1, stop="abort")
    assert Signal(state.leases, job(1), clock.time, clock.sleep).stopping()


def test_a_lease_is_read_as_it_was_stored(state: FakeState) -> None:
    lease = foreign()._replace(paused=True, pause_reason="why", stop="abort", error={"kind": "x"}, wcu=0.1, rcu=2.5)
    hold(state, lease)
    row = state.leases._rows.get(("TABLE#things", "LEASE"))
    assert row is not None and encode(row)
    found = state.leases.read("things")
    assert found == lease._replace(revision=1, write_ids=found.write_ids)


def test_a_stop_is_seen_after_the_page(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    assert not signal.stopping()
    state.leases.set("things", 1, stop="abort")
    clock.now += 0.5
    assert signal.stopping()


def test_a_stop_from_this_process_is_seen_at_once(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    assert not signal.stopping()
    stop(state.leases, job(1), "interrupted")
    assert signal.stopping()


@pytest.mark.parametrize("why", ["abort", "error", "interrupted"])
def test_a_page_in_progress_is_left_when_the_run_is_stopped(state: FakeState, clock: Clock, why: str) -> None:
    hold(state, foreign(1))
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    signal.wait_or_stop()
    state.leases.set("things", 1, stop=why)
    clock.now += 0.5
    with pytest.raises(Interrupted):
        signal.wait_or_stop()
    assert context_of(job(1)).interrupted and not context_of(job(2)).interrupted
    assert Signal(state.leases, job(1), clock.time, clock.sleep).stopping()


def test_a_page_in_progress_is_left_at_once_when_this_process_stops_the_run(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    signal.wait_or_stop()
    stop(state.leases, job(1), "interrupted")
    with pytest.raises(Interrupted):
        signal.wait_or_stop()


def test_a_page_in_progress_waits_while_the_run_is_paused_and_can_be_left(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    state.leases.set("things", 1, paused=True)
    rested: list[float] = []

    def someone() -> None:
        rested.append(clock.now)
        if len(rested) == 3:
            state.leases.set("things", 1, paused=False)

    clock.meanwhile = someone
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    signal.wait_or_stop()
    assert len(rested) == 3
    state.leases.set("things", 1, paused=True)
    clock.now += 0.5
    clock.meanwhile = lambda: state.leases.set("things", 1, stop="abort")
    with pytest.raises(Interrupted):
        signal.wait_or_stop()


def test_dead_letters_stop_a_run_after_the_pages_in_progress(state: FakeState, clock: Clock) -> None:
    hold(state, foreign(1))
    stop(state.leases, job(1), "max-errors")
    signal = Signal(state.leases, job(1), clock.time, clock.sleep)
    signal.wait_or_stop()
    assert signal.stopping() and not context_of(job(1)).interrupted


def test_a_fenced_worker_stops_only_itself(state: FakeState) -> None:
    hold(state, foreign(2))
    stop(state.leases, job(1), "error", {"kind": "RunFailed", "what": "old", "where": "", "hint": ""})
    assert state.leases.read("things").stop == "" and state.leases.read("things").error is None


def test_an_error_of_a_worker_keeps_its_type(state: FakeState) -> None:
    hold(state, foreign(1))
    with pytest.raises(ServiceError), report_errors(state.leases, job(1)):
        raise ServiceError("no", where="table things", hint="ask: " + suggest("status"))
    error = reported_error(state.leases.read("things"), job(1))
    assert isinstance(error, ServiceError) and (error.what, error.where) == ("no", "table things")
    assert error.hint.parts == ("ask: ", ("status",))


def test_a_split_group_of_a_stopped_run_claims_and_reads_nothing(bench: Bench) -> None:
    """A worker has several split groups: otherwise each of them would claim its splits and read a page of each."""
    bench.dynamodb.put(*({"id": number, "n": 1} for number in range(10)))
    mine = bench.job('def transform_up(item):\n    return {**item, "n": 2}', split_groups=3)
    bench.state.lease(mine)
    bench.state.leases.set(mine.lease, mine.attempt, stop="abort")
    from dynamodt.pipeline.migrate import execute

    execute(mine, bench.resources, "direct", ())
    assert bench.dynamodb.calls == {}
    assert [key for key in bench.state.rows.rows if key[1] == "SPLIT"] == []


def test_a_pipeline_whose_lease_is_gone_writes_nothing(bench: Bench) -> None:
    bench.dynamodb.put(*({"id": number, "n": 1} for number in range(10)))
    mine = bench.job('def transform_up(item):\n    return {**item, "n": 2}')
    bench.state.lease(mine)
    bench.state.lease(replace(mine, attempt=2))
    from dynamodt.pipeline.migrate import execute

    with pytest.raises(Exception, match="taken over the run"):
        execute(mine, bench.resources, "direct", ())
    assert all(item["n"] == 1 for item in bench.items())


# ---------------------------------------------------------------- many workers

SPREAD = 20


class CountingRows:
    """The state's rows, and how often each partition key is asked for."""

    def __init__(self, state: FakeState) -> None:
        self.asked: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        rows, get, update = state.rows, state.rows.get, state.rows.update

        def counted_get(key: RowKey) -> Item | None:
            self.asked[key[0]] += 1
            return get(key)

        def counted_update(key: RowKey, *args: Any, **values: Any) -> Item:
            self.asked[key[0]] += 1
            self.written[key[0]] += 1
            return update(key, *args, **values)

        rows.get, rows.update = counted_get, counted_update  # type: ignore[method-assign]


def test_a_thousand_workers_are_spread_over_many_partition_keys(state: FakeState, clock: Clock) -> None:
    """In containers, all processes have the same pid."""
    random.seed(1)
    hold(state, Lease("things", 1, "mine", lease_replicas=SPREAD))
    counting = CountingRows(state)
    workers = state.workers("mine", 1, SPREAD)
    for number in range(1000):
        assert not Signal(state.leases, replace(job(1), shards=SPREAD), clock.time, clock.sleep).stopping()
        workers.report(f"host-{number}", Report(1, 0, Units()))
    assert max(counting.asked.values()) <= 1.5 * 1000 / SPREAD, counting.asked
    assert len(list(workers.all())) == 1000


def test_of_a_thousand_workers_that_fail_at_once_the_first_error_is_recorded(state: FakeState) -> None:
    hold(state, Lease("things", 1, "mine", lease_replicas=SPREAD))
    counting = CountingRows(state)
    error = {"kind": "RunFailed", "what": "broken", "where": "", "hint": ""}
    for _ in range(1000):
        stop(state.leases, job(1), "max-errors")
    assert state.leases.read("things", 7).stop == "max-errors"
    for number in range(1000):
        stop(state.leases, job(1), "error", {**error, "what": f"broken {number}"})
    assert counting.written["TABLE#things"] == 2
    found = reported_error(state.leases.read("things"), job(1))
    assert found is not None and found.what == "broken 0"


def test_every_lease_replica_is_a_copy_of_the_lease(state: FakeState) -> None:
    hold(state, Lease("things", 1, "mine", lease_replicas=3))
    state.leases.set("things", 1, paused=True)
    assert all(state.leases.read("things", replica).paused for replica in range(3))
    hold(state, Lease("things", 2, "theirs"))  # fewer workers, but those of before must hear of it
    assert {state.leases.read("things", replica).token for replica in range(3)} == {2}
    assert state.leases.read("things", 2).run == "theirs"


def test_a_delayed_control_command_is_not_copied_to_a_later_owner_s_replicas(
    state: FakeState, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(state, Lease("things", 1, "mine", lease_replicas=3))
    update = state.rows.update

    def then_taken_over(key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        monkeypatch.setattr(state.rows, "update", update)
        said = update(key, row, condition, **values)
        hold(state, Lease("things", 2, "theirs", lease_replicas=3))
        return said

    monkeypatch.setattr(state.rows, "update", then_taken_over)
    state.leases.set("things", 1, paused=True)
    assert {state.leases.read("things", replica).token for replica in range(3)} == {2}


def test_a_later_stop_does_not_replace_the_first_reason(bench: Bench) -> None:
    """Otherwise an error of the author's code would be reported as the run's, and an abort as too many dead letters."""
    job = bench.job("def transform_up(item):\n    return item\n")
    bench.state.lease(job)
    leases = bench.state.leases
    signals.stop(leases, job, "error", {"kind": "ScriptError", "what": "bad", "where": "", "hint": ""})
    for why in ("max-errors", "interrupted"):
        signals.stop(leases, job, why)
    lease = leases.read(job.lease)
    assert lease.stop == "error" and isinstance(signals.reported_error(lease, job), ScriptError)
    leases.set(job.lease, job.attempt, stop="abort", error=None)
    signals.stop(leases, job, "max-errors")
    assert leases.read(job.lease).stop == "abort"
