"""`make deploy`, as it is typed in a clone, to an emulated account."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamodt.dynamodb.clients import client
from tests.e2e.project import Project
from tests.emulators import deployable_ministack

USERS = {"AttributeName": "id", "KeyType": "HASH"}


def test_deploy_and_destroy(project: Project, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    jar = tmp_path / "beam-spark.jar"  # only a job reads its content; no job runs here
    jar.write_bytes(b"jar")
    with deployable_ministack(tmp_path_factory.mktemp("account")) as account:
        environment = {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL": account.url,
            "DYNAMODT_SPARK_JAR": str(jar),
        }
        with (project.folder / "dynamodt.toml").open("a") as file:
            file.write('\n[stages.prod]\nregion = "us-east-1"\nstorage = "s3://files-of-prod/dynamodt"\n')
        missing = project.sh("make deploy STAGE=prod", **environment)
        assert missing.returncode == 2 and "there is no table users" in missing.stderr
        account.client.create_table(
            TableName="users",
            KeySchema=[USERS],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        first = project.sh("make deploy STAGE=prod", **environment)
        assert first.returncode == 0, first.stderr
        assert "dynamodt-prod  is deployed" in first.stdout and "RUNNER=glue" in first.stdout
        assert "Storage  AWS::S3::Bucket  CREATE_COMPLETE" in first.stderr
        second = project.sh("make deploy STAGE=prod", **environment)
        assert second.returncode == 0 and "Nothing to do" in second.stdout
        job = client(account.connection, "glue").get_job(JobName="dynamodt-prod")["Job"]
        assert job["DefaultArguments"]["--project"].startswith("s3://files-of-prod/dynamodt/assets/")
        status = json.loads(project.sh("dynamodt status --stage prod --json", **environment).stdout)
        assert [version["state"] for version in status["tables"][0]["versions"]] == ["pending"] * 4
        gone = project.sh("dynamodt destroy --stage prod --purge --yes --json", **environment)
        assert gone.returncode == 0 and len(json.loads(gone.stdout)["removed"]) == 4, gone.stderr
        assert account.client.list_tables()["TableNames"] == ["users"]
