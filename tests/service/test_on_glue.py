"""`--runner glue` and a job meet over the state table: the job is a process of its own, and Glue is stood in for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import pytest

from dynamodt.aws.clients import client
from dynamodt.aws.state import State
from dynamodt.control import operations
from dynamodt.control.job import DEAD_LETTERS
from dynamodt.control.progress import Recorder
from dynamodt.control.requests import RunOptions
from dynamodt.control.stage import load_stage
from dynamodt.errors import Refused, RunFailed
from dynamodt.model import Stage, TableReport, UndoReport
from tests.e2e.project import wait_until
from tests.emulators import Endpoint
from tests.glue_stand_in import ROOT, GlueStandIn, glue_before
from tests.service.bench import Tables

BUCKET = "glue-tests"
ADD = (
    'def transform_up(item):\n    return {**item, "n": item["n"] + 1}\n\n\ndef transform_down(item):\n    return item\n'
)
SLOW = "import time\n\n" + ADD.replace("return", "time.sleep(0.1)\n    return", 1)
PREPARED = """
def prepare(context):
    yield 1, 10
    yield 2, 20


def transform_up(item, prepared):
    return {**item, "n": prepared.get(int(item["id"]), 0)}
"""


class Seen(Recorder):
    def __init__(self) -> None:
        super().__init__(watching=True)
        self.notes: list[str] = []
        self.found: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def run_found(self, record, expected_items, elapsed) -> None:  # type: ignore[no-untyped-def]
        super().run_found(record, expected_items, elapsed)
        self.found.append(record.run)

    def waiting(self, text: str) -> None:
        if text != self.awaited:
            self.notes.append(text)
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

    def undo(self, run: str, **options: object) -> UndoReport:
        chosen = RunOptions(runner=self.runner, **options)  # type: ignore[arg-type]
        return operations.undo(self.stage, self.folder, [self.table], run, chosen, self.seen)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command line, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "dynamodt", *words, "--stage", "dev", "--runner", "glue"],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "pipelines")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def jobs(self) -> int:
        """How many times a job was asked for."""
        return self.glue.calls.count("StartJobRun")

    def wait_for_job(self) -> None:
        """Returns when a run of the job is at work on the table."""
        wait_until(lambda: bool(self.state.leases.read(self.table).run))


@pytest.fixture
def typed(ministack: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    table, state_table = f"test_{uuid4().hex[:12]}", f"state_{uuid4().hex[:12]}"
    dynamodb = client(ministack.connection, "dynamodb")
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    Tables(dynamodb).put(table, *({"id": n, "n": 0} for n in range(40)))
    client(ministack.connection, "s3").create_bucket(Bucket=BUCKET)
    deploy(ministack, "dynamodt-dev", "dynamodt-dev-prepare")
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    with glue_before(ministack, jobs) as glue:
        found = Client(tmp_path, glue, table, state_table)
        found.write_stage(glue.url)
        found.state.ensure()
        yield found
    for name in (table, state_table):
        dynamodb.delete_table(TableName=name)


def deploy(endpoint: Endpoint, *names: str) -> None:
    glue = client(endpoint.connection, "glue")
    for name in names:
        try:
            glue.get_job(JobName=name)
        except glue.exceptions.EntityNotFoundException:
            command = {"Name": "glueetl", "ScriptLocation": f"s3://{BUCKET}/migrate.py"}
            glue.create_job(Name=name, Role="arn:aws:iam::000000000000:role/r", Command=command, GlueVersion="5.0")


def numbers(typed: Client) -> list[int]:
    dynamodb = client(typed.glue.endpoint.connection, "dynamodb")
    return [int(item["n"]) for item in Tables(dynamodb).items(typed.table)]


def test_a_table_is_moved_by_a_job_and_reported_as_if_it_had_run_here(typed: Client) -> None:
    typed.script(ADD)
    rehearsed = typed.up(dry_run=True)
    assert rehearsed.error is None, (rehearsed.error, typed.seen.notes)
    (dry,) = rehearsed.versions
    assert (dry.status, dry.counts.changed, dry.rehearsal, len(dry.samples)) == ("dry-run", 40, True, 3)
    assert dry.cost is not None and dry.cost.wcu == 40
    report = typed.up()
    assert report.error is None, (report.error, typed.seen.notes)
    (run,) = report.versions
    assert (run.status, run.counts.changed, report.at, report.latest) == ("succeeded", 40, 1, 1)
    assert run.consumed.wcu == 40 and run.journal and run.key_names == ("id",)
    assert [after["n"] - before["n"] for before, after in run.samples if after] == [1, 1, 1]
    assert numbers(typed) == [1] * 40
    assert typed.state.applied(typed.table)[1].run == run.run
    assert [ended.run for ended in typed.seen.ended] == [run.run]
    assert [note for note in typed.seen.notes if note.startswith("started dynamodt-dev, run jr_")]

    asked = len(typed.glue.calls)
    assert typed.up() == replace(report, versions=())  # nothing to do: found out without Glue
    typed.script(ADD + "# edited\n")
    assert isinstance(typed.up().error, Refused)
    assert len(typed.glue.calls) == asked


def test_dead_letters_are_told_replayed_and_taken_back_by_jobs(typed: Client) -> None:
    typed.script(ADD.replace("return", "1 / (item['id'] - 7)\n    return", 1))
    code, out, err = typed.said("up", "--table", typed.table, "--json", "--max-errors", "5")
    document = json.loads(out)
    (version,) = document["tables"][0]["versions"]
    assert (code, version["status"], version["counts"]["dead"]) == (1, "failed", 1)
    assert document["error"]["exit_code"] == 1 and "it goes on from there" in document["error"]["hint"]
    assert version["dead_letters"].endswith("/dead-letters.jsonl") and "error: 1 item could not be" in err
    printed = typed.glue.runs[0].log.read_text()
    assert f"{DEAD_LETTERS} 1\n" in printed and printed.rstrip().splitlines()[-2].strip() == version["dead_letters"]
    assert '"n"' not in printed  # no item's values in a log

    typed.script(ADD)
    assert typed.retry(version["run"]).error is None
    assert numbers(typed) == [1] * 40
    assert typed.undo(version["run"], dry_run=True).run.counts.changed == 40
    undone = typed.undo(version["run"])
    assert (undone.run.status, undone.run.counts.changed, undone.at, undone.left) == ("undone", 40, 0, 0)
    assert numbers(typed) == [0] * 40


def test_a_job_that_only_says_that_it_succeeded_is_not_believed(typed: Client) -> None:
    """ministack itself pretends Spark jobs."""
    typed.script(ADD)
    typed.write_stage(typed.glue.endpoint.url)
    report = typed.up()
    assert isinstance(report.error, RunFailed) and report.error.exit_code == 1
    assert "SUCCEEDED" in report.error.what and "counts as failed" in report.error.what
    assert (report.at, typed.state.runs(typed.table), numbers(typed)) == (0, [], [0] * 40)
    code, out, _ = typed.said("up", "--table", typed.table, "--json")
    assert code == json.loads(out)["error"]["exit_code"] == 1


def test_a_job_that_dies_is_told_with_the_end_of_its_log_and_gone_on_with(typed: Client) -> None:
    typed.script(SLOW)
    process = typed.start("up", "--table", typed.table)
    typed.wait_for_job()
    wait_until(lambda: "change: started" in typed.glue.runs[0].log.read_text())
    job = typed.glue.runs[0].process
    assert job is not None
    job.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the job ended without an answer: FAILED: SystemExit: -9" in err
    assert "the end of the job's log (/aws-glue/jobs/output, jr_" in err and f"{typed.table} v1 change: started" in err
    assert "gone" in out  # the run, by the state table
    typed.script(SLOW.replace("0.1", "0"))
    report = typed.up()
    assert report.error is None and report.versions[0].counts.changed == 40
    assert numbers(typed) == [1] * 40


def test_a_command_that_is_left_or_typed_again_finds_its_job_at_work(typed: Client) -> None:
    typed.script(SLOW)
    first = typed.start("up", "--table", typed.table)
    typed.wait_for_job()
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    for told in ("status --stage dev --follow", "pause --stage dev --table", "abort --stage dev --table"):
        assert f"dynamodt {told}" in err
    refused = typed.up(to=1)  # another command: it does not say the same
    assert isinstance(refused.error, Refused) and "another run is at work" in refused.error.what
    report = typed.up()
    assert report.error is None and report.versions[0].counts.changed == 40
    assert [note for note in typed.seen.notes if "at work on this very command since" in note]
    assert typed.jobs() == 1 and numbers(typed) == [1] * 40


def test_what_stands_in_the_way_of_starting_a_job(typed: Client) -> None:
    typed.script(ADD)
    (typed.folder / "dynamodt.toml").open("a").write('glue_job = "not-there"\n')
    with pytest.raises(Refused, match="not deployed") as missing:
        typed.up()
    assert missing.value.hint == "deploy it: dynamodt deploy --stage dev"
    typed.write_stage(typed.glue.url)
    typed.glue.most = 0
    with pytest.raises(Refused, match="MaxConcurrentRuns"):
        typed.up()
    assert typed.glue.runs == []


def test_a_job_whose_start_was_never_answered_is_found_and_not_started_twice(typed: Client) -> None:
    typed.script(ADD)
    typed.glue.lost.append("StartJobRun")
    assert typed.up().error is None
    assert typed.jobs() == 1 and numbers(typed) == [1] * 40


def test_data_is_prepared_by_the_job_that_is_there_for_it(typed: Client) -> None:
    typed.script(PREPARED)
    assert isinstance(typed.up().error, Refused)  # found out here: no job
    assert typed.jobs() == 0
    words = ("prepare", "--table", typed.table, "--tNumber", "1")
    code, out, err = typed.said(*words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["rows"], found["dry_run"]) == (2, False)
    assert typed.glue.runs[0].job == "dynamodt-dev-prepare"
    typed.script(PREPARED.replace("yield 2, 20", "yield 2"))
    code, _, err = typed.said(*words)
    assert code == 2 and "row 2" in err
    typed.script(PREPARED)
    assert typed.up().error is None and sorted(numbers(typed))[-2:] == [10, 20]
