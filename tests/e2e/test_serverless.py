"""The plugin of the Serverless Framework: its units, and real deploys of a service to ministack by `osls`."""

from __future__ import annotations

import subprocess

import pytest

from tests import emulators
from tests.e2e.service import PLUGIN, Service, framework_missing, make_service
from tests.emulators import Endpoint
from tests.waiting import HANG_SECONDS

TABLE = "shop-dev-users"
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
    assert f"transforms/{TABLE}/v1_initial.py" in made.ok("dynamodt", "init")
    made.script(TABLE, 1, "initial", SPLIT)
    said = made.ok("deploy")
    assert f"{TABLE} v1 initial  up  succeeded" in said and "Service deployed to stack shop-dev" in said, said
    return made


def attributes(shop: Service) -> set[str]:
    items = shop.client().scan(TableName=TABLE, ConsistentRead=True)["Items"]
    assert len(items) == ITEMS
    return set.intersection(*map(set, items))


def test_the_units_of_the_plugin() -> None:
    done = subprocess.run(["node", "--test", "test/"], cwd=PLUGIN, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout


def test_a_deploy_migrates_the_tables_of_the_service(shop: Service) -> None:
    assert attributes(shop) == {"id", "name", "first", "last"}
    assert f"Nothing to do: {TABLE} is at version 1" in shop.ok("deploy")


def test_a_broken_transformation_fails_the_deploy_and_a_mended_one_goes_on(shop: Service) -> None:
    shop.script(TABLE, 2, "initial_letter", BROKEN)
    failed = shop.sls("deploy")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    _, _, told = (failed.stderr + failed.stdout).rpartition("the service is deployed, but its data is not migrated: ")
    command = f"dynamodt up --table {TABLE} --stage dev --wait-lock 1m"
    assert told.startswith(f"`{command}` ended with exit code 1\nerror: ")
    assert "could not be transformed" in told and "dead-letters.jsonl" in told and "hint: " in told
    assert attributes(shop) == {"id", "name", "first", "last"}
    shop.script(TABLE, 2, "initial_letter", BROKEN.replace("frist", "first"))
    assert f"{TABLE} v2 initial_letter  up  succeeded" in shop.ok("deploy")
    assert attributes(shop) == {"id", "name", "first", "last", "initial"}
    assert f"{TABLE} v2 initial_letter  down  succeeded" in shop.ok("dynamodt", "down", "--table", TABLE)
    assert attributes(shop) == {"id", "name", "first", "last"}


def test_the_commands_are_dynamodts_and_so_are_their_exit_codes(shop: Service) -> None:
    shop.script(TABLE, 2, "initial_letter", BROKEN.replace("frist", "first"))
    assert "dry run: nothing was written" in shop.ok("dynamodt", "up", "--dry")
    assert f"{TABLE} at version 1, 1 pending" in shop.ok("dynamodt", "status")
    shop.script(TABLE, 1, "initial", SPLIT + "\n# edited")
    refused = shop.sls("dynamodt", "up")
    assert refused.returncode == 3 and "edited" in refused.stderr, refused.stdout + refused.stderr
    shop.script(TABLE, 1, "initial", SPLIT)


def test_a_stage_may_be_left_to_a_person(shop: Service) -> None:
    said = shop.ok("deploy", "--stage", "prod")
    assert "custom.dynamodt.enabled is false here; later: sls dynamodt up --stage prod" in said
    assert "no folder for shop-prod-users" in shop.ok("dynamodt", "up", "--stage", "prod")


def test_a_stage_elsewhere_than_the_service_is_left_alone(shop: Service) -> None:
    """In dynamodt.toml it is in another region: the table of that name there is another one."""
    file = shop.folder / "dynamodt.toml"
    before = file.read_text()
    file.write_text(before.replace("[stages.dev]", '[stages.dev]\nregion = "us-east-1"'))
    refused = shop.sls("dynamodt", "up")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "deployed to eu-west-1, and this stage is in us-east-1" in refused.stderr
    file.write_text(before)
