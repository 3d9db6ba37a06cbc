"""A table in another region or account than its stage, by its ARN: transformed, reverted, and refused where a run would
need a transaction with the state table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from dynamodt import api
from dynamodt.config.names import with_names
from dynamodt.dynamodb.clients import account_id, client
from dynamodt.errors import DeadLetters, Refused
from dynamodt.model.tables import TableNames
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.emulators import Endpoint
from tests.service.bench import Bench, Tables

pytestmark = pytest.mark.endpoints("ministack")
REGION = "ap-southeast-2"
MARK = """
def transform_up(item):
    return {**item, "n": item.get("n", 0) + 1}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "n"}
"""
KEYS = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}


@pytest.fixture
def there(endpoint: Endpoint) -> Tables:
    return Tables(client(replace(endpoint.connection, region=REGION), "dynamodb"))


@pytest.fixture
def name(endpoint: Endpoint, there: Tables) -> Iterator[str]:
    """A table of one name in both regions; only the other region's is used."""
    made = f"users-{uuid4().hex[:8]}"
    for dynamodb in (endpoint.client, there.client):
        dynamodb.create_table(TableName=made, **KEYS)
    there.put(made, *({"id": f"u{number}"} for number in range(30)))
    Tables(endpoint.client).put(made, {"id": "here"})
    yield made
    for dynamodb in (endpoint.client, there.client):
        dynamodb.delete_table(TableName=made)


@pytest.fixture
def elsewhere(bench: Bench, name: str) -> Bench:
    bench.script("users", MARK)
    arn = f"arn:aws:dynamodb:{REGION}:{account_id(bench.stage.connection)}:table/{name}"
    stage = replace(bench.stage, names=TableNames({"users": arn}))
    return replace(bench, stage=with_names(stage, bench.folder))


def test_a_table_in_another_region_is_transformed_and_reverted(elsewhere: Bench, there: Tables, name: str) -> None:
    stage, arn = elsewhere.stage, elsewhere.stage.names.real("users")
    assert arn.startswith("arn:") and stage.names.shown(arn) == f"users ({arn})"
    (report,) = elsewhere.up("users")
    assert report.error is None and (report.table, report.at) == (arn, 1)
    assert all(item["n"] == 1 for item in there.items(name)) and len(there.items(name)) == 30
    assert elsewhere.tables.items(name) == [{"id": "here"}]
    (record,) = State(stage.connection, stage.state_table).runs(arn)
    assert record.table == arn
    assert list((Path(stage.storage.url) / "runs" / arn.replace("/", ":")).iterdir())
    undone = api.undo(stage, elsewhere.folder, ["users"], record.run, RunOptions(), elsewhere.recorder)
    assert undone.error is None and undone.run.counts.changed == 30
    assert all("n" not in item for item in there.items(name))
    assert elsewhere.up("users")[0].error is None and elsewhere.down("users")[0].error is None
    assert all("n" not in item for item in there.items(name))
    (status,) = api.status(stage, elsewhere.folder, ["users"])
    assert (status.table, status.at, status.younger) == (arn, 0, "")


OTHER_ACCOUNT = "222222222222"
TRUST = '{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}'


@pytest.fixture
def of_another_account(bench: Bench, endpoint: Endpoint, name: str) -> tuple[Bench, Tables]:
    """A stage whose table of that name is another account's, reached by a role of that account."""
    other = replace(endpoint.connection, access_key=OTHER_ACCOUNT)  # ministack derives the account from it
    dynamodb = client(other, "dynamodb")
    dynamodb.create_table(TableName=name, **KEYS)
    theirs = Tables(dynamodb)
    theirs.put(name, *({"id": f"u{number}"} for number in range(30)))
    role = client(other, "iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    bench.script("users", MARK)
    arn = f"arn:aws:dynamodb:{endpoint.connection.region}:{OTHER_ACCOUNT}:table/{name}"
    named = TableNames({"users": arn}, roles={"users": role})
    return replace(bench, stage=with_names(replace(bench.stage, names=named), bench.folder)), theirs


def test_a_table_of_another_account_is_reached_by_its_role(of_another_account: tuple[Bench, Tables], name: str) -> None:
    """The items are in that account; lease, history and files are the stage's. A table of the same name in the stage's
    account is unchanged."""
    stranger, theirs = of_another_account
    stage, arn = stranger.stage, stranger.stage.names.real("users")
    (report,) = stranger.up("users")
    assert report.error is None and report.table == arn
    assert len(theirs.items(name)) == 30 and all(item["n"] == 1 for item in theirs.items(name))
    assert stranger.tables.items(name) == [{"id": "here"}]
    state = State(stage.connection, stage.state_table)
    assert [record.table for record in state.runs(arn)] == [arn] and state.leases.read(arn).token
    assert stage.state_table not in client(stage.connection.of_table(arn), "dynamodb").list_tables()["TableNames"]
    assert stranger.down("users")[0].error is None and all("n" not in item for item in theirs.items(name))
    (again,) = stranger.up("users")
    undone = api.undo(stage, stranger.folder, ["users"], again.versions[0].run, RunOptions(), stranger.recorder)
    assert undone.error is None and all("n" not in item for item in theirs.items(name))


def test_deletions_in_another_region_need_no_transaction(elsewhere: Bench, there: Tables, name: str) -> None:
    elsewhere.script("users", "from dynamodt import Delete\n\ndef transform_up(item):\n    return Delete()\n")
    (report,) = elsewhere.up("users")
    assert report.error is None and there.items(name) == []
    api.undo(elsewhere.stage, elsewhere.folder, ["users"], report.versions[0].run, RunOptions(), elsewhere.recorder)
    assert len(there.items(name)) == 30


def test_a_move_in_another_region_is_a_dead_letter(elsewhere: Bench, there: Tables, name: str) -> None:
    moved = 'return item if item["id"][0] == "x" else {**item, "id": "x" + item["id"]}'
    elsewhere.script("users", f"IDEMPOTENT = True\ndef transform_up(item):\n    {moved}\n")
    (report,) = elsewhere.up("users", max_errors=29)
    assert isinstance(report.error, DeadLetters) and report.versions[0].counts.dead == 30
    assert "a table of another account or region" in report.versions[0].first_dead_letter
    assert {item["id"] for item in there.items(name)} == {f"u{number}" for number in range(30)}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('def items():\n    return [{"id": "new"}]\n', "items() inserts items"),
        ('TARGET_TABLE = "archive"\n' + MARK.partition("def transform_down")[0], "TARGET_TABLE inserts items"),
        ('IDEMPOTENT = True\nSOURCE = "export"\n' + MARK, "whose bucket and key an export would use"),
    ],
    ids=["rows", "target", "export"],
)
def test_features_that_need_the_stage_s_own_region_are_refused(
    elsewhere: Bench, endpoint: Endpoint, name: str, text: str, what: str
) -> None:
    elsewhere.script("users", text)
    named = replace(elsewhere.stage.names, known={**elsewhere.stage.names.known, "archive": name})
    (report,) = replace(elsewhere, stage=replace(elsewhere.stage, names=named)).up("users")
    assert isinstance(report.error, Refused) and what in report.error.what and report.error.hint
    assert report.versions == ()
