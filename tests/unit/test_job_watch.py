"""A job in Glue, followed by the state table: its result, its end without one, and the effect of Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from dynamodt.deploy.glue_runs import JobRun, JobWatch, watches_over
from dynamodt.errors import ServiceError
from dynamodt.model.pages import Counts
from dynamodt.pipeline.process import StoppedError, Terminated
from dynamodt.state.lease_rows import AnswerRows, JobAnswer
from tests.unit.followed_runs import RECORD, Seen, Stage

ANSWER = JobAnswer({"tables": []}, 0)


class Job:
    """A job with these states in Glue, one after the other; the last one stays."""

    name = "dynamodt-dev"

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.stopped: list[str] = []

    def poll(self, run: str) -> JobRun:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "out of reach":
            raise ServiceError("the endpoint cannot be reached")
        return JobRun(run, state)

    def stop(self, run: str) -> None:
        self.stopped.append(run)


class Person(Seen):
    """A user who presses Ctrl-C at given times, and answers questions."""

    def __init__(self, answer: str = "") -> None:
        super().__init__()
        self.answer = answer
        self.choices: Mapping[str, str] = {}
        self.awaited_texts: list[str] = []
        self.presses: list[BaseException] = []

    def tick(self) -> None:
        if self.presses:
            raise self.presses.pop()

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        self.choices = choices
        return self.answer or super().asked(question, choices)

    def waiting(self, text: str) -> None:
        self.awaited_texts.append(text)


class Glued(Stage):
    """A job that is simulated by the stage's steps; a step happens at the end of each poll."""

    def __init__(self, person: Person, *states: str) -> None:
        super().__init__()
        self.person = person
        self.job = Job(*states)

    def answered(self) -> None:
        AnswerRows(self.rows).write("jr_1", ANSWER)  # type: ignore[arg-type]

    def begins(self) -> None:
        self.write(RECORD)
        self.hold(RECORD)

    def ends(self, status: str = "succeeded") -> None:
        self.write(replace(RECORD, status=status, counts=Counts(5, 5)))
        self.release()

    def presses(self, interrupt: BaseException | None = None) -> Callable[[], None]:
        return lambda: self.person.presses.append(interrupt or KeyboardInterrupt())

    def sleep(self, seconds: float) -> None:
        assert self.now < 500, "it is followed for ever"
        super().sleep(seconds)

    def follow_job(self, *tables: str) -> JobAnswer | None:
        watches = watches_over(self.state, tables, lambda table: 0, self.person)
        watch = JobWatch(self.state, self.job, "jr_1", watches, self.person, self.clock, self.sleep)  # type: ignore[arg-type]
        return watch.follow()


def test_a_job_is_followed_to_its_result() -> None:
    person = Person()
    glued = Glued(person, "STARTING", "RUNNING")
    glued.steps = [lambda: None] * 6 + [glued.begins, lambda: glued.split("01RUN", 0, 5), glued.ends, glued.answered]
    assert glued.follow_job("users") == ANSWER
    assert list(dict.fromkeys(person.awaited_texts)) == ["dynamodt-dev: starting", "dynamodt-dev: running"]
    assert [(report.run, report.status) for report in person.ended] == [("01RUN", "succeeded")]
    assert (person.percents, glued.job.stopped) == ([("01RUN", 0), ("01RUN", 25)], [])


def test_runs_that_ended_between_two_polls_are_reported_and_earlier_ones_are_not() -> None:
    person = Person()
    glued = Glued(person, "RUNNING")
    glued.write(replace(RECORD, run="00RUN", status="failed"))
    glued.write(replace(RECORD, run="0RUN", status="succeeded"))

    def at_once() -> None:
        glued.write(replace(RECORD, status="succeeded"))
        glued.write(replace(RECORD, run="00RUN", status="succeeded", attempts=2))
        glued.answered()

    glued.steps = [at_once]
    assert glued.follow_job("users") == ANSWER
    assert sorted(report.run for report in person.ended) == ["00RUN", "01RUN"]


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED"])
def test_a_job_that_ends_without_a_result_returns_none(state: str) -> None:
    glued = Glued(Person(), "RUNNING", state)
    assert glued.follow_job("users") is None
    assert 0 < glued.now < 20


def test_a_result_stored_just_before_the_end_is_returned() -> None:
    glued = Glued(Person(), "SUCCEEDED")
    look = glued.job.poll
    glued.job.poll = lambda run: (glued.answered(), look(run))[1]  # type: ignore[method-assign]
    assert glued.follow_job("users") == ANSWER


def test_a_short_interruption_of_the_network_does_not_end_the_following() -> None:
    person = Person()
    glued = Glued(person, *["out of reach"] * 9, "RUNNING")
    glued.steps = [lambda: None] * 12 + [glued.answered]
    assert glued.follow_job("users") == ANSWER
    assert [note for note in person.notes if "cannot be observed" in note] and len(person.notes) == 1


def test_a_long_interruption_of_the_network_ends_the_command_and_not_the_job() -> None:
    glued = Glued(Person(), "out of reach")
    with pytest.raises(ServiceError, match="reached") as raised:
        glued.follow_job("users")
    assert "the job continues" in raised.value.hint and glued.job.stopped == [] and glued.now < 200


# ---------------------------------------------------------------- Ctrl-C


def stopped(glued: Glued) -> StoppedError:
    with pytest.raises(StoppedError) as raised:
        glued.follow_job("users")
    return raised.value


def test_ctrl_c_without_a_terminal_leaves_the_job_running_and_suggests_commands() -> None:
    person = Person()
    glued = Glued(person, "RUNNING")
    glued.steps = [glued.begins, glued.presses()]
    error = stopped(glued)
    assert error.exit_code == 130
    for told in ("status --follow", "pause --table users", "abort --table users", "same command"):
        assert told in error.hint
    assert (glued.job.stopped, glued.state.leases.read("users").paused) == ([], False)


def test_ctrl_c_leaves_a_job_without_a_table_running() -> None:
    glued = Glued(Person(), "RUNNING")
    glued.steps = [glued.presses()]
    with pytest.raises(StoppedError) as raised:
        glued.follow_job()
    assert "the same command again" in raised.value.hint and "--table" not in raised.value.hint


def test_sigterm_asks_no_question() -> None:
    person = Person("abort")
    glued = Glued(person, "RUNNING")
    glued.steps = [glued.begins, glued.presses(Terminated())]
    assert stopped(glued).exit_code == 143
    assert (person.choices, glued.job.stopped) == ({}, [])


def test_ctrl_c_can_pause_the_run() -> None:
    person = Person("pause")
    glued = Glued(person, "RUNNING")
    glued.steps = [glued.begins, glued.presses()]
    error = stopped(glued)
    assert error.exit_code == 130 and "dynamodt resume --table users" in error.hint
    assert list(person.choices) == ["leave", "pause", "abort"]
    assert glued.state.leases.read("users").paused


def test_ctrl_c_can_abort_the_run() -> None:
    person = Person("abort")
    glued = Glued(person, "RUNNING")
    told: list[str] = []

    def ends() -> None:
        told.append(glued.state.leases.read("users").stop)
        glued.ends("stopped")
        glued.answered()

    glued.steps = [glued.begins, glued.presses(), ends]
    error = stopped(glued)
    assert (error.exit_code, told, glued.job.stopped) == (130, ["abort"], [])
    assert [report.status for report in person.ended] == ["stopped"]


def test_ctrl_c_before_the_run_begins_can_stop_the_job() -> None:
    person = Person("abort")
    glued = Glued(person, "STARTING")
    glued.steps = [glued.presses()]
    assert stopped(glued).exit_code == 130
    assert (list(person.choices), glued.job.stopped) == (["leave", "abort"], ["jr_1"])


def test_a_second_ctrl_c_while_an_aborted_run_ends_leaves_it() -> None:
    person = Person("abort")
    glued = Glued(person, "RUNNING")
    glued.steps = [glued.begins, glued.presses(), glued.presses()]
    assert "the job continues" in stopped(glued).hint
    assert glued.state.leases.read("users").stop == "abort"


def test_a_result_too_large_for_a_row_keeps_its_error() -> None:
    rows: Any = Stage().rows
    error = {"what": "x", "where": "", "hint": "", "exit_code": 1}
    AnswerRows(rows).write("jr_2", JobAnswer({"tables": ["x" * 400_000], "error": error}, 1))
    assert AnswerRows(rows).read("jr_2") == JobAnswer({"error": error}, 1)
    assert AnswerRows(rows).read("jr_3") is None
