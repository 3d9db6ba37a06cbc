"""`--wait-lock`: durations, and how a command waits for a table that another run holds, by a clock of the tests."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from dynamodt.errors import Busy, Refused, UsageError
from dynamodt.model.runs import Lease
from dynamodt.runs.lock import TTL_SECONDS, Clock, attempt_in_turn
from dynamodt.runs.options import RunOptions
from dynamodt.script.names import seconds
from tests.fakes import FakeState

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90.0), ("10m", 600.0), ("1h", 3600.0), ("0s", 0.0), ("", 0.0), ("007m", 420.0)]
)
def test_a_duration_is_parsed_to_seconds(text: str, expected: float) -> None:
    assert seconds("--wait-lock", text) == expected


@pytest.mark.parametrize(
    "text", ["10", "m", "-1m", "1.5h", "10 m", "10M", "1h30m", "10m ", "١m", "9999999s", "forever"]
)
def test_an_invalid_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--wait-lock cannot be") as error:
        seconds("--wait-lock", text)
    assert "90s, 10m or 1h" in error.value.hint


class Elsewhere:
    """Runs of another host on the table `things`, and a clock that moves only by waiting."""

    def __init__(self) -> None:
        self.state = FakeState()
        self.now = NOW
        self.notes: list[str] = []
        self.beats = True
        self.meanwhile: Callable[[], None] = lambda: None

    @property
    def waited(self) -> float:
        return self.now - NOW

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        lease = self.state.leases.read("things")
        if self.beats and lease.run:
            self.state.leases.beat("things", lease.token, self.now)
        self.meanwhile()

    def takes(self, run: str = "theirs") -> None:
        over = self.state.leases.read("things")
        mine = Lease("things", over.token + 1, run, "ada", "elsewhere", 42, "boot:1", "then", self.now, TTL_SECONDS)
        assert self.state.leases.take(mine, over=over)

    def lets_go(self) -> None:
        self.state.leases.release("things", self.state.leases.read("things").token)

    def lets_go_after(self, seconds: float) -> None:
        def ended() -> None:
            if self.waited >= seconds and self.state.leases.read("things").run:
                self.lets_go()

        self.meanwhile = ended

    def attempt(self, attempt: Callable[[], str], wait_lock: str = "10m", dry_run: bool = False) -> str:
        options = RunOptions(wait_lock=wait_lock, dry_run=dry_run)
        clock = Clock(lambda: self.now, self.sleep)
        observer = SimpleNamespace(notify=self.notes.append)
        project = SimpleNamespace(state=self.state, options=options, observer=observer)
        return attempt_in_turn(project, "things", attempt, clock)  # type: ignore[arg-type]


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


def busy() -> str:
    raise Busy("another run is in progress")


@pytest.mark.parametrize("options", [{"wait_lock": ""}, {"wait_lock": "0s"}, {"dry_run": True}])
def test_without_wait_lock_a_held_table_is_refused_at_once(elsewhere: Elsewhere, options: dict[str, object]) -> None:
    elsewhere.takes()
    with pytest.raises(Busy):
        elsewhere.attempt(busy, **options)  # type: ignore[arg-type]
    assert elsewhere.waited == 0 and elsewhere.notes == []


def test_a_free_table_is_not_waited_for(elsewhere: Elsewhere) -> None:
    assert elsewhere.attempt(lambda: "done") == "done"
    assert elsewhere.waited == 0 and elsewhere.notes == []


def test_nothing_is_planned_before_the_other_run_has_ended(elsewhere: Elsewhere) -> None:
    elsewhere.takes()
    elsewhere.lets_go_after(70)
    assert elsewhere.attempt(lambda: f"planned {elsewhere.waited >= 70}") == "planned True"
    assert elsewhere.waited < 73


def test_the_holder_and_the_waited_time_are_reported(elsewhere: Elsewhere) -> None:
    elsewhere.takes()
    elsewhere.lets_go_after(70)
    elsewhere.attempt(lambda: "done")
    first, *more, last = elsewhere.notes
    assert first.startswith("waited 0 s of 10m for table things: ada@elsewhere (process 42, run theirs, since then)")
    assert len(more) == 2 and all("of 10m" in note for note in more) and more[0].startswith("waited 3")
    assert last.startswith("table things is free, after 7")


def test_a_change_of_the_holder_is_reported_at_once(elsewhere: Elsewhere) -> None:
    elsewhere.takes()

    def handed_over() -> None:
        if elsewhere.state.leases.read("things").run == "theirs" and elsewhere.waited > 5:
            elsewhere.lets_go()
            elsewhere.takes("a third")

    elsewhere.meanwhile = handed_over
    with pytest.raises(Busy):
        elsewhere.attempt(lambda: "done", "10s")
    assert [note.partition("run ")[2].partition(",")[0] for note in elsewhere.notes] == ["theirs", "a third"]


def test_after_the_time_out_the_refusal_names_the_holder(elsewhere: Elsewhere) -> None:
    elsewhere.takes()
    with pytest.raises(Busy, match=r"timed out after 90s: another run is in progress: ada@elsewhere") as refused:
        elsewhere.attempt(lambda: "done", "90s")
    assert refused.value.exit_code == 3 and "dynamodt abort --table things" in refused.value.hint
    assert 90 <= elsewhere.waited < 93


def test_a_holder_that_falls_silent_is_waited_for_until_its_lease_has_ended(elsewhere: Elsewhere) -> None:
    elsewhere.takes()
    elsewhere.beats = False
    assert elsewhere.attempt(lambda: "done") == "done"
    assert TTL_SECONDS <= elsewhere.waited < TTL_SECONDS + 2


def test_a_faster_command_is_waited_for_and_the_plan_made_again(elsewhere: Elsewhere) -> None:
    tries = []

    def attempt() -> str:
        tries.append(elsewhere.waited)
        if len(tries) > 1:
            return "done"
        elsewhere.takes()
        elsewhere.lets_go_after(20)
        raise Busy("another run is in progress")

    assert elsewhere.attempt(attempt) == "done"
    assert tries[1] >= 20


def test_a_table_changed_while_waiting_is_planned_again(elsewhere: Elsewhere) -> None:
    outcomes = [busy, busy, lambda: "done"]
    assert elsewhere.attempt(lambda: outcomes.pop(0)()) == "done"
    assert 0 < elsewhere.waited < 10


def test_a_table_that_other_commands_keep_changing_is_refused_after_the_time_out(elsewhere: Elsewhere) -> None:
    with pytest.raises(Busy):
        elsewhere.attempt(busy, "90s")
    assert 90 <= elsewhere.waited < 93


def test_another_table_that_the_run_writes_to_is_waited_for_too(elsewhere: Elsewhere) -> None:
    leases = elsewhere.state.leases
    assert leases.take(Lease("target", 1, "theirs", "ada", "elsewhere", 42), over=Lease("target", 0))
    tries = []

    def beats_for_a_while() -> None:
        if elsewhere.waited < 20:
            leases.beat("target", 1, 0.0)
        elif leases.read("target").run:
            leases.release("target", 1)

    def attempt() -> str:
        tries.append(elsewhere.waited)
        if leases.read("target").run:
            raise Busy("another run is in progress", table="target")
        return "done"

    elsewhere.meanwhile = beats_for_a_while
    assert elsewhere.attempt(attempt) == "done"
    assert len(tries) == 2 and tries[1] >= 20
    assert "for table target" in elsewhere.notes[0]


def test_a_refusal_that_another_run_may_have_caused_is_not_final(elsewhere: Elsewhere) -> None:
    tries = []

    def attempt() -> str:
        tries.append(1)
        if len(tries) > 1:
            return "done"
        elsewhere.takes()  # an undo: the undo of its run is unfinished while it is active
        elsewhere.lets_go_after(5)
        raise Refused("the undo of run theirs is unfinished")

    assert elsewhere.attempt(attempt) == "done"


def test_any_other_refusal_is_final(elsewhere: Elsewhere) -> None:
    def attempt() -> str:
        raise Refused("the prepared data is missing")

    with pytest.raises(Refused, match="prepared data"):
        elsewhere.attempt(attempt)
    assert elsewhere.waited == 0


def test_ctrl_c_ends_the_waiting(elsewhere: Elsewhere) -> None:
    elsewhere.takes()

    def interrupt() -> None:
        raise KeyboardInterrupt

    elsewhere.meanwhile = interrupt
    with pytest.raises(KeyboardInterrupt):
        elsewhere.attempt(lambda: "done")
