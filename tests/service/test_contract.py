"""The contract suite on both emulators, whose differences from AWS are listed: one that appears or goes fails here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from dynamodt.doctor.contract import CHECKS
from dynamodt.doctor.deployment import DEPLOYED
from dynamodt.doctor.doctor import doctor
from dynamodt.doctor.suite import run_suite, scratch
from dynamodt.dynamodb.clients import client
from dynamodt.model.tables import StorageSpec
from dynamodt.runs.pace import ProgressRecorder
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

EXPORTS = dict.fromkeys(("export-needs-recovery", "export-token-repeated", "export-window-of-15-minutes"), "skipped")
OBJECTS = ("object-is-read-as-written", "names-are-in-utf-8-order", "bucket-of-another-account")
ASKED = ("same-key-twice-in-a-batch", "capacity-of-a-refused-statement", "names-like-placeholders")
DIFFERENCES = {  # by endpoint: what is not as in AWS, as far as documents tell, and what the asked ones answer
    "ministack": {
        **EXPORTS,
        "statement-of-8192-characters": "8,193 characters: done; 8,192: done",
        "index-rejects-other-keys": "['done', 'done', 'done'] instead of " + str(["ValidationError"] * 3),
        "bucket-of-another-account": "another account's bucket was accepted",
        "same-key-twice-in-a-batch": "done, done",
        "capacity-of-a-refused-statement": "1.0 units",
        "names-like-placeholders": "done, done",
    },
    "dynamodb-local": {
        **EXPORTS,
        **dict.fromkeys(OBJECTS, "skipped"),
        "table-has-an-identity": "no TableId",
        "index-rejects-other-keys": "['done', 'ValidationError', 'done'] instead of " + str(["ValidationError"] * 3),
        "same-key-twice-in-a-batch": "request: ValidationException, request: ValidationException",
        "capacity-of-a-refused-statement": "0 units",
        "names-like-placeholders": "ValidationError, ValidationError",
    },
}


@pytest.fixture
def examined(bench: Bench, endpoint: Endpoint, tmp_path: Path) -> Bench:
    """The bench, on ministack with a bucket of its own."""
    if endpoint.name != "ministack":
        return bench
    bucket = f"doctor-{bench.stage.state_table.replace('_', '-')}"
    client(endpoint.connection, "s3").create_bucket(Bucket=bucket)
    return replace(bench, stage=replace(bench.stage, storage=StorageSpec(f"s3://{bucket}/below")))


def scratch_tables(endpoint: Endpoint) -> list[str]:
    """The tables that the suite has left, among those of tests in other processes."""
    pages = endpoint.client.get_paginator("list_tables").paginate()
    return [name for page in pages for name in page["TableNames"] if name.startswith("dynamodt-doctor-")]


def test_the_emulators_differ_from_aws_as_listed(examined: Bench, endpoint: Endpoint) -> None:
    with scratch(examined.stage, print) as found:
        findings = list(run_suite(CHECKS, found))
    differing = {f.name: "skipped" if f.status == "skipped" else f.seen for f in findings if f.status != "ok"}
    assert differing == DIFFERENCES[endpoint.name]
    assert [f.name for f in findings if f.status == "wrong"] == []
    assert [f.name for f in findings if f.status == "asked"] == list(ASKED)
    assert scratch_tables(endpoint) == []
    if found.bucket:
        assert "Contents" not in client(endpoint.connection, "s3").list_objects_v2(Bucket=found.bucket)


OF_RUNS = ("job-runs-newest-first", "job-run-has-its-arguments", "log-of-a-job-run")
# Of ministack, as above. The second one is said once another test has run a job on the same emulator.
NO_LOG = ("no log group /aws-glue/jobs/output", "no stream of the last run in /aws-glue/jobs/output")


@pytest.mark.endpoints("ministack")
def test_the_emulator_s_deployments_differ_from_aws_as_listed(examined: Bench, endpoint: Endpoint) -> None:
    glue, job = client(endpoint.connection, "glue"), f"doctor-{uuid4().hex[:8]}"
    command = {"Name": "glueetl", "ScriptLocation": "s3://x/y.py"}
    glue.create_job(Name=job, Role="arn:aws:iam::000000000000:role/x", Command=command)
    with scratch(replace(examined.stage, glue_job=job), print) as found:
        assert [f.name for f in run_suite(DEPLOYED, found) if f.status == "skipped"] == list(OF_RUNS)
        for _ in range(2):
            glue.start_job_run(JobName=job, Arguments={"--command": "doctor"})
        findings = list(run_suite(DEPLOYED, found))
        stacks = client(endpoint.connection, "cloudformation").describe_stacks()["Stacks"]
        assert [one for one in stacks if one["StackName"].startswith(found.table)] == []
    differing = {f.name: "skipped" if f.status == "skipped" else f.seen for f in findings if f.status != "ok"}
    assert list(differing) == ["log-of-a-job-run"] and differing["log-of-a-job-run"] in NO_LOG
    assert [f.name for f in findings if f.status == "wrong"] == []


def test_scratch_resources_are_deleted_after_an_interrupt(examined: Bench, endpoint: Endpoint) -> None:
    made = ""
    with pytest.raises(KeyboardInterrupt), scratch(examined.stage, print) as found:
        made = found.table
        assert scratch_tables(endpoint) == [made]
        raise KeyboardInterrupt
    assert scratch_tables(endpoint) == []


def test_doctor_reports_its_findings_and_leaves_nothing_behind(
    bench: Bench, endpoint: Endpoint, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(id="S", sort="N")
    bench.script(table, "def transform_up(item):\n    return item\n")
    bench.tables.put(table, {"id": "secret", "sort": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    found = doctor("local", bench.folder, (), ProgressRecorder())
    names = [finding.name for finding in found.findings]
    assert names[-3:] == [f"table {table}", f"recovery of {table}", f"permissions on {table}"]
    assert found.wrong == () and found.report == "" and scratch_tables(endpoint) == []
    full = doctor("local", bench.folder, (table,), ProgressRecorder(), full=True)
    assert len(full.findings) == len(names) + len(CHECKS) and full.wrong == ()
    report = Path(full.report)
    assert report.parent == bench.folder and len(json.loads(report.read_text())) == len(full.findings)
    assert "secret" not in report.read_text() and "000000000000" not in report.read_text()
    assert scratch_tables(endpoint) == []


def test_a_missing_target_of_a_version_is_a_finding(
    bench: Bench, endpoint: Endpoint, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(id="S")
    bench.script(table, 'TARGET_TABLE = "nowhere"\ndef transform_up(item): return item\n')
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    for named in ((), (table,)):
        found = doctor("local", bench.folder, named, ProgressRecorder())
        assert [finding.name for finding in found.wrong] == ["table nowhere"]


def test_a_missing_table_is_a_finding_and_ends_no_other_check(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    found = doctor("local", bench.folder, ("nowhere",), ProgressRecorder())
    assert [finding.name for finding in found.wrong] == ["table nowhere"]
    assert "create the table first" in found.wrong[0].hint
