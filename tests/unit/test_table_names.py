"""A table's logical and real names: their mapping in dynamodt.toml, the look-ups, and both names in results."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from dynamodt.cli.commands import ended_early
from dynamodt.cli.json_output import with_names as in_document
from dynamodt.cli.progress import LineDisplay
from dynamodt.cli.request import Request, with_tables
from dynamodt.config import names as looked_up
from dynamodt.config.names import named_in, tables_in_use, with_names
from dynamodt.config.stage import SERVICE, load_stage
from dynamodt.deploy.job_result import runs_of, undo_of
from dynamodt.deploy.packages import stage_file
from dynamodt.errors import ScriptError, ServiceError, UsageError, suggest
from dynamodt.model.reports import TableReport
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import KeyAttribute, Stage, TableNames
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.script.names import tables
from dynamodt.script.read import read_versions

PROD = '[stages.prod]\nregion = "eu-west-1"\nstorage = "s3://files/below"\n'
LOCAL = "[stages.local.tables]\n"
ACCOUNT = "123456789012"
ARN = f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/shop-users"
ROLE = "arn:aws:iam::999999999999:role/dynamodt"
VERSION = "sequence = 1\n\n\ndef transform_up(item):\n    return item\n"
Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Writes dynamodt.toml, and a version for each table; a value is the table that it writes to."""

    def make(text: str, *plain: str, **targets: str) -> Path:
        (tmp_path / "dynamodt.toml").write_text(text, encoding="utf-8")
        for table in (*plain, *targets):
            folder = tmp_path / "transforms" / table
            folder.mkdir(parents=True, exist_ok=True)
            target = f"TARGET_TABLE = {targets[table]!r}\n" if table in targets else ""
            (folder / "v1_one.py").write_text(target + VERSION, encoding="utf-8")
        return tmp_path

    return make


def missing(operation: str, text: str, code: str = "ValidationError") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": text}}, operation)


@dataclass
class Account:
    """The parameters, and the outputs and resources of the stacks of an account; `calls` are the requests to it."""

    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    resources: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def client(self, connection: object, service: str) -> Account:
        assert service in ("cloudformation", "ssm")
        return self

    def account_id(self, connection: object) -> str:
        self.calls.append("GetCallerIdentity")
        return ACCOUNT

    def describe_stacks(self, **given: str) -> dict[str, Any]:
        stack = given["StackName"]
        self.calls.append(f"DescribeStacks {stack}")
        if stack not in self.outputs:
            raise missing("DescribeStacks", f"Stack with id {stack} does not exist")
        found = [{"OutputKey": key, "OutputValue": value} for key, value in self.outputs[stack].items()]
        return {"Stacks": [{"Outputs": found}]}

    def get_paginator(self, operation: str) -> Account:
        assert operation == "list_stack_resources"
        return self

    def paginate(self, **given: str) -> list[dict[str, Any]]:
        stack = given["StackName"]
        self.calls.append(f"ListStackResources {stack}")
        found = [
            {"LogicalResourceId": name, "ResourceType": kind, "PhysicalResourceId": physical, "ResourceStatus": "OK"}
            for name, (kind, physical) in self.resources[stack].items()
        ]
        return [{"StackResourceSummaries": found}]

    def get_parameter(self, **given: Any) -> dict[str, Any]:
        name = given["Name"]
        self.calls.append(f"GetParameter {name}")
        if name not in self.parameters:
            raise missing("GetParameter", "", "ParameterNotFound")
        return {"Parameter": {"Value": self.parameters[name]}}


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    made = Account(
        outputs={"shop-prod": {"UsersTable": "shop-prod-users", "OrdersArn": ARN.replace("users", "orders")}},
        resources={
            "shop-prod": {
                "Carts": ("AWS::DynamoDB::GlobalTable", "shop-prod-Carts-1A2B"),
                "Role": ("AWS::IAM::Role", "shop-prod-role"),
            }
        },
        parameters={"/shop/users": "shop-users-by-ssm\n"},
    )
    monkeypatch.setattr(looked_up, "client", made.client)
    monkeypatch.setattr(looked_up, "account_id", made.account_id)
    return made


def opened(folder: Path, *tables: str, stage: str = "prod") -> Stage:
    return with_names(load_stage(stage, folder), folder, tables)


# ---------------------------------------------------------------- each form


@pytest.mark.parametrize(
    ("text", "real", "calls"),
    [
        ("", "users", []),
        ('table_name = "{table}-{stage}"', "users-prod", []),
        ('table_name = "cfn:shop-{stage}.UsersTable"\n#{table}', None, []),
        ('tables = { users = "shop-users" }', "shop-users", []),
        ('tables = { users = { name = "shop-users" } }', "shop-users", []),
        ('table_name = "{table}-{stage}"\ntables = { users = "shop-users" }', "shop-users", []),
        ('tables = { users = "cfn:shop-prod.UsersTable" }', "shop-prod-users", ["DescribeStacks shop-prod"]),
        (
            'tables = { users = "cfn:shop-prod.Carts" }',
            "shop-prod-Carts-1A2B",
            ["DescribeStacks shop-prod", "ListStackResources shop-prod"],
        ),
        (
            'tables = { users = "cfn:shop-prod.OrdersArn" }',
            "shop-orders",
            ["DescribeStacks shop-prod", "GetCallerIdentity"],
        ),
        ('tables = { users = "ssm:/shop/users" }', "shop-users-by-ssm", ["GetParameter /shop/users"]),
        ('table_name = "ssm:/shop/{table}"', "shop-users-by-ssm", ["GetParameter /shop/users"]),
        (f'tables = {{ users = "{ARN}" }}', "shop-users", ["GetCallerIdentity"]),
    ],
)
def test_a_table_is_found_by_each_form(
    project: Project, account: Account, text: str, real: str | None, calls: list[str]
) -> None:
    folder = project(f"{PROD}{text}\n", "users")
    if real is None:
        with pytest.raises(UsageError, match=r"needs \{table\}"):
            load_stage("prod", folder)
        return
    stage = opened(folder)
    assert stage.names.real("users") == stage.names.real(real) == real
    assert stage.names.logical(real) == "users"
    assert stage.names.shown(real) == ("users" if real == "users" else f"users ({real})")
    assert account.calls == calls


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ('table_name = "shop"', "table_name", "needs {table}"),
        ('table_name = "{table}-{table}"', "table_name", "needs {table}"),
        ('table_name = "{table}-{region}"', "table_name", "neither"),
        ("table_name = 1", "table_name", "string"),
        ('tables = { users = "a b c" }', "tables.users", "neither"),
        ('tables = { users = "us" }', "tables.users", "neither"),
        ("tables = { users = 1 }", "tables.users", "table"),
        ('tables = { users = { nam = "shop-users" } }', "tables.users.nam", "within a table"),
        ('tables = { users = { name = "shop-users", kind = "S" } }', "tables.users.kind", "not a known key"),
        ('tables = { users = { name = "shop-users", key = { id = "S" } } }', "tables.users", "`local` only"),
        ('tables = { users = "cfn:shop-prod" }', "tables.users", "neither"),
        ('tables = { users = "arn:aws:s3:::bucket" }', "tables.users", "neither"),
        ('tables = { users = "dynamodt-state" }', "tables.users", "is a state table"),
    ],
)
def test_an_error_of_a_mapping_names_file_and_key(project: Project, text: str, key: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_stage("prod", project(f"{PROD}{text}\n"))
    assert caught.value.where == f"dynamodt.toml: stages.prod.{key}" and caught.value.hint
    assert what in caught.value.what, caught.value.what


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("cfn:gone.UsersTable", "there is no stack gone"),
        ("cfn:shop-prod.Users", "has neither an output nor a table Users"),
        ("cfn:shop-prod.Role", "has neither an output nor a table Role"),
        ("ssm:/shop/gone", "there is no parameter /shop/gone"),
        (ARN.replace(ACCOUNT, "999999999999"), "in account 999999999999, and the stage in account 123456789012"),
    ],
)
def test_a_name_that_cannot_be_found_is_refused_with_its_key(project: Project, source: str, what: str) -> None:
    folder = project(f'{PROD}tables = {{ users = "{source}" }}\n', "users")
    with pytest.raises(UsageError) as caught:
        opened(folder)
    assert what in caught.value.what and caught.value.where == "dynamodt.toml: stages.prod.tables.users"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("arn", "role"), [(ARN.replace("eu-west-1", "us-east-1"), ""), (ARN.replace(ACCOUNT, "999999999999"), ROLE)]
)
def test_a_table_elsewhere_has_its_arn_as_its_name_and_a_connection_of_its_own(
    project: Project, arn: str, role: str
) -> None:
    given = f'{{ name = "{arn}", role_arn = "{role}" }}' if role else f'"{arn}"'
    folder = project(
        f'{PROD}role_arn = "arn:stage"\ntables = {{ users = {given}, carts = "carts" }}\n', "users", "carts"
    )
    stage = opened(folder)
    assert stage.names.real("users") == arn and stage.names.logical(arn) == "users"
    there = stage.connection.of_table(arn)
    assert (there.region, there.role_arn) == (arn.split(":")[3], role or "arn:stage")
    assert stage.connection.of_table("carts") is stage.connection
    (folder / "dynamodt.toml").write_text(stage_file(stage), encoding="utf-8")  # as a job is given it
    assert opened(folder).connection.of_table(arn).role_arn == (role or None)


def test_a_role_is_for_a_table_that_is_named_by_its_arn(project: Project) -> None:
    with pytest.raises(UsageError, match="needs the table's ARN") as caught:
        load_stage("prod", project(f'{PROD}tables = {{ users = {{ name = "shop", role_arn = "{ROLE}" }} }}\n'))
    assert caught.value.where == "dynamodt.toml: stages.prod.tables.users.role_arn"


@pytest.mark.parametrize(
    ("there", "refused"), [({"shop"}, True), ({"shop", "shop-prod"}, False), ({"users"}, False), (set(), False)]
)
def test_a_real_name_that_the_pattern_changes_is_reported(
    project: Project, monkeypatch: pytest.MonkeyPatch, there: set[str], refused: bool
) -> None:
    folder = project(f'{PROD}table_name = "{{table}}-prod"\n', "users")
    monkeypatch.setattr(looked_up, "place_of", lambda connection, table: table if table in there else None)
    stage = opened(folder, "shop", "users")
    with pytest.raises(UsageError, match="means the table shop-prod, which") if refused else nullcontext() as caught:
        looked_up.check_patterned(stage, folder, ["shop", "users"])
    assert caught is None or 'NAME = "shop" under [stages.prod.tables]' in caught.value.hint


def test_a_parameter_s_value_must_be_a_table_name(project: Project, account: Account) -> None:
    account.parameters["/shop/users"] = "not a name"
    with pytest.raises(UsageError, match="not the name of a DynamoDB table") as caught:
        opened(project(f'{PROD}table_name = "ssm:/shop/{{table}}"\n', "users"))
    assert caught.value.where == "dynamodt.toml: stages.prod.table_name"


# ---------------------------------------------------------------- which names are looked up

THREE = (
    'tables = { users = "cfn:shop-prod.UsersTable", carts = "cfn:shop-prod.Carts", orders = "ssm:/shop/gone", '
    'plain = "shop-plain" }\n'
)


def test_a_stack_is_read_once_for_all_its_tables(project: Project, account: Account) -> None:
    stage = opened(project(PROD + THREE, "users", "carts", "plain"))
    assert tables(project(PROD + THREE) / "transforms", stage.names) == (
        "shop-prod-Carts-1A2B",
        "shop-plain",
        "shop-prod-users",
    )
    assert account.calls == ["DescribeStacks shop-prod", "ListStackResources shop-prod"]


def test_only_tables_that_are_needed_are_looked_up(project: Project, account: Account) -> None:
    folder = project(PROD + THREE, "users", "carts", "orders", "plain")
    assert opened(folder, "plain").names.real("plain") == "shop-plain" and account.calls == []
    stage = opened(folder, "users")
    assert account.calls == ["DescribeStacks shop-prod"]
    with pytest.raises(KeyError, match="without the table orders"):
        stage.names.real("orders")


def test_a_target_is_a_logical_name_that_is_looked_up_with_its_table(project: Project, account: Account) -> None:
    folder = project(PROD + THREE, plain="users")
    stage = opened(folder, "plain")
    (script,) = read_versions(folder / "transforms", "shop-plain", stage.names)
    assert (script.table, script.target_table, script.path) == (
        "shop-plain",
        "shop-prod-users",
        "transforms/plain/v1_one.py",
    )
    assert account.calls == ["DescribeStacks shop-prod"]


def test_a_target_that_is_written_by_its_real_name(project: Project) -> None:
    folder = project(PROD + THREE, "users", carts="shop-plain")
    (script,) = read_versions(folder / "transforms", "shop-prod-Carts-1A2B", opened(folder).names)
    assert script.target_table == "shop-plain"


def test_a_target_that_is_the_table_itself_by_its_real_name(project: Project) -> None:
    folder = project(PROD + THREE, plain="shop-plain")
    with pytest.raises(ScriptError, match="TARGET_TABLE is shop-plain, the table itself") as caught:
        read_versions(folder / "transforms", "shop-plain", opened(folder).names)
    assert caught.value.where == "transforms/plain/v1_one.py"


def test_a_stack_is_read_once_for_a_table_and_its_target(project: Project, account: Account) -> None:
    stage = opened(project(PROD + THREE, users="carts"), "users")
    assert stage.names.real("carts") == "shop-prod-Carts-1A2B"
    assert account.calls == ["DescribeStacks shop-prod", "ListStackResources shop-prod"]


def test_a_table_may_be_named_by_its_real_name(project: Project, account: Account) -> None:
    folder = project(f'{PROD}table_name = "{{table}}-{{stage}}"\n{THREE}', "users", "carts", "plain", "new")
    assert opened(folder, "new-prod").names.logical("new-prod") == "new" and account.calls == []
    account.parameters["/shop/gone"] = "shop-orders"
    assert opened(folder, "shop-prod-Carts-1A2B").names.logical("shop-prod-Carts-1A2B") == "carts"
    plain = opened(project(PROD + THREE), "shop-prod-Carts-1A2B").names
    assert plain.logical("shop-prod-Carts-1A2B") == "carts" and "shop-prod-Carts-1A2B" not in plain.known


def test_the_target_of_a_table_that_is_named_by_its_real_name(project: Project) -> None:
    assert opened(project(PROD + THREE, plain="users"), "shop-plain").names.real("users") == "shop-prod-users"


def test_a_faulty_folder_does_not_affect_the_names_of_other_tables(project: Project) -> None:
    folder = project(f'{PROD}table_name = "{{table}}-{{stage}}"\n', "users", "odd")
    (folder / "transforms" / "odd" / "v7_late.py").write_text("", encoding="utf-8")
    assert opened(folder).names.real("users") == "users-prod"


@pytest.mark.parametrize(
    "text",
    [
        'tables = { users = "shop", accounts = "shop" }',
        'table_name = "{table}-prod"\ntables = { accounts = "users-prod" }',
        'tables = { accounts = "users" }',
        'tables = { users = "cfn:shop-prod.UsersTable", accounts = "shop-prod-users" }',
    ],
)
def test_two_logical_names_of_one_table_are_refused(project: Project, text: str) -> None:
    folder = project(f"{PROD}{text}\n", "users", "accounts")
    with pytest.raises(UsageError, match="accounts and users are the same table") as caught:
        opened(folder, "users")
    assert caught.value.where.removeprefix("dynamodt.toml: stages.prod.tables.") in ("accounts", "users")


# ---------------------------------------------------------------- the embedded stage


@pytest.mark.parametrize(
    ("text", "created", "names"),
    [
        (f'{LOCAL}users = {{ id = "S" }}', {"users": "id"}, {}),
        (f'{LOCAL}users = {{ name = "S" }}', {"users": "name"}, {}),
        (f'{LOCAL}users = {{ key = "N" }}', {"users": "key"}, {}),
        (f'{LOCAL}users = {{ key = {{ id = "S" }} }}', {"users": "id"}, {}),
        (
            f'{LOCAL}users = {{ name = "shop-users", key = {{ id = "S" }} }}',
            {"shop-users": "id"},
            {"users": "shop-users"},
        ),
        (f'{LOCAL}users = {{ name = "shop-users" }}', {}, {"users": "shop-users"}),
        (f'{LOCAL}users = "shop-users"', {}, {"users": "shop-users"}),
        (f'[stages.local]\ntable_name = "x-{{table}}"\n{LOCAL}users = {{ id = "S" }}', {"x-users": "id"}, {}),
    ],
)
def test_tables_of_the_embedded_stage_have_keys_names_or_both(
    project: Project, text: str, created: dict[str, str], names: dict[str, str]
) -> None:
    stage = load_stage("local", project(text))
    assert {table: key[0].name for table, key in stage.tables.items()} == created
    assert dict(stage.names.sources) == names


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f'{LOCAL}users = "cfn:shop.Users"', "tables.users"),
        (f'{LOCAL}users = {{ name = "ssm:/users", key = {{ id = "S" }} }}', "tables.users"),
        (f'{LOCAL}users = {{ name = "shop-users", key = {{}} }}', "tables.users"),
        ('[stages.local]\ntable_name = "ssm:/{table}"', "table_name"),
    ],
)
def test_the_embedded_stage_looks_up_no_names(project: Project, text: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_stage("local", project(text))
    assert caught.value.where == f"dynamodt.toml: stages.local.{key}" and caught.value.hint


# ---------------------------------------------------------------- what the plugin of a framework gives


def test_a_stage_without_an_entry_uses_the_service_s_names(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"stage": "dev", "storage": "s3://deployment/dynamodt", "tables": {"Users": "cfn:shop-prod.Carts"}}
    monkeypatch.setenv(SERVICE, json.dumps(given))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    stage = opened(project(PROD, "Users"), stage="dev")
    assert (stage.storage.url, stage.makes_state_table) == ("s3://deployment/dynamodt", True)
    assert stage.names.real("Users") == "shop-prod-Carts-1A2B"
    with pytest.raises(UsageError, match="there is no stage 'test'"):
        load_stage("test", project(PROD))


def test_an_entry_takes_precedence_over_the_service(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"stage": "prod", "storage": "s3://deployment", "tables": {"users": "by-service", "carts": "shop-carts"}}
    monkeypatch.setenv(SERVICE, json.dumps(given))
    stage = opened(project(f'{PROD}tables = {{ users = "by-entry" }}\n', "users"))
    assert (stage.storage.url, stage.makes_state_table) == ("s3://files/below", False)
    assert stage.names.known == {"users": "by-entry"} and stage.names.source("carts") == "shop-carts"


@pytest.mark.parametrize("text", ['table_name = "shop-{stage}-{table}"', 'tables = { users = "shop-prod-users" }'])
def test_a_folder_mapped_by_the_entry_is_not_also_mapped_by_the_service(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The plugin does not read dynamodt.toml, and gives the table by its logical id in the template."""
    monkeypatch.setenv(SERVICE, json.dumps({"stage": "prod", "tables": {"Users": "shop-prod-users"}}))
    assert opened(project(f"{PROD}{text}\n", "users"), "users").names.known == {"users": "shop-prod-users"}


def test_an_unknown_name_given_by_the_plugin_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICE, json.dumps({"stage": "prod", "tables": {"Users": "cfn:gone.Users"}}))
    with pytest.raises(UsageError, match="there is no stack gone") as caught:
        opened(project(PROD, "Users"))
    assert caught.value.where == "table Users, as serverless-dynamodt gives it"


def test_a_service_that_is_not_deployed_has_no_storage(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICE, json.dumps({"stage": "dev"}))
    with pytest.raises(UsageError, match="no deployment bucket yet") as caught:
        load_stage("dev", project(PROD))
    assert "deploy the service first" in caught.value.hint


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"stage": "prod", "tables": []}'])
def test_a_missing_variable_of_the_plugin_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(SERVICE, text)
    with pytest.raises(UsageError, match="not what the plugin sets"):
        load_stage("prod", project(PROD))


# ---------------------------------------------------------------- jobs and results

NAMES = TableNames({"users": "shop-users"}, known={"users": "shop-users", "carts": "carts"})


def test_a_job_is_given_the_names_that_were_found(project: Project, account: Account, tmp_path: Path) -> None:
    folder = project(f'{PROD}table_name = "{{table}}-{{stage}}"\n{THREE}', "users", "carts", "plain", "new")
    stage = opened(folder)
    account.calls.clear()
    (folder / "dynamodt.toml").write_text(stage_file(stage), encoding="utf-8")
    assert opened(folder).names.known == stage.names.known and account.calls == []


def test_the_result_of_a_job_has_the_real_name() -> None:
    version = {"version": 1, "run": "r", "status": "succeeded", "counts": {}}
    for answer, table in (
        ({"table": "users", "table_name": "shop-users"}, "shop-users"),
        ({"table": "carts"}, "carts"),
    ):
        (report,) = runs_of({**answer, "direction": "up", "versions": [version]})
        assert report.table == table
        assert undo_of({**answer, **version, "direction": "up", "at": 0}).run.table == table


def test_documents_have_the_logical_name_and_the_real_one_where_it_differs() -> None:
    document = {"tables": [{"table": "shop-users", "runs": [{"table": "shop-users"}]}, {"table": "carts", "at": 1}]}
    assert in_document(document, NAMES) == {
        "tables": [
            {"table": "users", "table_name": "shop-users", "runs": [{"table": "users", "table_name": "shop-users"}]},
            {"table": "carts", "at": 1},
        ]
    }
    assert in_document(document, TableNames()) == document


def test_hints_name_tables_as_they_are_typed() -> None:
    hint = "wait, or: " + suggest("abort", table="shop-users") + "; then " + suggest("up", table="carts", to=3)
    assert with_tables(hint, NAMES) == "wait, or: dynamodt abort --table users; then dynamodt up --table carts --to 3"
    assert with_tables(suggest("create", "shop-users", table="shop-users-2"), NAMES) == (
        "dynamodt create --table shop-users-2 shop-users"
    )


def test_the_place_of_an_error_has_both_names() -> None:
    assert NAMES.in_text("table shop-users, transforms/x.py") == "table users (shop-users), transforms/x.py"
    assert NAMES.in_text("table carts") == "table carts"
    assert NAMES.in_text("state table shop-users") == "state table shop-users"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("took the lease on shop-users over", "took the lease on users (shop-users) over"),
        ("table shop-users: a; shop-users.", "table users (shop-users): a; users (shop-users)."),
        ("users (shop-users) is done", "users (shop-users) is done"),
        (
            "shop-users-2, s3://b/runs/shop-users/x, my-shop-users",
            "shop-users-2, s3://b/runs/shop-users/x, my-shop-users",
        ),
        ('users = "shop-users"', 'users = "shop-users"'),
        ("people of table people", "people of table clients (people)"),
    ],
)
def test_a_message_has_both_names_of_each_table(text: str, shown: str) -> None:
    assert replace(NAMES, known={**NAMES.known, "clients": "people"}).in_text(text) == shown


def test_the_tables_of_a_project_are_in_the_order_of_their_folders(project: Project) -> None:
    folder = project("", "a", "b", "c")
    names = TableNames({"a": "z-table", "c": "a-table"}, known={"a": "z-table", "b": "b", "c": "a-table"})
    assert tables(folder / "transforms", names) == ("z-table", "b", "a-table")


def test_a_notice_has_both_names() -> None:
    lines: list[str] = []
    display = LineDisplay(lambda line, text: lines.append(text))
    display.names = NAMES
    display.notify("took the lease on shop-users over")
    assert lines == ["took the lease on users (shop-users) over"]


def test_the_report_of_a_command_that_was_stopped_has_both_names() -> None:
    recorder = ProgressRecorder()
    recorder.names = NAMES
    recorder.run_started(RunRecord("shop-users", "01RUN", 2, "split", "up", "", "running", ""), 10)
    stopped = ended_early(Request("up", "prod", ("users",)), recorder, KeyboardInterrupt())
    out = StringIO()
    stopped.render(Console(file=out))
    assert "users (shop-users) v2 split  up  stopped" in out.getvalue()
    assert stopped.document["tables"][0]["table_name"] == "shop-users"


def test_the_report_of_a_stopped_command_has_the_tables_before_the_stop() -> None:
    """With their errors: a table that cannot be read has no run."""
    recorder = ProgressRecorder()
    recorder.tables.append(
        TableReport("gone", "up", error=ServiceError("the table does not exist", where="table gone"))
    )
    recorder.tables.append(TableReport("done", "up", at=2))
    recorder.run_started(RunRecord("users", "01RUN", 2, "split", "up", "", "running", ""), 10)
    stopped = ended_early(Request("up", "prod"), recorder, KeyboardInterrupt())
    assert [str(error) for error in stopped.errors] == ["table gone: the table does not exist", "stopped by Ctrl-C"]
    assert stopped.exit_code == 130 and stopped.document["error"]["what"] == "stopped by Ctrl-C"
    found = {table["table"]: table for table in stopped.document["tables"]}
    assert list(found) == ["gone", "done", "users"] and found["gone"]["error"]["exit_code"] == 1
    out = StringIO()
    stopped.render(Console(file=out))
    assert "Nothing to do: done is at version 2" in out.getvalue() and "users v2 split  up  stopped" in out.getvalue()


def test_keys_of_created_tables_are_read_in_order(project: Project) -> None:
    stage = load_stage("local", project(f'{LOCAL}users = {{ name = "shop-users", key = {{ b = "S", a = "N" }} }}'))
    assert stage.tables == {"shop-users": (KeyAttribute("b", "S"), KeyAttribute("a", "N"))}


def test_a_job_is_given_the_names_that_a_script_and_its_modules_write(tmp_path: Path) -> None:
    """The job looks up no name: `context.items("orders")` needs the real one."""
    texts = {
        "users/v1_a.py": "import others\nsequence = 1\ndef prepare(context): yield from context.items('orders')\n"
        "def transform_up(item): ...\n",
        "users/others.py": "NAME = 'carts'\n",
        **{f"{name}/v1_a.py": "sequence = 1\ndef transform_up(item): ...\n" for name in ("orders", "carts", "stock")},
    }
    for name, text in texts.items():
        (tmp_path / "transforms" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "transforms" / name).write_text(text)
    (script,) = read_versions(tmp_path / "transforms", "users")
    assert named_in(script, tmp_path) == ["carts", "orders"]
    assert tables_in_use(tmp_path) == ("carts", "orders", "stock", "users")
