"""A project whose stage is an account whose CloudFormation takes infra/template.yaml, and what is in that account."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from dynamodt.config.stage import load_stage
from dynamodt.deploy.deploy import Deployment, deploy
from dynamodt.deploy.destroy import Removal, destroy
from dynamodt.deploy.stacks import Stack
from dynamodt.dynamodb.clients import client
from dynamodt.model.tables import Stage
from dynamodt.runs.context import Project
from dynamodt.runs.options import RunOptions
from tests.emulators import Endpoint

SCRIPT = "sequence = 1\n\n\ndef transform_up(item):\n    return item\n"


@dataclass
class Notes:
    """The notes that a user would see."""

    texts: list[str] = field(default_factory=list)

    def notify(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Account:
    """A project whose stage is the emulated account, and what is in there."""

    folder: Path
    endpoint: Endpoint
    name: str = field(default_factory=lambda: f"stage-{uuid4().hex[:8]}")
    notes: Notes = field(default_factory=Notes)

    def configure(self, deploy_settings: str = "", stage_settings: str = "") -> None:
        self.folder.joinpath("dynamodt.toml").write_text(
            f'[stages.{self.name}]\nregion = "us-east-1"\nendpoint_url = "{self.endpoint.url}"\n'
            f'storage = "s3://{self.bucket}/below"\nstate_table = "{self.state_table}"\n{stage_settings}\n'
            f"[stages.{self.name}.deploy]\n{deploy_settings}\n"
        )

    def script(self, text: str = SCRIPT, table: str = "") -> None:
        path = self.folder / "transforms" / (table or self.table) / "v1_first.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def make_table(self, name: str, key: str = "") -> None:
        encryption = {"SSESpecification": {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}} if key else {}
        self.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            **encryption,
        )

    def project(self, dry_run: bool = False) -> Project:
        return Project(self.stage, self.folder, RunOptions(dry_run=dry_run), self.notes)  # type: ignore[arg-type]

    def deploy(self, dry_run: bool = False, state_only: bool = False) -> Deployment:
        return deploy(self.project(dry_run), state_only)

    def destroy(self, purge: bool = False, dry_run: bool = False) -> Removal:
        return destroy(self.project(dry_run), purge)

    def client(self, service: str) -> Any:
        return client(self.endpoint.connection, service)

    def job(self, suffix: str = "") -> dict[str, Any]:
        job: dict[str, Any] = self.client("glue").get_job(JobName=f"dynamodt-{self.name}{suffix}")["Job"]
        return job

    def objects(self) -> set[str]:
        found = self.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return {entry["Key"] for entry in found}

    def exists(self, url: str) -> bool:
        return url.removeprefix(f"s3://{self.bucket}/") in self.objects()

    @property
    def stage(self) -> Stage:
        return load_stage(self.name, self.folder)

    @property
    def stack(self) -> Stack:
        return Stack(self.stage.connection, f"dynamodt-{self.name}")

    @property
    def bucket(self) -> str:
        return f"files-of-{self.name}"

    @property
    def table(self) -> str:
        return f"users-{self.name}"

    @property
    def state_table(self) -> str:
        return f"state-of-{self.name}"
