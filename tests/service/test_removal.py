"""`destroy --purge` in an emulated account where things are shared by stages, or were there before dynamodt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.deploy import destroy as destroying
from dynamodt.deploy.destroy import Removal, destroy
from dynamodt.deploy.glue_runs import GlueJob, JobRun
from dynamodt.errors import Refused, ServiceError
from dynamodt.model.runs import Lease, RunRecord
from dynamodt.runs.lock import hold_lease, new_lease
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.state.row_codec import attributes
from tests.emulators import in_chaos
from tests.service.account import Account

RUN = "20260131T101112.131415Z-0a1b2c"
JAR = f"below/assets/{'0a' * 32}/jar"


@pytest.fixture
def other(account: Account, tmp_path: Path) -> Account:
    """Another project with another stage, in the same account."""
    found = Account(tmp_path / "other", account.endpoint)
    found.folder.mkdir()
    found.make_table(found.table)
    found.script()
    found.configure()
    return found


def share(account: Account, other: Account, *, state_table: bool = False, bucket: str | None = None) -> None:
    """Let the other project use this one's state table, or its bucket, below `bucket`."""
    file = other.folder / "dynamodt.toml"
    text = file.read_text()
    if state_table:
        text = text.replace(other.state_table, account.state_table)
    if bucket is not None:
        text = text.replace(f"s3://{other.bucket}/below", f"s3://{account.bucket}/{bucket}")
    file.write_text(text)


def stamp(account: Account) -> None:
    account.client("dynamodb").put_item(TableName=account.table, Item={"id": {"S": "1"}})
    operations.stamp(account.stage, account.folder, account.table, 1, account.notes)  # type: ignore[arg-type]


def tables(account: Account) -> set[str]:
    return set(account.client("dynamodb").list_tables()["TableNames"])


def buckets(account: Account) -> set[str]:
    return {bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]}


def key_state(account: Account, key: str) -> str:
    return str(account.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"])


def why(removed: tuple[str, ...], kind: str) -> str:
    (found,) = (text for text in removed if text.startswith(kind))
    return found


# ---------------------------------------------------------------- what two stages share


@pytest.mark.parametrize("maker_first", [True, False])
def test_a_state_table_of_two_projects_survives_the_purge_of_one(
    account: Account, other: Account, maker_first: bool
) -> None:
    """If the deleted stage had found the table: by its tag. If it had created the table: by the other project's
    history."""
    account.deploy()
    share(account, other, state_table=True)
    other.deploy()
    stamp(account)
    stamp(other)
    gone, stays = (account, other) if maker_first else (other, account)
    done = gone.destroy(purge=True)
    assert account.state_table in tables(account)
    assert (stays.table if maker_first else account.name) in why(done.kept, "state table")
    assert operations.history(stays.stage, stays.folder, ())
    assert gone.bucket not in buckets(account) and stays.bucket in buckets(account)


def test_a_state_table_that_a_deployed_neighbour_names_stays_though_it_is_empty(
    account: Account, other: Account
) -> None:
    account.deploy()
    share(account, other, state_table=True)
    other.deploy()
    done = account.destroy(purge=True)
    assert f"the stack dynamodt-{other.name}" in why(done.kept, "state table")
    assert account.state_table in tables(account)


def test_a_state_table_that_a_stage_of_the_same_file_names_stays(account: Account) -> None:
    account.deploy()
    file = account.folder / "dynamodt.toml"
    file.write_text(file.read_text() + file.read_text().replace(account.name, "twin").replace("files-of-twin", "twins"))
    text = file.read_text().replace("state-of-twin", account.state_table)
    file.write_text(text)
    done = account.destroy(purge=True)
    assert "the stage twin of dynamodt.toml" in why(done.kept, "state table")


def test_a_bucket_of_two_stages_loses_one_prefix_alone(account: Account, other: Account) -> None:
    key = account.deploy().outputs["KeyArn"]
    share(account, other, bucket="beside")
    other.deploy()
    done = account.destroy(purge=True)
    assert "objects below" in why(done.removed, "objects") and "beside/" in why(done.kept, "bucket")
    assert account.objects() and all(name.startswith("beside/") for name in account.objects())
    assert key_state(account, key) == "Enabled"
    assert other.deploy().status == "unchanged"


@pytest.mark.parametrize("prefix", ["below", "", *in_chaos("below/within")])
def test_a_bucket_whose_prefixes_lie_within_each_other_stays_as_it_is(
    account: Account, other: Account, prefix: str
) -> None:
    account.deploy()
    share(account, other, bucket=prefix)
    other.deploy()
    before = account.objects()
    done = account.destroy(purge=True)
    assert f"the stack dynamodt-{other.name}" in why(done.kept, "bucket")
    assert account.objects() == before


def test_files_of_another_table_below_the_same_prefix_keep_the_bucket(account: Account) -> None:
    account.deploy()
    account.client("s3").put_object(
        Bucket=account.bucket, Key=f"below/runs/strange/{RUN}/dead-letters.jsonl", Body=b"1"
    )
    before = account.objects()
    assert "strange" in why(account.destroy(purge=True).kept, "bucket")
    assert account.objects() == before


@pytest.mark.parametrize("name", ["photos/1", "below-too/1", *in_chaos("a", "below", "zebra")])
def test_objects_outside_of_the_prefix_stay_and_keep_the_bucket(account: Account, name: str) -> None:
    account.deploy()
    account.client("s3").put_object(Bucket=account.bucket, Key=name, Body=b"1")
    done = account.destroy(purge=True)
    shown = f"{name.partition('/')[0]}/" if "/" in name else name
    assert account.objects() == {name} and f"not written: {shown}" in why(done.kept, "bucket")


def test_an_old_version_of_an_object_outside_of_the_prefix_keeps_the_bucket(account: Account) -> None:
    account.deploy()
    account.client("s3").put_object(Bucket=account.bucket, Key="photos/1", Body=b"1")
    account.client("s3").delete_object(Bucket=account.bucket, Key="photos/1")
    account.destroy(purge=True)
    assert account.bucket in buckets(account)


def begin_upload(account: Account, key: str) -> str:
    """An upload whose program has died after its first part; returns the upload's id."""
    s3 = account.client("s3")
    upload = str(s3.create_multipart_upload(Bucket=account.bucket, Key=key)["UploadId"])
    s3.upload_part(Bucket=account.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"1")
    return upload


def has_parts(account: Account, key: str, upload: str) -> bool:
    s3 = account.client("s3")
    try:
        return bool(s3.list_parts(Bucket=account.bucket, Key=key, UploadId=upload).get("Parts"))
    except s3.exceptions.ClientError:
        return False


def test_an_incomplete_upload_is_deleted_with_the_bucket(account: Account) -> None:
    account.deploy()
    upload = begin_upload(account, JAR)
    account.destroy(purge=True)
    assert account.bucket not in buckets(account) and not has_parts(account, JAR, upload)


def test_an_incomplete_upload_outside_of_the_prefix_keeps_the_bucket(account: Account) -> None:
    account.deploy()
    ours, twin = (begin_upload(account, JAR) for _ in range(2))
    anothers = begin_upload(account, "below-too/film")
    done = account.destroy(purge=True)
    assert "below-too/film" in why(done.kept, "bucket") and has_parts(account, "below-too/film", anothers)
    assert not any(has_parts(account, JAR, upload) for upload in (ours, twin))


# ---------------------------------------------------------------- what the stage has written, and nothing else

EXPORT, COMPANYS = "01767225600000-0a1b2c3d", "01767225600000-99999999"
FAILING = """
sequence = 1


def prepare(context):
    yield "country", "NL"


def transform_up(item, prepared):
    if item["id"] == "bad":
        raise ValueError("no")
    item["n"] = 1
    return item


def transform_down(item, prepared):
    del item["n"]
    return item
"""


def run_everything(account: Account) -> RunRecord:
    """Runs that store objects of every kind; returns the last one's record."""
    for name in ("1", "2", "bad"):
        account.client("dynamodb").put_item(TableName=account.table, Item={"id": {"S": name}})
    account.script(FAILING)
    stage, folder, recorder = account.stage, account.folder, ProgressRecorder()
    operations.prepare(stage, folder, account.table, 1, recorder)
    for options in (RunOptions(dry_run=True), RunOptions(max_errors=9)):
        operations.up(stage, folder, [account.table], None, options, recorder)
    (record,) = operations.history(stage, folder, [account.table])[account.table]
    operations.retry(stage, folder, [account.table], record.run, RunOptions(max_errors=9), recorder)
    account.client("dynamodb").put_item(TableName=account.table, Item={"id": {"S": "1"}, "n": {"N": "7"}})
    assert operations.undo(stage, folder, [account.table], record.run, RunOptions(), recorder).error is None
    return record


def put(account: Account, *names: str) -> None:
    for name in names:
        account.client("s3").put_object(Bucket=account.bucket, Key=name, Body=b"{}")


def at_the_root(account: Account) -> None:
    """The whole bucket is the stage's storage."""
    account.configure()
    file = account.folder / "dynamodt.toml"
    file.write_text(file.read_text().replace(f"{account.bucket}/below", account.bucket))


def test_all_objects_of_runs_are_deleted_with_the_bucket(account: Account) -> None:
    at_the_root(account)
    account.deploy()
    run = run_everything(account).run
    names = account.objects()
    for kind in ("journal/", "dead/", "retry1/dead/", "dead-letters.jsonl", "retries/", "undo1/not-restored/"):
        assert any(name.startswith(f"runs/{account.table}/{run}/{kind}") for name in names), kind
    assert {f"prepared/{account.table}/v1.json"} < names and any("/samples/" in name for name in names)
    done = account.destroy(purge=True)
    assert not why_all(done.kept, "bucket") and account.bucket not in buckets(account)


def test_with_the_whole_bucket_as_the_storage_foreign_objects_stay(account: Account) -> None:
    at_the_root(account)
    account.deploy()
    run = run_everything(account)
    put(account, f"AWSDynamoDB/{EXPORT}/_started", "AWSDynamoDB/data/ours.json.gz")
    listed = json.dumps({"dataFileS3Key": "AWSDynamoDB/data/ours.json.gz"}).encode()
    key = f"AWSDynamoDB/{EXPORT}/manifest-files.json"
    account.client("s3").put_object(Bucket=account.bucket, Key=key, Body=listed)
    state = operations.State(account.stage.connection, account.state_table)
    row = f"TABLE#{account.table}", f"RUN#{run.run}"
    requested = attributes(RunRecord, requested=(f"arn/export/{EXPORT}",))
    state.rows.put(row, {**(state.rows.get(row) or {}), **requested})
    strange = {
        "invoices/2024.pdf",
        "runs/2024/report.csv",
        f"runs/{account.table}/{RUN}/dead-letters.jsonl",  # of another history
        f"AWSDynamoDB/{COMPANYS}/_started",
        "AWSDynamoDB/data/theirs.json.gz",
        "assets/logo.png",
        f"x/runs/{account.table}/{run.run}/dead-letters.jsonl",  # of a storage within this one
    }
    put(account, *strange)
    rehearsed = account.destroy(purge=True, dry_run=True)
    done = account.destroy(purge=True)
    assert account.objects() == strange and done.kept == rehearsed.kept
    assert "invoices/" in why(done.kept, "bucket") and "and more" in why(done.kept, "bucket")
    assert account.state_table not in tables(account)
    assert account.destroy(purge=True).status == "nothing" and account.objects() == strange


def test_an_object_that_is_locked_stops_the_purge_and_says_until_when(account: Account) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket=account.bucket, ObjectLockEnabledForBucket=True)
    tag = {"Key": "dynamodt:stage", "Value": account.name}
    s3.put_bucket_tagging(Bucket=account.bucket, Tagging={"TagSet": [tag]})
    account.deploy()
    held = next(name for name in account.objects() if "/assets/" in name)
    s3.put_object_legal_hold(Bucket=account.bucket, Key=held, LegalHold={"Status": "ON"})
    with pytest.raises(ServiceError, match=held) as caught:
        account.destroy(purge=True)
    assert "legal hold" in caught.value.hint and account.state_table in tables(account)
    s3.put_object_legal_hold(Bucket=account.bucket, Key=held, LegalHold={"Status": "OFF"})
    account.destroy(purge=True)
    assert account.bucket not in buckets(account) and account.state_table not in tables(account)


# ---------------------------------------------------------------- what was found


def test_a_state_table_that_was_there_before_stays(account: Account) -> None:
    account.client("dynamodb").create_table(
        TableName=account.state_table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    account.deploy()
    done = account.destroy(purge=True)
    assert "no tag dynamodt:stage" in why(done.kept, "state table") and account.state_table in tables(account)


def test_a_key_created_by_others_stays_although_dynamodt_toml_no_longer_names_it(account: Account) -> None:
    key = account.client("kms").create_key()["KeyMetadata"]["Arn"]
    account.configure(stage_settings=f'kms_key = "{key}"')
    account.deploy()
    account.configure()
    done = account.destroy(purge=True)
    assert "no tag dynamodt:stage" in why(done.kept, "key") and key_state(account, key) == "Enabled"
    assert account.bucket not in buckets(account) and account.state_table not in tables(account)


def test_a_key_that_encrypts_a_table_of_the_application_stays(account: Account) -> None:
    key = account.deploy().outputs["KeyArn"]
    secret = f"secret-{account.name}"
    account.make_table(secret, key)
    account.script(table=secret)
    assert f"encrypts {secret}" in why(account.destroy(purge=True).kept, "key")
    assert key_state(account, key) == "Enabled"


@pytest.mark.parametrize("what", ["bucket", "state_table"])
def test_a_key_stays_while_the_stage_s_former_bucket_or_table_exists(account: Account, what: str) -> None:
    """The stage has got another bucket, or another state table; the key still encrypts the data in the former one."""
    key = account.deploy().outputs["KeyArn"]
    account.destroy()
    file, former = account.folder / "dynamodt.toml", getattr(account, what)
    before = file.read_text()
    file.write_text(before.replace(former, f"new-{former}"))
    account.deploy()
    rehearsed, done = account.destroy(purge=True, dry_run=True), account.destroy(purge=True)
    assert f" {former}" in why(done.kept, f"key {key}") and done.kept == rehearsed.kept
    assert key_state(account, key) == "Enabled" and former in tables(account) | buckets(account)
    file.write_text(before)
    account.destroy(purge=True)
    assert key_state(account, key) == "PendingDeletion" and former not in tables(account) | buckets(account)


def test_a_key_stays_where_the_tables_that_it_encrypts_cannot_be_listed(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> list[str]:
        raise ServiceError("ListTables was refused: AccessDeniedException")

    key = account.deploy().outputs["KeyArn"]
    monkeypatch.setattr(destroying, "list_tables", denied)
    assert "cannot be looked up" in why(account.destroy(purge=True).kept, "key")
    assert key_state(account, key) == "Enabled" and any("AccessDenied" in text for text in account.notes.texts)


def test_a_foreign_stack_of_the_same_name_is_left_alone(account: Account) -> None:
    cloudformation = account.client("cloudformation")
    body = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    cloudformation.create_stack(StackName=account.stack.name, TemplateBody=body)
    for command in (account.deploy, account.destroy):
        with pytest.raises(Refused, match="was not created by"):
            command()
    state = account.stack.state()
    assert state is not None and state.status == "CREATE_COMPLETE"


# ---------------------------------------------------------------- active runs


def test_an_active_run_prevents_destroy_whichever_project_created_the_state_table(
    account: Account, other: Account
) -> None:
    account.deploy()
    share(account, other, state_table=True)
    other.deploy()
    with (
        hold_lease(operations.State(other.stage.connection, other.stage.state_table).leases, other.table, "r", print),
        pytest.raises(Refused, match="a run is active"),
    ):
        other.destroy()
    assert other.job()


def test_a_starting_job_without_a_lease_prevents_destroy(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.deploy()
    monkeypatch.setattr(GlueJob, "active", lambda self: [JobRun("jr_1", "STARTING")])
    with pytest.raises(Refused, match="run jr_1") as refused:
        account.destroy(purge=True)
    assert "--job-run-ids jr_1 --region us-east-1 --endpoint-url http" in refused.value.hint
    assert account.job() and account.objects()


def silent(account: Account, table: str, ttl: float = 0.1) -> Lease:
    """A lease that was not released, of a holder on another machine. It ends after a tenth of a second without a
    heartbeat, and by this machine's clock it ended long ago."""
    leases = operations.State(account.stage.connection, account.stage.state_table).leases
    lease = new_lease(table, 1, "run-1", 1000.0)._replace(host="elsewhere", ttl=ttl)
    assert leases.take(lease, over=leases.read(table))
    return lease


@pytest.mark.parametrize("command", ["destroy", "purge"])
def test_a_run_with_a_slow_clock_is_active_while_it_beats(account: Account, command: str) -> None:
    account.deploy()
    lease = silent(account, account.table, ttl=30.0)

    def sign(_: float) -> None:
        leases = operations.State(account.stage.connection, account.stage.state_table).leases
        leases.beat(account.table, lease.token, 1005.0)

    with pytest.raises(Refused, match="a run is active"):
        remove(account, purge=command == "purge", sleep=sign)
    assert account.job() and account.objects()


def test_a_dead_run_does_not_prevent_destroy(account: Account) -> None:
    account.deploy()
    silent(account, account.table)
    assert len(remove(account, purge=True).removed) == 4


FAILS_AFTER_A_WRITE = """
sequence = 1


class TransformUp:
    def start_bundle(self):
        self.called = False

    def process(self, item):
        self.called = True
        yield {**item, "n": 1}

    def finish_bundle(self):
        assert not self.called
"""


def test_an_unfinished_run_that_has_written_prevents_a_purge(account: Account) -> None:
    account.deploy()
    account.script(FAILS_AFTER_A_WRITE)
    dynamodb = account.client("dynamodb")
    dynamodb.put_item(TableName=account.table, Item={"id": {"S": "1"}})
    run = migrate(account)
    for dry_run in (True, False):
        with pytest.raises(Refused, match=f"run {run}, failed; a purge deletes its checkpoints") as refused:
            account.destroy(purge=True, dry_run=dry_run)
    assert f"dynamodt up --table {account.table} --to 1; or undo it: dynamodt undo {run}" in refused.value.hint
    assert account.job() and account.objects()
    assert account.destroy().status == "destroyed"  # the data stays
    dynamodb.delete_table(TableName=account.table)
    assert account.state_table in why(account.destroy(purge=True).removed, "state table")


def migrate(account: Account) -> str:
    """The id of a run of `up`, however it ends."""
    options, observer = RunOptions(), ProgressRecorder()
    (report,) = operations.up(account.stage, account.folder, [account.table], None, options, observer)
    return report.versions[-1].run


def remove(account: Account, *, purge: bool, sleep: Callable[[float], None] = time.sleep) -> Removal:
    return destroy(account.project(), purge, sleep=sleep)


def test_a_stage_that_begins_to_use_the_state_table_during_destroy_keeps_it(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deploy()
    real = destroying.delete_stack

    def meanwhile(*words: Any) -> None:
        real(*words)
        silent(account, "orders")

    monkeypatch.setattr(destroying, "delete_stack", meanwhile)
    with pytest.raises(Refused, match="now used by orders"):
        remove(account, purge=True)
    assert account.state_table in tables(account) and account.objects()
    monkeypatch.undo()
    assert "orders" in why(remove(account, purge=True).kept, "state table")


def test_an_empty_stack_with_a_foreign_change_set_is_left_alone(account: Account) -> None:
    cloudformation = account.client("cloudformation")
    body = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    cloudformation.create_change_set(
        StackName=account.stack.name, ChangeSetName="anothers", ChangeSetType="CREATE", TemplateBody=body
    )
    done = account.destroy(purge=True)
    assert "another program" in why(done.kept, "stack") and not why_all(done.removed, "stack")
    for dry_run in (True, False):
        with pytest.raises(Refused, match="another program: anothers") as caught:
            account.deploy(dry_run)
        assert f"delete-change-set --stack-name {account.stack.name}" in caught.value.hint
    state = account.stack.state()
    assert state is not None and state.status == "REVIEW_IN_PROGRESS" and account.stack.change_sets() == ["anothers"]


def why_all(texts: tuple[str, ...], kind: str) -> list[str]:
    return [text for text in texts if text.startswith(kind)]


# ---------------------------------------------------------------- interrupted


STEPS = ("delete_objects", "delete_table", "schedule_deletion", "delete_bucket")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Callable[[], Any]], None]]:
    def run(step: str, command: Callable[[], Any]) -> None:
        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            module = "destroy" if step == "delete_table" else "buckets"
            patched.setattr(f"dynamodt.deploy.{module}.{step}", stop)
            command()

    yield run


@pytest.mark.parametrize(
    ("step", "found_bucket"),
    [*((step, False) for step in STEPS), ("schedule_deletion", True), *in_chaos(("delete_table", True))],
)
def test_an_interrupted_purge_is_finished_by_the_same_command(
    account: Account, interrupted: Callable[[str, Callable[[], Any]], None], step: str, found_bucket: bool
) -> None:
    if found_bucket:
        account.client("s3").create_bucket(Bucket=account.bucket)
    key = account.deploy().outputs["KeyArn"]
    interrupted(step, lambda: account.destroy(purge=True))
    account.destroy(purge=True)
    assert account.state_table not in tables(account) and key_state(account, key) == "PendingDeletion"
    assert (account.bucket in buckets(account)) is found_bucket
    assert account.destroy(purge=True).status == "nothing"


def test_a_plan_that_differs_from_the_confirmed_one_deletes_nothing(account: Account) -> None:
    account.deploy()
    agreed = account.destroy(purge=True, dry_run=True)
    account.client("s3").put_object(Bucket=account.bucket, Key="photos/1", Body=b"1")
    with pytest.raises(Refused, match="have changed"):
        destroy(account.project(), purge=True, agreed=agreed)
    assert account.job() and account.bucket in buckets(account)


def test_without_purge_the_remaining_resources_are_listed(account: Account) -> None:
    account.client("s3").create_bucket(Bucket=account.bucket)
    account.deploy()
    done = account.destroy()
    assert "only --purge" in why(done.kept, "state table") and "no tag dynamodt:stage" in why(done.kept, "bucket")
    assert "only --purge" in why(done.kept, "key")


def test_a_state_table_that_is_protected_against_deletion_prevents_a_purge(account: Account) -> None:
    """Its deletion comes after that of the stack and of the objects, which would be lost."""
    account.deploy()
    there = account.objects()
    dynamodb = account.client("dynamodb")
    dynamodb.update_table(TableName=account.state_table, DeletionProtectionEnabled=True)
    for dry_run in (True, False):
        with pytest.raises(Refused, match="protected against deletion") as caught:
            account.destroy(purge=True, dry_run=dry_run)
        assert "--no-deletion-protection-enabled" in caught.value.hint
    assert account.objects() == there
    account.destroy()  # keeps the table
    dynamodb.update_table(TableName=account.state_table, DeletionProtectionEnabled=False)
    account.destroy(purge=True)
    assert account.state_table not in dynamodb.list_tables()["TableNames"]
