"""The output and the log of scripts are passed on with table and version; Beam's own records are not."""

from __future__ import annotations

import importlib
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dynamodt.cli import progress
from dynamodt.cli.progress import BarDisplay, LineDisplay, author_line_text, timed_lines
from dynamodt.errors import Refused
from dynamodt.model.pages import Counts, Totals
from dynamodt.model.reports import RunReport
from dynamodt.model.runs import RunProgress, RunRecord, Script
from dynamodt.model.tables import TableNames
from dynamodt.pipeline import author_output
from dynamodt.pipeline.author_output import Line, Origin, begin, captured, end, labelled
from dynamodt.pipeline.process import mute_beam

SCRIPT = Script("users", 2, "split", "transforms/users/v2_split.py", "", "")


@pytest.fixture
def lines() -> list[Line]:
    return []


@contextmanager
def running(lines: list[Line]) -> Iterator[None]:
    """A running script. It begins within the test itself, since pytest adds its handlers when the test is called."""
    with captured(lines.append), labelled(SCRIPT, "01RUN"):
        yield


def texts(lines: list[Line]) -> list[str]:
    return [author_line_text(line, TableNames()) for line in lines]


def test_what_is_printed_and_logged_has_its_table_and_version(lines: list[Line]) -> None:
    with running(lines):
        print("one", "line")
        print("two\nlines", end="")
        sys.stderr.write("an error\n")
        logging.info("by the root logger %d", 1)
        logging.getLogger("shop.helper").warning("by its own")
    assert texts(lines) == [
        "users v2: one line",
        "users v2: two",
        "users v2: an error",
        "users v2: INFO root: by the root logger 1",
        "users v2: WARNING shop.helper: by its own",
        "users v2: lines",
    ]
    assert {(line.table, line.version, line.run) for line in lines} == {("users", 2, "01RUN")}


def test_a_thread_of_the_script_counts_as_the_script_and_lines_of_two_threads_do_not_mix(lines: list[Line]) -> None:
    with running(lines):
        print("first", end=" ")
        thread = threading.Thread(target=print, args=("inside",))
        thread.start()
        thread.join()
        print("half")
    assert texts(lines) == ["users v2: inside", "users v2: first half"]


def test_the_last_state_of_an_overwritten_line_is_shown(lines: list[Line]) -> None:
    with running(lines):
        for percent in (10, 50, 100):
            print(f"\r{percent} %", end="")
        print()
    assert texts(lines) == ["users v2: 100 %"]


def test_a_script_closes_no_stream_of_the_command(lines: list[Line], capsys: pytest.CaptureFixture[str]) -> None:
    with running(lines):
        sys.stdout.close()
        sys.stderr.close()
        print("still captured")
    print("a result")
    assert texts(lines) == ["users v2: still captured"] and capsys.readouterr().out == "a result\n"


def test_output_outside_of_scripts_is_unchanged(lines: list[Line], capsys: pytest.CaptureFixture[str]) -> None:
    with captured(lines.append):
        print("a result")
        assert sys.stdout.isatty() is False
    assert not lines and capsys.readouterr().out == "a result\n"


def test_a_traceback_is_part_of_the_message(lines: list[Line]) -> None:
    with running(lines):
        try:
            raise ValueError("bad")
        except ValueError:
            logging.getLogger("shop").exception("it failed")
    (line,) = lines
    assert line.level == "ERROR" and line.message.startswith("it failed\nTraceback")
    assert line.message.endswith("ValueError: bad")


def beams_own(name: str, text: str) -> None:
    """A log record of Beam: a record's file is that of the code that made it."""
    in_beam(f"import logging\nlogging.getLogger({name!r}).warning({text!r})")


def in_beam(code: str) -> None:
    """Executes code of a file of Beam."""
    import apache_beam

    exec(compile(code, str(Path(apache_beam.__file__).with_name("runners") / "made_up.py"), "exec"), {})


def test_what_beam_prints_is_not_shown_as_the_script_s(lines: list[Line]) -> None:
    """A worker process prints the traceback of each error, with frames of Beam and of this package."""
    with running(lines):
        in_beam("import sys\nprint('Traceback', file=sys.stderr)")
        print("of the script", file=sys.stderr)
    assert [line.message for line in lines] == ["of the script"]


@pytest.mark.parametrize("name", ["apache_beam.runners.made_up", "root"])
def test_beam_s_own_records_are_not_shown_and_those_of_a_script_by_the_same_logger_are(
    lines: list[Line], name: str
) -> None:
    with running(lines):
        beams_own(name, "noise")
        logging.getLogger(name).warning("of the script")
    assert [line.message for line in lines] == ["of the script"]


@pytest.mark.parametrize("name", ["apache_beam.runners.made_up", "root"])
def test_without_a_command_beam_s_records_are_dropped_and_no_level_is_changed(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    watched = [logging.getLogger(one) for one in ("root", "apache_beam", "apache_beam.runners.made_up", "py4j")]
    levels = [logger.level for logger in watched]
    with mute_beam():
        assert [logger.level for logger in watched] == levels
        beams_own(name, "noise")
        logging.getLogger(name).warning("of the script")
    beams_own(name, "afterwards")
    assert [record.getMessage() for record in caplog.records] == ["of the script", "afterwards"]


def test_details_of_the_libraries_in_use_are_shown_only_if_the_script_sets_a_level(lines: list[Line]) -> None:
    botocore = logging.getLogger("botocore.made_up")
    with running(lines):
        botocore.info("a detail")
        botocore.warning("a warning")
        botocore.setLevel(logging.INFO)
        try:
            botocore.info("asked for")
        finally:
            botocore.setLevel(logging.NOTSET)
    assert [line.message for line in lines] == ["a warning", "asked for"]


def test_a_script_s_own_settings_apply_and_nothing_is_shown_twice(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    import apache_beam.options.pipeline_options as options

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # as a program starts
    monkeypatch.setattr(root, "level", logging.WARNING)
    with running(lines):
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s! %(message)s")
        logging.debug("as the script wants it")
        assert len(root.handlers) == 2
        root.handlers.pop()
        options.PipelineOptions([])  # calls basicConfig
        assert len(root.handlers) == 1
    assert texts(lines) == ["users v2: DEBUG! as the script wants it"]
    assert root.level == logging.WARNING and logging.basicConfig.__module__ == "logging"


def test_a_handler_of_a_script_s_logger_shows_its_records_alone(lines: list[Line]) -> None:
    logger, stream = logging.getLogger("shop.with_handler"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        with running(lines):
            logger.warning("to its own place")
    finally:
        logger.removeHandler(handler)
    assert not lines and stream.getvalue() == "to its own place\n"


# ---------------------------------------------------------------- worker processes


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Origin | None], io.StringIO]]:
    """Makes this process a worker of another one; returns what the worker itself writes."""
    own = io.StringIO()

    def become(origin: Origin | None) -> io.StringIO:
        monkeypatch.setattr(author_output, "_capture", None)
        monkeypatch.setattr(sys, "stderr", own)
        begin(SCRIPT, "01RUN", origin)
        return own

    yield become
    end()
    author_output._for_good.close()


def elsewhere(address: str) -> Origin:
    return Origin(address, "elsewhere", 1)


def test_a_worker_s_lines_arrive_where_the_run_was_started(
    lines: list[Line], worker: Callable[[Origin | None], io.StringIO]
) -> None:
    with captured(lines.append):
        own = worker(elsewhere(author_output.origin(remote=True).address))
        print("from the worker")
        logging.getLogger("shop").warning("logged")
    assert texts(lines) == ["users v2: from the worker", "users v2: WARNING shop: logged"]
    assert not own.getvalue() and lines[0].run == "01RUN"


_WORKER = """
import atexit, sys
from dynamodt.pipeline import author_output

atexit.register(lambda: print("captured:", sys.stdout is not sys.__stdout__, file=sys.__stdout__))
author_output.capture_in_worker()
"""


def test_the_capture_of_a_worker_ends_before_its_daemon_threads() -> None:
    """They are stopped at any point when Python ends, also with a lock that the last output needs: the process would
    never end."""
    done = subprocess.run([sys.executable, "-c", _WORKER], capture_output=True, text=True, check=True)
    assert done.stdout == "captured: False\n", done.stderr


@pytest.mark.parametrize("address", ["", "/nowhere/output"])
def test_a_worker_without_a_connection_to_the_command_writes_to_its_own_log(
    worker: Callable[[Origin | None], io.StringIO], address: str
) -> None:
    own = worker(elsewhere(address))
    print("to the log")
    assert own.getvalue().endswith("Z users v2: to the log\n")


def test_a_worker_whose_command_has_ended_writes_to_its_own_log(
    worker: Callable[[Origin | None], io.StringIO],
) -> None:
    listener = author_output._Listener(lambda line: None)
    own = worker(elsewhere(listener.address))
    print("taken")
    listener.close()
    print("late")
    print("and later")
    assert "late" in own.getvalue() and "taken" not in own.getvalue()


def test_without_a_command_the_streams_of_this_process_are_left_alone() -> None:
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    begin(SCRIPT, "01RUN", author_output.origin(remote=True))
    assert (sys.stdout, sys.stderr, logging.getLogger().handlers) == before
    end()


def test_the_replaced_name_exists_in_beam() -> None:
    """dynamodt replaces this name to observe the processes that Beam starts."""
    from dynamodt.pipeline import worker as program

    runner = importlib.import_module("apache_beam.runners.portability.fn_api_runner.fn_runner")
    assert runner.__file__ is not None and f"-m {program.MODULE}" in Path(runner.__file__).read_text("utf-8")


# ---------------------------------------------------------------- as it is shown

LINE = Line(0.25, "WARNING", "shop", "text", "users", 2, "01RUN")
RECORD = RunRecord("users", "01RUN", 2, "split", "up", "", "running", "2025-06-01T10:00:00Z")
REPORT = RunReport("users", "up", 2, "split", "01RUN", "failed", Counts(5, 5))


def test_the_bar_stays_below_what_a_script_prints() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    display = BarDisplay(console)
    display.run_started(RECORD, 10)
    display.author_line(LINE)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    said, _, bar = shown.rpartition("users v2: WARNING shop: text")
    assert said and "users v2 split" in bar
    display.close()


def test_lines_of_a_log_have_their_time() -> None:
    console = Console(file=io.StringIO(), width=120)
    LineDisplay(timed_lines(console)).author_line(LINE)
    assert console.file.getvalue() == "1970-01-01T00:00:00Z users v2: WARNING shop: text\n"  # type: ignore[attr-defined]


def followed(display: Any) -> None:
    display.run_started(RECORD, 10)
    display.progressed("users", RunProgress(Totals(Counts(5, 5)), 1, idle="paused", run="01RUN"))
    display.author_line(LINE)
    display.notify("warning: a note")
    display.run_ended(REPORT)
    display.failed(Refused("it cannot be", where="table users", hint="try it"))
    display.close()


def test_a_log_in_json_has_an_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    followed(progress.on_stderr(watching=False))
    found = [json.loads(line) for line in sys.stderr.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert all(list(one) == "time level logger table version run message".split() for one in found)
    assert found[2] == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "WARNING",
        "logger": "shop",
        "table": "users",
        "version": 2,
        "run": "01RUN",
        "message": "text",
    }
    assert [one["level"] for one in found] == ["INFO", "INFO", "WARNING", "WARNING", "ERROR", "ERROR"]
    assert found[-1]["message"] == "it cannot be; table users; hint: try it"
    assert {one["run"] for one in found if one["table"]} == {"01RUN"}


@pytest.mark.parametrize("format", ["", "text", "json"])
def test_a_log_file_is_added_to_and_the_display_stays(tmp_path: Path, format: str) -> None:
    console, path = Console(file=io.StringIO(), width=120), tmp_path / "log"
    path.write_text("before\n")
    both = progress.with_file(LineDisplay(timed_lines(console)), str(path), format)
    both.names = TableNames(known={"people": "users"})
    followed(both)
    before, *written = path.read_text().splitlines()
    assert before == "before" and len(written) == 6
    if format == "json":
        assert json.loads(written[2])["message"] == "text"
    else:
        assert written[2] == "1970-01-01T00:00:00Z people v2: WARNING shop: text"
        assert written[-1].endswith("Z error: it cannot be; table users; hint: try it")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "people v2: WARNING shop: text" in shown and "it cannot be" not in shown
    assert [run.status for run in both.ended] == ["failed"]
