"""Refusals before a run starts, and the requests to the service for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.stub import Stubber

from dynamodt.dynamodb import table
from dynamodt.errors import Refused, RunFailed, ServiceError, UsageError
from dynamodt.model.runs import Job, JournalSource, RunRecord, Script
from dynamodt.model.tables import Connection, IndexKey, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs import context, preflight
from dynamodt.runs import plan as planner
from dynamodt.runs.context import Project
from dynamodt.runs.cost import consumers_reported
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.plan import Step, TablePlan, plan_table
from dynamodt.runs.preflight import (
    WRITERS_SECONDS,
    WritersWatch,
    check_alarms,
    check_exportable,
    check_writers,
    first_use_reported,
    note_other_key,
    refuse_unsafe,
    watch_writers,
    with_writers,
)
from dynamodt.state.runs import declared_key

KEY = (KeyAttribute("id", "S"),)
STAGE = Stage("prod", Connection("eu-west-1", profile="my profile"), StorageSpec("s3://b"), protected=True)
SCRIPT = Script("users", 2, "split_name", "transforms/users/v2_split_name.py", "", "", has_up=True)


def plan(script: Script = SCRIPT, target: str = "") -> TablePlan:
    step = Step(script, None, TableSpec(target, KEY) if target else None)
    return TablePlan(TableSpec("users", KEY), "up", (step,), 1, (script, script))


@pytest.mark.parametrize(
    ("was", "now", "told"), [("a", "b", True), ("a", "a", False), ("a", "", False), ("", "b", False)]
)
def test_a_way_down_with_other_prepared_data_is_notified(was: str, now: str, told: bool) -> None:
    step = replace(plan().steps[0], applied_by="run", began={"prepared": now})
    up = RunRecord("users", "run", 2, "split_name", "up", "", "succeeded", "then", began={"prepared": was})
    notes: list[str] = []
    observer: Any = SimpleNamespace(notify=notes.append)
    preflight.note_other_prepared(replace(plan(), direction="down", steps=(step,)), [up], observer)
    preflight.note_other_prepared(replace(plan(), steps=(step,)), [up], observer)
    assert ["version 2 of users has other rows" in note for note in notes] == [True] * told


@pytest.fixture
def checked_tables(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables whose recovery was checked; all except `bare` ones can be restored."""
    names: list[str] = []

    def answer(connection: Connection, table: str) -> bool:
        names.append(table)
        if table == "unknown":
            raise ServiceError("DescribeContinuousBackups was refused: AccessDeniedException: no", hint="grant")
        return "bare" not in table

    monkeypatch.setattr(preflight, "has_point_in_time_recovery", answer)
    return names


def test_an_unprotected_stage_needs_no_check_of_recovery(checked_tables: list[str]) -> None:
    refuse_unsafe(replace(STAGE, protected=False), plan(target="bare"), RunOptions())
    assert checked_tables == []


@pytest.mark.parametrize(
    "options", [RunOptions(dry_run=True), RunOptions(allow_no_pitr=True)], ids=["dry run", "no PITR"]
)
def test_recovery_is_not_checked_for_a_dry_run_or_with_allow_no_pitr(
    checked_tables: list[str], options: RunOptions
) -> None:
    refuse_unsafe(STAGE, plan(target="bare"), options)
    assert checked_tables == []


def test_recovery_is_checked_for_every_table_that_is_written(checked_tables: list[str]) -> None:
    refuse_unsafe(STAGE, plan(target="people"), RunOptions())
    assert checked_tables == ["users", "people"]


def test_a_table_without_recovery_is_refused_with_the_command_that_turns_it_on(checked_tables: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        refuse_unsafe(STAGE, plan(target="bare_people"), RunOptions())
    assert caught.value.where == "table bare_people" and caught.value.exit_code == 3
    assert (
        "aws dynamodb update-continuous-backups --table-name bare_people --point-in-time-recovery-specification "
        "PointInTimeRecoveryEnabled=true --region eu-west-1 --profile 'my profile'"
    ) in caught.value.hint
    assert "--allow-no-pitr" in caught.value.hint


def test_recovery_that_cannot_be_read_is_refused_with_the_missing_permission(checked_tables: list[str]) -> None:
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
def test_another_key_is_refused_naming_both(
    checked_tables: list[str], key: tuple[KeyAttribute, ...], dry_run: bool
) -> None:
    with pytest.raises(Refused) as caught:
        refuse_unsafe(STAGE, plan(replace(SCRIPT, key=key)), RunOptions(dry_run=dry_run))
    assert declared_key(key) in caught.value.what and '{"id": "S"}' in caught.value.what
    assert caught.value.where == SCRIPT.path and checked_tables == []


@pytest.mark.parametrize("key", [(), KEY], ids=["not said", "the same"])
def test_the_table_s_own_key_is_accepted(checked_tables: list[str], key: tuple[KeyAttribute, ...]) -> None:
    refuse_unsafe(STAGE, plan(replace(SCRIPT, key=key)), RunOptions())


def test_another_order_of_the_key_is_refused() -> None:
    pair = (KeyAttribute("pk", "S"), KeyAttribute("sk", "S"))
    planned = plan(replace(SCRIPT, key=pair[::-1]))
    with pytest.raises(Refused):
        refuse_unsafe(STAGE, replace(planned, table=TableSpec("users", pair)), RunOptions(allow_no_pitr=True))


@pytest.mark.parametrize(
    ("idempotent", "journal", "refused"),
    [(False, False, True), (False, None, False), (False, True, False), (True, False, False), (True, True, False)],
)
def test_only_an_idempotent_script_can_do_without_a_journal(
    checked_tables: list[str], idempotent: bool, journal: bool | None, refused: bool
) -> None:
    with pytest.raises(Refused) if refused else nullcontext() as caught:
        refuse_unsafe(STAGE, plan(replace(SCRIPT, idempotent=idempotent)), RunOptions(journal=journal))
    if caught is not None:
        assert "IDEMPOTENT = True" in caught.value.hint and caught.value.where == SCRIPT.path and checked_tables == []


INDEXED = replace(
    TableSpec("users", KEY),
    index_keys=(IndexKey("email", "S", 2048, "by-email"), IndexKey("_at", "N", 1024, "by-email")),
)


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
def test_a_stamp_in_a_key_is_refused(
    checked_tables: list[str],
    stamp: str,
    table: TableSpec,
    target: TableSpec | None,
    what: str,
    dry_run: bool,
    direction: Any,
) -> None:
    planned = plan(replace(SCRIPT, stamp=stamp))
    planned = replace(planned, table=table, direction=direction, steps=(replace(planned.steps[0], target=target),))
    with pytest.raises(Refused) as caught:
        refuse_unsafe(STAGE, planned, RunOptions(dry_run=dry_run))
    assert what in caught.value.what and f'"{stamp}"' in caught.value.what and caught.value.where == SCRIPT.path
    assert checked_tables == []


def test_a_stamp_in_another_attribute_is_accepted(checked_tables: list[str]) -> None:
    refuse_unsafe(STAGE, replace(plan(replace(SCRIPT, stamp="_dynamodt")), table=INDEXED), RunOptions())


EXPORTED = replace(SCRIPT, source="export")
BEGUN = RunRecord("bare", "run", 2, "split_name", "up", "", "failed", "then", exports=("arn",))


@pytest.mark.parametrize(
    ("script", "options", "runs", "refused"),
    [
        (EXPORTED, RunOptions(), [], True),
        (SCRIPT, RunOptions(source="export", dry_run=True), [], True),
        (EXPORTED, RunOptions(export="s3://b/x"), [], True),  # incremental exports follow
        (EXPORTED, RunOptions(export="s3://b/x", catch_up="none"), [], False),
        (EXPORTED, RunOptions(export="s3://b/x", dry_run=True), [], False),
        (EXPORTED, RunOptions(source="scan"), [], False),
        (SCRIPT, RunOptions(), [], False),
        (EXPORTED, RunOptions(), [BEGUN], False),
        (EXPORTED, RunOptions(), [replace(BEGUN, status="succeeded")], True),
    ],
)
def test_an_export_without_point_in_time_recovery_is_refused_before_a_run_begins(
    checked_tables: list[str], script: Script, options: RunOptions, runs: list[RunRecord], refused: bool
) -> None:
    planned = replace(plan(script), table=TableSpec("bare", KEY))
    with pytest.raises(Refused, match="needs point-in-time recovery") if refused else nullcontext() as caught:
        check_exportable(STAGE, planned, runs, options)
    assert caught is None or "update-continuous-backups" in caught.value.hint
    for name in ("unknown", "users"):  # the caller may not read it, or it is on
        check_exportable(STAGE, replace(planned, table=TableSpec(name, KEY)), runs, options)
    check_exportable(replace(STAGE, local=True), planned, runs, options)
    in_folder = replace(STAGE, local=True, storage=StorageSpec("/project/.dynamodt/storage"))
    with pytest.raises(Refused, match="this storage is a folder") if refused else nullcontext() as caught:
        check_exportable(in_folder, planned, runs, options)
    check_exportable(in_folder, planned, [replace(BEGUN, exports=())], options)  # what it began with is compared first
    assert caught is None or ("storage = " in caught.value.hint and "--source scan" in caught.value.hint)


# ---------------------------------------------------------------- global tables

MERGED = replace(TableSpec("users", KEY), replicas=("us-east-1", "us-west-2"))
STRONG = replace(MERGED, strong=True)
OURS = replace(STAGE, single_region_writers=True)


def global_plan(table: TableSpec, target: TableSpec | None = None, script: Script = SCRIPT) -> TablePlan:
    planned = plan(script)
    return replace(planned, table=table, steps=(replace(planned.steps[0], target=target),))


@pytest.mark.parametrize(
    ("table", "target"),
    [(MERGED, None), (TableSpec("people", KEY), MERGED), (MERGED, TableSpec("people", KEY))],
    ids=["own", "target", "source"],
)
def test_a_global_table_is_refused_unless_one_region_writes_to_it(
    checked_tables: list[str], table: TableSpec, target: TableSpec | None
) -> None:
    planned = global_plan(table, target)
    with pytest.raises(Refused, match="replicas in us-east-1, us-west-2") as caught:
        refuse_unsafe(STAGE, planned, RunOptions())
    assert caught.value.where == "table users" and "eu-west-1" in caught.value.hint
    assert "--single-region-writers" in caught.value.hint and checked_tables == []
    for stage, options in (
        (STAGE, RunOptions(single_region_writers=True)),
        (OURS, RunOptions()),
        (STAGE, RunOptions(dry_run=True)),
    ):
        refuse_unsafe(stage, planned, options)
    with pytest.raises(Refused):  # as `undo` asks
        check_writers(STAGE, [MERGED], RunOptions())


@dataclass
class Replicated:
    """The tables of a running job as DynamoDB describes them, and a clock."""

    tables: list[TableSpec] | ServiceError
    now: float = 100.0
    reads: int = 0

    def read(self) -> list[TableSpec]:
        self.reads += 1
        if isinstance(self.tables, ServiceError):
            raise self.tables
        return self.tables

    def watch(self) -> WritersWatch:
        return WritersWatch(partial(check_writers, STAGE, options=RunOptions()), self.read, lambda: self.now)


def test_a_replica_that_is_added_during_a_run_ends_it_once() -> None:
    described = Replicated([TableSpec("users", KEY)])
    watch = described.watch()
    harmless: tuple[list[TableSpec] | ServiceError, ...] = ([TableSpec("users", KEY)], ServiceError("-"), [STRONG])
    for described.tables in harmless:
        watch.tick()
        described.now += WRITERS_SECONDS
    described.tables = [MERGED]
    with pytest.raises(RunFailed, match="replicas in us-east-1, us-west-2") as caught:
        watch.tick()
    assert "--single-region-writers" in caught.value.hint and not isinstance(caught.value, ServiceError)
    described.now += 10 * WRITERS_SECONDS  # while its workers end
    watch.tick()


def test_the_replicas_are_read_once_a_minute() -> None:
    described = Replicated([])
    watch = described.watch()
    for _ in range(1_200):  # two minutes, ten ticks a second
        watch.tick()
        described.now += 0.1
    assert described.reads <= 3


PEOPLE = TableSpec("people", KEY)


@pytest.mark.parametrize(
    ("stage", "options", "changes", "read"),
    [
        (STAGE, RunOptions(), {}, ["users"]),
        (STAGE, RunOptions(), {"target": PEOPLE}, ["users", "people"]),
        (STAGE, RunOptions(), {"target": PEOPLE, "source": JournalSource("run")}, ["people"]),
        (STAGE, RunOptions(dry_run=True), {}, []),
        (STAGE, RunOptions(single_region_writers=True), {}, []),
        (OURS, RunOptions(), {}, []),
        (replace(STAGE, local=True), RunOptions(), {}, []),
    ],
)
def test_the_replicas_of_the_tables_of_a_job_are_watched_where_its_start_would_refuse_them(
    monkeypatch: pytest.MonkeyPatch, stage: Stage, options: RunOptions, changes: dict[str, Any], read: list[str]
) -> None:
    names: list[str] = []
    monkeypatch.setattr(preflight, "describe_briefly", lambda _, name: names.append(name) or TableSpec(name, KEY))
    job = replace(Job("run", stage, TableSpec("users", KEY), SCRIPT, "up", 1), **changes)
    watch = watch_writers(stage, job, options)
    if watch is not None:
        watch.tick()
    assert names == read


def test_a_strongly_consistent_global_table_needs_no_statement(checked_tables: list[str]) -> None:
    refuse_unsafe(STAGE, global_plan(STRONG), RunOptions())


@pytest.mark.parametrize(
    ("stage", "options", "recorded"),
    [(STAGE, RunOptions(single_region_writers=True), True), (OURS, RunOptions(), True), (STAGE, RunOptions(), False)],
)
def test_single_region_writers_is_recorded_if_a_table_depends_on_it(
    stage: Stage, options: RunOptions, recorded: bool
) -> None:
    for own, target in ((MERGED, None), (TableSpec("people", KEY), MERGED)):
        (step,) = with_writers(stage, global_plan(own, target), options).steps
        assert step.began == ({"region of all writers": "eu-west-1"} if recorded else {})
    for own in (TableSpec("users", KEY), STRONG):
        (step,) = with_writers(stage, global_plan(own), options).steps
        assert step.began == {}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("table", "target", "script"),
    [
        (STRONG, None, replace(SCRIPT, has_items=True)),
        (STRONG, TableSpec("people", KEY), replace(SCRIPT, target_table="people")),
        (TableSpec("people", KEY), STRONG, replace(SCRIPT, target_table="users")),
        (TableSpec("people", KEY), STRONG, replace(SCRIPT, target_table="users", has_items=True)),
    ],
    ids=["items", "source", "target", "items of the target"],
)
def test_known_insertions_are_refused_on_tables_without_transactions(
    checked_tables: list[str], table: TableSpec, target: TableSpec | None, script: Script, dry_run: bool
) -> None:
    with pytest.raises(Refused, match=r"supports none on a global table .*: users") as caught:
        refuse_unsafe(STAGE, global_plan(table, target, script), RunOptions(dry_run=dry_run))
    assert caught.value.where == SCRIPT.path and checked_tables == []


def test_the_rows_of_items_can_be_deleted_without_a_transaction(checked_tables: list[str]) -> None:
    refuse_unsafe(
        STAGE, replace(global_plan(STRONG, script=replace(SCRIPT, has_items=True)), direction="down"), RunOptions()
    )


# ---------------------------------------------------------------- exports

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
def test_an_export_is_refused_with_a_guard_that_does_not_compare_all_attributes(
    checked_tables: list[str], script: Script, options: RunOptions, refused: bool
) -> None:
    with pytest.raises(Refused) if refused else nullcontext() as caught:
        refuse_unsafe(STAGE, plan(script), options)
    if caught is not None:
        assert caught.value.where == SCRIPT.path and "IDEMPOTENT" in caught.value.hint and checked_tables == []


@pytest.mark.parametrize("state_table", ["dynamodt-state", "state-of-dev"])
@pytest.mark.parametrize("as_target", [False, True], ids=["table", "target"])
def test_a_state_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_table: str, as_target: bool
) -> None:
    """That of the stage, and that of another stage in dynamodt.toml, which may be in the same account."""
    name = "users" if as_target else state_table
    path = tmp_path / "transforms" / name / "v1_copy.py"
    path.parent.mkdir(parents=True)
    setting = f'TARGET_TABLE = "{state_table}"' if as_target else ""
    path.write_text(f"sequence = 1\n{setting}\ndef transform_up(item):\n    return item\n")
    monkeypatch.setattr(table, "describe", lambda connection, name: TableSpec(name, KEY))
    monkeypatch.setattr(planner, "_check_imported", lambda *_: None)
    stage = replace(STAGE, other_state_tables=("state-of-dev",))
    with pytest.raises(Refused, match=f"{state_table} is a table of dynamodt's own state"):
        plan_table(Project(stage, tmp_path), name, "up", None, {})


class Notes(ProgressRecorder):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def notify(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("names", "items", "local", "reported"),
    [({}, 3, False, True), ({"users": ("users",)}, 3, False, False), ({}, 0, False, False), ({}, 3, True, False)],
)
def test_the_first_run_of_a_stage_reports_what_it_applies_to_existing_items(
    names: dict[str, tuple[str, ...]], items: int, local: bool, reported: bool
) -> None:
    observer, planned = Notes(), plan()
    first = replace(planned.steps[0], script=replace(SCRIPT, sequence=1))
    planned = replace(planned, table=replace(planned.table, item_count=items), steps=(first, *planned.steps))
    state, stage = SimpleNamespace(names=lambda stage: names), replace(STAGE, local=local)
    project: Any = SimpleNamespace(stage=stage, state=state, observer=observer)
    assert first_use_reported(project, planned) == tuple(observer.notes)
    assert [("versions 1 to 2 will be applied to 3 items" in note) for note in observer.notes] == [True] * reported
    assert all("by `stamp`" in note for note in observer.notes)


def test_an_embedded_table_with_another_key_than_in_the_file_is_reported() -> None:
    observer = Notes()
    note_other_key(replace(STAGE, tables={"users": KEY, "orders": (KeyAttribute("x", "B"),)}), plan(), observer)
    assert observer.notes == []
    note_other_key(replace(STAGE, tables={"users": (KeyAttribute("id", "N"),)}), plan(), observer)
    assert '{"id": "S"}' in observer.notes[0] and '{"id": "N"}' in observer.notes[0]


@pytest.mark.parametrize("status", ["CREATING", "DELETING", "ARCHIVED", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"])
@pytest.mark.parametrize("unfit", ["users", "people"])
def test_a_table_or_target_that_is_not_active_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unfit: str, status: str
) -> None:
    path = tmp_path / "transforms" / "users" / "v1_copy.py"
    path.parent.mkdir(parents=True)
    path.write_text('sequence = 1\nTARGET_TABLE = "people"\ndef transform_up(item):\n    return item\n')

    def describe(connection: Connection, name: str) -> TableSpec:
        return TableSpec(name, KEY, status=status if name == unfit else "ACTIVE")

    monkeypatch.setattr(table, "describe", describe)
    monkeypatch.setattr(planner, "_check_imported", lambda *_: None)  # asks the state table, of which none is here
    with pytest.raises(Refused, match=status) as caught:
        plan_table(Project(STAGE, tmp_path), "users", "up", None, {})
    assert caught.value.where == f"table {unfit}"
    assert ("wait until" in caught.value.hint) == (status == "CREATING")
    assert ("KMS key" in caught.value.hint) == (status not in ("CREATING", "DELETING"))


# ---------------------------------------------------------------- what the service says of a table

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/users"
STREAM = f"{ARN}/stream/2026-01-01T00:00:00.000"
DESCRIBED: dict[str, Any] = {
    "TableName": "users",
    "TableArn": ARN,
    "TableStatus": "ACTIVE",
    "ItemCount": 20_000,
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "email", "AttributeType": "S"},
        {"AttributeName": "at", "AttributeType": "N"},
    ],
    "ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 0},
}
INDEX = {
    "IndexName": "by-email",
    "KeySchema": [{"AttributeName": "email", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
}
LOCAL = {"IndexName": "by-at", "KeySchema": [{"AttributeName": "at", "KeyType": "RANGE"}]}


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stubber]]:
    """The clients of DynamoDB and of Lambda, whose answers a test gives."""
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    made = {name: session.create_client(name, region_name="eu-west-1") for name in ("dynamodb", "lambda")}
    monkeypatch.setattr(table, "client", lambda connection, service, **how: made[service])
    stubs = {name: Stubber(one) for name, one in made.items()}
    with stubs["dynamodb"], stubs["lambda"]:
        yield stubs
    for stub in stubs.values():
        stub.assert_no_pending_responses()


def described(services: dict[str, Stubber], **more: Any) -> TableSpec:
    services["dynamodb"].add_response("describe_table", {"Table": DESCRIBED | more}, {"TableName": "users"})
    return table.describe(STAGE.connection, "users")


def with_units(write: int, items: int = 0, name: str = "") -> dict[str, Any]:
    units = {"ReadCapacityUnits": 9, "WriteCapacityUnits": write}
    return {"ProvisionedThroughput": units, "ItemCount": items, **({**INDEX, "IndexName": name} if name else {})}


@pytest.mark.parametrize(
    ("own", "indexes", "write", "limited_by"),
    [
        (with_units(100), [with_units(100, 0, "by-email")], 100, ""),
        (with_units(100), [with_units(40, 0, "by-email"), with_units(20, 0, "by-town")], 20, "by-town"),
        (with_units(100, 1000), [with_units(20, 1000, "by-email")], 20, "by-email"),
        (with_units(100, 1000), [with_units(20, 400, "by-email")], 50, "by-email"),  # it holds 400 of 1,000 items
        (with_units(100, 1000), [with_units(20, 10, "by-email")], 100, ""),
        ({}, [{**INDEX, "OnDemandThroughput": {"MaxWriteRequestUnits": 30}}], 30, "by-email"),
    ],
)
def test_a_global_index_with_less_capacity_limits_the_writes(
    services: dict[str, Stubber], own: dict[str, Any], indexes: list[dict[str, Any]], write: int, limited_by: str
) -> None:
    spec = described(services, **own, GlobalSecondaryIndexes=indexes)
    assert (spec.write_units, spec.limiting_index) == (write, limited_by)
    assert spec.read_units == (9 if own else 0)


def test_the_keys_of_all_indexes_are_described(services: dict[str, Stubber]) -> None:
    spec = described(services, GlobalSecondaryIndexes=[INDEX], LocalSecondaryIndexes=[LOCAL])
    assert spec.indexes == 2 and spec.index_keys == (
        IndexKey("email", "S", 2048, "by-email"),
        IndexKey("at", "N", 1024, "by-email"),
        IndexKey("at", "N", 1024, "by-at"),
    )
    assert [(index.name, index.local) for index in spec.projections] == [("by-email", False), ("by-at", True)]


@pytest.mark.parametrize("name", ["STANDARD", "STANDARD_INFREQUENT_ACCESS"])
def test_a_table_of_the_class_standard_ia_is_recognised(services: dict[str, Stubber], name: str) -> None:
    spec = described(services, TableClassSummary={"TableClass": name})
    assert spec.infrequent_access == (name != "STANDARD")


@pytest.mark.parametrize(
    ("more", "replicas", "merges"),
    [
        ({}, (), False),
        ({"Replicas": [{"RegionName": "eu-west-1"}]}, (), False),
        ({"Replicas": [{"RegionName": "us-west-2"}, {"RegionName": "eu-west-1"}]}, ("us-west-2",), True),
        ({"Replicas": [{"RegionName": "us-west-2"}], "MultiRegionConsistency": "EVENTUAL"}, ("us-west-2",), True),
        ({"Replicas": [{"RegionName": "us-west-2"}], "MultiRegionConsistency": "STRONG"}, ("us-west-2",), False),
    ],
)
def test_the_replicas_are_those_of_other_regions(
    services: dict[str, Stubber], more: dict[str, Any], replicas: tuple[str, ...], merges: bool
) -> None:
    spec = described(services, **more)
    assert (spec.replicas, spec.merges_writes) == (replicas, merges)
    assert spec.strong == ("STRONG" in more.values())


@pytest.mark.parametrize(
    ("more", "capacity", "provisioned"),
    [
        ({}, (0, 0), False),
        ({"ProvisionedThroughput": {"ReadCapacityUnits": 7, "WriteCapacityUnits": 3}}, (7, 3), True),
        ({"OnDemandThroughput": {"MaxReadRequestUnits": 500, "MaxWriteRequestUnits": 90}}, (500, 90), False),
        ({"OnDemandThroughput": {"MaxReadRequestUnits": -1, "MaxWriteRequestUnits": 90}}, (0, 90), False),
        ({"OnDemandThroughput": {"MaxWriteRequestUnits": 90}}, (0, 90), False),
    ],
)
def test_capacity_is_what_is_provisioned_or_the_maximum_of_an_on_demand_table(
    services: dict[str, Stubber], more: dict[str, Any], capacity: tuple[int, int], provisioned: bool
) -> None:
    spec = described(services, **more)
    assert ((spec.read_units, spec.write_units), spec.provisioned) == (capacity, provisioned)
    services["dynamodb"].add_response("describe_table", {"Table": DESCRIBED | more}, {"TableName": "users"})
    assert table.capacity(STAGE.connection, "users")[:2] == capacity


WITH_STREAM = {"StreamSpecification": {"StreamEnabled": True}, "LatestStreamArn": STREAM}


@pytest.mark.parametrize(
    ("group", "replicas"), [([{"RegionName": "eu-west-1"}, {"RegionName": "us-east-1"}], ("us-east-1",)), ([], ())]
)
def test_a_legacy_global_table_is_found_too(
    services: dict[str, Stubber], group: list[dict[str, str]], replicas: tuple[str, ...]
) -> None:
    services["dynamodb"].add_response("describe_table", {"Table": DESCRIBED | WITH_STREAM})
    services["dynamodb"].add_response(
        "describe_global_table", {"GlobalTableDescription": {"ReplicationGroup": group}}, {"GlobalTableName": "users"}
    )
    spec = planner.usable_table(STAGE, "users")
    assert spec.replicas == replicas and spec.merges_writes == bool(replicas)


@pytest.mark.parametrize(("code", "known"), [("GlobalTableNotFoundException", True), ("AccessDeniedException", False)])
def test_without_the_permission_a_legacy_global_table_is_not_detected_which_is_reported(
    services: dict[str, Stubber], code: str, known: bool
) -> None:
    services["dynamodb"].add_response("describe_table", {"Table": DESCRIBED | WITH_STREAM})
    services["dynamodb"].add_client_error("describe_global_table", code)
    spec = planner.usable_table(STAGE, "users")
    assert (spec.replicas, spec.replicas_known) == ((), known)
    answers(services, [], {})
    services["lambda"].add_response("list_event_source_mappings", {"EventSourceMappings": []})
    (line,) = reported(spec)
    assert ("the caller cannot call dynamodb:DescribeGlobalTable" in line) is not known


# ---------------------------------------------------------------- what receives the writes


def reported(spec: TableSpec, *runs: RunRecord, stage: Stage = STAGE) -> tuple[str, ...]:
    notes: list[str] = []
    project = Project(stage, Path(), observer=SimpleNamespace(notify=notes.append))  # type: ignore[arg-type]
    found = consumers_reported(project, replace(plan(), table=spec), runs)
    assert found == tuple(notes)
    return found


def answers(services: dict[str, Stubber], kinesis: list[dict[str, str]], ttl: dict[str, str]) -> None:
    stub = services["dynamodb"]
    stub.add_response("describe_kinesis_streaming_destination", {"KinesisDataStreamDestinations": kinesis})
    stub.add_response("describe_time_to_live", {"TimeToLiveDescription": ttl})


def test_consumers_of_the_writes_are_named_with_the_expected_number(services: dict[str, Stubber]) -> None:
    spec = described(services, **WITH_STREAM, Replicas=[{"RegionName": "us-east-1"}])
    orders = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
    answers(
        services,
        [
            {"StreamArn": orders, "DestinationStatus": "ACTIVE"},
            {"StreamArn": f"{orders}-old", "DestinationStatus": "DISABLED"},
        ],
        {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"},
    )
    mappings = [
        {"FunctionArn": f"arn:aws:lambda:eu-west-1:123456789012:function:{name}", "State": state}
        for name, state in (("mail:live", "Enabled"), ("index", "Enabled"), ("old", "Disabled"))
    ]
    services["lambda"].add_response(
        "list_event_source_mappings", {"EventSourceMappings": mappings}, {"EventSourceArn": STREAM}
    )
    (line,) = reported(spec)
    assert line == (
        "table users: version 2 writes up to 20,000 items (a count of the last six hours), and each write is a record "
        "of its stream (functions: index, mail:live) and a record of the Kinesis stream orders and a write in "
        "us-east-1; a move is two writes; items expire by expires (TTL); one that expires during the run counts as "
        "vanished"
    )


@pytest.mark.parametrize(
    ("kinesis", "trigger", "ttl", "named"),
    [
        ("ENABLING", "Creating", "ENABLING", True),
        ("UPDATING", "Updating", "DISABLING", True),
        ("ENABLE_FAILED", "Deleting", "DISABLED", False),
        ("DISABLING", "Disabling", "DISABLED", False),
    ],
)
def test_consumers_are_named_in_each_state_in_which_they_receive_writes(
    services: dict[str, Stubber], kinesis: str, trigger: str, ttl: str, named: bool
) -> None:
    spec = described(services, **WITH_STREAM)
    answers(
        services,
        [{"StreamArn": "arn:aws:kinesis:eu-west-1:1:stream/orders", "DestinationStatus": kinesis}],
        {"TimeToLiveStatus": ttl, "AttributeName": "expires"},
    )
    mapping = {"FunctionArn": "arn:aws:lambda:eu-west-1:1:function:mail", "State": trigger}
    services["lambda"].add_response("list_event_source_mappings", {"EventSourceMappings": [mapping]})
    (line,) = reported(spec)
    parts = ("functions: mail", "Kinesis stream orders", "expire by expires")
    assert [part in line for part in parts] == [named] * 3


def test_consumers_that_cannot_be_listed_are_reported_by_their_actions(services: dict[str, Stubber]) -> None:
    spec = described(services, **WITH_STREAM)
    for call in ("describe_kinesis_streaming_destination", "describe_time_to_live"):
        services["dynamodb"].add_client_error(call, "AccessDeniedException")
    services["lambda"].add_client_error("list_event_source_mappings", "AccessDeniedException")
    (line,) = reported(spec)
    assert "each write is a record of its stream; a move is two writes" in line
    actions = (
        "dynamodb:DescribeKinesisStreamingDestination, dynamodb:DescribeTimeToLive, lambda:ListEventSourceMappings"
    )
    assert line.endswith(f"the caller cannot call {actions}")


def test_calls_that_an_emulator_lacks_are_not_reported(services: dict[str, Stubber]) -> None:
    spec = described(services)
    for call in ("describe_kinesis_streaming_destination", "describe_time_to_live"):
        services["dynamodb"].add_client_error(call, "UnknownOperationException")
    assert reported(spec) == ()


def test_a_table_without_consumers_is_not_mentioned(services: dict[str, Stubber]) -> None:
    spec = described(services)
    answers(services, [], {"TimeToLiveStatus": "DISABLED"})
    assert reported(spec) == ()


def test_consumers_are_reported_only_for_the_first_run_of_a_version(services: dict[str, Stubber]) -> None:
    spec = described(services, **WITH_STREAM)
    before = RunRecord("users", "run", 2, "split_name", "up", "", "failed", "")
    assert reported(spec, before) == () and reported(spec, stage=replace(STAGE, local=True)) == ()
    answers(services, [], {})
    services["lambda"].add_response("list_event_source_mappings", {"EventSourceMappings": []})
    assert reported(spec, replace(before, direction="down"))


def test_alarms_are_read_once_for_all_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def states(connection: Connection, names: Sequence[str]) -> dict[str, str]:
        asked.append(tuple(names))
        return {"there": "OK"}

    monkeypatch.setattr(context, "alarm_states", states)
    project = Project(STAGE, tmp_path, RunOptions(alarms=("there", "misspelt")))
    for _ in range(2):
        with pytest.raises(UsageError, match="there is no alarm misspelt"):
            check_alarms(project)
    assert asked == [("there", "misspelt")]
