"""What is refused before a run starts, and what the service is asked for it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamodt.dynamodb import table
from dynamodt.errors import Refused, ServiceError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs import plan as planner
from dynamodt.runs import preflight
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.plan import Step, TablePlan, plan_table
from dynamodt.runs.preflight import note_other_key, refuse_unsafe
from dynamodt.state.runs import declared_key

KEY = (KeyAttribute("id", "S"),)
STAGE = Stage("prod", Connection("eu-west-1", profile="my profile"), StorageSpec("s3://b"), protected=True)
SCRIPT = Script("users", 2, "split_name", "transforms/users/v2_split_name.py", "", "", has_up=True)


def plan(script: Script = SCRIPT, target: str = "") -> TablePlan:
    step = Step(script, None, TableSpec(target, KEY) if target else None)
    return TablePlan(TableSpec("users", KEY), "up", (step,), 1, (script, script))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that the service was asked for; all but `bare` ones can be brought back."""
    names: list[str] = []

    def answer(connection: Connection, table: str) -> bool:
        names.append(table)
        if table == "unknown":
            raise ServiceError("DescribeContinuousBackups was refused: AccessDeniedException: no", hint="grant")
        return "bare" not in table

    monkeypatch.setattr(preflight, "has_point_in_time_recovery", answer)
    return names


def test_an_unprotected_stage_asks_nothing(asked: list[str]) -> None:
    refuse_unsafe(replace(STAGE, protected=False), plan(target="bare"), RunOptions())
    assert asked == []


@pytest.mark.parametrize(
    "options", [RunOptions(dry_run=True), RunOptions(allow_no_pitr=True)], ids=["dry run", "no PITR"]
)
def test_neither_a_dry_run_nor_who_does_without_asks(asked: list[str], options: RunOptions) -> None:
    refuse_unsafe(STAGE, plan(target="bare"), options)
    assert asked == []


def test_every_table_that_is_written_to_is_asked_for(asked: list[str]) -> None:
    refuse_unsafe(STAGE, plan(target="people"), RunOptions())
    assert asked == ["users", "people"]


def test_a_table_without_recovery_is_refused_with_the_command_that_turns_it_on(asked: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        refuse_unsafe(STAGE, plan(target="bare_people"), RunOptions())
    assert caught.value.where == "table bare_people" and caught.value.exit_code == 3
    assert (
        "aws dynamodb update-continuous-backups --table-name bare_people --region eu-west-1 "
        "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true --profile 'my profile'"
    ) in caught.value.hint
    assert "--allow-no-pitr" in caught.value.hint


def test_recovery_that_cannot_be_read_is_refused_with_the_permission(asked: list[str]) -> None:
    with pytest.raises(Refused, match="AccessDenied") as caught:
        refuse_unsafe(STAGE, plan(target="unknown"), RunOptions())
    assert "dynamodb:DescribeContinuousBackups" in caught.value.hint and "--allow-no-pitr" in caught.value.hint


@pytest.mark.parametrize(
    "key",
    [
        (KeyAttribute("id", "N"),),
        (KeyAttribute("pk", "S"),),
        (KeyAttribute("id", "S"), KeyAttribute("at", "N")),
    ],
    ids=["type", "name", "sort key"],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_another_key_is_refused_naming_both(asked: list[str], key: tuple[KeyAttribute, ...], dry_run: bool) -> None:
    with pytest.raises(Refused) as caught:
        refuse_unsafe(STAGE, plan(replace(SCRIPT, key=key)), RunOptions(dry_run=dry_run))
    assert declared_key(key) in caught.value.what and '{"id": "S"}' in caught.value.what
    assert caught.value.where == SCRIPT.path and asked == []


@pytest.mark.parametrize("key", [(), KEY], ids=["not said", "the same"])
def test_the_tables_own_key_passes(asked: list[str], key: tuple[KeyAttribute, ...]) -> None:
    refuse_unsafe(STAGE, plan(replace(SCRIPT, key=key)), RunOptions())


def test_the_order_of_a_key_counts() -> None:
    pair = (KeyAttribute("pk", "S"), KeyAttribute("sk", "S"))
    planned = plan(replace(SCRIPT, key=pair[::-1]))
    with pytest.raises(Refused):
        refuse_unsafe(STAGE, replace(planned, table=TableSpec("users", pair)), RunOptions(allow_no_pitr=True))


@pytest.mark.parametrize(
    ("idempotent", "journal", "refused"),
    [(False, False, True), (False, None, False), (False, True, False), (True, False, False), (True, True, False)],
)
def test_only_an_idempotent_script_can_do_without_a_journal(
    asked: list[str], idempotent: bool, journal: bool | None, refused: bool
) -> None:
    with pytest.raises(Refused) if refused else nullcontext() as caught:
        refuse_unsafe(STAGE, plan(replace(SCRIPT, idempotent=idempotent)), RunOptions(journal=journal))
    if caught is not None:
        assert "IDEMPOTENT = True" in caught.value.hint and caught.value.where == SCRIPT.path and asked == []


INDEXED = replace(TableSpec("users", KEY), index_keys=("email", "_at"))


@pytest.mark.parametrize(
    ("stamp", "table", "target", "what"),
    [
        ("id", TableSpec("users", KEY), None, "a key of table users"),
        ("at", TableSpec("users", (*KEY, KeyAttribute("at", "N"))), None, "a key of table users"),
        ("email", INDEXED, None, "a key of an index of table users"),
        ("number", TableSpec("users", KEY), TableSpec("people", (KeyAttribute("number", "N"),)), "table people"),
        ("email", TableSpec("users", KEY), replace(INDEXED, name="people"), "a key of an index of table people"),
    ],
    ids=["key", "sort key", "index", "target", "target's index"],
)
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_mark_in_a_key_is_refused(
    asked: list[str], stamp: str, table: TableSpec, target: TableSpec | None, what: str, dry_run: bool, direction: Any
) -> None:
    planned = plan(replace(SCRIPT, stamp=stamp))
    planned = replace(planned, table=table, direction=direction, steps=(replace(planned.steps[0], target=target),))
    with pytest.raises(Refused) as caught:
        refuse_unsafe(STAGE, planned, RunOptions(dry_run=dry_run))
    assert what in caught.value.what and f'"{stamp}"' in caught.value.what and caught.value.where == SCRIPT.path
    assert asked == []


def test_a_mark_in_an_attribute_of_its_own_passes(asked: list[str]) -> None:
    refuse_unsafe(STAGE, replace(plan(replace(SCRIPT, stamp="_dynamodt")), table=INDEXED), RunOptions())


CHANGED = replace(SCRIPT, guard="changed")


@pytest.mark.parametrize(
    ("script", "options", "refused"),
    [
        (CHANGED, RunOptions(source="export"), True),
        (CHANGED, RunOptions(source="export", catch_up="none"), True),
        (CHANGED, RunOptions(source="export", dry_run=True), True),
        (replace(CHANGED, source="export"), RunOptions(), True),
        (replace(CHANGED, source="export", stamp="_dynamodt"), RunOptions(), True),
        (replace(CHANGED, source="export"), RunOptions(source="scan"), False),
        (replace(CHANGED, idempotent=True), RunOptions(source="export"), False),
        (replace(CHANGED, has_up=False, has_items=True), RunOptions(source="export"), False),
        (CHANGED, RunOptions(), False),
        (SCRIPT, RunOptions(source="export"), False),
        (SCRIPT, RunOptions(source="export", catch_up="scan"), True),
    ],
)
def test_an_export_misleads_a_guard_that_does_not_see_what_was_read(
    asked: list[str], script: Script, options: RunOptions, refused: bool
) -> None:
    with pytest.raises(Refused) if refused else nullcontext() as caught:
        refuse_unsafe(STAGE, plan(script), options)
    if caught is not None:
        assert caught.value.where == SCRIPT.path and "IDEMPOTENT" in caught.value.hint and asked == []


@pytest.mark.parametrize("state_table", ["dynamodt-state", "state-of-dev"])
@pytest.mark.parametrize("as_target", [False, True], ids=["table", "target"])
def test_the_table_of_the_state_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_table: str, as_target: bool
) -> None:
    """Ours, and that of another stage in dynamodt.toml, which may be in the same account."""
    name = "users" if as_target else state_table
    path = tmp_path / "transforms" / name / "v1_copy.py"
    path.parent.mkdir(parents=True)
    setting = f'TARGET_TABLE = "{state_table}"' if as_target else ""
    path.write_text(f"sequence = 1\n{setting}\ndef transform_up(item):\n    return item\n")
    monkeypatch.setattr(table, "describe", lambda connection, name: TableSpec(name, KEY))
    monkeypatch.setattr(planner, "_check_adopted", lambda stage, spec, runs: None)
    stage = replace(STAGE, other_state_tables=("state-of-dev",))
    with pytest.raises(Refused, match=f"{state_table} is a table of dynamodt's own state"):
        plan_table(stage, tmp_path, name, "up", None, {})


class Notes(ProgressRecorder):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def notify(self, text: str) -> None:
        self.notes.append(text)


def test_an_embedded_table_of_another_key_than_the_file_says_is_told() -> None:
    observer = Notes()
    note_other_key(replace(STAGE, tables={"users": KEY, "orders": (KeyAttribute("x", "B"),)}), plan(), observer)
    assert observer.notes == []
    note_other_key(replace(STAGE, tables={"users": (KeyAttribute("id", "N"),)}), plan(), observer)
    assert '{"id": "S"}' in observer.notes[0] and '{"id": "N"}' in observer.notes[0]


@pytest.mark.parametrize("status", ["CREATING", "DELETING", "ARCHIVED", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"])
@pytest.mark.parametrize("unfit", ["users", "people"])
def test_a_table_that_is_not_active_is_refused_the_target_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unfit: str, status: str
) -> None:
    path = tmp_path / "transforms" / "users" / "v1_copy.py"
    path.parent.mkdir(parents=True)
    path.write_text('sequence = 1\nTARGET_TABLE = "people"\ndef transform_up(item):\n    return item\n')

    def describe(connection: Connection, name: str) -> TableSpec:
        return TableSpec(name, KEY, status=status if name == unfit else "ACTIVE")

    monkeypatch.setattr(table, "describe", describe)
    monkeypatch.setattr(
        planner, "_check_adopted", lambda stage, spec, runs: None
    )  # asks the state table, of which none is here
    with pytest.raises(Refused, match=status) as caught:
        plan_table(STAGE, tmp_path, "users", "up", None, {})
    assert caught.value.where == f"table {unfit}"
