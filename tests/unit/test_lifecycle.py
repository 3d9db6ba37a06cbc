"""The table of a run's statuses."""

from __future__ import annotations

import pytest

from dynamodt.errors import Refused
from dynamodt.state.runs import ENDED, TRANSITIONS, next_status, unfinished


def test_each_status_and_event_lead_to_one_status() -> None:
    pairs = [(one.status, one.event) for one in TRANSITIONS]
    assert len(pairs) == len(set(pairs))
    assert all(one.meaning.endswith(".") for one in TRANSITIONS)


def test_every_run_can_be_undone_once() -> None:
    statuses = {one.to for one in TRANSITIONS} - {"undone", "stamped", "adopted", "repaired", "replaced", "closed"}
    assert {next_status(status, "undo") for status in statuses} == {"undoing"}
    assert not [one for one in TRANSITIONS if one.status == "undone"]
    with pytest.raises(Refused):
        next_status("undone", "undo")


def test_a_partly_undone_run_can_only_be_undone() -> None:
    assert unfinished("undoing")
    assert {one.event for one in TRANSITIONS if one.status == "undoing"} == {"undo", "undone", "lack", "replace"}
    assert {"succeeded", "stamped", "adopted", "repaired", "undone", "replaced", "closed"} == ENDED


def test_a_run_undone_in_part_can_be_undone_further_or_be_closed_by_a_stamp() -> None:
    assert unfinished("partly-undone")
    assert {one.event for one in TRANSITIONS if one.status == "partly-undone"} == {"undo", "stamp", "replace"}


def test_a_successful_run_cannot_continue() -> None:
    with pytest.raises(Refused):
        next_status("succeeded", "continue")
