"""Each request to S3 names the account that owns the bucket: a bucket that another account has created under the name
of a deleted one is neither written nor read."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse

from dynamodt.config.stage import load_stage
from dynamodt.deploy import buckets
from dynamodt.deploy.packages import stage_file
from dynamodt.dynamodb import clients
from dynamodt.dynamodb.clients import client
from dynamodt.errors import ServiceError, UsageError
from dynamodt.export import request as requests
from dynamodt.export.objects import Head, S3Objects
from dynamodt.export.request import export_of
from dynamodt.model.runs import ExportSource, Script
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.pipeline.migrate import Resources
from dynamodt.runs.context import Project
from dynamodt.runs.prepare import PreparationContext
from dynamodt.state import storage as storages
from dynamodt.state.storage import open_storage, owner_of, with_owner
from tests import ROOT

OURS, THEIRS = "123456789012", "210987654321"
HEADER = "x-amz-expected-bucket-owner"
SPEC = StorageSpec("s3://files/below")
XML = b"<Result><UploadId>u</UploadId><ETag>e</ETag><IsTruncated>false</IsTruncated></Result>"


class Sent:
    """Answers in place of S3, and records the owner that each request names, by operation. It refuses given requests,
    as S3 does if the owner is another account."""

    def __init__(self) -> None:
        self.owners: dict[str, set[str]] = {}
        self.refuses = ""

    def __call__(self, request: AWSRequest, event_name: str, **_: Any) -> AWSResponse:
        operation, owner = event_name.rpartition(".")[2], request.headers.get(HEADER, b"")
        owner = owner.decode() if isinstance(owner, bytes) else owner
        self.owners.setdefault(operation, set()).add(owner)
        body = b"x" if operation == "GetObject" else b"" if operation in ("PutObject", "UploadPart") else XML
        headers = {"ETag": '"e"', "Content-Length": "1", "x-amz-bucket-region": "eu-west-1"}
        status = 403 if owner and owner == self.refuses else 200
        return AWSResponse(request.url, status, headers, Raw(b"" if request.method == "HEAD" else body))

    @property
    def named(self) -> set[str]:
        return {owner for found in self.owners.values() for owner in found}


class Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The requests of every client of S3 that is made in the test; its account is OURS."""
    sent, made = Sent(), clients._make_client

    def answered(connection: Connection, service: str, config: Any) -> Any:
        found = made(connection, service, config)
        found.meta.events.register_first("before-send.s3", sent)
        return found

    monkeypatch.setattr(clients, "_make_client", answered)
    for module in (clients, storages, requests, buckets):
        monkeypatch.setattr(module, "account_id", lambda connection: OURS)
    return sent


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Connection:
    """A connection that no other test has used: clients are kept."""
    return Connection("eu-west-1", access_key=request.node.name, secret_key="secret")


def use_all(connection: Connection, tmp_path: Path, owner: str | None = None) -> None:
    """Everything that dynamodt does to objects."""
    large, there = tmp_path / "large", tmp_path / "there"
    large.write_bytes(bytes(9 << 20))  # in parts
    storage = open_storage(connection, replace(SPEC, owner=owner))
    objects = S3Objects(client(connection, "s3", owner=owner), "files")
    storage.write("runs/a", b"x")
    storage.upload("assets/jar", large)
    storage.read("runs/a")
    storage.download("prepared/a", there)
    list(storage.names("runs/"))
    objects.head("a")
    objects.read("a")
    list(objects.pieces("a", Head(1, "e")))
    list(objects.folders("a/"))
    objects.write("a", b"x")


def test_each_request_names_the_account_of_the_stage(here: Connection, sent: Sent, tmp_path: Path) -> None:
    use_all(here, tmp_path)
    assert sent.named == {OURS}
    asked = {"PutObject", "UploadPart", "CompleteMultipartUpload", "GetObject", "HeadObject", "ListObjectsV2"}
    assert asked <= set(sent.owners)


def test_each_request_of_a_removal_names_it(here: Connection, sent: Sent) -> None:
    buckets.bucket_facts(here, "files")
    own = buckets.OwnObjects("files", "below/", exports=frozenset(["01"]))
    list(buckets.outside(here, own))
    buckets.tables_with_files(here, "files", "below/", ())
    buckets.shared_files(here, own)
    buckets.delete_objects(here, own, lambda text: None)
    buckets.delete_bucket(here, "files")
    assert sent.named == {OURS} and "DeleteBucket" in sent.owners


def test_a_bucket_of_an_account_that_the_stage_names(here: Connection, sent: Sent, tmp_path: Path) -> None:
    use_all(here, tmp_path, THEIRS)
    assert sent.named == {THEIRS}


def test_every_operation_with_an_owner_parameter_names_the_owner(here: Connection, sent: Sent) -> None:
    """Those that dynamodt does not use yet, too."""
    s3 = client(here, "s3")
    models = [s3.meta.service_model.operation_model(name) for name in s3.meta.service_model.operation_names]
    models = [one for one in models if one.input_shape and "ExpectedBucketOwner" in one.input_shape.members]
    assert len(models) > 80
    for model in models:
        params: dict[str, Any] = {"Bucket": "files"}
        event = f"provide-client-params.s3.{model.name}"
        s3.meta.events.emit(event, params=params, model=model, context={})
        assert params == {"Bucket": "files", "ExpectedBucketOwner": OURS}, model.name


def test_clients_are_made_in_one_place_and_only_an_author_gets_one_without_an_owner() -> None:
    """A client that is made elsewhere would name no owner."""
    found: dict[str, set[str]] = {"make": set(), "any": set()}
    for path in (ROOT / "pipelines" / "dynamodt").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in ("create_client", "boto3", "owner")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name.endswith(("create_client", "boto3.client", "boto3.resource", "boto3.Session")):
                    found["make"].add(path.name)
                if any(key.arg == "owner" and ast.unparse(key.value) == "''" for key in node.keywords):
                    found["any"].add(path.name)
    assert found == {"make": {"clients.py"}, "any": {"prepare.py", "stand_in.py"}}


def test_an_emulator_is_not_asked_for_its_account(here: Connection, sent: Sent, tmp_path: Path) -> None:
    use_all(replace(here, endpoint_url="http://127.0.0.1:9"), tmp_path)
    assert sent.named == {""}


def test_an_authors_client_reads_buckets_of_any_account(here: Connection, sent: Sent, tmp_path: Path) -> None:
    script = Script("users", 1, "v1", "", "", tmp_path.as_posix())
    project = Project(Stage("prod", here, SPEC), tmp_path)
    PreparationContext(project, script).client("s3").head_bucket(Bucket="countries")
    assert sent.named == {""}


def test_a_bucket_of_another_account_is_an_error_with_a_hint(here: Connection, sent: Sent) -> None:
    sent.refuses = OURS
    storage = open_storage(here, SPEC)
    for attempt in (lambda: storage.write("runs/a", b"x"), lambda: storage.read("runs/a")):
        with pytest.raises(ServiceError, match="s3://files/below/runs/a") as caught:
            attempt()
        assert "storage_owner" in caught.value.hint


# ---------------------------------------------------------------- how the account is known


def test_the_account_is_requested_once_by_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Sts:
        def get_caller_identity(self) -> dict[str, str]:
            asked.append("")
            return {"Account": OURS}

    monkeypatch.setattr(clients, "client", lambda connection, service: Sts())
    there = Connection("eu-west-1", access_key="asked once")
    assert [clients.account_id(there) for _ in range(3)] == [OURS] * 3 and len(asked) == 1


def test_a_network_without_an_endpoint_of_sts_needs_the_account_s_name(
    here: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(connection: Connection) -> str:
        raise ServiceError("no connection to https://sts.eu-west-1.amazonaws.com", hint="check for a firewall")

    monkeypatch.setattr(clients, "account_id", silent)
    stage = Stage("prod", here, SPEC)
    for act in (partial(with_owner, stage), partial(Resources(stage).storage().write, "runs/a", b"x")):
        with pytest.raises(ServiceError, match="sts") as caught:
            act()
        assert str(caught.value.hint).startswith("check for a firewall; or name the account")
        assert "storage_owner" in caught.value.hint
    named = replace(stage, storage=replace(SPEC, owner=OURS))
    assert with_owner(named) is named


def test_workers_and_jobs_are_given_the_account(
    here: Connection, sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker does not look the account up, since its network may have no endpoint of STS."""
    stage = with_owner(Stage("prod", here, SPEC))
    assert stage.storage == replace(SPEC, owner=OURS) and with_owner(stage) is stage
    tmp_path.joinpath("dynamodt.toml").write_text(stage_file(stage))
    assert load_stage("prod", tmp_path).storage == stage.storage
    monkeypatch.setattr(clients, "account_id", None)
    Resources(stage).storage().write("runs/a", b"x")
    assert sent.named == {OURS}


def test_a_folder_and_an_endpoint_have_no_owner(here: Connection, sent: Sent) -> None:
    for stage in (
        Stage("local", here, StorageSpec("/folder")),
        Stage("dev", replace(here, endpoint_url="http://h"), SPEC),
    ):
        assert with_owner(stage) is stage


@pytest.mark.parametrize("value", ['"12"', '"an account"', "123456789012"])
def test_an_owner_that_is_no_account_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "dynamodt.toml"
    file.write_text(f'[stages.prod]\nregion = "r"\nstorage = "s3://b"\nstorage_owner = {value}\n')
    with pytest.raises(UsageError, match=r"stages\.prod\.storage_owner"):
        load_stage("prod", tmp_path)


# ---------------------------------------------------------------- exports


@pytest.mark.parametrize(("description", "owner"), [({}, "111122223333"), ({"S3BucketOwner": THEIRS}, THEIRS)])
def test_an_export_names_the_owner_of_its_bucket(description: dict[str, str], owner: str) -> None:
    """Without one, the bucket is in the account of the table: another account's must be named in the request."""
    arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/users"
    known = {"ExportArn": f"{arn}/export/01-a", "TableArn": arn, "ExportStatus": "COMPLETED", "S3Bucket": "b"}
    assert export_of({**known, **description}).owner == owner


@pytest.mark.parametrize(("owner", "named"), [(None, OURS), (THEIRS, THEIRS)])
def test_dynamodb_exports_to_the_bucket_of_that_account_alone(
    here: Connection, sent: Sent, owner: str | None, named: str
) -> None:
    made = requests.aws_exports(here, replace(SPEC, owner=owner))
    assert isinstance(made, requests.AwsExports) and made._place["S3BucketOwner"] == named


def test_an_export_in_a_bucket_that_is_named_is_read_as_its_accounts(here: Connection, sent: Sent) -> None:
    stage = Stage("prod", here, SPEC)
    assert owner_of(stage, "files") == owner_of(stage, "exports") == OURS
    assert owner_of(replace(stage, storage=replace(SPEC, owner=THEIRS)), "files") == THEIRS
    assert owner_of(replace(stage, connection=replace(here, endpoint_url="http://h")), "exports") == ""
    sent.refuses = OURS
    assert owner_of(stage, "exports") == ""  # another account's, named on purpose
    sent.owners.clear()
    for owner in ("", THEIRS):
        Resources(stage).objects(ExportSource("exports", "folder", "arn", owner)).read("a")
    assert sent.named == {"", THEIRS}
