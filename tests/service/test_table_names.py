"""A table with another name on the stage: looked up, transformed, and distinguished from its copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from dynamodt import api
from dynamodt.config.names import with_names
from dynamodt.dynamodb.clients import client
from dynamodt.errors import Refused, UsageError
from dynamodt.model.tables import TableNames
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

COUNT = 'def transform_up(item):\n    return {**item, "n": item["n"] + 1}\n'
KEYS = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}
on_ministack = pytest.mark.endpoints("ministack")


def mapped(bench: Bench, **sources: str) -> Bench:
    stage = replace(bench.stage, names=TableNames(sources))
    return replace(bench, stage=with_names(stage, bench.folder))


@pytest.fixture
def stack(endpoint: Endpoint) -> Iterator[str]:
    """A stack with an output, and with a table whose name CloudFormation makes up."""
    name = f"shop-{uuid4().hex[:8]}"
    body = {
        "Resources": {"Users": {"Type": "AWS::DynamoDB::Table", "Properties": KEYS}},
        "Outputs": {"UsersTable": {"Value": {"Ref": "Users"}}, "UsersArn": {"Value": {"Fn::GetAtt": ["Users", "Arn"]}}},
    }
    cloudformation = client(endpoint.connection, "cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(body))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    yield name
    cloudformation.delete_stack(StackName=name)


@on_ministack
def test_table_names_are_looked_up_in_cloudformation_and_the_parameter_store(
    bench: Bench, endpoint: Endpoint, stack: str
) -> None:
    bench.script("users", COUNT)
    real = mapped(bench, users=f"cfn:{stack}.Users").stage.names.real("users")
    assert real in endpoint.client.list_tables()["TableNames"] and real != "users"
    client(endpoint.connection, "ssm").put_parameter(Name=f"/{stack}/users", Value=real, Type="String")
    for source in (f"cfn:{stack}.Users", f"cfn:{stack}.UsersTable", f"cfn:{stack}.UsersArn", f"ssm:/{stack}/users"):
        assert mapped(bench, users=source).stage.names.real("users") == real, source


@on_ministack
def test_a_target_and_its_source_are_named_by_their_folders(bench: Bench, make_table: MakeTable) -> None:
    source, target = make_table(id="S"), make_table(id="S")
    bench.tables.put(source, {"id": "a", "n": 1})
    bench.script("users", 'TARGET_TABLE = "archive"\n' + COUNT)
    named = mapped(bench, users=source, archive=target)
    (report,) = named.up("users")
    assert (report.error, report.table) == (None, source)
    assert bench.tables.items(target) == [{"id": "a", "n": 2}]
    (record,) = State(named.stage.connection, named.stage.state_table).runs(source)
    assert (record.table, record.target) == (source, target)
    assert list((Path(named.stage.storage.url) / "runs" / source).iterdir())


@on_ministack
def test_a_copy_under_another_name_is_not_transformed_again(bench: Bench, make_table: MakeTable) -> None:
    """A backup is always restored to a table of another name, which has the versions of its moment."""
    first, copy = make_table(id="S"), make_table(id="S")
    bench.tables.put(first, {"id": "a", "n": 1})
    bench.script("users", COUNT)
    (report,) = mapped(bench, users=first).up("users")
    assert report.error is None
    bench.tables.put(copy, *bench.tables.items(first))
    restored = mapped(bench, users=copy)
    for _ in range(2):
        (report,) = restored.up("users")
        assert isinstance(report.error, Refused)
        assert f"the name users meant the table {first} until now" in report.error.what
    assert bench.tables.items(copy) == [{"id": "a", "n": 2}]
    stamped(restored, 1)
    (report,) = restored.up("users")
    assert (report.error, report.versions, report.at) == (None, (), 1)


@on_ministack
def test_a_table_of_another_project_with_the_same_logical_name_is_distinguished(
    bench: Bench, make_table: MakeTable
) -> None:
    first, other = make_table(id="S"), make_table(id="S")
    bench.script("users", COUNT)
    assert mapped(bench, users=first).up("users")[0].error is None
    storage = replace(bench.stage.storage, url=f"{bench.stage.storage.url}-other")
    elsewhere = replace(bench, stage=replace(bench.stage, storage=storage))
    assert mapped(elsewhere, users=other).up("users")[0].error is None


@on_ministack
def test_a_logical_name_gets_another_table_by_a_stamp_of_no_version(bench: Bench, make_table: MakeTable) -> None:
    first, other = make_table(id="S"), make_table(id="S")
    bench.script("users", COUNT)
    assert mapped(bench, users=first).up("users")[0].error is None
    bench.tables.put(other, {"id": "b", "n": 5})
    fresh = mapped(bench, users=other)
    assert fresh.up("users")[0].error is not None
    stamped(fresh, 0)
    assert fresh.up("users")[0].error is None
    assert bench.tables.items(other) == [{"id": "b", "n": 6}]


@on_ministack
def test_an_active_run_of_the_former_table_of_a_name_is_named(bench: Bench, make_table: MakeTable) -> None:
    first, other = make_table(id="S"), make_table(id="S")
    bench.tables.put(first, {"id": "a", "n": 1})
    bench.script("users", COUNT)
    (report,) = mapped(bench, users=first).up("users")
    run, fresh = report.versions[0].run, mapped(bench, users=other)
    for _ in range(2):
        with pytest.raises(UsageError, match="there is no run") as caught:
            api.undo(fresh.stage, fresh.folder, (), run, RunOptions(), fresh.recorder)
        assert caught.value.where == f"tables users ({other})"
        assert f"the table {first}, which the name users meant before, and now means {other}" in caught.value.hint
        assert f'users = "{first}" under [stages.test.tables]' in caught.value.hint
        stamped(fresh, 0)  # from now on the name means the other table
    again = mapped(bench, users=first)
    assert api.undo(again.stage, again.folder, (), run, RunOptions(), again.recorder).error is None
    with pytest.raises(UsageError) as caught:
        api.retry(fresh.stage, fresh.folder, (), "2020", RunOptions(), fresh.recorder)
    assert caught.value.hint.startswith("dynamodt history ")


def stamped(bench: Bench, to: int) -> None:
    api.stamp(bench.stage, bench.folder, "users", to, bench.recorder)
