"""The command line as a user types it, over operations that need no stage."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dynamodt.checks.check import CheckOptions
from dynamodt.cli import app as cli
from dynamodt.cli import console, questions
from dynamodt.cli.console import HELP
from dynamodt.cli.request import Request
from dynamodt.model.pages import Units
from dynamodt.runs import options as requests
from dynamodt.runs.options import Option, RunOptions, command_argv, options_of
from tests import ROOT
from tests.fake_operations import FakeOperations
from tests.waiting import HANG_SECONDS

PYTHONPATH = os.pathsep.join(map(str, (ROOT, ROOT / "pipelines")))
HEAVY = ("boto3", "botocore", "apache_beam", "pyarrow", "questionary", "rich", "dynamodt.dynamodb")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "transforms").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def operations(project: Path, monkeypatch: pytest.MonkeyPatch) -> FakeOperations:
    fake = FakeOperations(latest=2)
    monkeypatch.setattr(cli, "load_api", lambda: fake)
    return fake


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    return code, *capfd.readouterr()


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with both streams apart."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fake_operations", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


# ---------------------------------------------------------------- JSON and the two streams


def test_up_json_has_exactly_the_documented_shape(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "up", "--table", "users", "--to", "1", "--json")
    assert code == 0
    counts = {"read": 1000, "changed": 1000, "unchanged": 0, "superseded": 0, "vanished": 0, "dead": 0}
    version = {
        "version": 1,
        "name": "split_name",
        "run": "01RUN",
        "status": "succeeded",
        "counts": counts,
        "consumed": {"rcu": 65.0, "wcu": 1000.0},
        "seconds": 0.84,
    }
    assert json.loads(out) == {"tables": [{"table": "users", "direction": "up", "versions": [version]}]}


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--table", "users"),
        ("up", "--table", "users", "--dry"),
        ("up", "--table", "script"),
        ("up", "--table", "broken"),
        ("up", "--table", "ctrl_c"),
        ("down",),
        ("history",),
        ("status",),
        ("runs",),
        ("prepare", "-t", "users", "--tNumber", "3"),
        ("init", "-t", "users"),
        ("create", "-t", "users", "split_name"),
        ("stamp", "-t", "users", "--to", "2"),
        ("adopt", "-t", "users", "--dry-run"),
        ("up", "--stage", "nowhere"),
        ("up", "--no-such-option"),
        ("no-such-command",),
        ("up", "-i"),
        ("undo", "01RUN"),
        ("undo", "refused"),
        ("undo", "interrupted"),
        ("retry", "users"),
        ("retry", "dead"),
    ],
    ids=" ".join,
)
def test_stdout_has_only_json(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capfd, *words, "--json")
    document = json.loads(out)
    assert out.count("\n") == 1
    assert ("error" in document) == (code != 0)
    assert "Traceback" not in err
    if words[:2] == ("up", "--table"):
        assert "the author's script prints this" in err


@pytest.mark.slow
def test_stdout_of_a_process_has_only_json(project: Path) -> None:
    done = typed(project, "up", "--table", "users", "--json", APPLIED="0")
    assert len(json.loads(done.stdout)["tables"]) == done.stdout.count("\n") == 1
    assert "the author's script prints this" in done.stderr


@pytest.mark.slow
def test_results_go_to_stdout_and_notes_to_stderr(project: Path) -> None:
    done = typed(project, "up", "--table", "users")
    assert "users v1 split_name" in done.stdout
    assert "starting the local stage" in done.stderr
    assert "starting the local stage" not in done.stdout
    assert "\x1b" not in done.stdout + done.stderr  # no colour without a terminal


def test_undo_json_has_exactly_the_documented_shape(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "undo", "01RUN", "--json")
    assert code == 0
    assert json.loads(out) == {
        "table": "users",
        "run": "01RUN",
        "version": 2,
        "name": "split_name",
        "direction": "up",
        "status": "undone",
        "counts": {"read": 1000, "changed": 990, "unchanged": 2, "superseded": 5, "vanished": 3, "dead": 0},
        "consumed": {"rcu": 0.0, "wcu": 990.0},
        "seconds": 0.5,
        "restored": {"fully": 991, "partly": 0},
        "missing_parts": 0,
        "left": {
            "items": 9,
            "file": "s3://dynamodt/not-restored.jsonl",
            "first": [
                {
                    "key": {"id": {"S": "u1"}},
                    "attributes": ["name", "age"],
                    "why": "changed since the run",
                    "restored": [],
                }
            ],
        },
        "at": 1,
    }


def test_undo_reports_restored_and_kept_items(operations: FakeOperations, capfd: Any) -> None:
    _, out, _ = run(capfd, "undo", "01RUN")
    assert "users v2 split_name  undo of run 01RUN  undone" in out
    assert (
        "990 restored" in out
        and "5 not restored: changed since the run" in out
        and "3 not restored: deleted since the run" in out
    )
    assert "could not be written" not in out
    assert "9 items stay as they are, at least in part: s3://dynamodt/not-restored.jsonl" in out
    assert 'id = "u1": changed since the run (name, age)' in out
    assert "dynamodt status --table users  users is at version 1" in out
    _, out, _ = run(capfd, "undo", "01R", "--dry")
    assert "990 would be restored" in out and "dynamodt undo 01R" in out


def test_after_a_dry_run_with_dead_letters_the_next_step_is_a_corrected_dry_run(
    operations: FakeOperations, capfd: Any
) -> None:
    _, out, err = run(capfd, "up", "--table", "dead", "--dry-run", "--stage", "dev")
    assert "dry run, failed: nothing was written" in out
    assert "hint: each line names the key and the error; fix the script or the data, then: " in err
    assert "dynamodt up --table dead --stage dev --dry-run\n" in err


def test_an_interrupted_dry_run_suggests_no_continuation(operations: FakeOperations, capfd: Any) -> None:
    _, _, err = run(capfd, "up", "--table", "interrupted", "--dry-run")
    assert "nothing was written; to start again: dynamodt up --table interrupted --dry-run\n" in err


@pytest.mark.parametrize("words", [("up", "--table", "refused"), ("undo", "refused")])
def test_a_refusal_names_the_stage_in_what_to_do(
    words: tuple[str, ...], operations: FakeOperations, capfd: Any
) -> None:
    told = "dynamodt prepare --stage dev --table refused"
    assert f"hint: {told}\n" in run(capfd, *words, "--stage", "dev")[2]
    assert json.loads(run(capfd, *words, "--stage", "dev", "--json")[1])["error"]["hint"] == told


def test_the_next_steps_after_a_retry_have_its_direction(operations: FakeOperations, capfd: Any) -> None:
    code, out, err = run(capfd, "retry", "dead", "--doubtful", "again")
    assert code == 1 and "dynamodt up --table dead --dry-run" in out and "--doubtful" not in out.split("next")[1]
    assert "error: 3 items could not be transformed" in err


def test_a_child_process_cannot_write_into_the_json(
    operations: FakeOperations, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def prints(*_: object) -> list[object]:
        subprocess.run(["echo", "from a child"], check=True)
        return []

    monkeypatch.setattr(operations, "status", prints)
    code, out, err = run(capfd, "status", "--json")
    assert (code, json.loads(out)) == (0, {"tables": []})
    assert "from a child" in err


def test_json_of_a_failed_table_names_its_error_and_the_failed_version(operations: FakeOperations, capfd: Any) -> None:
    code, out, err = run(capfd, "up", "--table", "dead", "--json")
    table = json.loads(out)["tables"][0]
    assert code == 1
    assert table["versions"][0]["status"] == "failed"
    assert table["versions"][0]["dead_letters"] == ".dynamodt/dead/01RUN.jsonl"
    assert table["error"] == {
        "what": "3 items could not be transformed",
        "where": "dead v2 split_name",
        "hint": "look into the file",
        "exit_code": 1,
    }
    assert "error: 3 items could not be transformed\n  dead v2 split_name\nhint: look into the file" in err


# ---------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["users"], 0),
        (["dead"], 1),
        (["script"], 2),
        (["refused"], 3),
        (["broken"], 1),
        (["refused", "script"], 2),
        (["script", "dead", "refused"], 1),
        (["users", "refused"], 3),
        (["refused", "interrupted"], 130),
    ],
)
def test_the_most_serious_error_of_all_tables_is_the_exit_code(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], tables: list[str], expected: int
) -> None:
    words = [word for table in tables for word in ("--table", table)]
    code, out, _ = run(capfd, "up", "--json", *words)
    assert code == expected
    assert json.loads(out).get("error", {"exit_code": 0})["exit_code"] == expected


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--bogus"),
        ("bogus",),
        ("up", "--to", "x"),
        ("up", "--to", "-1"),
        ("down",),
        ("down", "-t", "a", "--max-errors", "-1"),
        ("up", "--wait-lock", "soon"),
        ("undo", "01RUN", "--wait-lock", "10"),
        ("prepare", "--table", "users"),
        ("prepare", "--tNumber", "1"),
        ("create", "--table", "users"),
        ("create", "split_name"),
        ("stamp", "--table", "users"),
        ("stamp", "--to", "1"),
        ("repair", "--table", "users"),
        ("repair", "--reason", "x"),
        ("stamp", "--table", "users", "--to", "-1"),
        ("adopt",),
        ("adopt", "--table", "users", "--to", "1"),
        ("status", "--", "--direct_num_workers", "2"),
        ("up", "users"),
        ("undo",),
        ("retry",),
        ("retry", "01RUN", "--doubtful", "perhaps"),
        ("retry", "01RUN", "--accept-all"),
        ("retry", "01RUN", "--accept", "u1", "--reason", " "),
        ("retry", "01RUN", "--accept", "u1", "--accept-all", "--reason", "why"),
        ("show",),
        ("undo", "01RUN", "--table"),
    ],
    ids=" ".join,
)
def test_misuse_exits_with_2_and_a_hint(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capfd, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert operations.calls == []


def test_without_transforms_every_command_but_init_is_refused(
    operations: FakeOperations, project: Path, capfd: Any
) -> None:
    (project / "transforms").rmdir()
    for words in ("up", "status", "status --follow", "runs", "history", "down -t a", "create -t a b"):
        code, _, err = run(capfd, *words.split())
        assert code == 2
        assert "there is no folder transforms/ here" in err
        assert "dynamodt init" in err
    assert run(capfd, "init", "--table", "users")[0] == 0


def test_a_failed_run_without_an_error_exits_with_1(
    operations: FakeOperations, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from dynamodt.model.reports import RunReport, TableReport

    failed = TableReport("users", "up", (RunReport("users", "up", 2, "x", "01RUN", "failed"),))
    monkeypatch.setattr(operations, "up", lambda *_: [failed])
    code, out, _ = run(capfd, "up", "--json")
    assert code == 1
    assert json.loads(out)["error"]["where"] == "users v2 x"


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (("up", "--table", "users"), "the same command continues it from its last checkpoint: dynamodt up"),
        (("up", "--table", "users", "--dry-run"), "to start again: dynamodt up"),
        (("prepare", "--table", "users", "--version", "1"), "to start again: dynamodt prepare"),
    ],
)
def test_the_hint_for_a_lost_service_is_the_same_command(
    operations: FakeOperations,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    way: str,
) -> None:
    from dynamodt.errors import ServiceError
    from dynamodt.model.reports import RunReport, TableReport

    lost = ServiceError("GetItem failed: refused", where="state table dynamodt-state", hint="check the network")
    failed = TableReport("users", "up", (RunReport("users", "up", 2, "x", "01RUN", "failed"),), error=lost)

    def fails(*_: object, **__: object) -> None:
        raise lost

    monkeypatch.setattr(operations, "up", lambda *_: [failed])
    monkeypatch.setattr(operations, "prepare", fails)
    code, out, _ = run(capfd, *words, "--json")
    error = json.loads(out)["error"]
    assert (code, error["what"]) == (1, "GetItem failed: refused")
    assert error["hint"].startswith(f"check the network; {way}")


def test_an_unexpected_exception_is_one_line_without_debug(project: Path) -> None:
    short = typed(project, "up", "--table", "broken")
    assert short.returncode == 1
    assert "error: KeyError: 'nobody expected this'" in short.stderr
    assert "DYNAMODT_DEBUG=1" in short.stderr
    assert "Traceback" not in short.stderr


def test_debug_shows_the_traceback_of_an_unexpected_exception(
    operations: FakeOperations, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(operations, "status", fails)
    assert "Traceback" not in run(capfd, "status")[2]
    monkeypatch.setenv("DYNAMODT_DEBUG", "1")
    code, _, err = run(capfd, "status")
    assert (code, "Traceback" in err) == (1, True)
    assert "Traceback" not in run(capfd, "up", "--stage", "nowhere")[2]


# ---------------------------------------------------------------- dynamodt's own state

OF_A_TABLE = {
    "create": ("a_name",),
    "prepare": ("--tNumber", "1"),
    "stamp": ("--to", "1"),
    "repair": ("--reason", "a test"),
    "throttle": ("--wcu", "5"),
    "undo": ("20260102T030405",),
    "retry": ("20260102T030405",),
}


@pytest.mark.parametrize(
    "command",
    sorted({"init", "up", "down", "history", "status", "runs", "import-history", *OF_A_TABLE, *requests.CONTROL}),
)
def test_every_command_refuses_the_state_table(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    code, _, err = run(capfd, command, "--table", "dynamodt-state", *OF_A_TABLE.get(command, ()))
    assert code == 3 and "dynamodt-state is a table of dynamodt's own state" in err and "hint: " in err
    assert [call for call in operations.calls if call[0] != "open_stage"] == []


# ---------------------------------------------------------------- what reaches the operations


def test_options_reach_the_operation(operations: FakeOperations, capfd: Any) -> None:
    words = ["-t", "users", "-t", "orders", "--to", "1", "--dry", "--max-errors", "7", "--runner", "spark"]
    rate = ["--max-wcu", "50", "--max-rcu", "7.5", "--share", "20"]
    run(capfd, "up", *words, *rate, "--stage", "dev", "--", "--direct_num_workers", "2", "--streaming")
    beam_args = ("--direct_num_workers", "2", "--streaming")
    options = RunOptions(True, 7, 50.0, 7.5, 20.0, runner="spark", beam_args=beam_args)
    assert operations.calls == [("open_stage", "dev"), ("up", ("users", "orders"), 1, options)]


@pytest.mark.parametrize("command", ["up", "down", "undo", "retry", "status", "history", "prepare"])
def test_options_of_beam_are_only_in_hints_where_they_can_be_typed(command: str) -> None:
    request = Request(command, tables=("users",), run="01RUN", number=1, options=RunOptions(beam_args=("--streaming",)))
    assert ("--streaming" in command_argv(request)) == (command in ("up", "down", "undo", "retry"))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((), RunOptions()),
        (("--journal",), RunOptions(journal=True)),
        (("--no-journal", "--allow-no-pitr"), RunOptions(journal=False, allow_no_pitr=True)),
        (("--pause-on-alarm", "a b", "--pause-on-alarm", "c"), RunOptions(alarms=("a b", "c"))),
        (("--wait-lock", "10m"), RunOptions(wait_lock="10m")),
    ],
    ids=["none", "journal", "without", "alarms", "wait"],
)
@pytest.mark.parametrize("command", ["up", "down"])
def test_options_for_recovery_journal_and_alarms_reach_the_run(
    operations: FakeOperations,
    capfd: pytest.CaptureFixture[str],
    command: str,
    words: tuple[str, ...],
    options: RunOptions,
) -> None:
    run(capfd, command, "-t", "users", *words)
    assert operations.calls[-1][-1] == options
    assert sorted(command_argv(Request(command, options=options))[1:]) == sorted(words)


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--table", ""),  # not all tables
        ("up", "--table", "users", "--table", " "),
        ("status", "-t", ""),
        ("up", "--pause-on-alarm", ""),  # it would pause the run for ever
        ("retry", "01RUN", "--accept", "", "--reason", "test"),
    ],
)
def test_an_empty_value_such_as_that_of_an_unset_variable_is_misuse(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, _, told = run(capfd, *words)
    assert (code, operations.calls) == (2, []) and "has an empty value" in told


@pytest.mark.parametrize("words", [("status", "--no-pitr"), ("prepare", "--no-journal"), ("up", "--pause-on-alarm")])
def test_unknown_commands_and_a_missing_name_are_misuse(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(capfd, *words)[0] == 2


@pytest.mark.parametrize("name", ["--version", "--tNumber"])
def test_prepare_takes_the_version(operations: FakeOperations, capfd: pytest.CaptureFixture[str], name: str) -> None:
    run(capfd, "prepare", "--table", "users", name, "3", "--dry-run")
    assert operations.calls[-1] == ("prepare", "users", 3, True)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("up", "--no-pitr"), RunOptions(allow_no_pitr=True)),
        (("up", "--allow-no-pitr"), RunOptions(allow_no_pitr=True)),
        (("retry", "users", "--doubtful", "again"), RunOptions(in_doubt="again")),
        (("retry", "users", "--in-doubt", "again"), RunOptions(in_doubt="again")),
        (
            ("retry", "users", "--accept", "u1", "--accept", '"a, b",7', "--reason", "why", "--by", "ann"),
            RunOptions(accept=("u1", '"a, b",7'), reason="why", by="ann"),
        ),
    ],
)
def test_old_names_of_options_are_aliases(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], options: RunOptions
) -> None:
    run(capfd, *words)
    assert operations.calls[-1][-1] == options


def test_an_old_name_of_a_command_is_an_alias(operations: FakeOperations, capfd: Any) -> None:
    assert run(capfd, "adopt", "--table", "users")[0] == 0
    assert operations.calls[-1] == ("import_history", "users", False)
    assert " adopt " not in run(capfd, "--help")[1]


def test_stamp_and_adopt_report_the_records_and_the_next_steps(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "stamp", "--table", "users", "--to", "2")
    assert (code, operations.calls[-1]) == (0, ("stamp", "users", 2, False))
    assert "recorded, and nothing run: users is at version 2" in out
    assert "v2 split_name  up  stamped" in out
    assert "dynamodt status --table users" in out and "dynamodt up --table users --dry-run" in out
    code, out, _ = run(capfd, "stamp", "--table", "users", "--to", "0", "--stage", "dev")
    assert (code, operations.calls[-1]) == (0, ("stamp", "users", 0, False))
    assert "Nothing to do: users is at version 0" in out and "dynamodt up --table users --stage dev --dry-run" in out
    code, out, _ = run(capfd, "import-history", "--table", "users", "--dry-run")
    assert (code, operations.calls[-1]) == (0, ("import_history", "users", True))
    assert "dry run: nothing was recorded: users would be at version 1" in out
    assert "dynamodt import-history --table users  " in out


def test_repair_shows_the_reason_and_both_texts(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "repair", "-t", "users", "--to", "2", "--reason", "sorted imports", "--stage", "dev")
    assert (code, operations.calls[-1]) == (0, ("repair", "users", 2, "sorted imports", False))
    assert (
        "v1 split_name  up  repaired" in out and "reason: sorted imports" in out and "v2 split_name  unchanged" in out
    )
    assert "applied: s3://b/was.py" in out and "accepted: s3://b/is.py" in out
    code, out, _ = run(capfd, "repair", "-t", "users", "--reason", "x y", "--dry-run", "--json")
    document = json.loads(out)
    assert operations.calls[-1] == ("repair", "users", None, "x y", True)
    assert document["versions"][0] == {"version": 1, "name": "initial", "outcome": "accepted"}
    assert (document["recorded"][0]["reason"], document["recorded"][0]["text"]) == ("x y", "s3://b/is.py")
    code, out, _ = run(capfd, "repair", "-t", "users", "--reason", "x y", "--dry-run")
    assert "dynamodt repair --table users --reason 'x y'  record it" in out


def test_json_of_a_stamp_has_the_documented_shape(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "stamp", "--table", "users", "--to", "1", "--json")
    document = json.loads(out)
    (recorded,) = document.pop("recorded")
    assert (code, document) == (0, {"table": "users", "at": 1, "versions": [], "dry_run": False})
    assert (recorded["version"], recorded["direction"], recorded["status"]) == (1, "up", "stamped")
    assert recorded["by"] == "ada@host" and set(recorded["counts"].values()) == {0}


def test_a_full_disk_is_not_reported_as_a_defect(
    operations: FakeOperations, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """For any file; an error that is not of the disk is shown unchanged."""
    for error, said in (
        (OSError(errno.EROFS, "Read-only file system", "local.lock"), "the file cannot be used: Read-only file system"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "this error was not expected"),
        (OSError(errno.ENOSPC, "No space left"), "the file cannot be used: No space left"),
        (OSError(errno.EIO, "Input/output error"), "this error was not expected"),
    ):
        monkeypatch.setattr(operations, "open_stage", Mock(side_effect=error))
        code, _, err = run(capfd, "status")
        assert code == 1 and said in err


def test_a_run_id_and_its_options_reach_the_operation(operations: FakeOperations, capfd: Any) -> None:
    run(capfd, "undo", "01RUN", "--dry", "-t", "users", "--max-errors", "2")
    run(capfd, "retry", "01RUN", "--doubtful", "done")
    assert operations.calls[1] == ("undo", ("users",), "01RUN", RunOptions(dry_run=True, max_errors=2))
    assert operations.calls[3] == ("retry", (), "01RUN", RunOptions(in_doubt="done"))


@pytest.mark.parametrize(
    "request_",
    [
        Request("undo", run="01RUN", tables=("users",), options=RunOptions(dry_run=True)),
        Request("retry", "dev", run="01RUN", options=RunOptions(in_doubt="again")),
        Request("deploy", "prod", options=RunOptions(dry_run=True)),
        Request("destroy", "prod", json=True, purge=True, yes=True),
        Request("deploy", "prod", json=True, state_only=True),
    ],
    ids=["undo", "retry", "deploy", "destroy", "state only"],
)
def test_the_words_of_a_command_without_a_table_parse_to_the_same_request(request_: Request) -> None:
    outer = {"beam_args": (), "json": False, "interactive": False}
    assert cli.app(command_argv(request_), standalone_mode=False, obj=outer) == request_


def test_the_words_of_a_request_parse_to_the_same_request() -> None:
    options = RunOptions(
        True, 7, 50.0, 7.5, 20.0, "spark", ("--x", "a b"), allow_no_pitr=True, journal=False, alarms=("a b", "c")
    )
    request = Request("up", "dev", ("users", "my table"), 2, options=options)
    assert read_again(request) == request
    throttle = Request("throttle", "dev", ("users",), limits=Units(rcu=7.5, wcu=50.0))
    assert read_again(throttle) == throttle


@pytest.mark.parametrize("table", ["--purge", "-x", "--", "--table=users"])
def test_a_table_name_that_begins_with_a_hyphen_is_not_an_option(table: str) -> None:
    """DynamoDB allows it, and a job in AWS gets the command as words."""
    request = Request("up", "dev", (table, "users"))
    assert read_again(request) == request


def test_a_throttle_without_a_rate_is_refused(operations: FakeOperations, capfd: Any) -> None:
    code, _, err = run(capfd, "throttle", "--table", "users")
    assert code == 2 and "--wcu" in err


def test_a_throttle_reports_the_run_s_new_limits(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "throttle", "--table", "users", "--wcu", "50")
    assert code == 0 and "keeps to 50 WCU/s" in out
    assert operations.calls[-1] == ("control_run", "users", "throttle", Units(wcu=50.0))


def read_again(request: Request) -> object:
    words = command_argv(request)
    end = words.index("--") if "--" in words else len(words)
    return cli.app(words[:end], standalone_mode=False, obj={"beam_args": tuple(words[end + 1 :])})


VALUES: dict[type, Any] = {str: "x", int: 3, float: 2.5}
WITH_OPTIONS = [command for command in HELP if options_of(command)]


def value_for(option: Option) -> Any:
    """A value that is not the option's default."""
    if option.default == ():
        return ("users", "-orders") if option.repeated else ("users",)
    if option.kind is bool:
        return not option.default
    return option.choices[-1] if option.choices else VALUES[option.kind]


def with_value(request: Request, option: Option, value: Any) -> Request:
    owner, _, name = option.field.rpartition(".")
    if owner == "limits":
        return replace(request, limits=request.limits._replace(**{name: value}))
    return replace(request, **({owner: replace(request.options, **{name: value})} if owner else {name: value}))


@pytest.mark.parametrize("command", WITH_OPTIONS)
def test_the_words_of_every_option_parse_to_the_same_value(command: str) -> None:
    for option in options_of(command):
        request = with_value(Request(command), option, value_for(option))
        read = read_again(request)
        assert isinstance(read, Request)
        assert option.value(read) == option.value(request) == value_for(option) != option.default, option


@pytest.mark.parametrize("command", WITH_OPTIONS)
def test_every_name_of_an_option_is_parsed(command: str) -> None:
    for option in options_of(command):
        for name in option.names:
            value = ("users",) if option.default == () else value_for(option)
            words = [*command.split(), *option._replace(names=(name,)).argv(value)]
            read = cli.app(words, standalone_mode=False, obj={"beam_args": ()})
            assert option.value(read) == value, name


def test_status_check_fails_unless_everything_is_applied(operations: FakeOperations, capfd: Any) -> None:
    code, out, err = run(capfd, "status", "--check", "--json")
    document = json.loads(out)
    assert code == document["error"]["exit_code"] == 1
    assert document["check"] == {
        "passed": False,
        "left": [
            {"table": "users", "version": 2, "name": "split_name", "state": "edited"},
            {"table": "users", "version": 3, "name": "join_country", "state": "pending"},
        ],
    }
    assert "edited: v2 split_name; pending: v3 join_country" in err
    operations.applied_only = True
    code, out, _ = run(capfd, "status", "--check", "--json")
    assert code == 0 and json.loads(out)["check"] == {"passed": True, "left": []}
    assert run(capfd, "status", "--check", "--follow")[0] == 2


def test_a_plan_above_its_limits_is_refused(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "plan", "-t", "users", "--sample", "50", "--max-wcu", "9", "--max-usd", "3", "--json")
    assert code == 0 and json.loads(out)["tables"][0]["usd"] == {
        "low": 1,
        "likely": 2,
        "high": 3,
        "as_of": "2026-01-01",
    }
    assert operations.calls[-1] == ("forecast", ("users",), None, RunOptions(max_wcu=9.0, max_usd=3.0), 50)
    code, out, err = run(capfd, "plan", "--max-usd", "2.5", "--max-hours", "1")
    assert code == 3 and "users at version 2 of 3" in out
    assert "up to $3.00, and --max-usd is $2.50" in err and "up to 2.00 h, and --max-hours is 1.00 h" in err
    code, out, _ = run(capfd, "plan", "--max-usd", "2.5", "--markdown")
    assert code == 3 and out.startswith("### users at version 2 of 3, 1 version pending")
    assert run(capfd, "plan", "--json", "--markdown")[0] == 2


def test_a_check_with_faults_exits_with_1_and_shows_no_items(operations: FakeOperations, capfd: Any) -> None:
    words = ("-t", "users", "--sample", "50", "--version", "2", "--variants", "7", "--max-rcu", "9", "--save")
    code, out, err = run(capfd, "check", *words)
    assert code == 0 and "v1 a  no fault" in out and "dynamodt up --table users --max-rcu 9 --dry-run" in out
    expected = CheckOptions(sample=50, version=2, variants=7, save=True)
    assert operations.calls[-1] == ("check", ("users",), expected, RunOptions(max_rcu=9.0))
    code, out, err = run(capfd, "check", "-t", "bad", "-t", "users")
    assert code == 1 and "Ada" in out and "1 fault: raises" in err and "bad v1 a" in err
    code, out, err = run(capfd, "check", "-t", "bad", "--json")
    document = json.loads(out)
    assert code == 1 and document["faults"] == 1 and document["error"]["exit_code"] == 1 and "Ada" not in out
    example = document["tables"][0]["versions"][0]["findings"][0]["example"]
    assert example == [{"label": "item", "item": {"id": {"S": "u1"}, "name": "S"}}]
    code, out, _ = run(capfd, "check", "-t", "bad", "--markdown")
    assert code == 1 and out.startswith("## bad: 1 fault") and "Ada" not in out
    assert run(capfd, "check", "-t", "script")[0] == 2 and run(capfd, "check", "-t", "script", "-t", "bad")[0] == 1
    for wrong in (
        ("--items", "f", "--export", "new"),
        ("--json", "--markdown"),
        ("--sample", "0"),
        ("--variants", "0"),
    ):
        assert run(capfd, "check", *wrong)[0] == 2


def test_validate_needs_no_stage(project: Path, capfd: Any) -> None:
    (project / "transforms" / "users").mkdir(parents=True)
    (project / "transforms" / "users" / "v1_a.py").write_text(
        "sequence = 1\ndef transform_up(item):\n    return item\n"
    )
    (project / "transforms" / "users" / "v2_b.py").write_text("sequence = 3\ndef transform_up(item):\nreturn\n")
    code, out, err = run(capfd, "validate")
    assert code == 2 and out == "users  2 versions  1 error\n" and "transforms/users/v2_b.py:3" in err
    (project / "transforms" / "users" / "v2_b.py").unlink()
    code, out, _ = run(capfd, "validate", "--json")
    document = json.loads(out)
    assert code == 0 and document["valid"] and document["tables"][0]["versions"][0]["functions"] == ["up"]
    assert not (project / ".dynamodt").exists()


def test_local_stop_reports_the_resulting_state(project: Path, capfd: Any) -> None:
    code, out, _ = run(capfd, "local", "stop", "--json")
    document = json.loads(out)
    assert code == 0
    assert document == {"running": False, "url": None, "pid": None, "since": None, "folder": document["folder"]}
    assert document["folder"].startswith(str(project))


# ---------------------------------------------------------------- stopping


@pytest.mark.slow
@pytest.mark.parametrize(("table", "code", "name"), [("ctrl_c", 130, "Ctrl-C"), ("sigterm", 143, "SIGTERM")])
def test_a_signal_ends_with_a_report_and_the_command_to_continue(
    project: Path, table: str, code: int, name: str
) -> None:
    done = typed(project, "up", "-t", "users", "-t", table, "--to", "1")
    assert done.returncode == code
    assert f"error: stopped by {name}" in done.stderr
    assert "dynamodt status" in done.stderr
    assert f"dynamodt up --table users --table {table} --to 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"{table} v1 split_name  up  stopped" in done.stdout
    assert "400 =" in done.stdout


def test_an_interrupt_in_the_menu_reports_the_chosen_command(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(questions, "choose", lambda request, folder: Request("up", tables=("ctrl_c",)))
    code, out, err = run(capfd, "-i")
    assert code == 130 and "400.0 write units" in out and "dynamodt up --table ctrl_c" in err

    def leave(request: Request, folder: Path) -> Request:
        raise KeyboardInterrupt

    monkeypatch.setattr(questions, "choose", leave)
    code, out, err = run(capfd, "-i")
    assert code == 130 and not out and "hint: nothing was started; to choose again: dynamodt -i\n" in err


def test_json_of_a_stopped_run_has_its_counts(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "up", "-t", "ctrl_c", "--json")
    document = json.loads(out)
    assert (code, document["error"]["exit_code"]) == (130, 130)
    assert document["tables"][0]["versions"][0]["status"] == "stopped"
    assert document["tables"][0]["versions"][0]["counts"]["changed"] == 400


# ---------------------------------------------------------------- watching


@pytest.mark.slow
def test_following_prints_one_json_line_per_poll_and_the_outcome_last(project: Path) -> None:
    done = typed(project, "status", "--follow", "--table", "users", "--json")
    *polls, last = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 0
    assert [look["percent"] for look in polls] == [*range(10, 101, 10)]
    assert set(polls[0]) == {
        "at", "table", "run", "version", "name", "direction", "status", "held_by", "percent", "units", "counts",
        "contention", "consumed", "per_second", "budget", "seconds", "seconds_left",
    }  # fmt: skip
    assert polls[4]["status"] == "paused" and polls[5]["status"] == "running"
    assert polls[9]["contention"] == {"conflicts": 10, "throttles": 1} and polls[9]["budget"] == {
        "rcu": 0,
        "wcu": 500,
    }
    assert polls[0]["seconds"] >= 12
    assert [(run["table"], run["status"], run["counts"]["read"]) for run in last["runs"]] == [
        ("users", "succeeded", 1000)
    ]
    assert "starting the local stage" in done.stderr


def test_following_a_run_that_fails_is_a_failure(operations: FakeOperations, capfd: Any) -> None:
    code, out, err = run(capfd, "status", "--follow", "-t", "users", "-t", "dead")
    assert code == 1
    assert "dead v2 split_name  up  failed" in out and "users v2 split_name  up  succeeded" in out
    assert "the run failed" in err


def test_following_without_an_active_run_reports_that(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "status", "--follow")
    assert (code, out.splitlines()[-1]) == (0, "No run is in progress.")
    code, out, _ = run(capfd, "status", "--follow", "--json")
    assert (code, json.loads(out)) == (0, {"runs": []})


@pytest.mark.slow
def test_ctrl_c_ends_only_the_following(project: Path) -> None:
    done = typed(project, "status", "--follow", "--table", "ctrl_c")
    assert done.returncode == 130
    assert "the runs continue" in done.stderr
    assert "dynamodt status --table ctrl_c --follow" in done.stderr
    assert "stopping when the requests" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_closed_pipe_ends_the_following(project: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_operations", "status", "--follow", "-t", "users", "--json"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "STEPS": "one for each line of stdin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    print(file=process.stdin, flush=True)
    assert json.loads(process.stdout.readline())["percent"] == 10
    process.stdout.close()
    process.stdin.close()
    said = process.stderr.read()
    assert process.wait(HANG_SECONDS) == 0
    assert "Error" not in said and "Traceback" not in said


def test_json_of_runs_has_the_holder(operations: FakeOperations, capfd: Any) -> None:
    code, out, _ = run(capfd, "runs", "--json")
    (found,) = json.loads(out)["runs"]
    assert code == 0
    assert set(found) == {
        "table", "run", "version", "name", "direction", "status", "started", "ended", "by", "reason", "commit",
        "counts", "dead_letters", "error", "holder",
    }  # fmt: skip
    assert found["holder"] == {"user": "ada", "host": "laptop", "pid": 17, "since": "2025-06-01T10:00:00Z"}


# ---------------------------------------------------------------- help, and how fast it is

COMMANDS = (
    "plan",
    "validate",
    "deploy",
    "destroy",
    "stamp",
    "import-history",
    "repair",
    "init",
    "create",
    "prepare",
    "up",
    "down",
    "undo",
    "retry",
    "history",
    "status",
    "runs",
    "pause",
    "resume",
    "throttle",
    "abort",
    "unlock",
    "local status",
    "local stop",
    "local reset",
)


@pytest.mark.parametrize("command", ["", *COMMANDS, "local"])
def test_every_help_page_has_an_example_and_the_exit_codes(command: str, capfd: Any) -> None:
    code, out, _ = run(capfd, *command.split(), "--help")
    assert code == 0
    assert "Example" in out
    assert f"dynamodt {command}".strip() in out.split("Example", 1)[1]
    assert "Exit codes:" in out
    if command and command != "local":
        assert "--json: {" in out


def imported_for(folder: Path, *words: str, program: Sequence[str] = ("-m", "dynamodt")) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *program, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "pipelines")},
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize("words", [("--help",), ("up", "--help"), ("--version",)], ids=" ".join)
def test_help_imports_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    modules = imported_for(tmp_path, *words)
    assert "typer" in modules  # the measurement itself works
    assert not [m for m in modules if m in HEAVY or m.startswith(tuple(f"{name}." for name in HEAVY))]


def test_the_command_line_itself_needs_no_beam_and_no_questionary(project: Path) -> None:
    for words in (("local", "status"), ("local", "reset", "--yes")):
        assert not {"apache_beam", "pyarrow", "questionary", "boto3"} & imported_for(project, *words)


def test_help_imports_few_modules(tmp_path: Path) -> None:
    """Its cost is counted in modules and not measured in seconds, since its time is that of its imports."""
    plain = imported_for(tmp_path, program=("-c", "pass"))
    modules = imported_for(tmp_path, "--help") - plain
    assert len({name for name in modules if name.startswith("dynamodt")}) <= 17  # 17 today, three of them the texts
    assert len(modules) <= 150  # 127 today, 27 of them typer's


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--max-wcu", "0"),
        ("down", "--table", "users", "--max-rcu", "0.0"),
        ("throttle", "--table", "users", "--wcu", "0"),
        ("throttle", "--table", "users", "--rcu", "0", "--wcu", "5"),
    ],
)
@pytest.mark.usefixtures("operations")
def test_a_rate_of_0_is_refused(capfd: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, _, err = run(capfd, *words)
    assert code == 2 and "must be above 0" in err and "dynamodt pause" in err


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize(
    ("words", "subject"),
    [
        (("up", "--table", "dead"), ["dead", 1, "01RUN"]),
        (("up", "--table", "ctrl_c"), ["ctrl_c", 1, "01RUN"]),
        (("undo", "refused", "--table", "users"), ["users", None, None]),
    ],
)
def test_an_error_in_json_has_its_table_version_and_run(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], subject: list[object]
) -> None:
    lines = [json.loads(line) for line in run(capfd, *words, "--log-format", "json")[2].splitlines()]
    assert lines[-1]["level"] == "ERROR" and [lines[-1][name] for name in ("table", "version", "run")] == subject
    assert all(line["run"] for line in lines if line["message"].endswith("items"))


@pytest.mark.usefixtures("operations")
def test_an_error_of_the_parser_suggests_the_command_with_all_of_its_options(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        "dynamodt pause --stage prod --table a " in run(capfd, "up", "-t", "a", "--stage", "prod", "--max-wcu", "0")[2]
    )
    extra = run(capfd, "up", "users", "--dry-run", "--stage", "prod", "--to", "3")[2]
    assert "dynamodt up --table users --to 3 --stage prod --dry-run\n" in extra
    monkeypatch.setenv("DYNAMODT_STAGE", "dev")
    assert "dynamodt down --table users --stage dev\n" in run(capfd, "down", "users")[2]


@pytest.mark.parametrize("words", [("-t", "users", "-t", "orders"), ("-t", "users,orders")])
def test_a_command_of_one_table_refuses_a_second_one(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, _, err = run(capfd, "down", *words, "--to", "0", "--dry-run")
    assert code == 2 and "`down` takes one --table" in err and operations.calls == []
    assert "dynamodt down --table users --to 0 --dry-run" in err


def test_the_example_of_a_command_keeps_the_options_that_were_given(capfd: pytest.CaptureFixture[str]) -> None:
    err = run(capfd, "stamp", "--table", "users", "--stage", "prod", "--dry-run")[2]
    assert "dynamodt stamp --to N --table users --stage prod --dry-run" in err


@pytest.mark.parametrize(
    "words", [("-n", "users,orders"), ("--tableNames", "users, orders"), ("-t", "users", "-t", "orders")]
)
def test_several_tables_in_one_word(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    request = cli.app(["up", "-d", *words], standalone_mode=False, obj={"beam_args": ()})
    assert (request.tables, request.options.dry_run) == (("users", "orders"), True)


@pytest.mark.usefixtures("operations")
def test_help_is_a_command_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "help", "up") == run(capfd, "up", "--help")


@pytest.mark.usefixtures("operations")
def test_only_similar_options_are_suggested(capfd: pytest.CaptureFixture[str]) -> None:
    assert "hint: did you mean --table? dynamodt up --help\n" in run(capfd, "up", "--tabel", "users")[2]
    assert "hint: dynamodt up --help\n" in run(capfd, "up", "--foo")[2]


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("up users", "dynamodt up --table users"),
        ("up users orders", "dynamodt up --table users --table orders"),
        ("deploy prod", "dynamodt deploy --stage prod"),
        ("create orders add_total", "dynamodt create --help"),
    ],
)
def test_an_argument_without_its_option_is_suggested_with_it(
    capfd: pytest.CaptureFixture[str], words: str, hint: str
) -> None:
    code, _, err = run(capfd, *words.split())
    assert code == 2 and err.endswith(f"{hint}\n")


@pytest.mark.parametrize("command", ["history", "runs"])
def test_a_table_without_a_run_and_a_folder_is_mentioned(
    operations: FakeOperations, project: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    (project / "transforms" / "users").mkdir(exist_ok=True)
    setattr(operations, command, lambda *_: {} if command == "history" else [])
    assert "Did you mean users?" in run(capfd, command, "--table", "usres")[2]
    assert "there is no folder" not in run(capfd, command, "--table", "users")[2]


def test_another_folder_is_entered_for_one_command(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.chdir(project.parent)
    code, out, err = run(capfd, "-C", project.name, "up", "-t", "users")
    assert code == 0 and f"dynamodt -C {project.name} status" in out, err
    assert Path.cwd() == project.parent
    code, _, err = run(capfd, "-C", "nowhere", "status")
    assert code == 2 and "nowhere" in err


def test_the_stage_of_the_environment_is_shown_and_is_in_hints(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMODT_STAGE", "dev")
    _, out, err = run(capfd, "up", "-t", "users")
    assert "stage dev, from DYNAMODT_STAGE" in err and "dynamodt status --stage dev" in out
    _, out, err = run(capfd, "up", "-t", "users", "--stage", "local")
    assert "DYNAMODT_STAGE" not in err and "dynamodt status --stage local" in out


def test_a_table_name_is_checked_before_the_stage_is_opened(
    operations: FakeOperations, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(operations, "open_stage", lambda *of: opened.append(of))
    code, _, err = run(capfd, "init", "--table", "a")
    assert (code, opened) == (2, []) and "'a' is not the name of a DynamoDB table" in err


def test_run_ids_are_completed_from_the_history_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (option,) = (option for option in options_of("show") if option.field == "run")
    parsed = {"stage": "prod", "tables": "users"}
    monkeypatch.setattr(console, "_history", lambda stage, tables: [f"2026-{stage}-{tables}"])
    assert console.offered(option, parsed) == ["2026-prod-users"]
    monkeypatch.setattr(console, "_history", lambda stage, tables: 1 // 0)
    assert console.offered(option, parsed) == []
