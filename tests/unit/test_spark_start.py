"""The start of Python on an executor, and the report if it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from dynamodt.pipeline import spark_context as context
from dynamodt.pipeline import spark_runner as runner
from dynamodt.pipeline import worker
from dynamodt.pipeline.process import bypass_proxy_for_beam
from dynamodt.pipeline.spark_runner import failed

BROKEN = """#!/bin/sh
echo "INFO:apache_beam:starting" >&2
echo "ValueError: not that" >&2
echo "INFO:apache_beam:another one starts" >&2
exit 3
"""
DIED = RuntimeError("Process died with exit code 3")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that fails at its start, in a folder whose name has the characters that a shell treats specially."""
    folder = tmp_path / 'a "b" $c'
    folder.mkdir()
    program = folder / "python"
    program.write_text(BROKEN)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return folder


def test_stderr_of_python_is_reported(broken: Path) -> None:
    script = runner.written(broken, broken / "python.log")
    assert subprocess.run([script], capture_output=True, check=False).returncode == 3
    error = failed(DIED, broken / "python.log")
    assert str(error.what).endswith("(exit code 3): ValueError: not that")
    assert "python.log" in error.hint


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="an executor's stderr is found by /proc")
def test_on_another_host_stderr_is_in_the_executor_s_log(broken: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Here the executor is this very process."""
    script = runner.written(broken, None)
    assert subprocess.run([script], stderr=subprocess.DEVNULL, check=False).returncode == 3
    assert "ValueError: not that" in capfd.readouterr().err
    error = failed(DIED)
    assert "exit code 3" in error.what and "the executor's own log" in error.hint


def test_a_log_that_cannot_be_written_does_not_stop_the_start(broken: Path) -> None:
    script = runner.written(broken, broken / "no" / "such" / "folder.log")
    assert subprocess.run([script], capture_output=True, check=False).returncode == 3


def test_an_error_of_a_task_is_reported_unchanged() -> None:
    assert "failed on Spark: the table is gone" in failed(RuntimeError("the table is gone")).what


def test_whole_numbers_reach_a_harness_as_whole_numbers() -> None:
    """A number among Beam's options: a protobuf Struct turns it into 200.0, which argparse refuses."""
    options = json_format.Parse('{"beam:option:a:v1": 200, "b": 0.5, "c": true, "d": ["x"]}', struct_pb2.Struct())
    told = json.loads(worker.options(options))
    assert {name: repr(value) for name, value in told.items()} == {
        "beam:option:a:v1": "200",
        "b": "0.5",
        "c": "True",
        "d": "['x']",
    }


def test_executors_run_in_the_project_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark"))
    (tmp_path / "spark" / "jars").mkdir(parents=True)
    gone = context.FOLDER / "executors-1"
    gone.mkdir(parents=True)
    (gone / "lock").touch()
    context.begin()
    assert not gone.exists()
    with context.spark_home():
        mine = Path(os.environ["SPARK_HOME"])
    assert os.environ["SPARK_HOME"] == str(tmp_path / "spark")
    assert mine.parent == tmp_path / context.FOLDER and (mine / "jars").samefile(tmp_path / "spark" / "jars")
    copy = mine / "work" / "app-1" / "0" / "beam-spark.jar"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"")
    copy.with_name("stderr").write_text("what it said")
    context.discard_jars()
    assert [file.name for file in copy.parent.iterdir()] == ["stderr"]


def test_folders_of_ended_processes_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.chdir(tmp_path)
    context.begin()
    with context.spark_home():  # another process, as far as `begin` can tell
        theirs = Path(os.environ["SPARK_HOME"])
    context.begin()
    assert theirs.exists()
    assert context._mine is not None
    context._mine[1].close()  # it ends
    context.begin()
    assert not theirs.exists() and (tmp_path / context.PYTHON_LOG).read_bytes() == b""


def test_files_of_spark_are_ignored_by_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    context.begin()
    assert (tmp_path / ".dynamodt" / ".gitignore").read_text() == "*\n"


def test_processes_of_beam_connect_to_each_other_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc

    class Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
        def GetProvisionInfo(self, request: Any, context: Any) -> Any:
            return beam_provision_api_pb2.GetProvisionInfoResponse()

    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    variable = "no_grpc_proxy"
    monkeypatch.setenv(variable, "example.com")
    server = grpc.server(ThreadPoolExecutor(1))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(Provision(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    bypass_proxy_for_beam()
    for host in ("localhost", "127.0.0.1"):
        worker.provision(f"{host}:{port}", "worker")
    server.stop(None)
    assert os.environ[variable].startswith("example.com,")
