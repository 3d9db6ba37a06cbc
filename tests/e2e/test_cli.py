"""The commands against the embedded stage: their JSON, their exit codes, and how they end when they are stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project, interrupt
from tests.emulators import answers
from tests.waiting import HANG_SECONDS, HOLD, until

COUNTS = {"read", "changed", "unchanged", "superseded", "vanished", "dead"}
TABLES = """
[stages.local.tables]
things = { id = "S" }
interrupted = { id = "S" }
killed = { id = "S" }
failing = { id = "S" }
taken = { id = "S" }
"""
ROWS = 'def items():\n    for n in range({}):\n        yield {{"id": f"thing-{{n:05}}", "n": n}}\n'
ADD = """
from dynamodt import without

def transform_up(item):
    return {**item, "more": True}

def transform_down(item):
    return without(item, "more")
"""
# Most of the items are done, in whole pages, before it waits to be stopped; it doubles, so that a second pass over an
# item shows.
HELD = f"""{HOLD}
seen = 0

def transform_up(item):
    global seen
    seen += 1
    if seen > 500:
        hold("go-on")
    return {{**item, "n": item["n"] * 2}}
"""


@pytest.fixture(scope="module")
def things(project: Project) -> Project:
    """The project of a user: some tables of a few items each, and a stage of its own."""
    (project.folder / "dynamodt.toml").write_text(TABLES, encoding="utf-8")
    for path in (project.folder / "transforms" / "users").rglob("*.py"):
        path.unlink()
    for table, rows in {"things": 200, "failing": 200, "interrupted": 1000, "killed": 1000}.items():
        project.script(table, 1, "add", ROWS.format(rows))
    project.ok("up")
    return project


# ---------------------------------------------------------------- the shapes of --json


def test_up_down_and_a_dry_run(things: Project) -> None:
    path = things.script("things", 2, "more", ADD)
    before = _items(things, "things")
    (table,) = things.json("up", "--table", "things", "--dry")["tables"]
    assert [(v["status"], v["counts"]["changed"]) for v in table["versions"]] == [("dry-run", 200)]
    cost = table["versions"][0]["cost"]
    assert set(cost) == {"wcu", "wcu_most", "rcu", "s3_requests", "export_bytes", "usd"}
    assert (cost["wcu"], cost["usd"]) == (200, None) and cost["s3_requests"]["put"] > 0
    assert _items(things, "things") == before
    for command in ("up", "down"):
        (table,) = things.json(command, "--table", "things")["tables"]
        (version,) = table["versions"]
        assert set(table) == {"table", "direction", "versions"}
        assert set(version) == {"version", "name", "run", "status", "counts", "consumed", "seconds"}
        assert (table["table"], table["direction"]) == ("things", command)
        assert (version["version"], version["name"], version["status"]) == (2, "more", "succeeded")
        assert version["counts"] == {**dict.fromkeys(COUNTS, 0), "read": 200, "changed": 200}
        assert version["consumed"]["wcu"] == 200
        assert version["seconds"] > 0
        assert (_items(things, "things") == before) is (command == "down")
    path.unlink()


def test_history_and_status(things: Project) -> None:
    (table,) = things.json("history", "--table", "things")["tables"]
    run = table["runs"][0]
    assert set(run) == {
        "run", "version", "name", "direction", "checksum", "status", "started", "ended", "by", "reason", "commit",
        "counts", "consumed", "seconds", "dead_letters", "error", "undone", "text",
    }  # fmt: skip
    assert (run["version"], run["direction"], run["status"], run["error"]) == (1, "up", "succeeded", None)
    assert set(run["counts"]) == COUNTS
    statuses = things.json("status")["tables"]
    assert {status["table"] for status in statuses} == {"things", "failing", "interrupted", "killed"}
    (version, *_) = statuses[0]["versions"]
    assert set(version) == {"version", "name", "state", "path", "when"}


def test_a_history_of_dynamo_data_transform_is_imported(things: Project) -> None:
    paths = [things.script("taken", 1, "add", ROWS.format(20)), things.script("taken", 2, "more", ADD)]
    history = {"2023-05-04T08:15:30.123Z": {"M": {"transformationNumber": {"N": "1"}, "executedCommand": {"S": "up"}}}}
    record = {"executionState": {"L": [{"N": "1"}]}, "TransformationsRunHistory": {"M": history}}
    client = things.client()
    for item in ({"id": {"S": "DataTransformations"}, **record}, {"id": {"S": "u1"}}):
        client.put_item(TableName="taken", Item=item)
    refused = things.ddt("up", "--table", "taken")
    assert (refused.returncode, "dynamodt import-history --table taken" in refused.stderr) == (3, True), refused.stderr
    adopted = things.json("adopt", "--table", "taken")
    assert (adopted["at"], [run["status"] for run in adopted["recorded"]]) == (1, ["adopted"])
    assert "Nothing to do: taken is at version 1" in things.ok("adopt", "--table", "taken")
    (table,) = things.json("up", "--table", "taken")["tables"]
    assert [(run["version"], run["counts"]["read"]) for run in table["versions"]] == [(2, 1)]
    assert "v2 more  down  stamped" in things.ok("stamp", "--table", "taken", "--to", "1")
    (table,) = things.json("history", "--table", "taken")["tables"]
    assert [run["status"] for run in table["runs"]] == ["adopted", "succeeded", "stamped"]
    for path in paths:
        path.unlink()


def test_init_and_create(things: Project) -> None:
    made = things.json("init", "--table", "fresh")
    assert [Path(path).name for path in made["files"]] == ["v1_initial.py", "test_fresh_v1_initial.py"]
    assert all(things.folder.joinpath(path).is_file() for path in made["files"])
    assert things.json("init", "--table", "fresh") == {"files": [], "dry_run": False}
    (script, test) = things.json("create", "--table", "fresh", "second_step")["files"]
    assert Path(script).name == "v2_second_step.py"
    assert Path(test).name == "test_fresh_v2_second_step.py"
    tests = things.sh(f"python -m pytest -q {Path(test).parent}")
    assert tests.returncode == 0, tests.stdout  # the templates' tests pass as they are
    for path in (*made["files"], script, test):
        things.folder.joinpath(path).unlink()


def test_prepare(things: Project) -> None:
    path = things.script("things", 2, "joined", ADD + 'def prepare(context):\n    yield "a", 1\n    yield "b", None\n')
    prepared = things.json("prepare", "--table", "things", "--tNumber", "2")
    assert set(prepared) == {
        "table", "version", "url", "rows", "sha256", "script_checksum", "created", "dry_run",
    }  # fmt: skip
    assert (prepared["rows"], prepared["dry_run"], len(prepared["sha256"])) == (2, False, 64)
    path.unlink()


def test_a_script_that_imports_beam_shows_no_warnings_of_beam(things: Project) -> None:
    prepare = 'import apache_beam as beam\n\ndef prepare(context):\n    yield "a", 1\n\n'
    path = things.script(
        "things",
        2,
        "dofn",
        prepare + "class TransformUp(beam.DoFn):\n    def process(self, item):\n        yield item\n",
    )
    for words in ("prepare --tNumber 2", "up --dry-run"):
        done = things.sh(f"dynamodt {words} --table things")
        assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    path.unlink()


TALKING = """
import logging

class TransformUp:
    def setup(self):
        print("begun")

    def process(self, item):
        if item["id"] == "thing-00007":
            logging.getLogger("shop").warning("an odd one")
        return [item]
"""


@pytest.mark.parametrize("where", ["", " -- --direct_running_mode=multi_processing --direct_num_workers=1"])
def test_what_a_script_prints_and_logs_is_shown_with_its_version(things: Project, where: str) -> None:
    path = things.script("things", 2, "talking", TALKING)
    done = things.sh(f"dynamodt up --dry-run --json --log-file {path}.log --log-format json --table things{where}")
    lines = [line.partition(" ")[2] for line in done.stderr.splitlines()]
    assert "things v2: begun" in lines and "things v2: WARNING shop: an odd one" in lines, done.stderr
    assert json.loads(done.stdout)["tables"][0]["versions"][0]["counts"]["read"] == 200
    assert not [line for line in lines if "apache_beam" in line or "harness" in line]
    log = Path(f"{path}.log")
    assert [one["message"] for one in map(json.loads, log.open()) if one["logger"] == "shop"] == ["an odd one"]
    path.unlink()
    log.unlink()


@pytest.mark.chaos
def test_retry_and_undo(things: Project) -> None:
    """A run has a dead letter; the script is corrected, the dead letter retried, and the run undone without a
    transform_down."""
    before = _items(things, "things")
    frail = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2, "m": 1 / (item["n"] - {})}\n'
    frail = frail.replace("1 /", "100 //")
    path = things.script("things", 2, "frail", frail.replace("{}", "7"))
    assert things.ddt("up", "--table", "things").returncode == 1
    run = things.json("history", "--table", "things")["tables"][0]["runs"][-1]["run"]
    path = things.script("things", 2, "frail", frail.replace("{}", "1000"))
    (table,) = things.json("retry", run)["tables"]
    assert [(v["run"], v["status"], v["counts"]["changed"]) for v in table["versions"]] == [(run, "succeeded", 200)]
    refused = things.json("retry", run)["error"]
    assert refused["exit_code"] == 3 and "has ended (succeeded)" in refused["what"]

    live = {"id": {"S": "thing-00003"}, "n": {"N": "6"}, "m": {"S": "mine"}}
    things.client().put_item(TableName="things", Item=live)
    foreseen = things.json("undo", run[:22], "--dry-run")
    assert (foreseen["status"], foreseen["left"]["items"], foreseen["at"]) == ("dry-run", 1, 2)
    said = things.ok("undo", run[:22])
    assert "200 restored" in said and "1 item stays" in said and 'id = "thing-00003": changed since the run (m)' in said
    after = {item["id"]["S"]: item for item in _items(things, "things")}
    assert after.pop("thing-00003") == {**live, "n": {"N": "3"}}
    assert list(after.values()) == [item for item in before if item["id"] != live["id"]]
    assert things.json("status", "--table", "things")["tables"][0]["at"] == 1
    assert things.json("undo", run)["error"]["exit_code"] == 3
    assert things.json("undo", "nothing")["error"]["exit_code"] == 2
    assert "undone 20" in things.ok("history", "--table", "things")
    things.client().put_item(TableName="things", Item=next(item for item in before if item["id"] == live["id"]))
    path.unlink()


@pytest.mark.chaos
def test_dead_letters_are_shown_some_accepted_and_the_others_tolerated(things: Project) -> None:
    frail = 'def transform_up(item):\n    return {**item, "m": 100 // (item["n"] % 100)}\n'
    paths = [things.script("failing", 2, "frail", frail), things.script("failing", 3, "more", ADD)]
    run = things.json("up", "--table", "failing", "--to", "2")["tables"][0]["versions"][0]["run"]
    keys = things.ok("show", run[:22], "--keys").split()
    shown = things.json("show", run)
    (error,) = shown["errors"]
    assert (shown["status"], error["keys"], error["first"]["frames"][0]["path"]) == (
        "failed", keys, "transforms/failing/v2_frail.py",
    )  # fmt: skip
    assert "apache_beam" not in things.ok("show", run) and "apply.py" in things.ok("show", run, "-v")
    unknown = things.ddt("retry", run, "--accept", "no-such-key", "--reason", "why")
    assert unknown.returncode == 2 and keys[0] in unknown.stderr

    done = things.ddt("retry", run, "--accept", keys[0], "--reason", "a test", "--by", "ann", "--max-errors", "1")
    assert done.returncode == 0 and "succeeded with 2 dead letters, 1 accepted" in done.stdout
    assert "warning: " in done.stderr and f"dynamodt retry --table failing --by ann {run}" in done.stdout
    assert things.json("retry", run, "--accept-all", "--reason", "all")["tables"][0]["versions"][0]["accepted"] == 2
    later = things.json("up", "--table", "failing")["tables"][0]["versions"][0]["run"]
    assert "1 dead letter accepted" in things.ok("history", "--table", "failing")
    things.ok("undo", later)
    things.ok("undo", run)
    for path in paths:
        path.unlink()


# ---------------------------------------------------------------- exit codes


def test_exit_code_0_when_there_is_nothing_to_do(things: Project) -> None:
    done = things.sh("dynamodt up --table things")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing to do: things is at version 1\n" in done.stdout


def test_exit_code_1_for_dead_letters_which_are_in_a_file_and_stop_no_other_table(things: Project) -> None:
    failing = things.script("failing", 2, "fail", 'def transform_up(item):\n    return item["n"] / (item["n"] - 7)\n')
    other = things.script("things", 2, "more", ADD)
    accept = "--accept-partly-restored"  # the items that the last undo has restored in part were corrected by hand
    done = things.ddt("up", "--table", "failing", "--table", "things", "--max-errors", "199", accept)
    assert done.returncode == 1
    assert "200 items could not be transformed or written" in done.stderr
    assert "things v2 more  up  succeeded" in done.stdout
    assert 'the first: id = "thing-' in done.stdout
    named = done.stdout.partition("the file: ")[2].splitlines()[0]
    dead_letters = [json.loads(line) for line in things.folder.joinpath(named).read_text().splitlines()]
    assert len(dead_letters) == 200
    division = next(dead_letter for dead_letter in dead_letters if dead_letter["key"] == {"id": {"S": "thing-00007"}})
    assert "DivisionByZero" in division["error"] + division["traceback"]
    assert "transforms/failing/v2_fail.py" in division["traceback"]
    assert {table["table"]: table["at"] for table in things.json("status")["tables"]}["failing"] == 1
    things.ok("down", "--table", "things")
    failing.unlink()
    other.unlink()


def test_exit_code_2_for_a_faulty_script_named_by_file_and_line(things: Project) -> None:
    path = things.script("things", 2, "wrong", "def transform_up(item):\nreturn item\n")
    done = things.ddt("up", "--table", "things")
    assert (done.returncode, done.stdout) == (2, "")
    assert "transforms/things/v2_wrong.py:3" in done.stderr
    path.unlink()


def test_exit_code_3_for_an_edited_script(things: Project) -> None:
    path = things.folder / "transforms" / "things" / "v1_add.py"
    text = path.read_text()
    path.write_text(text + "\nEDITED = True\n")
    done = things.ddt("up", "--table", "things", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode == 3
    assert "edited" in error["what"]
    assert things.json("status", "--table", "things")["tables"][0]["versions"][0]["state"] == "edited"
    path.write_text(text)


def test_exit_code_2_for_a_fault_in_one_folder_which_hides_no_other_table(things: Project) -> None:
    path = things.script("things", 2, "wrong", "def transform_up(item):\nreturn item\n")
    done = things.ddt("status", "--json")
    document = json.loads(done.stdout)
    found = {table["table"]: table for table in document["tables"]}
    assert done.returncode == document["error"]["exit_code"] == found["things"]["error"]["exit_code"] == 2
    assert "v2_wrong.py:3" in found["things"]["error"]["where"] and found["things"]["versions"] == []
    assert [version["state"] for version in found["killed"]["versions"]] == ["applied"]
    said = things.ddt("status")
    assert "things at version 1, its folder has an error" in said.stdout and "killed at version 1" in said.stdout
    assert "v2_wrong.py:3" in said.stderr
    path.unlink()


def test_an_unreachable_endpoint_is_reported_in_one_line(things: Project) -> None:
    done = things.ddt("status", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "refuses connections" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- stopped


@pytest.fixture
def go_on(things: Project) -> Iterator[Path]:
    """The file at which the held scripts continue."""
    path = things.folder / "go-on"
    yield path
    path.unlink(missing_ok=True)


def test_ctrl_c_reports_what_was_done(things: Project, go_on: Path) -> None:
    things.script("interrupted", 2, "double", HELD)
    process = things.start("up", "--table", "interrupted", "--json")
    assert process.stdout is not None and process.stderr is not None
    until(lambda: _doubled(things, "interrupted"), "a first item is doubled", process)
    interrupt(process)
    said = [process.stderr.readline()]
    while "stopping when the requests in flight are answered" not in said[-1]:
        assert said[-1], f"it ended without a word of stopping: {said}"
        said.append(process.stderr.readline())
    go_on.touch()
    err, out = "".join([*said, process.stderr.read()]), process.stdout.read()
    assert process.wait(HANG_SECONDS) == 130
    assert "Traceback" not in err
    assert "dynamodt up --table interrupted" in err  # how to go on
    (version,) = json.loads(out)["tables"][0]["versions"]
    assert version["status"] == "stopped"
    doubled = _doubled(things, "interrupted")
    assert 0 < doubled < 1000 and version["counts"]["changed"] <= doubled  # a page that is left is not counted yet
    status = things.json("status", "--table", "interrupted")["tables"][0]
    assert [v["state"] for v in status["versions"]] == ["applied", "unfinished"]
    assert status["versions"][1]["run"]["status"] == "stopped"
    last = things.json("history", "--table", "interrupted")["tables"][0]["runs"][-1]
    assert (last["status"], last["error"]["what"]) == ("stopped", "stopped by Ctrl-C")
    continued = things.ddt("up", "--table", "interrupted", "--json")
    assert "from its checkpoints" in continued.stderr
    counts = json.loads(continued.stdout)["tables"][0]["versions"][0]["counts"]
    assert (counts["read"], counts["changed"], counts["unchanged"]) == (1000, 999, 1)  # 0 is not doubled
    _check_each_doubled_once(things, "interrupted")


def test_a_killed_command_leaves_the_stage_running_and_the_next_command_continues_the_run(
    things: Project, go_on: Path
) -> None:
    things.script("killed", 2, "double", HELD)
    before = things.json("local", "status")
    process = things.start("up", "--table", "killed")
    until(lambda: _doubled(things, "killed"), "a first item is doubled", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG_SECONDS)
    assert things.json("local", "status") == before
    assert _doubled(things, "killed") < 1000
    assert "no end is recorded" in things.ok("history", "--table", "killed")
    go_on.touch()
    again = things.ddt("up", "--table", "killed")
    assert again.returncode == 0, again.stderr
    assert "from its checkpoints" in again.stderr
    _check_each_doubled_once(things, "killed")


def test_a_pipe_closed_by_its_reader_is_no_failure(things: Project) -> None:
    done = things.sh("dynamodt status | head -n 1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- the embedded stage


def test_local_status_stop_reset(things: Project) -> None:
    running = things.json("local", "status")
    assert set(running) == {"running", "url", "pid", "since", "folder"}
    assert running["url"].startswith("http://127.0.0.1:")
    before = _items(things, "things")

    assert things.json("local", "stop")["running"] is False
    assert not answers(int(running["url"].rpartition(":")[2]))
    assert things.json("status", "--table", "things")["tables"][0]["at"] == 1  # it starts again by itself
    assert things.json("local", "status")["pid"] != running["pid"]
    assert _items(things, "things") == before

    assert things.json("local", "reset")["running"] is False
    assert not (things.folder / ".dynamodt" / "local").exists()
    assert things.json("status", "--table", "things")["tables"][0]["at"] == 0


def _items(project: Project, table: str) -> list[dict[str, Any]]:
    pages = project.client().get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return sorted((item for page in pages for item in page["Items"]), key=lambda item: item["id"]["S"])


def _doubled(project: Project, table: str) -> int:
    """The number of items that differ from version 1's."""
    return sum(int(item["n"]["N"]) != int(item["id"]["S"].removeprefix("thing-")) for item in _items(project, table))


def _check_each_doubled_once(project: Project, table: str) -> None:
    """HELD is not idempotent: an item that it has transformed twice has four times its number."""
    for item in _items(project, table):
        assert int(item["n"]["N"]) == 2 * int(item["id"]["S"].removeprefix("thing-"))
