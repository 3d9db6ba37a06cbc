"""dynamodt as pip installs it, without a clone: it deploys, and has the sources of the jar."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import ROOT
from tests.e2e.project import Project
from tests.emulators import deployable_ministack

WHERE = "from dynamodt.pipeline.spark_context import cached_jar; print(cached_jar())"


def test_an_installed_package_deploys(
    installed: Project, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The jar is taken for built: its place is in the user's cache, under the hash of the pom that was installed."""
    where = installed.sh(f'python -c "{WHERE}"', XDG_CACHE_HOME=str(tmp_path))
    jar = Path(where.stdout.strip())
    assert jar.parent == tmp_path / "dynamodt" / "jars", where.stderr
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"jar")
    installed.script("users", 1, "touch", "def transform_up(item):\n    return item\n")
    (installed.folder / "dynamodt.toml").write_text(
        '[stages.prod]\nregion = "us-east-1"\nstorage = "s3://files-of-prod/dynamodt"\n'
    )
    with deployable_ministack(tmp_path_factory.mktemp("account")) as account:
        account.client.create_table(
            TableName="users",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_ENDPOINT_URL": account.url}
        keys["XDG_CACHE_HOME"] = str(tmp_path)
        dry = installed.sh("dynamodt deploy --stage prod --dry-run", **keys)
        assert dry.returncode == 0, dry.stderr
        assert "AWS::DynamoDB::Table" in dry.stdout and os.fspath(ROOT) not in dry.stdout + dry.stderr
        assert account.client.list_tables()["TableNames"] == ["users"]
