"""What a program gives to `api` is checked like the options of the command line."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api
from dynamodt.cli.request import Request, as_typed, check
from dynamodt.errors import UsageError
from dynamodt.model.pages import Units
from dynamodt.runs.context import Project
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from tests.fake_operations import STAGE


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": "exports"}, "use one of: scan, export"),
        ({"in_doubt": "maybe"}, "use one of: again, done"),
        ({"catch_up": "window"}, "use one of: windows, scan, none"),
        ({"max_wcu": -5}, "use a number above 0"),
        ({"max_rcu": nan}, "use a number above 0"),
        ({"max_wcu": "5"}, "use a number above 0"),
        ({"max_usd": -1.0}, "use a number above 0"),
        ({"max_errors": -1}, "use a whole number, at least 0"),
        ({"max_errors": 0.5}, "use a whole number, at least 0"),
        ({"max_errors": True}, "use a whole number, at least 0"),
        ({"share": 0}, "use a number from 1 to 100"),
        ({"share": 101}, "use a number from 1 to 100"),
        ({"journal": "no"}, "use True or False"),
        ({"dry_run": 1}, "use True or False"),
        ({"by": 5}, "use a text"),
        ({"alarms": "high"}, "alarms=('high',)"),
        ({"accept": [5]}, "give a tuple of texts"),
        ({"beam_args": "--option"}, "beam_args="),
        ({"wait_lock": "soon"}, "write a number and a unit"),
    ],
)
def test_a_value_that_the_command_line_refuses_is_refused(given: dict[str, Any], told: str) -> None:
    (name,) = given
    with pytest.raises(UsageError, match=f"{name} cannot be") as refused:
        api.up(STAGE, Path(), ["users"], None, RunOptions(**given), ProgressRecorder())
    assert told in str(refused.value.hint)


def test_an_empty_name_of_an_alarm_is_refused() -> None:
    with pytest.raises(UsageError, match="--pause-on-alarm has an empty value"):
        api.up(STAGE, Path(), ["users"], None, RunOptions(alarms=("high", "")), ProgressRecorder())


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_wcu": 5, "max_rcu": 0.5, "max_usd": inf, "max_errors": 3, "share": 1},
        {"source": "scan", "journal": False, "alarms": ["high"], "accept": ("id = 1",), "wait_lock": "10m"},
    ],
)
def test_other_values_are_accepted(given: dict[str, Any]) -> None:
    assert Project(STAGE, Path(), RunOptions(**given)).options == RunOptions(**given)


def test_a_single_name_is_not_taken_for_a_list() -> None:
    for function in (api.up, api.down):
        with pytest.raises(UsageError, match="the tables cannot be 'users'"):
            function(STAGE, Path(), "users", None, RunOptions(), ProgressRecorder())


@pytest.mark.parametrize(
    ("command", "limits", "told"),
    [
        ("stop", Units(), "there is no command 'stop'"),
        ("throttle", Units(), "the limits cannot be"),
        ("throttle", Units(5.0, -1.0), "the limits cannot be"),
        ("throttle", Units(wcu=nan), "the limits cannot be"),
    ],
)
def test_a_command_to_a_run_is_checked(command: str, limits: Units, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        api.control_run(STAGE, "users", command, limits)


def test_a_key_in_doubt_needs_a_decision() -> None:
    request = Request("retry", run="01RUN", options=RunOptions(keys=("u1",)))
    with pytest.raises(UsageError, match="--key needs --in-doubt"):
        check(request)
    decided = replace(request, options=RunOptions(keys=("u1",), in_doubt="done"))
    check(decided)
    assert as_typed(decided, {}) == "dynamodt retry --in-doubt done --key u1 01RUN"
