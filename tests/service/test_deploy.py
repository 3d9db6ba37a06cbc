"""infra/template.yaml deployed to an emulated account, changed, and taken down: the stack is really made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamodt.cli import app as cli
from dynamodt.deploy import deploy as deploying
from dynamodt.deploy.packages import job_locks, job_pins
from dynamodt.deploy.stacks import Stack
from dynamodt.errors import Refused, RunFailed, UsageError
from dynamodt.runs.lock import hold_lease
from dynamodt.state.state import State
from tests.service.account import SCRIPT, Account
from tests.service.account import Notes as Notes

# ---------------------------------------------------------------- deploying


def test_a_first_deploy_creates_all_resources(account: Account) -> None:
    made = account.deploy()
    assert made.status == "created" and made.outputs["StorageUrl"] == f"s3://{account.bucket}/below/"
    job, prepare = account.job(), account.job("-prepare")
    assert (job["GlueVersion"], job["WorkerType"], int(job["NumberOfWorkers"])) == ("5.1", "G.1X", 10)
    arguments = job["DefaultArguments"]
    assert (arguments["--stage"], arguments["--command"]) == (account.name, "up")
    for url in (job["Command"]["ScriptLocation"], prepare["Command"]["ScriptLocation"]):
        assert account.exists(url)
    wheel, *pins = arguments["--additional-python-modules"].split(",")
    for url in (arguments["--project"], wheel, arguments["--extra-jars"]):
        assert account.exists(url), url
    assert pins == job_pins(job_locks()) and "--python-modules-installer-option" not in arguments
    assert job["Role"] == made.outputs["JobRoleArn"]
    dynamodb = account.client("dynamodb")
    key = dynamodb.describe_table(TableName=account.state_table)["Table"]["KeySchema"]
    assert [element["AttributeName"] for element in key] == ["pk", "sk"]


@pytest.fixture
def hundred(account: Account) -> Iterator[Account]:
    """A project of a hundred tables, which are more than the role's own policies can name."""
    names = [f"t{number:02}-{account.name}".ljust(40, "x") for number in range(99)]
    for name in names:
        account.make_table(name)
        account.script(table=name)
    yield account
    for name in names:  # a list of the account's tables has a hundred on a page
        account.client("dynamodb").delete_table(TableName=name)


def test_a_hundred_tables_are_deployed_and_one_more_changes_no_policy_of_the_others(hundred: Account) -> None:
    account = hundred
    made = account.deploy()
    iam = account.client("iam")

    def named() -> list[set[str]]:
        role = made.outputs["JobRoleArn"].rpartition("/")[2]
        attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        documents = [iam.get_role_policy(RoleName=role, PolicyName="tables")["PolicyDocument"]]
        for one in attached:
            version = iam.get_policy(PolicyArn=one["PolicyArn"])["Policy"]["DefaultVersionId"]
            found = iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId=version)["PolicyVersion"]
            documents.append(found["Document"])
        return [set(_resources(document, "NamedTables")) for document in documents]

    before = named()
    assert len(before) >= 3 and sum(map(len, before)) == len(set().union(*before)) == 100
    account.make_table(f"a-{account.name}")
    account.script(table=f"a-{account.name}")
    account.deploy()
    after = named()
    assert len(set().union(*after)) == 101 and all(any(one <= other for other in after) for one in before)


def _resources(document: Any, sid: str) -> list[str]:
    statements = (document if isinstance(document, dict) else json.loads(document))["Statement"]
    return next(
        [one["Resource"]] if isinstance(one["Resource"], str) else one["Resource"]
        for one in statements
        if one["Sid"] == sid
    )


def test_commands_of_the_stage_use_the_deployed_resources(account: Account) -> None:
    """The state table and the bucket are those that the commands of the stage use."""
    account.deploy()
    state = State(account.stage.connection, account.stage.state_table)
    assert state.runs(account.table) == []
    with hold_lease(state.leases, account.table, "run-1", account.notes.notify) as lease:
        assert state.leases.read(account.table).token == lease.token


def test_a_second_deploy_changes_nothing(account: Account) -> None:
    account.deploy()
    before, told = account.objects(), len(account.notes.texts)
    again = account.deploy()
    assert (again.status, again.changes) == ("unchanged", ())
    assert account.objects() == before
    assert not any("_COMPLETE" in text for text in account.notes.texts[told:])


def test_a_changed_script_changes_the_jobs_and_keeps_earlier_assets(account: Account) -> None:
    account.deploy()
    old = account.job()["DefaultArguments"]["--project"]
    account.script(SCRIPT.replace("return item", "return {**item, 'x': 1}"))
    again = account.deploy()
    assert again.status == "updated" and {change.resource for change in again.changes} == {"MigrateJob", "PrepareJob"}
    new = account.job()["DefaultArguments"]["--project"]
    assert new != old and account.exists(new) and account.exists(old)


def test_deploy_settings_reach_the_job(account: Account) -> None:
    account.configure('workers = 33\nworker_type = "G.2X"\nflex = true\ntimeout_minutes = 60\nmax_concurrent_runs = 7')
    account.deploy()
    job = account.job()
    assert (job["WorkerType"], int(job["NumberOfWorkers"]), int(job["Timeout"])) == ("G.2X", 33, 60)
    assert (job["ExecutionClass"], int(job["ExecutionProperty"]["MaxConcurrentRuns"])) == ("FLEX", 7)


def test_packages_come_from_the_bucket_where_no_index_is_reached(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "0.gluewheels.zip"
    archive.write_bytes(b"zip")
    monkeypatch.setattr("dynamodt.deploy.packages.zip_of_wheels", lambda note, locks: archive)
    account.configure('packages = "wheels"')
    account.deploy()
    for arguments in (account.job()["DefaultArguments"], account.job("-prepare")["DefaultArguments"]):
        assert arguments["--additional-python-modules"].endswith("/0.gluewheels.zip")
        assert account.exists(arguments["--additional-python-modules"])
        assert arguments["--python-modules-installer-option"] == "--no-index"
    account.configure()
    account.deploy()
    assert "--python-modules-installer-option" not in account.job()["DefaultArguments"]


def test_a_dry_run_changes_nothing_and_leaves_nothing(account: Account) -> None:
    rehearsed = account.deploy(dry_run=True)
    assert rehearsed.status == "dry-run"
    assert {"Storage", "State", "MigrateJob"} <= {change.resource for change in rehearsed.changes}
    assert account.stack.state() is None
    buckets = account.client("s3").list_buckets()["Buckets"]
    assert account.bucket not in {bucket["Name"] for bucket in buckets}


def test_a_dry_run_of_a_change(account: Account) -> None:
    account.deploy()
    account.configure("workers = 5")
    rehearsed = account.deploy(dry_run=True)
    assert [(change.action, change.resource) for change in rehearsed.changes] == [("Modify", "MigrateJob")]
    assert int(account.job()["NumberOfWorkers"]) == 10


def test_no_automatic_start_exists_by_default(account: Account) -> None:
    account.deploy()
    triggers = account.client("glue").get_triggers()["Triggers"]
    assert not [trigger for trigger in triggers if account.name in trigger["Name"]]
    rules = account.client("events").list_rules(NamePrefix=f"dynamodt-{account.name}")["Rules"]
    assert [rule["Name"] for rule in rules] == [f"dynamodt-{account.name}-run-failed"]


def test_a_schedule_and_the_application_s_stacks_start_the_job(account: Account) -> None:
    cloudformation = account.client("cloudformation")
    application = f"shop-{account.name}"
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    cloudformation.create_stack(StackName=application, TemplateBody=body)
    account.configure(f'schedule = "cron(0 3 * * ? *)"\napplication_stacks = ["{application}"]')
    account.deploy()
    triggers = {trigger["Name"]: trigger for trigger in account.client("glue").get_triggers()["Triggers"]}
    schedule = triggers[f"dynamodt-{account.name}-schedule"]
    assert (schedule["Schedule"], schedule["State"]) == ("cron(0 3 * * ? *)", "ACTIVATED")
    on_event = triggers[f"dynamodt-{account.name}-after-deploy"]
    assert on_event["Type"] == "EVENT" and on_event["Actions"] == schedule["Actions"]
    assert schedule["Actions"] == [{"JobName": f"dynamodt-{account.name}", "Arguments": {"--automatic": "true"}}]
    rule = account.client("events").describe_rule(Name=f"dynamodt-{account.name}-application-updated")
    found = Stack(account.stage.connection, application).state()
    assert found is not None and json.loads(rule["EventPattern"])["detail"]["stack-id"] == [found.id]


def test_a_missing_stack_of_the_application_is_refused(account: Account) -> None:
    account.configure('application_stacks = ["shop"]')
    with pytest.raises(UsageError, match="there is no stack shop"):
        account.deploy()
    assert account.stack.state() is None


def test_the_role_is_for_the_named_tables_alone(account: Account) -> None:
    target = f"target-{account.name}"
    account.make_table(target)
    account.script(SCRIPT.replace("sequence = 1", f'sequence = 1\nTARGET_TABLE = "{target}"'))
    made = account.deploy()
    role = made.outputs["JobRoleArn"].rpartition("/")[2]
    iam = account.client("iam")
    policy = iam.get_role_policy(RoleName=role, PolicyName="tables")["PolicyDocument"]
    named, exports, state, keys = policy["Statement"]
    base = "arn:aws:dynamodb:us-east-1:000000000000:table"
    assert named["Resource"] == [f"{base}/{target}", f"{base}/{account.table}"]
    assert exports["Resource"] == [f"{base}/{target}/*", f"{base}/{account.table}/*"]
    assert state["Resource"] == f"{base}/{account.state_table}"
    assert keys["Resource"] == [made.outputs["KeyArn"]]
    files = iam.get_role_policy(RoleName=role, PolicyName="files")["PolicyDocument"]["Statement"]
    assert files[0]["Resource"] == f"arn:aws:s3:::{account.bucket}/below/*"
    assert files[2]["Resource"] == made.outputs["KeyArn"]


def test_the_role_may_use_the_kms_key_of_a_table(account: Account) -> None:
    secret, key = f"secret-{account.name}", account.client("kms").create_key()["KeyMetadata"]["Arn"]
    account.make_table(secret, key)
    account.script(table=secret)
    made = account.deploy()
    role = made.outputs["JobRoleArn"].rpartition("/")[2]
    policy = account.client("iam").get_role_policy(RoleName=role, PolicyName="tables")["PolicyDocument"]
    assert policy["Statement"][3]["Resource"] == [made.outputs["KeyArn"], key]


def test_a_missing_table_is_refused(account: Account) -> None:
    account.script(table="nobody")
    with pytest.raises(UsageError, match="there is no table nobody"):
        account.deploy()
    assert account.stack.state() is None


def test_a_bucket_that_exists_is_used_and_stays_as_it_is(account: Account) -> None:
    account.client("s3").create_bucket(Bucket=account.bucket)
    account.client("s3").put_object(Bucket=account.bucket, Key="mine", Body=b"x")
    made = account.deploy()
    assert made.status == "created" and "Storage" not in account.stack.resources()
    assert account.exists(account.job()["DefaultArguments"]["--project"])
    gone = account.destroy(purge=True)
    assert not any("bucket" in one for one in gone.removed)
    assert account.exists("mine")


def test_a_key_that_exists_is_used(account: Account) -> None:
    key = account.client("kms").create_key()["KeyMetadata"]["Arn"]
    account.client("kms").create_alias(AliasName=f"alias/{account.name}", TargetKeyId=key)
    account.configure(stage_settings=f'kms_key = "alias/{account.name}"')
    made = account.deploy()
    assert made.outputs["KeyArn"] == key and "Key" not in account.stack.resources()
    assert account.deploy().status == "unchanged"


def test_a_setting_that_names_the_stack_s_own_key_changes_nothing(account: Account) -> None:
    own = account.deploy().outputs["KeyArn"]
    account.configure(stage_settings=f'kms_key = "{own}"')
    account.deploy()
    assert "Key" in account.stack.resources()


def test_the_stack_of_another_project_is_left_alone(account: Account) -> None:
    account.deploy()
    text = (account.folder / "dynamodt.toml").read_text()
    (account.folder / "dynamodt.toml").write_text(text.replace("/below", "/elsewhere"))
    with pytest.raises(Refused, match=f"s3://{account.bucket}/below/"):
        account.deploy()
    with pytest.raises(Refused):
        account.destroy()


# ---------------------------------------------------------------- when it goes wrong


def test_a_failed_deploy_names_the_resource_and_the_reason_and_can_be_repeated(account: Account) -> None:
    glue = account.client("glue")
    account.client("s3").create_bucket(Bucket=account.bucket)  # so that the jobs are in the first change set
    job = {"Role": "r", "Command": {"Name": "glueetl", "ScriptLocation": "s3://x/y"}}
    glue.create_job(Name=f"dynamodt-{account.name}", **job)
    with pytest.raises(RunFailed) as caught:
        account.deploy()
    assert "MigrateJob (AWS::Glue::Job)" in caught.value.what and "already exists" in caught.value.what
    state = account.stack.state()
    assert state is not None and state.status == "ROLLBACK_COMPLETE"
    with pytest.raises(Refused, match="its creation has failed"):
        account.deploy(dry_run=True)
    glue.delete_job(JobName=f"dynamodt-{account.name}")
    assert account.deploy().status == "created"
    assert any("deleting the stack whose creation has failed" in text for text in account.notes.texts)


def test_a_failed_update_is_reported(account: Account) -> None:
    account.deploy()
    glue = account.client("glue")
    glue.create_trigger(Name=f"dynamodt-{account.name}-schedule", Type="SCHEDULED", Actions=[])
    account.configure('schedule = "cron(0 3 * * ? *)"')
    with pytest.raises(RunFailed, match="OnSchedule") as caught:
        account.deploy()
    assert "UPDATE_ROLLBACK_COMPLETE" in caught.value.what
    glue.delete_trigger(Name=f"dynamodt-{account.name}-schedule")
    assert account.deploy().status == "updated"


# ---------------------------------------------------------------- the state alone


@pytest.mark.parametrize("first", [True, False])
def test_a_deploy_that_was_overtaken_by_another_one_changes_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    if not first:
        account.deploy()
    real = deploying.parts

    def meanwhile(*arguments: Any) -> Any:
        """The other one, while this one builds its parts."""
        monkeypatch.setattr(deploying, "parts", real)
        account.configure("workers = 7")
        account.deploy()
        return real(*arguments)

    monkeypatch.setattr(deploying, "parts", meanwhile)
    with pytest.raises(Refused, match="another deployment has changed the stack") as refused:
        account.deploy()
    assert "run the same command again" in refused.value.hint
    assert int(account.job()["NumberOfWorkers"]) == 7
    assert account.deploy().status == "unchanged"


def test_state_only_needs_neither_tables_nor_the_jar_and_can_become_a_full_deployment(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.configure('alarm_email = "team@example.com"\nschedule = "cron(0 3 * * ? *)"')
    kept = account.folder / "transforms"
    kept.rename(account.folder / "elsewhere")
    jar = os.environ["DYNAMODT_SPARK_JAR"]
    monkeypatch.setenv("DYNAMODT_SPARK_JAR", "/no/such/jar")
    assert account.deploy(dry_run=True, state_only=True).status == "dry-run" and account.stack.state() is None
    made = account.deploy(state_only=True)
    assert made.status == "created" and set(made.outputs) == {"StorageUrl", "KeyArn"}
    lasting = {"Key", "KeyAlias", "Storage", "StoragePolicy", "State"}
    assert set(account.stack.resources()) == lasting and account.objects() == set()
    assert State(account.stage.connection, account.stage.state_table).runs(account.table) == []
    assert account.deploy(state_only=True).status == "unchanged"
    (account.folder / "elsewhere").rename(kept)
    monkeypatch.setenv("DYNAMODT_SPARK_JAR", jar)
    whole = account.deploy()
    assert whole.status == "updated" and whole.outputs["KeyArn"] == made.outputs["KeyArn"]
    assert account.job()["Role"] and lasting < set(account.stack.resources())
    with pytest.raises(Refused, match="--state-only would remove") as caught:
        account.deploy(state_only=True)
    assert "destroy" in caught.value.hint and account.job()


def test_a_state_only_deployment_can_be_removed(account: Account) -> None:
    account.deploy(state_only=True)
    gone = account.destroy()
    assert gone.status == "destroyed" and [one.split()[0] for one in gone.kept] == ["bucket", "state", "key"]
    assert account.deploy(state_only=True).status == "unchanged" and account.stack.state() is None, "all three exist"
    gone = account.destroy(purge=True)
    assert [one.split()[0] for one in gone.removed] == ["bucket", "state", "key"] and gone.kept == ()
    account.deploy(state_only=True)
    gone = account.destroy(purge=True)
    assert len(gone.removed) == 4 and gone.kept == ()


# ---------------------------------------------------------------- destroying


def test_destroy_keeps_the_data_and_the_next_deploy_uses_it(account: Account) -> None:
    made = account.deploy()
    objects = account.objects()
    gone = account.destroy()
    assert gone.status == "destroyed" and gone.removed == (f"stack {account.stack.name}",)
    assert [one.split()[0] for one in gone.kept] == ["bucket", "state", "key"]
    assert account.stack.state() is None and account.objects() == objects
    with pytest.raises(account.client("glue").exceptions.EntityNotFoundException):
        account.job()
    again = account.deploy()
    assert again.status == "created" and again.outputs["KeyArn"] == made.outputs["KeyArn"]
    assert account.objects() == objects


def test_purge_leaves_nothing(account: Account) -> None:
    key = account.deploy().outputs["KeyArn"]
    twice = f"below/assets/{'0' * 64}/twice"
    account.client("s3").put_object(Bucket=account.bucket, Key=twice, Body=b"1")
    account.client("s3").put_object(Bucket=account.bucket, Key=twice, Body=b"2")
    gone = account.destroy(purge=True)
    assert len(gone.removed) == 4 and gone.kept == ()
    cancel = f"to cancel: aws kms cancel-key-deletion --key-id {key} --region us-east-1"
    assert cancel in account.notes.texts[-1]
    assert account.bucket not in {bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]}
    assert account.state_table not in account.client("dynamodb").list_tables()["TableNames"]
    assert account.table in account.client("dynamodb").list_tables()["TableNames"]
    assert account.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"
    assert account.destroy(purge=True).status == "nothing"


def test_resources_kept_by_destroy_can_be_purged_later(account: Account) -> None:
    account.deploy()
    account.destroy()
    gone = account.destroy(purge=True)
    assert [one.split()[0] for one in gone.removed] == ["bucket", "state", "key"]
    assert account.state_table not in account.client("dynamodb").list_tables()["TableNames"]


def test_a_dry_run_of_destroy(account: Account) -> None:
    account.deploy()
    planned = account.destroy(purge=True, dry_run=True)
    assert planned.status == "dry-run" and len(planned.removed) == 4
    assert account.job() and account.objects()


# ---------------------------------------------------------------- as it is typed


def test_deploy_and_destroy_by_the_command_line(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(account.folder)
    assert cli.main(["deploy", "--stage", account.name]) == 0
    shown = capsys.readouterr()
    assert f"dynamodt-{account.name}  is deployed" in shown.out and "AWS::S3::Bucket  CREATE_COMPLETE" in shown.err
    assert f"dynamodt up --stage {account.name} --runner glue" in shown.out
    assert cli.main(["deploy", "--stage", account.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "unchanged"
    assert cli.main(["destroy", "--stage", account.name]) == 2
    assert "--yes" in capsys.readouterr().err
    assert account.job()
    assert cli.main(["destroy", "--stage", account.name, "--yes"]) == 0
    shown = capsys.readouterr()
    assert "stays  bucket" in shown.out and "--purge" in shown.out
    assert cli.main(["destroy", "--stage", account.name, "--yes", "--purge", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["removed"]) == 3


def test_a_deploy_of_the_stage_local_is_refused(monkeypatch: pytest.MonkeyPatch, account: Account) -> None:
    monkeypatch.chdir(account.folder)
    assert cli.main(["deploy"]) == 2
