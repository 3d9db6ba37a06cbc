"""The inputs of a run's start, compared with those of its continuation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodt.model.runs import PreparedRef, RunRecord, Script
from dynamodt.model.tables import KeyAttribute, TableSpec
from dynamodt.runs.plan import last_run_before_recreation
from dynamodt.state.runs import differences, facts_at_start, may_be_repeated, updated_facts, with_initial_settings

TABLE = TableSpec("users", (KeyAttribute("id", "S"),), identity="one", created="2026-01-01")
TARGET = TableSpec("people", (KeyAttribute("id", "S"),), identity="two")
SCRIPT = Script("users", 1, "a", "v1_a.py", "", "", target_table="people")
PREPARED = PreparedRef("s3://b/p", 3, "aa", "", "", content="rows")
BASE: dict[str, Any] = {
    "table": TABLE, "script": SCRIPT, "storage": "s3://b/p", "prepared": PREPARED, "target": TARGET, "rows": "r",
}  # fmt: skip
OTHER_KEY = (KeyAttribute("pk", "S"),)
RECORD = RunRecord("users", "01", 1, "a", "up", "", "failed", "then", began=facts_at_start(**BASE))


def sentences_of_differences(**changes: Any) -> dict[str, str]:
    return {
        one.name: one.sentence for one in differences(facts_at_start(**BASE), facts_at_start(**{**BASE, **changes}))
    }


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"table": replace(TABLE, identity="three")}, ["table"]),
        ({"table": replace(TABLE, identity="three", key=OTHER_KEY)}, ["table", "key", "KEY"]),
        ({"target": replace(TARGET, identity="three")}, ["target"]),
        ({"target": replace(TARGET, key=OTHER_KEY)}, ["key of TARGET_TABLE"]),
        ({"script": replace(SCRIPT, target_table=None), "target": None}, ["TARGET_TABLE"]),
        ({"script": replace(SCRIPT, target_table="x"), "target": replace(TARGET, identity="x")}, ["TARGET_TABLE"]),
        ({"script": replace(SCRIPT, stamp="_s")}, ["STAMP"]),
        ({"script": replace(SCRIPT, guard="changed")}, ["GUARD"]),
        ({"script": replace(SCRIPT, idempotent=True)}, ["IDEMPOTENT"]),
        ({"script": replace(SCRIPT, key=OTHER_KEY)}, ["KEY"]),
        ({"storage": "s3://c"}, ["storage"]),
        ({"prepared": replace(PREPARED, content="others")}, ["prepared"]),
        ({"prepared": None}, ["prepared"]),
        ({"rows": "s"}, ["items"]),
    ],
)  # fmt: skip
def test_each_different_fact_is_named(changes: dict[str, Any], names: list[str]) -> None:
    assert list(sentences_of_differences(**changes)) == names


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"script": replace(SCRIPT, text="other", checksum="other", path="elsewhere")},  # its formula is free
        {"script": replace(SCRIPT, key=TABLE.key)},  # the table's own
        {"prepared": replace(PREPARED, sha256="bb", created="later")},  # the same rows
        {"storage": "s3://b/p/"},
        {"table": replace(TABLE, identity="", item_count=9)},  # an endpoint that gives none
        {"rows": None},  # not known here
    ],
)  # fmt: skip
def test_irrelevant_changes_are_no_difference(changes: dict[str, Any]) -> None:
    assert sentences_of_differences(**changes) == {}


def test_both_values_of_a_difference_are_named() -> None:
    assert sentences_of_differences(script=replace(SCRIPT, stamp="_s")) == {"STAMP": "STAMP was not set and is _s"}
    assert sentences_of_differences(storage="s3://c") == {"storage": "storage was s3://b/p and is s3://c"}


@pytest.mark.parametrize(
    ("was", "now", "kept"),
    [
        ({}, {"stamp": "_s"}, True),
        ({"stamp": "_s"}, {}, True),
        ({}, {"idempotent": True}, True),
        ({"idempotent": True}, {}, False),  # nothing tells what it has written
        ({}, {"target_table": None}, False),
    ],
)
def test_settings_by_which_a_run_recognizes_its_writes_are_kept(
    was: dict[str, Any], now: dict[str, Any], kept: bool
) -> None:
    began = facts_at_start(TABLE, replace(SCRIPT, **was), "s3://b")
    script = replace(SCRIPT, **now)
    (one,) = differences(began, facts_at_start(TABLE, script, "s3://b"))
    assert bool(one.effect) == kept
    if kept:
        found = with_initial_settings(script, began)
        assert (found.stamp, found.idempotent) == (was.get("stamp"), was.get("idempotent", False))


def test_another_guard_applies_to_the_remaining_items() -> None:
    """The hint of a dead letter suggests it; written items are recognized from the items, whatever their guard."""
    began = facts_at_start(TABLE, SCRIPT, "s3://b")
    script = replace(SCRIPT, guard="changed")
    now = facts_at_start(TABLE, script, "s3://b")
    (one,) = differences(began, now)
    assert "rest of the run" in one.effect
    assert with_initial_settings(script, began).guard == "changed" and updated_facts(now) == {"GUARD": "changed"}


def test_a_run_is_repeated_only_if_it_overwrites_everything() -> None:
    began = facts_at_start(**BASE)
    assert may_be_repeated(differences(began, facts_at_start(**{**BASE, "prepared": None, "storage": "x"})))
    assert not may_be_repeated(differences(began, facts_at_start(**{**BASE, "prepared": None, "rows": "x"})))


def test_a_table_created_after_a_run_is_younger() -> None:
    unknown = replace(RECORD, run="02", began={})
    assert (
        last_run_before_recreation(TABLE, [RECORD, unknown]) is None
        and last_run_before_recreation(TABLE, [unknown]) is None
    )
    assert last_run_before_recreation(replace(TABLE, identity="three"), [RECORD, unknown]) is RECORD
    assert last_run_before_recreation(replace(TABLE, identity=""), [RECORD]) is None
    since = replace(RECORD, run="03", began={"table": "three"})
    assert last_run_before_recreation(replace(TABLE, identity="three"), [RECORD, since]) is None
    ahead = replace(RECORD, run="04", token=1)  # of a machine whose clock is ahead
    assert last_run_before_recreation(replace(TABLE, identity="three"), [ahead, replace(since, token=2)]) is None
