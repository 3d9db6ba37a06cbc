"""A project with a stage `dev` whose Glue is the stand-in, and the commands of a user."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

from dynamodt import api as operations
from dynamodt.config.stage import load_stage
from dynamodt.dynamodb.clients import client
from dynamodt.model.reports import TableReport, UndoReport
from dynamodt.model.tables import Item, Stage
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.state.state import State
from tests import programs
from tests.emulators import Endpoint
from tests.glue_stand_in import GlueStandIn, glue_before
from tests.service.bench import Tables
from tests.waiting import HANG_SECONDS, until

BUCKET = "glue-tests"


class Seen(ProgressRecorder):
    def __init__(self) -> None:
        super().__init__(watching=True)
        self.notes: list[str] = []
        self.found: list[str] = []
        self.then: dict[str, Callable[[], object]] = {}  # the action when a note contains these words

    def notify(self, text: str) -> None:
        self.notes.append(text)
        for words, do in self.then.items():
            if words in text:
                do()

    def run_found(self, record, expected_items, elapsed) -> None:  # type: ignore[no-untyped-def]
        super().run_found(record, expected_items, elapsed)
        self.found.append(record.run)

    def waiting(self, text: str) -> None:
        if text != self.awaited:
            self.notify(text)
        super().waiting(text)


@dataclass
class Client:
    """A folder with a stage `dev`, whose Glue is the stand-in (or, with `pretended`, the emulator itself)."""

    folder: Path
    glue: GlueStandIn
    table: str
    state_table: str
    seen: Seen = field(default_factory=Seen)
    runner: str = "glue"

    @property
    def stage(self) -> Stage:
        return load_stage("dev", self.folder)

    @property
    def state(self) -> State:
        return State(self.stage.connection, self.state_table)

    def write_stage(self, url: str) -> None:
        text = f"""\
            [stages.dev]
            region = "us-east-1"
            endpoint_url = "{url}"
            storage = "s3://{BUCKET}/{self.table}"
            state_table = "{self.state_table}"
        """
        (self.folder / "dynamodt.toml").write_text(dedent(text))

    def script(self, text: str, number: int = 1) -> None:
        path = self.folder / "transforms" / self.table / f"v{number}_change.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sequence = {number}\n{text}")

    def up(self, to: int | None = None, **options: object) -> TableReport:
        chosen = RunOptions(runner=self.runner, **options)  # type: ignore[arg-type]
        (report,) = operations.up(self.stage, self.folder, [self.table], to, chosen, self.seen)
        return report

    def retry(self, run: str) -> TableReport:
        options = RunOptions(runner=self.runner)
        (report,) = operations.retry(self.stage, self.folder, [self.table], run, options, self.seen)
        return report

    def undo(self, run: str, dry_run: bool = False) -> UndoReport:
        options = RunOptions(runner=self.runner, dry_run=dry_run)
        return operations.undo(self.stage, self.folder, [self.table], run, options, self.seen)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command line, in a process of its own."""
        return programs.start("dynamodt", *words, "--stage", "dev", "--runner", "glue", folder=self.folder)

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=HANG_SECONDS)
        return process.returncode, out, err

    def jobs(self) -> int:
        """The number of requested jobs."""
        return self.glue.calls.count("StartJobRun")

    def wait_for_job(self) -> None:
        """Returns when a run of the job is active on the table."""
        until(lambda: self.state.leases.read(self.table).run, "a job runs on the table")

    @property
    def dynamodb(self) -> Any:
        return client(self.glue.endpoint.connection, "dynamodb")

    def items(self) -> list[Item]:
        """The items as the application reads them."""
        return Tables(self.dynamodb).items(self.table)


@contextmanager
def glue_client(endpoint: Endpoint, folder: Path, key_type: str = "N") -> Iterator[Client]:
    """A folder, and an empty table with the key `id`; credentials are in the environment already. What a deployment
    makes is yet to be made."""
    table, state_table = f"test_{uuid4().hex[:12]}", f"state_{uuid4().hex[:12]}"
    dynamodb = client(endpoint.connection, "dynamodb")
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": key_type}],
        BillingMode="PAY_PER_REQUEST",
    )
    jobs = folder / "jobs"
    jobs.mkdir()
    with glue_before(endpoint, jobs) as glue:
        found = Client(folder, glue, table, state_table)
        found.write_stage(glue.url)
        yield found
    for name in (table, state_table):
        dynamodb.delete_table(TableName=name)


def make_deployed(typed: Client) -> None:
    """The bucket, the state table and the two jobs, as far as a client sees of them."""
    connection = typed.glue.endpoint.connection
    client(connection, "s3").create_bucket(Bucket=BUCKET)
    typed.state.ensure()
    glue = client(connection, "glue")
    for name in ("dynamodt-dev", "dynamodt-dev-prepare"):
        try:
            glue.get_job(JobName=name)
        except glue.exceptions.EntityNotFoundException:
            command = {"Name": "glueetl", "ScriptLocation": f"s3://{BUCKET}/migrate.py"}
            glue.create_job(Name=name, Role="arn:aws:iam::000000000000:role/r", Command=command, GlueVersion="5.1")
