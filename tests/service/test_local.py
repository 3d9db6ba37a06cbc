"""The embedded local stage, with the real emulator: started once, found again, on loopback only, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamodt.aws.clients import client
from dynamodt.control import emulator, local, operations
from dynamodt.control.process import Process
from dynamodt.control.stage import load_stage
from dynamodt.control.terminal.progress import Recorder
from dynamodt.errors import ServiceError, UsageError
from dynamodt.model import Connection, Stage
from tests.emulators import Endpoint

STARTER = """
import sys, time
from pathlib import Path
from dynamodt.control import local
sys.stdin.readline()
print(local.ensure_started(Path(sys.argv[1])), flush=True)
time.sleep(float(sys.argv[2]))
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project's folder with one table to seed; what was started in it is ended and deleted after the test."""
    (tmp_path / "dynamodt.toml").write_text('[stages.local.tables]\nusers = { id = "S", at = "N" }\n')
    yield tmp_path
    local.reset(tmp_path)


def dynamodb(url: str) -> Any:
    return client(Connection("us-east-1", endpoint_url=url, access_key="local", secret_key="local"), "dynamodb")


def opened(folder: Path) -> Stage:
    return local.open_stage(load_stage("local", folder), folder)


def start_elsewhere(folder: Path, seconds: float = 0) -> subprocess.Popen[str]:
    """Another command, in a process group of its own: told to `go`, it starts the stage and lives on for that long."""
    command = [sys.executable, "-c", STARTER, str(folder), str(seconds)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)


def go(command: subprocess.Popen[str]) -> None:
    assert command.stdin is not None
    command.stdin.write("go\n")
    command.stdin.flush()


def first_line(command: subprocess.Popen[str]) -> str:
    assert command.stdout is not None
    return command.stdout.readline().strip()


# ---------------------------------------------------------------- started, and found again


def test_it_is_started_once_and_found_again(folder: Path) -> None:
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


def test_another_port_is_taken_when_the_last_one_is_in_use(folder: Path) -> None:
    url = local.ensure_started(folder)
    local.stop(folder)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((emulator.HOST, int(url.rpartition(":")[2])))
        other.listen()
        assert local.ensure_started(folder) != url


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_it_outlives_the_command_that_started_it(folder: Path, end: signal.Signals) -> None:
    command = start_elsewhere(folder, seconds=60)
    go(command)
    url = first_line(command)
    os.killpg(command.pid, end)
    command.communicate()
    time.sleep(0.3)
    assert local.status(folder).running
    assert local.ensure_started(folder) == url
    assert dynamodb(url).list_tables()["TableNames"] == []


@needs_proc
def test_commands_at_the_same_moment_start_one(folder: Path) -> None:
    commands = [start_elsewhere(folder) for _ in range(4)]
    time.sleep(1)  # all of them have imported what they need, and wait
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
def test_it_listens_on_loopback_only(folder: Path) -> None:
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


def test_stopping_what_does_not_run(folder: Path) -> None:
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


def test_reset_where_nothing_was_ever_started(tmp_path: Path) -> None:
    local.reset(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_recycled_pid_is_left_alone(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        data = folder / ".dynamodt" / "local"
        data.mkdir(parents=True)
        record = {"folder": str(data), "port": 1, "pid": stranger.pid, "started": "long ago", "since": "long ago"}
        (data / "emulator.json").write_text(json.dumps(record))
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


def test_a_record_that_cannot_be_read_is_as_none(folder: Path) -> None:
    data = folder / ".dynamodt" / "local"
    data.mkdir(parents=True)
    (data / "emulator.json").write_text("{")
    assert local.ensure_started(folder).startswith("http://127.0.0.1:")


# ---------------------------------------------------------------- when it cannot start


def test_an_emulator_that_dies_at_once_is_shown_with_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = folder / "broken" / "ministack"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "__main__.py").write_text("raise SystemExit('no such luck')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    with pytest.raises(ServiceError, match="no such luck") as caught:
        local.ensure_started(folder)
    assert caught.value.where.endswith("emulator.log")
    assert not local.status(folder).running


def test_without_the_extra_the_error_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        local.ensure_started(folder)
    assert "pip install 'dynamodt[local]'" in caught.value.hint


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / ".dynamodt").write_text("a file stands in its place")
    with pytest.raises(UsageError, match="cannot be made"):
        local.ensure_started(tmp_path)


def test_variables_of_the_shell_do_not_make_it_another_emulator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("USE_SSL", "1"), ("SERVICES", "sqs"), ("BIND_HOST", "0.0.0.0"), ("PERSIST_STATE", "0")):
        monkeypatch.setenv(name, value)
    assert dynamodb(local.ensure_started(folder)).list_tables()["TableNames"] == []


# ---------------------------------------------------------------- what it starts with


def test_opening_makes_the_bucket_and_the_tables_once(folder: Path) -> None:
    stage = opened(folder)
    table = dynamodb(str(stage.connection.endpoint_url)).describe_table(TableName="users")["Table"]
    assert [(k["AttributeName"], k["KeyType"]) for k in table["KeySchema"]] == [("id", "HASH"), ("at", "RANGE")]
    assert table["AttributeDefinitions"][1] == {"AttributeName": "at", "AttributeType": "N"}
    assert [b["Name"] for b in client(stage.connection, "s3").list_buckets()["Buckets"]] == ["dynamodt-local"]
    assert opened(folder) == stage


def test_a_stage_with_an_endpoint_is_returned_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    stage = load_stage("local", folder)
    assert local.open_stage(stage, folder) == stage
    assert not (folder / ".dynamodt").exists()


def test_what_an_endpoint_s_runs_keep_in_a_folder_stays_out_of_the_repository(
    folder: Path, ministack: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.url)
    operations.open_stage("local", folder, Recorder())
    assert (folder / ".dynamodt" / ".gitignore").read_text() == "*\n"
    monkeypatch.setenv("DYNAMODT_STORAGE", str(tmp_path / "elsewhere"))
    (tmp_path / "other").mkdir()
    operations.open_stage("local", tmp_path / "other", Recorder())
    assert not (tmp_path / "other" / ".dynamodt").exists()
