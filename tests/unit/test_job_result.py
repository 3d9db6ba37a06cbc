"""A job's result is parsed to the job's own reports: writing and parsing are inverse."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt import __version__
from dynamodt.cli import job
from dynamodt.cli.job import carry_out
from dynamodt.cli.json_output import CommandResult, error_document, prepared_document, tables_document, undo_document
from dynamodt.deploy.job_result import (
    dead_letters_in,
    error_in,
    explain_unreadable,
    in_full,
    of_this_release,
    other_release,
    prepared_of,
    runs_of,
    undo_of,
)
from dynamodt.deploy.packages import build
from dynamodt.errors import Busy, CostReached, DeadLetters, DynamodtError, Refused, RunFailed, ScriptError, UsageError
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import Cost, NotRestored, RunReport, TableReport, UndoReport
from dynamodt.model.runs import RunRecord, Script
from dynamodt.runs.options import RunOptions
from tests.fake_operations import PREPARED
from tests.unit.followed_runs import Stage

RUN = RunReport("users", "up", 2, "split", "01RUN", "succeeded", Counts(7, 6, dead=1), Units(2.5, 6.0), 1.25)
REPORTS = [
    RUN,
    replace(RUN, status="failed", error="1 item could not be written", dead_letters="s3://b/dead-letters.jsonl"),
    replace(RUN, status="dry-run", cost=Cost(6.0, 12.0, 2.5, 1, 2, 3, (0.01, 0.02), "2026-01-31")),
    replace(RUN, uncovered="2026-01-31T12:00:00+00:00", cost=Cost(6.0, 12.0, 2.5)),
]


@pytest.mark.parametrize("run", REPORTS)
def test_a_run_s_document_is_parsed_to_the_same_report(run: RunReport) -> None:
    (table,) = tables_document([TableReport("users", "up", (run,))])["tables"]
    assert runs_of(table) == [run]


def test_unknown_fields_of_another_release_are_ignored() -> None:
    (table,) = tables_document([TableReport("users", "up", (RUN,))])["tables"]
    table["versions"][0]["counts"]["skipped"] = 1
    table["versions"][0]["consumed"]["other"] = 1.0
    table["versions"][0]["unknown"] = {}
    assert runs_of(table) == [RUN]


OPTIONAL = ("name", "seconds", "consumed", "dead_letters", "uncovered_since")
OF_AN_UNDO = ("name", "seconds", "consumed", "restored", "left", "missing_parts")


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_fields_of_a_run_may_be_missing(name: str) -> None:
    full = replace(RUN, dead_letters="s3://b/dead-letters.jsonl", uncovered="2026-01-31T12:00:00+00:00")
    (table,) = tables_document([TableReport("users", "up", (full,))])["tables"]
    del table["versions"][0][name]
    (told,) = runs_of(table)
    assert (told.version, told.run, told.status, told.counts) == (2, "01RUN", "succeeded", RUN.counts)


@pytest.mark.parametrize("name", OF_AN_UNDO)
def test_optional_fields_of_an_undo_may_be_missing(name: str) -> None:
    document = undo_document(UndoReport(replace(RUN, status="undone"), 1, 9, "s3://b/not-restored.jsonl"))
    del document[name]
    assert undo_of(document).run.counts == RUN.counts


@pytest.mark.parametrize("name", ["what", "where", "hint", "exit_code"])
def test_an_unknown_error_of_another_release_is_an_error(name: str) -> None:
    error = {"what": "no", "where": "w", "hint": "h", "exit_code": 3}
    del error[name]
    assert isinstance(error_in({"error": error}), RunFailed if name == "exit_code" else Refused)


@pytest.mark.parametrize("name", ["version", "run", "status", "counts"])
def test_without_a_required_field_the_result_is_refused(name: str) -> None:
    (table,) = tables_document([TableReport("users", "up", (RUN,))])["tables"]
    del table["versions"][0][name]
    with pytest.raises(RunFailed, match=f"cannot be read .*{name}") as caught, explain_unreadable("run jr_1"):
        runs_of(table)
    assert caught.value.where == "run jr_1"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, ""),
        ({"release": __version__, "build": build()}, ""),
        ({"release": "9.9", "build": build()}, "9.9"),
        ({"release": __version__, "build": "0" * 64}, "another build"),
        ({"release": __version__}, "another build"),
    ],
)
def test_another_release_and_another_build_are_named(document: dict[str, Any], said: str) -> None:
    found = other_release(document)
    assert bool(found) == bool(said) and said in found


def test_a_document_has_its_release() -> None:
    assert other_release(of_this_release({"tables": []})) == ""


def test_the_documents_of_an_undo_and_of_prepared_data_are_parsed_to_the_same_values() -> None:
    first = (NotRestored({"id": {"S": "u1"}}, ("name",), "changed since the run"),)
    undo = UndoReport(replace(RUN, status="undone"), 1, 9, "s3://b/not-restored.jsonl", first)
    assert undo_of(undo_document(undo)) == undo
    assert prepared_of(prepared_document("users", 3, PREPARED, False)) == PREPARED


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageError("x"), UsageError),
        (ScriptError("x"), UsageError),
        (Refused("x", where="w", hint="h"), Refused),
        (Refused("x", where="w", hint="h", run="01RUN"), Refused),
        (RunFailed("x"), RunFailed),
    ],
)
def test_an_error_keeps_its_text_and_its_exit_code(error: DynamodtError, kind: type[DynamodtError]) -> None:
    (table,) = tables_document([TableReport("users", "up", error=error)])["tables"]
    told = error_in(table)
    assert told is not None and type(told) is kind
    assert (told.what, told.where, told.hint, told.exit_code) == (error.what, error.where, error.hint, error.exit_code)
    assert getattr(told, "run", "") == getattr(error, "run", "")
    assert error_in({}) is None


def test_a_job_s_hints_have_the_program_name_of_its_caller() -> None:
    document = {"error": {"what": "x", "where": "", "hint": "dynamodt up --runner spark", "exit_code": 1}}
    told = error_in(document, dead=True)
    assert isinstance(told, DeadLetters) and told.hint == "dynamodt up --runner glue"


def test_items_are_read_from_the_storage_since_no_log_may_contain_them() -> None:
    stage, storage = Stage(), Storage()
    stage.write(RunRecord("users", "01RUN", 2, "split", "up", "", "failed", "", splits=2, journal=True))
    storage.objects["runs/users/01RUN/samples/1"] = b'[[{"id": {"S": "a"}}, {"id": {"S": "a"}, "n": {"N": "1"}}]]'
    dead_letter = b'{"key": {"id": {"S": "b"}}, "error": "ValueError: no", "traceback": "", "step": "transform"}'
    storage.objects["runs/users/01RUN/dead-letters.jsonl"] = dead_letter
    script = Script("users", 2, "split", "transforms/users/v2_split.py", "", "")
    project: Any = SimpleNamespace(state=stage.state, storage=storage, options=RunOptions())
    told = in_full(project, replace(RUN, dead_letters="s3://..."), [script], ("id",))
    assert (told.journal, told.key_names, len(told.samples), told.rehearsal) == (True, ("id",), 1, False)
    assert "ValueError: no" in told.first_dead_letter and '"b"' in told.first_dead_letter


class Storage:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.objects if name.startswith(prefix)]


def test_dead_letters_are_counted_over_all_runs_of_the_document() -> None:
    failed = replace(RUN, counts=Counts(5, dead=2))
    document = tables_document([TableReport("users", "up", (RUN,)), TableReport("orders", "up", (failed, RUN))])
    assert (dead_letters_in(document), dead_letters_in({}), dead_letters_in({"error": {}})) == (4, 0, 0)
    assert dead_letters_in(undo_document(UndoReport(RUN, 1))) == 1


def test_a_job_without_a_project_ends_with_that_error(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server is there
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    arguments = {"stage": "dev", "project": "s3://bucket/project.zip", "command": "up", "region": "eu-west-1"}
    code = carry_out({**arguments, "JOB_RUN_ID": None})
    said = capfd.readouterr().err
    assert code == 1 and "http://127.0.0.1:9 refuses connections" in said and "s3://bucket/project.zip" in said
    assert os.environ["AWS_REGION"] == os.environ["AWS_DEFAULT_REGION"] == "eu-west-1"  # the job's


def test_a_job_without_a_region_is_refused(capfd: Any) -> None:
    assert carry_out({"stage": "dev", "project": "s3://bucket/project.zip", "command": "up"}) == 2
    assert "the job is given no region" in capfd.readouterr().err


BUSY, COVERED = Busy("another run has the table"), Busy("another run has the table")
COVERED.covered = True


@pytest.mark.parametrize(
    ("errors", "automatic", "code"),
    [
        ((COVERED, COVERED), "true", 0),
        ((COVERED, BUSY), "true", 3),
        ((BUSY,), None, 3),
        ((BUSY, Refused("edited")), "true", 3),
        ((BUSY, RunFailed("no")), "true", 1),
        ((), "true", 0),
    ],
)
def test_a_start_delivered_twice_is_executed_by_the_first_run_only(
    monkeypatch: pytest.MonkeyPatch, capfd: Any, errors: tuple[DynamodtError, ...], automatic: str | None, code: int
) -> None:
    def main(words: Sequence[str], ended: Callable[[CommandResult], None]) -> int:
        result = CommandResult({}, lambda console: None, errors)
        ended(result)
        return result.exit_code

    monkeypatch.setattr(job, "main", main)
    monkeypatch.setattr(job, "_unpacked", lambda *_: nullcontext())
    arguments = {"stage": "dev", "project": "s3://b/p.zip", "command": "up", "automatic": automatic}
    assert carry_out(arguments) == code
    err = capfd.readouterr().err
    assert ("has nothing to do" in err) == (bool(errors) and code == 0)
    assert ("dynamodt up --stage dev --runner glue" in err) == (errors == (COVERED, BUSY))


def test_a_cost_limit_reached_in_a_job_is_reported_as_one() -> None:
    document = error_document(CostReached("the limit of $5.00 is reached", where="run r1"))
    assert document["limit"] == "max-usd"
    assert isinstance(error_in({"error": document}), CostReached)
    assert "limit" not in error_document(RunFailed("boom"))
