"""The embedded local stage, with the real emulator: started once, found again, on loopback only, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dynamodt import api as operations
from dynamodt.config.stage import load_stage
from dynamodt.dynamodb.clients import client
from dynamodt.errors import Refused, ServiceError, UsageError
from dynamodt.local import emulator, install
from dynamodt.local import stage as local
from dynamodt.model.tables import Connection, Stage
from dynamodt.runs.liveness import Process
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.state.state import State
from tests import programs
from tests.emulators import Endpoint, in_chaos
from tests.waiting import HANG_SECONDS, until

STARTER = """
import sys
from pathlib import Path
from dynamodt.local import stage as local
print("ready", flush=True)
sys.stdin.readline()
print(local.ensure_started(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project's folder with one table; an emulator that was started in it is ended, and its data deleted, after the
    test."""
    (tmp_path / "dynamodt.toml").write_text('[stages.local.tables]\nusers = { id = "S", at = "N" }\n')
    yield tmp_path
    local.reset(tmp_path)


def dynamodb(url: str) -> Any:
    return client(Connection("us-east-1", endpoint_url=url, access_key="local", secret_key="local"), "dynamodb")


def opened(folder: Path) -> Stage:
    return local.open_stage(load_stage("local", folder), folder)


def start_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Another command, in a process group of its own: on the input `go` it starts the stage, and it ends with its
    stdin."""
    command, pipe = [sys.executable, "-c", STARTER, str(folder)], subprocess.PIPE
    process = programs.popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    assert first_line(process) == "ready"
    return process


def go(command: subprocess.Popen[str]) -> None:
    assert command.stdin is not None
    command.stdin.write("go\n")
    command.stdin.flush()


def first_line(command: subprocess.Popen[str]) -> str:
    assert command.stdout is not None
    return command.stdout.readline().strip()


# ---------------------------------------------------------------- started, and found again


def test_the_emulator_is_started_once_and_found_again(folder: Path) -> None:
    assert not local.status(folder).running
    url = local.ensure_started(folder)
    before = local.status(folder)
    assert local.ensure_started(folder) == url
    assert local.status(folder) == before
    assert (before.running, before.url, before.folder) == (True, url, folder / ".dynamodt" / "local")
    assert before.pid != os.getpid()
    assert before.since.startswith("20")


def test_tables_buckets_and_the_port_are_kept_over_a_stop(folder: Path) -> None:
    stage = opened(folder)
    url = str(stage.connection.endpoint_url)
    dynamodb(url).put_item(TableName="users", Item={"id": {"S": "u1"}, "at": {"N": "1"}})
    client(stage.connection, "s3").put_object(Bucket="dynamodt-local", Key="dynamodt/x", Body=b"kept")
    assert local.stop(folder)
    assert not local.status(folder).running
    assert local.ensure_started(folder) == url
    assert dynamodb(url).scan(TableName="users")["Count"] == 1
    body = client(stage.connection, "s3").get_object(Bucket="dynamodt-local", Key="dynamodt/x")["Body"]
    assert body.read() == b"kept"


def test_the_emulator_s_files_are_readable_by_their_owner_only(folder: Path) -> None:
    """Tables, prepared data and journals may contain data that other users of the machine must not read."""
    before = os.umask(0o000)
    try:
        (folder / ".dynamodt").mkdir()  # as an earlier release has made it
        stage = opened(folder)
        client(stage.connection, "s3").put_object(Bucket="dynamodt-local", Key="dynamodt/some/thing", Body=b"x")
        dynamodb(stage.connection.endpoint_url or "").put_item(
            TableName="users", Item={"id": {"S": "u1"}, "at": {"N": "1"}}
        )
        local.stop(folder)
        assert os.umask(0o000) == 0, "what the author's own commands make is not ours to decide"
    finally:
        os.umask(before)
    found = {path: path.stat().st_mode & 0o777 for path in (folder / ".dynamodt", *(folder / ".dynamodt").rglob("*"))}
    assert any(path.name == "thing" for path in found) and len(found) > 8
    wrong = {str(path): oct(mode) for path, mode in found.items() if mode != (0o700 if path.is_dir() else 0o600)}
    assert wrong == {}


def test_another_port_is_taken_when_the_last_one_is_in_use(folder: Path) -> None:
    url = local.ensure_started(folder)
    (folder / "dynamodt.toml").write_text("being = [edited")
    local.stop(folder)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((emulator.HOST, int(url.rpartition(":")[2])))
        other.listen()
        assert local.ensure_started(folder) != url


@pytest.mark.parametrize("end", [signal.SIGKILL, *in_chaos(signal.SIGINT)])
def test_the_emulator_outlives_the_command_that_started_it(folder: Path, end: signal.Signals) -> None:
    command = start_elsewhere(folder)
    go(command)
    url = first_line(command)
    os.killpg(command.pid, end)
    command.communicate()
    assert os.getsid(local.status(folder).pid) != command.pid  # no signal that is sent to the command reaches it
    assert local.status(folder).running
    assert local.ensure_started(folder) == url
    assert dynamodb(url).list_tables()["TableNames"] == []


@needs_proc
def test_simultaneous_commands_start_one_emulator(folder: Path) -> None:
    commands = [start_elsewhere(folder) for _ in range(4)]
    for command in commands:
        go(command)
    urls = {command.communicate()[0].strip() for command in commands}
    assert urls == {local.status(folder).url}
    assert processes_in(local.status(folder).folder) == [local.status(folder).pid]


def processes_in(folder: Path) -> list[int]:
    """The processes that have this as their current folder, as the emulator has."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


# ---------------------------------------------------------------- where it listens


@needs_proc
def test_the_emulator_listens_on_loopback_only(folder: Path) -> None:
    stage = opened(folder)
    listening = listeners(local.status(folder).pid)
    assert listening == [f"0100007F:{int(str(stage.connection.endpoint_url).rpartition(':')[2]):04X}"]


def listeners(pid: int) -> list[str]:
    """Local addresses, as the kernel writes them, of the TCP (state 0A) and UDP sockets that the process listens on."""
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in sockets and (fields[3] == "0A" or protocol.startswith("udp")):
                found.append(fields[1])
    return found


# ---------------------------------------------------------------- stopped, reset, mistaken


def test_a_stop_without_an_emulator_does_nothing(folder: Path) -> None:
    assert not local.stop(folder)


def test_reset_deletes_the_data_and_nothing_else(folder: Path) -> None:
    dynamodb(str(opened(folder).connection.endpoint_url)).put_item(
        TableName="users", Item={"id": {"S": "u1"}, "at": {"N": "1"}}
    )
    storage = folder / ".dynamodt" / "storage"
    storage.mkdir()
    pid = local.status(folder).pid
    local.reset(folder)
    assert Process.of(pid) is None
    assert not local.status(folder).running
    assert storage.is_dir()
    assert not (folder / ".dynamodt" / "local").exists()
    assert dynamodb(local.ensure_started(folder)).list_tables()["TableNames"] == []


def test_a_reset_without_data_does_nothing(tmp_path: Path) -> None:
    local.reset(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_with_a_recycled_pid_is_left_alone(folder: Path) -> None:
    local.ensure_started(folder)
    local.stop(folder)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        data = folder / ".dynamodt" / "local"
        record = emulator.read_record(data)
        assert record is not None
        emulator.write_record(data, replace(record, pid=stranger.pid))
        assert not local.status(folder).running
        assert not local.stop(folder)
        local.reset(folder)
        assert stranger.poll() is None
        stranger.kill()


def test_a_copy_of_the_folder_has_an_emulator_of_its_own(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = local.ensure_started(folder)
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    try:
        assert not local.status(copy).running
        assert local.ensure_started(copy) != url
    finally:
        local.reset(copy)
    assert local.status(folder).running


def test_an_unreadable_record_counts_as_missing(folder: Path) -> None:
    data = folder / ".dynamodt" / "local"
    data.mkdir(parents=True)
    (data / "emulator.json").write_text("{")
    assert local.ensure_started(folder).startswith("http://127.0.0.1:")


def test_projects_that_had_the_same_port_have_an_emulator_each(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    local.ensure_started(folder)
    local.stop(folder)
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    try:
        commands = [start_elsewhere(one) for one in (folder, copy)]
        for command in commands:
            go(command)
        urls = [command.communicate()[0].strip() for command in commands]
        assert urls == [local.status(folder).url, local.status(copy).url]
        assert urls[0] != urls[1]
    finally:
        local.reset(copy)


def test_a_folder_that_is_renamed_keeps_its_emulator_and_its_data(folder: Path) -> None:
    project, renamed = folder / "project", folder / "renamed"
    project.mkdir()
    shutil.copy(folder / "dynamodt.toml", project)
    url = str(opened(project).connection.endpoint_url)
    dynamodb(url).put_item(TableName="users", Item={"id": {"S": "u1"}, "at": {"N": "1"}})
    project.rename(renamed)
    try:
        assert local.ensure_started(renamed) == url
        assert local.stop(renamed)
        assert dynamodb(local.ensure_started(renamed)).scan(TableName="users")["Count"] == 1
        assert not project.exists()
    finally:
        local.reset(renamed)


def test_an_emulator_whose_folder_was_deleted_ends(folder: Path) -> None:
    local.ensure_started(folder)
    process = process_of(folder)
    delete(folder / ".dynamodt")
    assert process.wait(HANG_SECONDS)
    assert not (folder / ".dynamodt").exists()


def delete(folder: Path) -> None:
    """Deletes the folder, with files that a saving emulator adds at the same time."""

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    until(gone, "the folder is deleted")


def process_of(folder: Path) -> Process:
    found = Process.of(local.status(folder).pid)
    assert found is not None
    return found


# ---------------------------------------------------------------- one emulator a folder


@pytest.fixture
def seen_from_another_container(folder: Path) -> Iterator[str]:
    """The emulator's URL, as seen where its process cannot be observed."""
    url = local.ensure_started(folder)
    data = folder / ".dynamodt" / "local"
    record = emulator.read_record(data)
    assert record is not None
    emulator.write_record(data, replace(record, started="in another container"))
    yield url
    emulator.write_record(data, record)


def test_an_emulator_of_another_container_is_found(folder: Path, seen_from_another_container: str) -> None:
    assert local.ensure_started(folder) == seen_from_another_container
    assert local.status(folder).running


@pytest.mark.parametrize("end", [local.stop, *in_chaos(local.reset)])
def test_an_emulator_of_another_container_is_ended_there(
    folder: Path, seen_from_another_container: str, end: Callable[[Path], Any]
) -> None:
    with pytest.raises(ServiceError, match="another container") as caught:
        end(folder)
    assert "dynamodt local stop" in caught.value.hint
    assert local.ensure_started(folder) == seen_from_another_container


def test_no_second_emulator_is_started_on_files_that_one_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_SILENT_SECONDS", 0.0)
    data = folder / ".dynamodt" / "local"
    lock = emulator.take(data)
    assert lock is not None
    with lock, pytest.raises(ServiceError, match="holds the folder") as caught:
        local.ensure_started(folder)
    assert caught.value.where == str(data)
    assert not (data / emulator.LOG_NAME).exists()


# ---------------------------------------------------------------- its data, whatever ends it


def written(folder: Path) -> Process:
    """An emulator that has been given an item."""
    url = str(opened(folder).connection.endpoint_url)
    dynamodb(url).put_item(TableName="users", Item={"id": {"S": "u1"}, "at": {"N": "1"}})
    return process_of(folder)


def test_a_killed_emulator_has_saved_its_data(folder: Path) -> None:
    process = written(folder)
    until(lambda: not emulator.unsaved_since(folder / ".dynamodt" / "local"), "what was written is saved")
    process.kill()
    notes: list[str] = []
    url = local.ensure_started(folder, notes.append)
    assert dynamodb(url).scan(TableName="users")["Count"] == 1
    assert [note.rpartition(": ")[2] for note in notes] == ["no change is lost"]


def test_the_possible_loss_of_a_killed_emulator_is_reported(folder: Path) -> None:
    process = written(folder)
    process.kill()
    emulator.mark_unsaved(folder / ".dynamodt" / "local", "2026-01-31T00:00:00+00:00")
    notes: list[str] = []
    local.ensure_started(folder, notes.append)
    assert "since 2026-01-31T00:00:00+00:00 may be lost" in notes[0]
    local.stop(folder)
    notes.clear()
    local.ensure_started(folder, notes.append)
    assert notes == []


def test_files_of_ministack_1_4_are_read(folder: Path) -> None:
    state = folder / ".dynamodt" / "local" / "state"
    shutil.copytree(Path(__file__).with_name("ministack-1.4.21"), state)
    (folder / "dynamodt.toml").unlink()
    stage = opened(folder)
    found = dynamodb(str(stage.connection.endpoint_url))
    assert found.list_tables()["TableNames"] == ["blobs", "dynamodt-state", "idx", "users"]
    key = {"id": {"S": "u1"}, "at": {"N": "1"}}
    assert found.get_item(TableName="users", Key=key)["Item"] == key | {
        "l": {"L": [{"M": {"a": {"N": "1.5"}}}]},
        "s": {"SS": ["x", "y"]},
        "b": {"B": b"\x00\xff"},
        "bs": {"BS": [b"1", b"2"]},
        "n": {"NULL": True},
        "e": {"S": "😀"},
    }
    assert found.scan(TableName="blobs")["Items"] == [{"b": {"B": b"\x00\x01\xff"}, "x": {"S": "1"}}]
    query = {"KeyConditionExpression": "g = :g", "ExpressionAttributeValues": {":g": {"S": "g"}}}
    assert found.query(TableName="idx", IndexName="gindex", **query)["Count"] == 20
    assert found.describe_time_to_live(TableName="idx")["TimeToLiveDescription"]["AttributeName"] == "exp"
    assert [b["Name"] for b in client(stage.connection, "s3").list_buckets()["Buckets"]] == ["dynamodt-local"]


def test_data_that_cannot_be_loaded_is_not_replaced(folder: Path) -> None:
    """ministack itself would continue with empty tables, and save them."""
    state = folder / ".dynamodt" / "local" / "state"
    state.mkdir(parents=True)
    tables = {"__account_region_scoped__": True, "data": {"000000000000\0us-east-1\0'users'": 7}}
    text = json.dumps({"__ministack_format__": 2, "payload": {"tables": tables}})
    (state / "dynamodb.json").write_text(text)
    with pytest.raises(ServiceError, match=r"state/dynamodb\.json cannot be loaded") as caught:
        local.ensure_started(folder)
    assert "local reset" in caught.value.hint
    assert (state / "dynamodb.json").read_text() == text


def test_an_emulator_of_another_release_is_restarted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(folder)
    before = local.status(folder)
    stage = operations.open_stage("local", folder, ProgressRecorder())
    current, notes = install.environment(folder, print), list[str]()
    other = folder / "1.5.99-other"
    other.symlink_to(current.folder)
    with monkeypatch.context() as patched:
        patched.setattr(install, "release_of", lambda: other.name)
        patched.setattr(install, "environment", lambda *_: install.Environment(other, current.formats))
        leases = State(stage.connection, stage.state_table).leases
        with hold_lease(leases, "users", "r1", print), pytest.raises(Refused, match="r1"):
            local.ensure_started(folder, notes.append)
        assert local.status(folder) == before
        url = local.ensure_started(folder, notes.append)
        assert notes == ["restarting the local stage: another release of the emulator is running"] * 2
        assert dynamodb(url).scan(TableName="users")["Count"] == 1 and local.status(folder).pid != before.pid
        assert local.ensure_started(folder, notes.append) == url and len(notes) == 2


def test_a_damaged_file_is_set_aside_and_reported(folder: Path) -> None:
    written(folder)
    local.stop(folder)
    data = folder / ".dynamodt" / "local"
    file = data / "state" / "dynamodb.json"
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(half)
    notes: list[str] = []
    assert dynamodb(local.ensure_started(folder, notes.append)).list_tables()["TableNames"] == []
    (moved,) = (data / "damaged").iterdir()
    assert moved.read_bytes() == half
    assert str(file) in notes[0] and str(moved) in notes[0]


def test_data_that_cannot_be_saved_is_reported_at_once_and_at_the_stop(folder: Path) -> None:
    opened(folder)
    data = folder / ".dynamodt" / "local"
    delete(data / "state")
    (data / "state").write_text("a file is in its place")
    written(folder)
    notes: list[str] = []
    until(lambda: local.ensure_started(folder, notes.append) == "" or notes, "a note that nothing can be saved")
    assert "cannot save its data" in notes[0] and "emulator.log" in notes[0]
    with pytest.raises(Refused, match="would be lost"):
        local.stop(folder)
    (data / "state").unlink()
    (data / "state").mkdir()
    until(lambda: not emulator.unsaved_since(data), "a save that succeeds")
    until(lambda: answer_of(folder)["failure"] == "", "an emulator that says so")
    assert local.stop(folder) and (data / "state" / "dynamodb.json").exists()


def answer_of(folder: Path) -> dict[str, Any]:
    record = emulator.read_record(folder / ".dynamodt" / "local")
    assert record is not None
    return emulator.identity(record) or {}


def test_data_that_could_not_be_saved_at_the_stop_is_reported_as_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(folder)
    data = folder / ".dynamodt" / "local"
    written(folder)
    delete(data / "state")
    (data / "state").write_text("a file is in its place")
    monkeypatch.setattr(emulator, "identity", lambda record: {"failure": ""})  # as before a save has failed
    with pytest.raises(ServiceError, match="without saving"):
        local.stop(folder)
    (data / "state").unlink()


@pytest.mark.parametrize("lose", [Path.unlink, *in_chaos(lambda file: file.write_text("{"))])
def test_an_emulator_whose_record_was_lost_is_found_and_ended(folder: Path, lose: Callable[[Path], Any]) -> None:
    url = local.ensure_started(folder)
    lose(folder / ".dynamodt" / "local" / "emulator.json")
    assert local.ensure_started(folder) == url
    lose(folder / ".dynamodt" / "local" / "emulator.json")
    assert local.status(folder).running and local.stop(folder)


def test_a_full_disk_is_refused_before_an_emulator_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patched, pytest.raises(Refused, match="No space left") as caught:
        patched.setattr(os, "fsync", Mock(side_effect=full))
        local.ensure_started(folder)
    assert caught.value.where.endswith("local") and "free some space" in caught.value.hint
    assert not local.status(folder).running


@pytest.mark.parametrize("end", [local.reset, *in_chaos(local.stop)])
def test_an_emulator_is_not_ended_while_a_run_uses_it(folder: Path, end: Callable[[Path], Any]) -> None:
    stage = operations.open_stage("local", folder, ProgressRecorder())
    leases = State(stage.connection, stage.state_table).leases
    with hold_lease(leases, "users", "r1", print), pytest.raises(Refused, match="r1") as caught:
        end(folder)
    assert caught.value.where == "table users" and "dynamodt abort --table users" in caught.value.hint
    assert local.status(folder).running
    state = State(stage.connection, "another-state-table")  # which an invalid file does not name
    state.ensure()
    (folder / "dynamodt.toml").write_text("being = [edited")
    with hold_lease(state.leases, "users", "r2", print), pytest.raises(Refused, match="r2"):
        end(folder)
    end(folder)
    assert not local.status(folder).running


# ---------------------------------------------------------------- when it cannot start


def test_an_emulator_that_dies_at_once_is_reported_with_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = folder / "broken" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho no such luck; exit 1\n")
    broken.chmod(0o755)
    found = install.Environment(folder / "broken", {"": 2})
    monkeypatch.setattr(install, "environment", lambda *_: found)
    with pytest.raises(ServiceError, match="no such luck") as caught:
        local.ensure_started(folder)
    assert caught.value.where.endswith("emulator.log")
    assert not local.status(folder).running


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".dynamodt").write_text("a file stands in its place")
    with pytest.raises(UsageError, match="cannot be"):
        local.ensure_started(tmp_path)


def test_variables_of_the_shell_do_not_configure_the_emulator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("USE_SSL", "1"), ("SERVICES", "sqs"), ("BIND_HOST", "0.0.0.0"), ("PERSIST_STATE", "0")):
        monkeypatch.setenv(name, value)
    assert dynamodb(local.ensure_started(folder)).list_tables()["TableNames"] == []


# ---------------------------------------------------------------- what it starts with


def test_opening_the_stage_creates_the_bucket_and_the_tables_once(folder: Path) -> None:
    stage = opened(folder)
    table = dynamodb(str(stage.connection.endpoint_url)).describe_table(TableName="users")["Table"]
    assert [(k["AttributeName"], k["KeyType"]) for k in table["KeySchema"]] == [("id", "HASH"), ("at", "RANGE")]
    assert table["AttributeDefinitions"][1] == {"AttributeName": "at", "AttributeType": "N"}
    assert [b["Name"] for b in client(stage.connection, "s3").list_buckets()["Buckets"]] == ["dynamodt-local"]
    assert opened(folder) == stage


def test_a_table_is_made_with_its_indexes_and_ttl(folder: Path) -> None:
    more = 'indexes = { by_owner = { owner = "S", at = "N" } }, ttl = "expires"'
    (folder / "dynamodt.toml").write_text(f'[stages.local.tables]\ncarts = {{ key = {{ id = "S" }}, {more} }}\n')
    found = dynamodb(str(opened(folder).connection.endpoint_url))
    (index,) = found.describe_table(TableName="carts")["Table"]["GlobalSecondaryIndexes"]
    assert (index["IndexName"], [each["AttributeName"] for each in index["KeySchema"]]) == ("by_owner", ["owner", "at"])
    assert index["Projection"] == {"ProjectionType": "ALL"}
    assert found.describe_time_to_live(TableName="carts")["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expires",
    }


def test_a_table_created_with_other_indexes_is_reported(folder: Path) -> None:
    def noted(tables: str) -> list[str]:
        (folder / "dynamodt.toml").write_text(f"[stages.local.tables]\ncarts = {{ {tables} }}\n")
        notes: list[str] = []
        local.open_stage(load_stage("local", folder), folder, notes.append)
        return [note for note in notes if "carts" in note]

    owner = 'key = { id = "S" }, indexes = { by_owner = { owner = "S", at = "N" } }'
    assert noted(owner) == noted(owner) == noted('id = "S"') == []
    (note,) = noted(owner.replace('at = "N"', 'at = "S"').replace("}, i", ', n = "N" }, i') + ', ttl = "expires"')
    assert "without this key, the index by_owner, TTL by expires" in note and "local reset" in note


def test_code_outside_dynamodt_reaches_the_embedded_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = local.variables(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    import boto3

    assert "users" in boto3.Session().client("dynamodb").list_tables()["TableNames"]
    stage = load_stage("local", folder)
    assert stage.embedded and stage.storage.url == "s3://dynamodt-local/dynamodt"
    assert local.variables(folder) == variables
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert not load_stage("local", folder).embedded


def test_a_stage_with_an_endpoint_is_returned_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    stage = load_stage("local", folder)
    assert local.open_stage(stage, folder) == stage
    assert not (folder / ".dynamodt").exists()


def test_the_work_folder_gets_its_gitignore_again(folder: Path) -> None:
    local.ensure_started(folder)
    (folder / ".dynamodt" / ".gitignore").unlink()
    local.ensure_started(folder)
    assert (folder / ".dynamodt" / ".gitignore").read_text() == "*\n"


def test_the_storage_folder_of_an_endpoint_is_ignored_by_git(
    folder: Path, ministack: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.url)
    operations.open_stage("local", folder, ProgressRecorder())
    assert (folder / ".dynamodt" / ".gitignore").read_text() == "*\n"
    monkeypatch.setenv("DYNAMODT_STORAGE", str(tmp_path / "elsewhere"))
    (tmp_path / "other").mkdir()
    operations.open_stage("local", tmp_path / "other", ProgressRecorder())
    assert not (tmp_path / "other" / ".dynamodt").exists()
