"""The plugin of the Serverless Framework: its unit tests, and real deploys of a service to ministack by `osls`."""

from __future__ import annotations

import subprocess

import pytest

from tests import emulators
from tests.e2e.service import PLUGIN, Service, framework_missing, make_service
from tests.emulators import Endpoint
from tests.waiting import HANG_SECONDS

TABLE, FOLDER = "shop-dev-users", "Users"  # CloudFormation's logical id
BOTH = f"{FOLDER} ({TABLE})"
ITEMS = 8
SPLIT = """
def transform_up(item):
    first, _, last = item["name"].partition(" ")
    return {**item, "first": first, "last": last}


def transform_down(item):
    return {name: value for name, value in item.items() if name not in ("first", "last")}
"""
BROKEN = """
def transform_up(item):
    return {**item, "initial": item["frist"][0]}


def transform_down(item):
    return {name: value for name, value in item.items() if name != "initial"}
"""


@pytest.fixture(scope="module", autouse=True)
def framework() -> None:
    reason = framework_missing()
    if reason:
        emulators.unavailable(reason)


@pytest.fixture(scope="module")
def shop(ministack: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The service, deployed for the first time, with items that an application has written, and version 1 applied by
    the second deploy."""
    made = make_service(tmp_path_factory.mktemp("shop") / "service", ministack)
    made.make_ready()
    assert "there is no folder transforms/ yet" in made.ok("deploy")
    for number in range(ITEMS):
        item = {"id": {"S": f"u{number}"}, "name": {"S": f"Name{number} Examplesen"}}
        made.client().put_item(TableName=TABLE, Item=item)
    assert f"transforms/{FOLDER}/v1_initial.py" in made.ok("dynamodt", "init")
    made.script(FOLDER, 1, "initial", SPLIT)
    said = made.ok("deploy")
    assert f"{BOTH} v1 initial  up  succeeded" in said and "Service deployed to stack shop-dev" in said, said
    return made


def attributes(shop: Service) -> set[str]:
    items = shop.client().scan(TableName=TABLE, ConsistentRead=True)["Items"]
    assert len(items) == ITEMS
    return set.intersection(*map(set, items))


def test_the_unit_tests_of_the_plugin_pass() -> None:
    done = subprocess.run(["node", "--test", "test/"], cwd=PLUGIN, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout


def test_a_deploy_migrates_the_tables_of_the_service(shop: Service) -> None:
    assert attributes(shop) == {"id", "name", "first", "last"}
    assert f"Nothing to do: {BOTH} is at version 1" in shop.ok("deploy")


@pytest.mark.chaos
def test_a_broken_transformation_fails_the_deploy_and_a_mended_one_goes_on(shop: Service) -> None:
    shop.script(FOLDER, 2, "initial_letter", BROKEN)
    failed = shop.sls("deploy")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    _, _, told = (failed.stderr + failed.stdout).rpartition("the service is deployed, but its data is not migrated: ")
    command = f"dynamodt up --table {FOLDER} --stage dev --wait-lock 1m"
    assert told.startswith(f"`{command}` ended with exit code 1\nerror: ")
    assert "could not be transformed" in told and "dead-letters.jsonl" in told and "hint: " in told
    assert attributes(shop) == {"id", "name", "first", "last"}
    shop.script(FOLDER, 2, "initial_letter", BROKEN.replace("frist", "first"))
    assert f"{BOTH} v2 initial_letter  up  succeeded" in shop.ok("deploy")
    assert attributes(shop) == {"id", "name", "first", "last", "initial"}
    assert f"{BOTH} v2 initial_letter  down  succeeded" in shop.ok("dynamodt", "down", "--table", FOLDER)
    assert attributes(shop) == {"id", "name", "first", "last"}


@pytest.mark.chaos
def test_the_plugin_has_the_commands_and_exit_codes_of_dynamodt(shop: Service) -> None:
    shop.script(FOLDER, 2, "initial_letter", BROKEN.replace("frist", "first"))
    assert "dry run: nothing was written" in shop.ok("dynamodt", "up", "--dry")
    assert f"{BOTH} at version 1, 1 pending" in shop.ok("dynamodt", "status")
    shop.script(FOLDER, 1, "initial", SPLIT + "\nEDITED = True")
    refused = shop.sls("dynamodt", "up")
    assert refused.returncode == 3 and "edited" in refused.stderr, refused.stdout + refused.stderr
    shop.script(FOLDER, 1, "initial", SPLIT)


@pytest.mark.chaos
def test_a_stage_can_be_excluded_from_automatic_migration(shop: Service) -> None:
    said = shop.ok("deploy", "--stage", "prod")
    assert "custom.dynamodt.enabled is false here; later: sls dynamodt up --stage prod" in said
    assert "Users (shop-prod-users) v1 initial  up  succeeded" in shop.ok(
        "dynamodt", "up", "--stage", "prod", "--to", "1"
    )


def test_a_stage_elsewhere_than_the_service_is_left_alone(shop: Service) -> None:
    """In dynamodt.toml it is in another region: the table of that name there is another one."""
    file = shop.folder / "dynamodt.toml"
    before = file.read_text()
    file.write_text(before.replace("[stages.dev]", '[stages.dev]\nregion = "us-east-1"'))
    refused = shop.sls("dynamodt", "up")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "deployed to eu-west-1, and this stage is in us-east-1" in refused.stderr
    file.write_text(before)


@pytest.fixture(scope="module")
def plain(ministack: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service without dynamodt.toml, deployed to two stages of one account, with an item in each table."""
    made = make_service(tmp_path_factory.mktemp("plain") / "service", ministack)
    (made.folder / "dynamodt.toml").unlink()
    (made.folder / "without-toml.yml").rename(made.folder / "serverless.yml")
    early = made.sls("dynamodt", "init")
    assert early.returncode == 2 and "hint: deploy the service first" in early.stderr, early.stdout + early.stderr
    for stage in ("dev", "prod"):
        made.ok("deploy", "--stage", stage)
    assert "transforms/carts/v1_initial.py" in made.ok("dynamodt", "init")
    for table in ("users", "carts"):
        made.script(table, 1, "initial", SPLIT)
    for real in real_names(made):
        made.client().put_item(TableName=real, Item={"id": {"S": real}, "name": {"S": "Ada Lovelace"}})
    return made


def real_names(service: Service) -> list[str]:
    """The tables of the service on both stages."""
    return [name for name in service.client().list_tables()["TableNames"] if name.startswith("plain-")]


def transformed(service: Service) -> set[str]:
    """The tables whose item has been transformed."""
    found = {real: service.client().scan(TableName=real, ConsistentRead=True)["Items"] for real in real_names(service)}
    return {real for real, items in found.items() if all("first" in item for item in items)}


@pytest.mark.chaos
def test_a_service_without_configuration_is_migrated_on_each_stage(plain: Service) -> None:
    """Its files are in the deployment bucket, and its history is in a table of its own. A folder stands for the same
    logical table on each stage, whatever name CloudFormation gives it."""
    names = real_names(plain)
    dev, prod = ({name for name in names if name.startswith(f"plain-{stage}-")} for stage in ("dev", "prod"))
    assert len(dev) == len(prod) == 2 and "plain-dev-users" in dev
    said = plain.ok("deploy")
    assert "users (plain-dev-users) v1 initial  up  succeeded" in said and "carts (plain-dev-" in said, said
    assert "/serverless/plain/dev/dynamodt" in said and transformed(plain) == dev
    assert "users (plain-prod-users) at version 0, 1 pending" in plain.ok("dynamodt", "status", "--stage", "prod")
    assert "users (plain-prod-users) v1 initial  up  succeeded" in plain.ok("deploy", "--stage", "prod")
    assert transformed(plain) == dev | prod
    assert "/serverless/plain/dev/dynamodt, are deleted with the service's artifacts" in plain.ok("remove")
    assert set(real_names(plain)) == prod
