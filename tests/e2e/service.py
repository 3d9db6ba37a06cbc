"""A service of the Serverless Framework, with the plugin as npm would install it, deployed to an emulator of AWS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dynamodt.dynamodb.clients import client
from dynamodt.state.state import State
from tests.e2e.project import ROOT, Done
from tests.emulators import Endpoint
from tests.waiting import HANG_SECONDS

PLUGIN = ROOT / "infra" / "serverless"
SAMPLE = Path(__file__).parent / "shop"
REGION = "eu-west-1"
BUCKET = "shop-dynamodt"


def framework_missing() -> str:
    """The reason why no service can be deployed here; empty if one can."""
    if shutil.which("node") is None:
        return "the plugin of the Serverless Framework needs node 20.19 or newer, and node is not installed"
    if not (PLUGIN / "node_modules" / ".complete").exists():
        return "osls is missing: `make serverless` installs it (with npm)"
    return ""


@dataclass(frozen=True)
class Service:
    """The sample's folder, and the emulator that it is deployed to."""

    folder: Path
    endpoint: Endpoint

    def sls(self, *words: str) -> Done:
        """Runs `sls` with these words, with any exit code."""
        return subprocess.run(
            [str(PLUGIN / "node_modules" / ".bin" / "osls"), *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    def ok(self, *words: str) -> str:
        """Both streams of `sls`, which must succeed."""
        done = self.sls(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def script(self, table: str, number: int, name: str, text: str) -> Path:
        """Write a version file; its `sequence` comes by itself."""
        path = self.folder / "transforms" / table / f"v{number}_{name}.py"
        path.write_text(f"sequence = {number}\n{text}", encoding="utf-8")
        return path

    def client(self, service: str = "dynamodb") -> Any:
        return client(self._connection, service)

    def make_ready(self) -> None:
        """The bucket and the table that dynamodt keeps its own things in."""
        self.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        State(self._connection, "dynamodt-state").ensure()

    @property
    def _connection(self) -> Any:
        return replace(self.endpoint.connection, region=REGION)

    def _environment(self) -> dict[str, str]:
        """An environment with another region, which must not reach dynamodt: the deploy's region applies."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        aws = {"AWS_ENDPOINT_URL": self.endpoint.url, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        quick = {"SLS_AWS_MONITORING_FREQUENCY": "200", "NODE_NO_WARNINGS": "1", "NO_COLOR": "1"}
        return {**os.environ, **aws, **quick, "AWS_REGION": "us-east-1", "PATH": path}


def make_service(folder: Path, endpoint: Endpoint) -> Service:
    """A copy of the sample, and in its node_modules what `npm publish` would send."""
    shutil.copytree(SAMPLE, folder)
    packing = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    subprocess.run(packing, cwd=PLUGIN, check=True, capture_output=True, timeout=HANG_SECONDS)
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules" / "package").rename(folder / "node_modules" / "serverless-dynamodt")
    return Service(folder, endpoint)
