"""`--runner glue` and a job meet over the state table: the job is a process of its own, and Glue is stood in for."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dynamodt import api as operations
from dynamodt.cli.job import DEAD_LETTERS
from dynamodt.deploy.glue_runs import GlueJob, JobRun
from dynamodt.deploy.job_result import undo_of
from dynamodt.errors import Busy, DeadLetters, Refused, RunFailed, ScriptError, ServiceError
from dynamodt.model.pages import Counts
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.runs.provenance import caller
from dynamodt.state.lease_rows import AnswerRows, JobAnswer
from tests.emulators import Endpoint
from tests.service.bench import Tables
from tests.service.conftest import MakeTable
from tests.service.glue_bench import Client, glue_client, make_deployed
from tests.waiting import HANG_SECONDS, HOLD, until

ADD = """
def transform_up(item):
    return {**item, "n": item["n"] + 1}


def transform_down(item):
    return {**item, "n": item["n"] - 1}
"""
BESIDE = """
from pathlib import Path

from steps import added


def transform_up(item):
    return {**item, "n": item["n"] + added(Path(__file__).parent / "step.txt")}
"""
# The job runs until it is told to continue, however long other processes take.
HELD = HOLD + ADD.replace("return", "hold({!r})\n    return", 1)
PREPARED = """
def prepare(context):
    yield 1, 10 * sum(1 for item in context.items(projection=["id"]) if item["id"] == 1)
    yield 2, 20


def transform_up(item, prepared):
    return {**item, "n": prepared.get(int(item["id"]), 0)}
"""


@pytest.fixture
def typed(ministack: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Forty items, whose `n` is 0."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with glue_client(ministack, tmp_path) as found:
        make_deployed(found)
        Tables(found.dynamodb).put(found.table, *({"id": n, "n": 0} for n in range(40)))
        yield found


@pytest.fixture
def go_on(typed: Client) -> Path:
    """The file at which the held script continues."""
    path = typed.folder / "go-on"
    typed.script(HELD.replace("{!r}", repr(str(path))))
    return path


def numbers(typed: Client) -> list[int]:
    return [int(item["n"]) for item in typed.items()]


def test_a_run_in_a_job_is_reported_as_a_local_one(typed: Client) -> None:
    typed.script(ADD)
    with hold_lease(typed.state.leases, typed.table, "theirs", typed.seen.notify):
        rehearsed = typed.up(dry_run=True)
    assert rehearsed.error is None, (rehearsed.error, typed.seen.notes)
    assert isinstance(rehearsed.refusal, Busy)
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
    assert ["version 1 will be applied to 40 items" in notice for notice in report.notices] == [True]
    assert typed.up() == replace(report, versions=(), notices=())  # nothing to do: found out without Glue
    typed.script(ADD + "\nEDITED = True\n")
    assert isinstance(typed.up().error, Refused)
    assert len(typed.glue.calls) == asked
    typed.script(ADD)
    typed.script(ADD, 2)
    assert typed.up().at == 2
    asked = len(typed.glue.calls)
    (typed.folder / "transforms" / typed.table / "v2_change.py").unlink()
    older = typed.up()  # an older release that is deployed again
    assert (older.error, older.at, older.latest) == (None, 2, 1) and "v2_change is applied" in older.notices[0]
    assert isinstance(typed.up(strict=True).error, Refused)
    assert len(typed.glue.calls) == asked


def test_a_job_has_the_files_beside_a_script(typed: Client) -> None:
    typed.script(BESIDE)
    folder = typed.folder / "transforms" / typed.table
    (folder / "steps.py").write_text("def added(path):\n    return int(path.read_text())\n")
    (folder / "step.txt").write_text("3")
    report = typed.up()
    assert report.error is None, (report.error, typed.seen.notes)
    assert numbers(typed) == [3] * 40
    (record,) = typed.state.runs(typed.table)
    assert sorted(record.files) == [f"{typed.table}/step.txt", f"{typed.table}/steps.py"]
    assert typed.state.applied(typed.table)[1].files == record.files


def test_dead_letters_are_reported_retried_and_undone_by_jobs(typed: Client) -> None:
    typed.script(ADD.replace("return", "1 / (item['id'] - 7)\n    return", 1))
    code, out, err = typed.run("up", "--table", typed.table, "--json")
    document = json.loads(out)
    (version,) = document["tables"][0]["versions"]
    assert (code, version["status"], version["counts"]["dead"]) == (1, "failed", 1)
    assert document["error"]["exit_code"] == 1 and "from there" in document["error"]["hint"]
    accepting = f"dynamodt retry --stage dev --runner glue --accept-all --reason TEXT {version['run']}"
    assert document["error"]["hint"].endswith(accepting)
    assert version["dead_letters"].endswith("/dead-letters.jsonl") and "error: 1 item could not be" in err
    printed = typed.glue.runs[0].log.read_text()
    assert f"{DEAD_LETTERS} 1\n" in printed and printed.rstrip().splitlines()[-2].strip() == version["dead_letters"]
    assert '"n"' not in printed  # no item's values in a log

    typed.script(ADD)
    assert typed.retry(version["run"]).error is None
    assert numbers(typed) == [1] * 40
    with hold_lease(typed.state.leases, typed.table, "theirs", typed.seen.notify):
        foreseen = typed.undo(version["run"], dry_run=True)
    assert foreseen.run.counts.changed == 40 and isinstance(foreseen.refusal, Busy)
    undone = typed.undo(version["run"])
    assert (undone.run.status, undone.run.counts.changed, undone.at, undone.not_restored) == ("undone", 40, 0, 0)
    assert numbers(typed) == [0] * 40


def test_a_refused_command_starts_no_job_and_neither_does_its_dry_run(typed: Client) -> None:
    typed.script(ADD)
    (run,) = typed.up().versions
    typed.script(ADD.replace("return", "1 / (item['id'] - 7)\n    return", 1), 2)
    left = typed.up()
    assert isinstance(left.error, DeadLetters)
    jobs = typed.jobs()
    for dry_run in (True, False):
        (refused,) = operations.down(
            typed.stage, typed.folder, [typed.table], None, RunOptions(runner="glue", dry_run=dry_run), typed.seen
        )
        assert isinstance(refused.error, Refused) and "unfinished" in str(refused.error), dry_run
        with pytest.raises(Refused, match="changed this table later"):
            typed.undo(run.run, dry_run=dry_run)
    typed.script("def prepare(one, two): yield 1, 2\n\ndef transform_up(item): return item", 3)
    assert typed.run("prepare", "--table", typed.table, "--tNumber", "3")[0] == 2
    assert typed.jobs() == jobs


@pytest.mark.endpoints("ministack")  # as the job's
def test_a_command_that_is_refused_for_one_table_starts_no_job_and_neither_does_its_dry_run(
    typed: Client, make_table: MakeTable
) -> None:
    other = make_table(id="N")
    typed.script(ADD)
    path = typed.folder / "transforms" / other / "v1_wrong.py"
    path.parent.mkdir(parents=True)
    path.write_text("sequence = 1\ndef transform_up(item): return item['typo'")
    for dry_run in (True, False):
        options = RunOptions(runner="glue", dry_run=dry_run)
        found = operations.up(typed.stage, typed.folder, [typed.table, other], None, options, typed.seen)
        reports = {report.table: report for report in found}
        assert isinstance(reports[other].error, ScriptError) and reports[typed.table].held_back, dry_run
    assert not typed.jobs()


def test_acceptances_reach_the_job_with_user_and_reason(typed: Client) -> None:
    typed.script(ADD.replace("return", "1 / (item['id'] - 7)\n    return", 1))
    _, out, _ = typed.run("up", "--table", typed.table, "--json")
    run = json.loads(out)["tables"][0]["versions"][0]["run"]
    begun = typed.state.run(typed.table, run)
    assert begun is not None and begun.by == caller(typed.folder).by and not begun.by.startswith("jr_")
    code, _, err = typed.run("retry", run, "--accept", "8", "--reason", "why")
    assert code == 2 and "no dead letter" in err and len(typed.glue.runs) == 1  # no job is started for it
    code, out, err = typed.run("retry", run, "--accept", "7", "--reason", "of a test", "--by", "ann", "--json")
    document = json.loads(out)
    (version,) = document["tables"][0]["versions"]
    assert (code, version["status"], version["counts"]["dead"], version["accepted"]) == (0, "succeeded", 1, 1), err
    (accepted,) = typed.state.run(typed.table, run).accepted  # type: ignore[union-attr]
    assert (accepted.items, accepted.by, accepted.why) == (1, "ann", "of a test")
    assert DEAD_LETTERS not in typed.glue.runs[1].log.read_text()  # no alarm


def test_a_succeeded_job_without_a_result_counts_as_failed(typed: Client) -> None:
    """ministack itself pretends Spark jobs."""
    typed.script(ADD)
    typed.write_stage(typed.glue.endpoint.url)
    report = typed.up()
    assert isinstance(report.error, RunFailed) and report.error.exit_code == 1
    assert "SUCCEEDED" in report.error.what and "counts as failed" in report.error.what
    assert (report.at, typed.state.runs(typed.table), numbers(typed)) == (0, [], [0] * 40)
    code, out, _ = typed.run("up", "--table", typed.table, "--json")
    assert code == json.loads(out)["error"]["exit_code"] == 1


def test_a_job_that_dies_is_reported_with_the_end_of_its_log_and_its_run_continued(typed: Client, go_on: Path) -> None:
    process = typed.start("up", "--table", typed.table)
    typed.wait_for_job()
    until(lambda: "change: started" in typed.glue.runs[0].log.read_text(), "the job begins to move the table")
    job = typed.glue.runs[0].process
    assert job is not None
    job.kill()
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1
    assert "the job ended without a result: FAILED: SystemExit: -9" in err
    assert "the end of the job's log (/aws-glue/jobs/output, jr_" in err and f"{typed.table} v1 change: started" in err
    assert "gone" in out  # the run, by the state table
    go_on.touch()
    typed.runner = "direct"  # whatever goes on with it
    report = typed.up()
    assert report.error is None and report.versions[0].counts.changed == 40
    assert numbers(typed) == [1] * 40


def test_a_repeated_command_follows_its_running_job(typed: Client, go_on: Path) -> None:
    first = typed.start("up", "--table", typed.table)
    typed.wait_for_job()
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=HANG_SECONDS)
    assert first.returncode == 130
    for told in ("status --stage dev --follow", "pause --stage dev --table", "abort --stage dev --table"):
        assert f"dynamodt {told}" in err
    refused = typed.up(to=1)  # another command: it does not say the same
    assert isinstance(refused.error, Refused) and "another run is in progress" in refused.error.what
    typed.seen.then["already running this command since"] = go_on.touch
    report = typed.up()
    assert report.error is None and report.versions[0].counts.changed == 40
    assert typed.jobs() == 1 and numbers(typed) == [1] * 40


def test_another_command_waits_for_the_running_job_before_it_starts_its_own(typed: Client, go_on: Path) -> None:
    first = typed.start("up")
    typed.wait_for_job()
    typed.seen.then["waited 0 s of 2m for table"] = go_on.touch
    report = typed.up(to=1, wait_lock="2m")  # another command: it does not say the same
    assert report.error is None and report.versions == () and report.at == 1
    assert [note for note in typed.seen.notes if note.startswith("waited 0 s of 2m for table")]
    assert first.wait(HANG_SECONDS) == 0 and typed.jobs() == 1


def test_a_job_that_cannot_start_is_reported_with_the_reason(typed: Client) -> None:
    typed.script(ADD)
    (typed.folder / "dynamodt.toml").open("a").write('glue_job = "not-there"\n')
    with pytest.raises(Refused, match="not deployed") as missing:
        typed.up()
    assert missing.value.hint == "deploy it: dynamodt deploy"
    (planned,) = operations.forecast(typed.stage, typed.folder, [typed.table], None, RunOptions(runner="glue"))
    assert (planned.obstacles[0].text, planned.obstacles[0].stops) == (str(missing.value), True)
    typed.write_stage(typed.glue.url)
    typed.glue.most = 0
    with pytest.raises(Refused, match="MaxConcurrentRuns"):
        typed.up()
    assert typed.glue.runs == []


def test_a_job_whose_start_has_no_answer_is_found_and_not_started_twice(typed: Client) -> None:
    typed.script(ADD)
    typed.glue.lost.append("StartJobRun")
    assert typed.up().error is None
    assert typed.jobs() == 1 and numbers(typed) == [1] * 40


def test_a_job_whose_result_is_lost_is_reported_from_the_state_table(
    typed: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed.script(ADD)
    monkeypatch.setattr(AnswerRows, "read", lambda rows, job_run: None)
    report = typed.up()
    assert report.error is None and report.at == 1
    assert [(run.version, run.status, run.counts.changed) for run in report.versions] == [(1, "succeeded", 40)]
    assert numbers(typed) == [1] * 40


def test_an_undo_whose_result_is_lost_is_reported_from_the_state_table(
    typed: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed.script(ADD)
    (run,) = typed.up().versions
    Tables(typed.dynamodb).put(typed.table, {"id": 3, "n": 7})
    original = AnswerRows.read
    with monkeypatch.context() as lost:
        lost.setattr(AnswerRows, "read", lambda rows, job_run: None)
        found = typed.undo(run.run)
    assert found.error is None and (found.run.status, found.at) == ("undone", 0)
    assert (found.run.counts, found.not_restored) == (Counts(read=40, changed=39, superseded=1), 1)
    (job,) = (one for one in typed.glue.runs if "undo" in one.arguments["--command"])
    answer = original(AnswerRows(typed.state.rows), job.id)
    assert answer is not None
    reported = undo_of(answer.document)
    assert found.not_restored_at == reported.not_restored_at and reported.run.counts == found.run.counts
    assert found.first_not_restored == reported.first_not_restored
    assert sorted(set(numbers(typed))) == [0, 7]


def test_an_answer_is_taken_although_glue_cannot_be_asked(typed: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(job: GlueJob, run: str) -> JobRun:
        raise ServiceError("AccessDeniedException")

    typed.script(ADD)
    monkeypatch.setattr(GlueJob, "poll", refused)
    report = typed.up()
    assert report.error is None and report.versions[0].counts.changed == 40


@pytest.mark.parametrize("tables", [[], [{"table": "others", "direction": "up", "versions": []}]])
def test_a_planned_table_missing_in_the_job_s_result_is_a_failure(
    typed: Client, monkeypatch: pytest.MonkeyPatch, tables: list[object]
) -> None:
    typed.script(ADD)
    typed.glue.command = lambda words: [sys.executable, "-c", ""]
    monkeypatch.setattr(AnswerRows, "read", lambda rows, job_run: JobAnswer({"tables": tables}, 0))
    report = typed.up()
    assert isinstance(report.error, RunFailed) and report.at == 0
    assert f"table {typed.table}" in report.error.what


def test_data_is_prepared_by_its_own_job(typed: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    typed.script(PREPARED)
    assert isinstance(typed.up().error, Refused)  # found out here: no job
    assert typed.jobs() == 0
    words = ("prepare", "--table", typed.table, "--tNumber", "1")
    code, out, err = typed.run(*words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["rows"], found["dry_run"]) == (2, False)
    assert typed.glue.runs[0].job == "dynamodt-dev-prepare"
    with monkeypatch.context() as lost:
        lost.setattr(AnswerRows, "read", lambda rows, job_run: None)
        stored = operations.prepare(
            typed.stage, typed.folder, typed.table, 1, typed.seen, options=RunOptions(runner="glue")
        )
    assert stored.rows == 2 and typed.jobs() == 2
    typed.script(PREPARED.replace("yield 2, 20", "yield 2"))
    code, _, err = typed.run(*words)
    assert code == 2 and "row 2" in err


def test_doctor_also_checks_in_the_job(typed: Client) -> None:
    typed.script(ADD)
    found = operations.doctor("dev", typed.folder, (), typed.seen, glue=True)
    checks = {finding.name: finding for finding in found.findings}
    assert checks[f"table {typed.table}"].status == checks[f"job: table {typed.table}"].status == "ok", found.wrong
    assert checks["job: versions"].seen == checks["versions"].seen and found.report == ""
    assert typed.jobs() == 1 and numbers(typed) == [0] * 40
