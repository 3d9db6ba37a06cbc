"""The options after `--`, and the runner's name, are checked before anything starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dynamodt.cli.app import main
from dynamodt.errors import UsageError
from dynamodt.runs.options import RunOptions
from dynamodt.runs.runner import check_runner, ready

PORTABLE = "PortableRunner"


def refused(runner: str, *words: str) -> UsageError:
    with pytest.raises(UsageError) as error:
        check_runner(RunOptions(runner=runner, beam_args=words))
    return error.value


def test_options_of_beam_are_accepted() -> None:
    check_runner(RunOptions(runner="spark", beam_args=("--max_cache_memory_usage_mb=200", "--experiments", "a")))
    check_runner(RunOptions(runner="FnApiRunner"))
    check_runner(RunOptions(runner="flink", beam_args=("--flink_master=here:1", "--an_option_of_flink_s=1")))


@pytest.mark.parametrize("runner", ["abacus", "os.path", "no.such.Runner", "json.dumps"])
def test_an_unknown_runner_is_refused_with_those_that_beam_knows(runner: str) -> None:
    error = refused(runner)
    assert f"no runner {runner!r}" in error.what
    assert all(name in error.hint for name in ("direct, spark, glue", "FlinkRunner", PORTABLE))


def test_a_wrong_value_is_reported_with_its_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert "--direct_num_workers: invalid int value: 'two'" in refused("direct", "--direct_num_workers=two").what
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("runner", ["direct", "spark", "glue"])
def test_a_word_that_beam_would_ignore_is_refused(runner: str) -> None:
    assert "no option '--direct_num_worker=2'" in refused(runner, "--direct_num_worker=2").what


def test_a_portable_runner_needs_a_job_server_that_listens() -> None:
    assert "--job_endpoint=HOST:PORT" in refused(PORTABLE).hint
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        check_runner(RunOptions(runner=PORTABLE, beam_args=("--job_endpoint", place)))
        check_runner(RunOptions(runner="flink", beam_args=(f"--job_endpoint={place}",)))
    assert f"no job server answers at {place}" in refused("flink", f"--job_endpoint={place}").what
    assert "no job server answers at nowhere" in refused(PORTABLE, "--job_endpoint=nowhere").what


@pytest.mark.parametrize(
    ("words", "workers"),
    [
        ((), 1),
        (("--direct_num_workers=3",), 1),  # threads, at most
        (("--direct_running_mode=multi_threading",), 1),
        (("--direct_running_mode=multi_processing",), os.cpu_count()),
        (("--direct_running_mode=multi_processing", "--direct_num_workers", "3"), 3),
    ],
)
def test_each_process_of_beam_counts_as_a_worker(words: tuple[str, ...], workers: int) -> None:
    assert ready(RunOptions(beam_args=words), print).workers == workers


@pytest.mark.parametrize("command", [["up"], ["down", "-t", "users"], ["undo", "20261125"], ["retry", "20261125"]])
def test_the_checks_start_no_process(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "transforms" / "users").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for words in (["--runner", "abacus"], ["--", "--direct_num_workers=two"]):
        assert main([*command, *words]) == 2
        assert "hint:" in capsys.readouterr().err
    assert not (tmp_path / ".dynamodt").exists()
