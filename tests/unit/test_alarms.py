"""An alarm pauses a run, and so does one that cannot be read; only alarms that are not in ALARM let it continue."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from dynamodt.errors import Fenced, ServiceError
from dynamodt.runs.budget import ALARM_SECONDS, AlarmWatch

NAMES = ("api-errors", "api-latency")


@dataclass
class Watched:
    """The alarms' states, the clock, and the watch's actions."""

    states: dict[str, str] | ServiceError
    now: float = 100.0
    reads: int = 0
    holds: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self) -> dict[str, str]:
        self.reads += 1
        if isinstance(self.states, ServiceError):
            raise self.states
        return self.states

    def watch(self) -> AlarmWatch:
        return AlarmWatch(NAMES, self.read, self.holds.append, self.notes.append, lambda: self.now)

    def later(self, watch: AlarmWatch, states: dict[str, str] | ServiceError) -> None:
        self.states = states
        self.now += ALARM_SECONDS
        watch.tick()


def states(first: str, second: str = "OK") -> dict[str, str]:
    return {"api-errors": first, "api-latency": second}


def test_alarms_in_state_ok_pause_no_run_and_notify_nothing() -> None:
    watched = Watched(states("OK"))
    watched.watch().tick()
    assert (watched.holds, watched.notes) == ([""], [])  # and the state of an earlier run is removed


def test_an_alarm_pauses_the_run_until_it_is_over() -> None:
    watched = Watched(states("ALARM"))
    watch = watched.watch()
    watch.tick()
    assert watched.holds == ["the alarm api-errors is in ALARM"]
    watched.later(watch, states("ALARM"))
    assert len(watched.holds) == len(watched.notes) == 1
    watched.later(watch, states("OK", "ALARM"))
    assert watched.holds[-1] == "the alarm api-latency is in ALARM"
    watched.later(watch, states("OK"))
    assert watched.holds[-1] == ""
    assert watched.notes == [
        "the run pauses: the alarm api-errors is in ALARM",
        "the run pauses: the alarm api-latency is in ALARM",
        "the run continues: no alarm pauses it",
    ]


def test_all_alarms_in_alarm_are_named() -> None:
    watched = Watched(states("ALARM", "ALARM"))
    watched.watch().tick()
    assert all(name in watched.holds[0] for name in NAMES)


def test_an_alarm_without_data_pauses_no_run() -> None:
    watched = Watched(states("INSUFFICIENT_DATA"))
    watched.watch().tick()
    assert watched.holds == [""]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"api-latency": "OK"}, "there is no alarm api-errors"),
        (states("A_NEW_STATE"), "the alarm api-errors is in A_NEW_STATE"),
        (ServiceError("DescribeAlarms was refused", where="region r", hint="grant it"), "refused (grant it)"),
    ],
    ids=["missing", "unknown state", "not readable"],
)
def test_unreadable_alarms_pause_the_run(seen: dict[str, str] | ServiceError, said: str) -> None:
    watched = Watched(seen)
    watch = watched.watch()
    watch.tick()
    assert said in watched.holds[0] and said in watched.notes[0]
    watched.later(watch, states("OK"))
    assert watched.holds[-1] == ""


def test_alarms_that_become_unreadable_pause_an_active_run() -> None:
    watched = Watched(states("OK"))
    watch = watched.watch()
    watch.tick()
    watched.later(watch, ServiceError("the endpoint cannot be reached"))
    assert "cannot be reached" in watched.holds[-1]


def test_alarms_are_read_at_most_every_ten_seconds() -> None:
    watched = Watched(states("OK"))
    watch = watched.watch()
    for _ in range(600):  # a minute, ten ticks a second
        watch.tick()
        watched.now += 0.1
    assert watched.reads <= 7


def test_a_slow_read_of_the_alarms_is_followed_by_a_wait_too() -> None:
    watched = Watched(states("OK"))
    slow = AlarmWatch(NAMES, watched.read, lambda why: None, watched.notes.append, lambda: watched.now)

    def read_slowly() -> dict[str, str]:
        watched.reads += 1
        watched.now += 3 * ALARM_SECONDS
        return states("OK")

    slow.read = read_slowly
    slow.tick()
    slow.tick()
    assert watched.reads == 1


def test_a_run_taken_over_by_another_process_is_not_paused() -> None:
    def fenced(why: str) -> None:
        raise Fenced("another process holds the lease by now")

    watched = Watched(states("ALARM"))
    with pytest.raises(Fenced):
        AlarmWatch(NAMES, watched.read, fenced, watched.notes.append, lambda: watched.now).tick()
    assert watched.notes == []
