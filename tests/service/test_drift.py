"""A deploy deletes nothing: resources deleted by hand are named and recreated, those of others stay unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynamodt.deploy import resources
from dynamodt.deploy.buckets import OwnObjects, delete_bucket, delete_objects
from dynamodt.deploy.glue_runs import GlueJob, JobRun
from dynamodt.dynamodb.clients import client
from dynamodt.errors import Refused, UsageError
from dynamodt.model.tables import Connection
from tests.service.account import Account

CRON = 'schedule = "cron(0 3 * * ? *)"'


def noted(account: Account, text: str) -> bool:
    return any(text in note for note in account.notes.texts)


def tables(account: Account) -> list[str]:
    return list(account.client("dynamodb").list_tables()["TableNames"])


def role_tables(account: Account) -> list[str]:
    role = account.stage and account.stack.resources()["JobRole"]
    policy = account.client("iam").get_role_policy(RoleName=role, PolicyName="tables")["PolicyDocument"]
    return [arn.rpartition("/")[2] for arn in policy["Statement"][0]["Resource"]]


def lose_bucket(account: Account) -> None:
    delete_objects(account.stage.connection, OwnObjects(*resources.bucket_of(account.stage)), print)
    delete_bucket(account.stage.connection, account.bucket)


# ---------------------------------------------------------------- deleted by hand


def test_a_deleted_state_table_is_named_and_recreated(account: Account) -> None:
    account.deploy()
    account.client("dynamodb").delete_table(TableName=account.state_table)
    again = account.deploy()
    assert account.state_table in tables(account) and "State" in account.stack.resources()
    assert "State" in {change.resource for change in again.changes} and again.status == "updated"
    assert noted(account, f"the state table {account.state_table} was deleted by hand") and noted(account, "stamp")
    assert account.job() and account.deploy().status == "unchanged"


def test_a_deleted_state_table_that_the_stack_did_not_create_is_named_too(account: Account) -> None:
    account.deploy()
    account.destroy()
    account.deploy()
    account.client("dynamodb").delete_table(TableName=account.state_table)
    account.deploy()
    assert account.state_table in tables(account) and noted(account, "was deleted by hand, with the history")


def test_a_deleted_state_table_with_a_backup_is_not_recreated(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deploy()
    account.client("dynamodb").delete_table(TableName=account.state_table)
    monkeypatch.setattr(resources, "latest_backup", lambda *_: "arn:aws:dynamodb:::backup/1")
    with pytest.raises(Refused, match="with the history") as caught:
        account.deploy()
    assert "restore-table-from-backup" in caught.value.hint and "arn:aws:dynamodb:::backup/1" in caught.value.hint
    assert account.state_table not in tables(account) and account.job()


def test_a_deleted_state_table_is_not_recreated_if_runs_start_automatically(account: Account) -> None:
    """The next start would find no version applied, and apply all of them again."""
    account.configure(CRON)
    account.deploy()
    account.client("dynamodb").delete_table(TableName=account.state_table)
    with pytest.raises(Refused, match="would apply all") as caught:
        account.deploy()
    assert "dynamodt stamp" in caught.value.hint and account.state_table not in tables(account)


@pytest.mark.parametrize("found_first", [False, True])
def test_a_deleted_bucket_is_recreated_and_no_job_is_deleted(account: Account, found_first: bool) -> None:
    if found_first:
        account.client("s3").create_bucket(Bucket=account.bucket)
    account.deploy()
    lose_bucket(account)
    deleted: list[str] = []
    again = account.deploy()
    removed = [change for change in again.changes if change.action == "Remove"]
    assert not removed and not deleted and noted(account, f"the bucket {account.bucket} was deleted by hand")
    assert not noted(account, "MigrateJob  AWS::Glue::Job  DELETE")
    assert account.exists(account.job()["DefaultArguments"]["--project"])
    assert account.deploy().status == "unchanged"


@pytest.mark.parametrize("suffix", ["", "-prepare"])
def test_a_deleted_job_is_recreated(account: Account, suffix: str) -> None:
    account.configure(CRON)
    account.deploy()
    account.client("glue").delete_job(JobName=f"dynamodt-{account.name}{suffix}")
    again = account.deploy()
    assert account.job() and account.job("-prepare") and again.status == "updated"
    assert noted(account, "Job of dynamodt-") and noted(account, "was deleted by hand: recreating it")
    assert account.client("glue").get_trigger(Name=f"dynamodt-{account.name}-schedule")
    assert account.deploy().status == "unchanged"


def test_a_deleted_job_is_not_recreated_while_the_other_job_is_running(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deploy()
    account.client("glue").delete_job(JobName=f"dynamodt-{account.name}")
    monkeypatch.setattr(GlueJob, "active", lambda self: [JobRun("jr_1", "RUNNING")] if "prepare" in self.name else [])
    with pytest.raises(Refused, match="jr_1"):
        account.deploy()
    assert account.job("-prepare")


def test_all_resources_deleted_at_once_are_recreated(account: Account) -> None:
    account.deploy()
    lose_bucket(account)
    account.client("dynamodb").delete_table(TableName=account.state_table)
    account.client("glue").delete_job(JobName=f"dynamodt-{account.name}")
    account.deploy()
    assert account.job() and account.objects() and account.state_table in tables(account)
    assert account.deploy().status == "unchanged"


def test_a_dry_run_names_deleted_resources_and_recreates_none(account: Account) -> None:
    account.deploy()
    account.client("glue").delete_job(JobName=f"dynamodt-{account.name}")
    rehearsed = account.deploy(dry_run=True)
    assert ("Add", "MigrateJob") in {(change.action, change.resource) for change in rehearsed.changes}
    with pytest.raises(account.client("glue").exceptions.EntityNotFoundException):
        account.job()


def test_a_resource_that_a_deploy_cannot_recreate_is_refused_with_a_hint(account: Account) -> None:
    account.deploy()
    topic = account.stack.resources()["Alarms"]
    account.client("sns").delete_topic(TopicArn=topic)
    with pytest.raises(Refused, match=topic) as caught:
        account.deploy()
    assert "dynamodt destroy" in caught.value.hint  # the command line adds the stage
    account.destroy()
    assert account.deploy().status == "created"


def test_a_key_pending_deletion_is_refused(account: Account) -> None:
    key = account.deploy().outputs["KeyArn"]
    account.client("kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    with pytest.raises(Refused, match="PendingDeletion") as caught:
        account.deploy()
    assert "cancel-key-deletion" in caught.value.hint


# ---------------------------------------------------------------- another's


def test_a_second_project_with_the_same_stage_does_not_drop_the_tables_of_the_first(
    account: Account, tmp_path: Path
) -> None:
    account.deploy()
    other = Account(tmp_path / "other", account.endpoint, account.name)
    other.folder.mkdir()
    other.make_table(f"orders-{account.name}")
    other.script(table=f"orders-{account.name}")
    other.configure()
    for command in (other.deploy, lambda: other.deploy(dry_run=True), other.destroy):
        with pytest.raises(Refused) as caught:
            command()
        assert account.table in caught.value.what and f"orders-{account.name}" in caught.value.what
        assert str(other.folder) in caught.value.what
    assert role_tables(account) == [account.table]


def test_a_deleted_table_is_removed_from_the_role_and_a_new_one_added(account: Account) -> None:
    more = f"more-{account.name}"
    account.make_table(more)
    account.script(table=more)
    account.deploy()
    assert role_tables(account) == sorted([more, account.table])
    account.client("dynamodb").delete_table(TableName=more)
    (account.folder / "transforms" / more / "v1_first.py").unlink()
    (account.folder / "transforms" / more).rmdir()
    assert account.deploy().status == "updated" and role_tables(account) == [account.table]


def test_the_failed_stack_of_another_project_is_left_alone(account: Account) -> None:
    glue = account.client("glue")
    account.client("s3").create_bucket(Bucket=account.bucket)
    job = {"Role": "r", "Command": {"Name": "glueetl", "ScriptLocation": "s3://x/y"}}
    glue.create_job(Name=f"dynamodt-{account.name}", **job)
    with pytest.raises(Exception, match="ROLLBACK_COMPLETE"):
        account.deploy()
    glue.delete_job(JobName=f"dynamodt-{account.name}")
    text = (account.folder / "dynamodt.toml").read_text()
    (account.folder / "dynamodt.toml").write_text(text.replace("/below", "/elsewhere"))
    with pytest.raises(Refused, match="another project"):
        raise_hint(account)
    state = account.stack.state()
    assert state is not None and state.status == "ROLLBACK_COMPLETE"


def raise_hint(account: Account) -> None:
    try:
        account.deploy()
    except Refused as error:
        raise Refused(error.hint) from error


def test_a_bucket_in_another_region_is_an_error_at_once(account: Account) -> None:
    west = Connection("eu-west-1", account.endpoint.url, access_key="local", secret_key="local")
    client(west, "s3").create_bucket(
        Bucket=account.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    with pytest.raises(UsageError, match="is in eu-west-1") as caught:
        account.deploy()
    assert caught.value.where == f"bucket {account.bucket}" and account.stack.state() is None


def test_too_many_tables_are_refused_before_cloudformation_is_called(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodt.deploy.resources.ROLE_POLICIES", 100)
    monkeypatch.setattr("dynamodt.deploy.resources.MANAGED_POLICY", 100)
    monkeypatch.setattr("dynamodt.deploy.stacks.Stack.state", asked)
    with pytest.raises(UsageError, match="IAM takes 100"):
        account.deploy()


def asked(*_: Any) -> None:
    raise AssertionError("CloudFormation was asked")
