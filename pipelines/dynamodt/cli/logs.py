"""Logs of a command for programs: `--log-file`, and `--log-format json`, one JSON object a line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from dynamodt.cli.progress import LineDisplay, Writer
from dynamodt.cli.request import Request, program
from dynamodt.errors import DynamodtError, UsageError
from dynamodt.model.reports import RunReport
from dynamodt.model.runs import RunProgress
from dynamodt.model.tables import Direction, TableNames
from dynamodt.pipeline.author_output import Line
from dynamodt.runs.display import inert, json_line, printable
from dynamodt.runs.pace import ProgressRecorder

JSON, TEXT = "json", "text"


class Log(LineDisplay):
    """The lines of a command's progress and of its scripts, and the error that ended it."""

    def failed(self, error: BaseException) -> None:
        what = error.what if isinstance(error, DynamodtError) else f"{type(error).__name__}: {error}"
        parts = [what]
        if isinstance(error, DynamodtError):
            parts += [error.where] if error.where else []
            parts += [f"hint: {error.hint.written(program())}"] if error.hint else []
        text = "; ".join(parts)
        self._write(Line(self._now(), "ERROR", "", text), f"error: {text}")


def on_stderr(watching: bool) -> ProgressRecorder:
    """JSON lines instead of a display."""
    return Log(_written(sys.stderr, JSON), watching=watching)


def with_file(shown: ProgressRecorder, path: str, format: str) -> ProgressRecorder:
    """The display, and a log beside it that is appended to a file. Raises UsageError if the file cannot be written."""
    try:
        stream = Path(path).open("a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        hint = "name a file that can be written, or leave the option out"
        raise UsageError(f"--log-file cannot be opened: {error.strerror}", where=path, hint=hint) from error
    return Both(shown, Log(_written(stream, format), watching=shown.watching))


def stderr_format(request: Request) -> str:
    """The format of stderr, which `--log-format` sets unless it is for a file."""
    return TEXT if request.log_file else request.log_format or TEXT


def _written(stream: TextIO, format: str) -> Writer:
    lock = threading.Lock()  # scripts print from any thread

    def write(line: Line, text: str) -> None:
        written = json_line(line.document) if format == JSON else inert(printable(f"{line.utc} {text}")) + "\n"
        with lock:
            stream.write(written)
            stream.flush()

    return write


class Both(ProgressRecorder):
    """A display with a log beside it: both receive all messages, and only the display asks questions."""

    def __init__(self, shown: ProgressRecorder, log: ProgressRecorder) -> None:
        self._shown = shown
        self._log = log
        super().__init__(shown.clock, shown.watching)

    @property
    def names(self) -> TableNames:
        return self._shown.names

    @names.setter
    def names(self, names: TableNames) -> None:
        self._shown.names = self._log.names = names

    @property
    def asks(self) -> bool:
        return self._shown.asks

    @asks.setter
    def asks(self, asks: bool) -> None:
        self._shown.asks = asks

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        super().run_started(table, version, name, direction, expected_items)
        for one in (self._shown, self._log):
            one.run_started(table, version, name, direction, expected_items)

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        for one in (self._shown, self._log):
            one.progressed(table, run_progress)
        if table in self.running:
            self.running[table].observed(self.clock(), run_progress)

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        for one in (self._shown, self._log):
            one.run_ended(report)

    def notify(self, text: str) -> None:
        for one in (self._shown, self._log):
            one.notify(text)

    def said(self, line: Line) -> None:
        for one in (self._shown, self._log):
            one.said(line)

    def failed(self, error: BaseException) -> None:
        self._log.failed(error)

    def tick(self) -> None:
        self._shown.tick()

    def waiting(self, text: str) -> None:
        super().waiting(text)
        for one in (self._shown, self._log):
            one.waiting(text)

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        return self._shown.asked(question, choices)

    def close(self) -> None:
        self._shown.close()
