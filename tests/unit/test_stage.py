"""The stage of `--stage NAME`: the file, the environment over it, and every error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dynamodt.config.stage import ambient_connection, embedded_stage, load_stage
from dynamodt.errors import UsageError
from dynamodt.model.tables import Connection, KeyAttribute, TableExtras
from tests import ROOT

Write = Callable[[str], Path]

PROD = """
[stages.prod]
region = "eu-west-1"
storage = "s3://bucket/prefix/"
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "DYNAMODT_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        (tmp_path / "dynamodt.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return to_file


# ---------------------------------------------------------------- the embedded stage


def test_local_needs_no_file(tmp_path: Path) -> None:
    stage = load_stage("local", tmp_path)
    assert (stage.name, stage.local, stage.embedded, stage.tables) == ("local", True, True, {})
    assert stage.connection.region == "us-east-1"
    assert (stage.connection.endpoint_url, stage.connection.access_key, stage.connection.secret_key) == (
        None,
        "local",
        "local",
    )
    assert stage.storage.url == "s3://dynamodt-local/dynamodt"
    assert stage.state_table == "dynamodt-state"


def test_local_is_the_default(tmp_path: Path) -> None:
    assert load_stage(folder=tmp_path) == load_stage("local", tmp_path)


def test_the_shell_s_region_does_not_apply_to_the_embedded_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert load_stage("local", tmp_path).connection.region == "us-east-1"


def test_a_table_of_the_embedded_stage_may_have_indexes_and_ttl(write: Write) -> None:
    key = '{ key = { id = "S", ttl = "N" }, indexes = { by = { owner = "S", ttl = "N" } }, ttl = "ttl" }'
    stage = load_stage("local", write(f'[stages.local.tables]\ncarts = {key}\nplain = {{ id = "S", ttl = "N" }}\n'))
    of_carts = TableExtras({"by": (KeyAttribute("owner", "S"), KeyAttribute("ttl", "N"))}, "ttl")
    assert stage.extras == {"carts": of_carts, "plain": TableExtras()}
    assert stage.tables["carts"] == stage.tables["plain"] == (KeyAttribute("id", "S"), KeyAttribute("ttl", "N"))


def test_tables_keep_the_order_of_their_keys(write: Write) -> None:
    folder = write('[stages.local.tables]\nusers = { id = "S" }\norders = { zone = "B", at = "N" }\n')
    assert load_stage("local", folder).tables == {
        "users": (KeyAttribute("id", "S"),),
        "orders": (KeyAttribute("zone", "B"), KeyAttribute("at", "N")),
    }


def test_embedded_storage_can_be_a_folder(write: Write) -> None:
    folder = write('[stages.local]\nstorage = "files"\n')
    assert load_stage("local", folder).storage.url == str(folder / "files")


# ---------------------------------------------------------------- an endpoint in its place


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"])
def test_an_endpoint_replaces_the_embedded_stage(write: Write, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    folder = write('[stages.local.tables]\nusers = { id = "S" }\n')
    monkeypatch.setenv(variable, "http://127.0.0.1:8000/")
    stage = load_stage("local", folder)
    assert (stage.embedded, stage.local, stage.tables) == (False, True, {})
    assert stage.connection.endpoint() == "http://127.0.0.1:8000"
    assert stage.connection.endpoint("S3") == (None if "DYNAMODB" in variable else "http://127.0.0.1:8000")
    assert (stage.connection.region, stage.connection.access_key) == ("us-east-1", "local")
    assert stage.storage.url == str(folder / ".dynamodt" / "storage")


def test_the_endpoint_may_be_in_the_file(write: Write) -> None:
    stage = load_stage("local", write('[stages.local]\nendpoint_url = "http://localhost:8000"\n'))
    assert (stage.embedded, stage.connection.endpoint_url) == (False, "http://localhost:8000")


def test_the_environment_takes_precedence_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write('[stages.local]\nendpoint_url = "http://localhost:1"\nstorage = "s3://file/x"\n')
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:3")
    monkeypatch.setenv("DYNAMODT_STORAGE", "s3://environment/x")
    stage = load_stage("local", folder)
    assert stage.connection.endpoint() == "http://localhost:3"
    assert stage.connection.endpoint("S3") == "http://localhost:2"
    assert stage.storage.url == "s3://environment/x"


def test_the_endpoint_of_one_service_does_not_apply_to_the_others(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:3/")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "http://localhost:4")
    connection = load_stage("prod", write(PROD)).connection
    found = [connection.endpoint(service) for service in ("DYNAMODB", "CLOUDWATCH_LOGS", "S3", "GLUE")]
    assert found == ["http://localhost:3", "http://localhost:4", None, None]


def test_an_endpoint_of_another_service_keeps_the_embedded_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:3")
    stage = load_stage("local", tmp_path)
    assert stage.embedded and stage.connection.endpoint("S3") is None


def test_endpoints_of_the_environment_may_be_ignored(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:2")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:3")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert load_stage("local", write("")).embedded
    folder = write('[stages.local]\nendpoint_url = "http://localhost:1"\n')
    assert load_stage("local", folder).connection.endpoint() == "http://localhost:1"


def test_the_embedded_stage_is_found_whatever_the_environment_names(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://dynamo.example:8000")
    stage = embedded_stage(write('[stages.local]\nendpoint_url = "http://localhost:1"\nstate_table = "mine"\n'))
    assert (stage.embedded, stage.connection.embedded, stage.connection.endpoint()) == (True, True, None)
    assert stage.state_table == "mine"


def test_an_endpoint_elsewhere_gets_no_made_up_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://dynamo.example:8000")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert load_stage("local", tmp_path).connection.access_key is None


def test_an_endpoint_elsewhere_gets_no_made_up_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://dynamo.example:8000")
    with pytest.raises(UsageError, match="has no region"):
        load_stage("local", tmp_path)


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config"
    file.write_text("[default]\nregion = sa-east-1\n[profile mine]\nregion = ca-west-1\n[profile bare]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))


@pytest.mark.parametrize(("profile", "region"), [("mine", "ca-west-1"), ("", "sa-east-1")])
@pytest.mark.usefixtures("profiles")
def test_the_region_may_be_the_profile_s(
    write: Write, monkeypatch: pytest.MonkeyPatch, profile: str, region: str
) -> None:
    text = '[stages.prod]\nstorage = "s3://b/p"\n'
    named = write(f'{text}profile = "{profile}"\n' if profile else text)
    assert load_stage("prod", named).connection.region == region
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
        assert load_stage("prod", write(text)).connection.region == region
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert load_stage("prod", named).connection.region == "eu-north-1"


@pytest.mark.usefixtures("profiles")
def test_a_profile_without_a_region_gives_none(write: Write) -> None:
    with pytest.raises(UsageError, match="has no region") as caught:
        load_stage("prod", write('[stages.prod]\nstorage = "s3://b/p"\nprofile = "bare"\n'))
    assert "profile" in caught.value.hint


@pytest.mark.usefixtures("profiles")
def test_a_job_s_connection_is_in_the_region_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert ambient_connection("eu-west-1") == Connection("eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:4")
    assert ambient_connection("eu-west-1").endpoint("S3") == "http://localhost:4"


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"])
def test_credentials_of_the_environment_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8000")
    monkeypatch.setenv(variable, "mine")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert load_stage("local", tmp_path).connection.access_key is None


def test_a_credentials_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.touch()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8000")
    assert load_stage("local", tmp_path).connection.access_key is None


# ---------------------------------------------------------------- stages in AWS


def test_a_stage_of_the_file(write: Write) -> None:
    folder = write(PROD + 'profile = "p"\nrole_arn = "arn:r"\nkms_key = "alias/k"\nstate_table = "mine"\n')
    stage = load_stage("prod", folder)
    assert (stage.local, stage.embedded, stage.state_table) == (False, False, "mine")
    assert stage.job_name == "dynamodt-prod"
    assert (stage.connection.region, stage.connection.profile, stage.connection.role_arn) == ("eu-west-1", "p", "arn:r")
    assert (stage.connection.access_key, stage.connection.endpoint_url) == (None, None)
    assert (stage.storage.url, stage.storage.kms_key) == ("s3://bucket/prefix", "alias/k")


def test_a_stage_may_name_its_glue_job(write: Write) -> None:
    assert load_stage("prod", write(PROD + 'glue_job = "mine"\n')).job_name == "mine"


@pytest.mark.parametrize(("line", "protected"), [("", False), ("protected = true", True), ("protected = false", False)])
def test_a_stage_is_protected_by_the_file(write: Write, line: str, protected: bool) -> None:
    assert load_stage("prod", write(f"{PROD}{line}\n")).protected is protected


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_may_come_from_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    folder = write('[stages.prod]\nstorage = "s3://b/p"\n')
    monkeypatch.setenv(variable, "eu-north-1")
    assert load_stage("prod", folder).connection.region == "eu-north-1"


def test_the_stage_s_region_takes_precedence_over_the_shell_s(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert load_stage("prod", write(PROD)).connection.region == "eu-west-1"


# ---------------------------------------------------------------- every way to get it wrong


@pytest.mark.parametrize(
    ("text", "stage", "where", "hint"),
    [
        ("", "prod", "dynamodt.toml", "[stages.prod]"),
        (PROD, "prd", "dynamodt.toml", "local, prod"),
        ("[stages.prod\n", "prod", "dynamodt.toml", "quotes"),
        ("[stage.prod]\n", "prod", "dynamodt.toml: stage", "did you mean 'stages'"),
        (PROD + 'regoin = "x"\n', "prod", "dynamodt.toml: stages.prod.regoin", "did you mean 'region'"),
        (PROD + "[stages.dev]\nzzz = 1\n", "prod", "dynamodt.toml: stages.dev.zzz", "role_arn"),
        ("[stages.prod]\nregion = 1\n", "prod", "dynamodt.toml: stages.prod.region", "quotes"),
        ('[stages.prod]\nregion = " "\n', "prod", "dynamodt.toml: stages.prod.region", "quotes"),
        (PROD + 'protected = "yes"\n', "prod", "dynamodt.toml: stages.prod.protected", "without quotes"),
        (PROD + "protected = 1\n", "prod", "dynamodt.toml: stages.prod.protected", "without quotes"),
        (PROD + "protect = true\n", "prod", "dynamodt.toml: stages.prod.protect", "did you mean 'protected'"),
        ("stages = 1\n", "prod", "dynamodt.toml: stages", "table"),
        ("[stages]\nprod = 1\n", "prod", "dynamodt.toml: stages.prod", "[stages.prod]"),
        ('[stages.prod]\nstorage = "s3://b"\n', "prod", "dynamodt.toml: stages.prod.region", "AWS_REGION"),
        ('[stages.prod]\nregion = "r"\n', "prod", "dynamodt.toml: stages.prod.storage", "DYNAMODT_STORAGE"),
        ('[stages.prod]\nregion = "r"\nstorage = "f"\n', "prod", "dynamodt.toml: stages.prod.storage", "s3://"),
        ('[stages.local]\nstorage = "s3:///x"\n', "local", "dynamodt.toml: stages.local.storage", "BUCKET"),
        ('[stages.local]\nstorage = "gs://b"\n', "local", "dynamodt.toml: stages.local.storage", "s3://"),
        (
            '[stages.local]\nstorage = "f"\nkms_key = "k"\n',
            "local",
            "dynamodt.toml: stages.local.kms_key",
            "s3://",
        ),
        (
            '[stages.local]\nstorage = "f"\nstorage_owner = "123456789012"\n',
            "local",
            "dynamodt.toml: stages.local.storage_owner",
            "s3://",
        ),
        ('[stages.local]\nendpoint_url = "localhost:80"\n', "local", "stages.local.endpoint_url", "http://"),
        ('[stages.local.tables]\nt = { id = "X" }\n', "local", "dynamodt.toml: stages.local.tables.t.id", '"S"'),
        ('[stages.local.tables]\nt = { id = ["S"] }\n', "local", "dynamodt.toml: stages.local.tables.t.id", '"S"'),
        ("[stages.local.tables]\nt = {}\n", "local", "dynamodt.toml: stages.local.tables.t", "partition key"),
        (
            '[stages.local.tables]\nt = { ttl = "e" }\n',
            "local",
            "dynamodt.toml: stages.local.tables.t",
            "partition key",
        ),
        (
            '[stages.local.tables]\nt = { key = { id = "S" }, indexes = { by = {} } }\n',
            "local",
            "dynamodt.toml: stages.local.tables.t.indexes.by",
            "indexes = { by_status =",
        ),
        (
            '[stages.local.tables]\nt = { key = { id = "S" }, indexes = { by = { id = "N" } } }\n',
            "local",
            "dynamodt.toml: stages.local.tables.t",
            "one type",
        ),
        ('[stages.local.tables]\nt = "S"\n', "local", "dynamodt.toml: stages.local.tables.t", "partition key"),
        (
            '[stages.local.tables]\nt = { a = "S", b = "S", c = "S" }\n',
            "local",
            "dynamodt.toml: stages.local.tables.t",
            "sort key",
        ),
        (PROD + '[stages.prod.tables]\nt = { id = "S" }\n', "prod", "dynamodt.toml: stages.prod.tables.t", "embedded"),
    ],
)
def test_an_error_names_the_file_the_key_and_the_next_step(
    write: Write, text: str, stage: str, where: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_stage(stage, write(text))
    assert caught.value.where.endswith(where)
    assert hint in caught.value.hint
    assert caught.value.what


def test_a_folder_of_the_environment_is_named_by_its_variable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMODT_STORAGE", "files")
    with pytest.raises(UsageError) as caught:
        load_stage("prod", write(PROD))
    assert caught.value.where == "DYNAMODT_STORAGE"


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dynamodt.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_stage("local", tmp_path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dynamodt.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_stage("local", tmp_path)


def test_the_repository_s_own_file_is_accepted() -> None:
    root = ROOT.resolve()
    assert load_stage("local", root).tables == {"users": (KeyAttribute("id", "S"),)}


def test_the_state_tables_of_all_stages_are_known(write: Write) -> None:
    """Another stage's may be in the same account: neither is ever transformed."""
    folder = write(PROD + 'state_table = "mine"\n[stages.dev]\nregion = "r"\nstorage = "s3://b"\nstate_table = "its"\n')
    assert load_stage("prod", folder).state_tables == {"mine", "its", "dynamodt-state"}
    assert load_stage("local", folder).state_tables == {"mine", "its", "dynamodt-state"}


@pytest.mark.parametrize("table", ["dynamodt-state", "mine"])
def test_a_state_table_may_not_be_a_table_of_the_embedded_stage(write: Write, table: str) -> None:
    folder = write(PROD + f'state_table = "mine"\n[stages.local.tables]\n{table} = {{ id = "S" }}\n')
    with pytest.raises(UsageError, match="is a state table") as caught:
        load_stage("local", folder)
    assert f"stages.local.tables.{table}" in caught.value.where
