"""Captures the output and log of scripts: every line with its table and version, from any thread and process of a run.

The process of a command passes the lines on to its display (`captured`). A worker process on the same machine sends
them to this process by a socket; each line is acknowledged, so that none is lost when the worker ends. A worker process
on another machine writes them to its stderr, which its runner keeps. Without `captured`, as in a Python program that
calls `api`, the output and handlers of that program's own process do not change.

Only the root logger's level is changed, from Python's default to INFO, before a script is loaded. Imports no Beam.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dynamodt.model.runs import Script
from dynamodt.pipeline.process import again, in_beam, is_from_beam

_PRINTED = ("stdout", "stderr")  # loggers of lines that are printed
# Libraries that this package uses: only their warnings are shown, unless a script sets a level for one.
_USED_HERE = frozenset("asyncio boto3 botocore grpc hypercorn ministack pyarrow s3transfer urllib3 dynamodt".split())


class Line(NamedTuple):
    """One message. `table` is the real name. `table`, `version` and `run` are empty (0) for a message without them."""

    at: float
    level: str
    logger: str
    message: str
    table: str = ""
    version: int = 0
    run: str = ""

    @property
    def utc(self) -> str:
        """The time in the form `2026-11-27T06:30:12Z`."""
        return self._time("seconds")

    def _time(self, timespec: str) -> str:
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")

    @property
    def text(self) -> str:
        """The message; if it was logged, with its level and logger."""
        return self.message if self.logger in ("", *_PRINTED) else f"{self.level} {self.logger}: {self.message}"

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of `--log-format json`."""
        return {
            "time": self._time("milliseconds"),
            "level": self.level,
            "logger": self.logger or "dynamodt",
            "table": self.table or None,
            "version": self.version or None,
            "run": self.run or None,
            "message": self.message,
        }


Sink = Callable[[Line], None]


class _Label(NamedTuple):
    table: str
    version: int
    run: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The process that started a run: its workers send their lines to it."""

    address: str
    host: str
    process: int

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return self.process == os.getpid() and self.host == socket.gethostname()


_label: _Label | None = None  # of the current script: a process executes one at a time
_capture: _Capture | None = None
_for_good = ExitStack()  # of a worker process


@contextmanager
def captured(sink: Sink) -> Iterator[None]:
    """Passes what scripts print and log to `sink`, from any thread, until the end."""
    global _capture, _label
    before, _capture, _label = _capture, _Capture(sink), None
    try:
        with _capture.installed():
            yield
    finally:
        _capture, _label = before, None


@contextmanager
def labelled(script: Script, run: str = "") -> Iterator[None]:
    """Labels what is printed and logged as this script's, until the end."""
    global _label
    before, _label = _label, _Label(script.table, script.sequence, run)
    try:
        yield
    finally:
        _flush()
        _label = before


def begin(script: Script, run: str, origin: Origin | None) -> None:
    """As `labelled`, until `end`, for a worker, which executes this script until it gets another one. Without an
    origin, nothing is captured."""
    global _label
    if origin is None:
        return
    _label = _Label(script.table, script.sequence, run)
    if origin.is_here:
        return
    capture_in_worker()
    if _capture is not None and isinstance(_capture.sink, _ToOrigin):
        _capture.sink.connect(origin.address)


def capture_in_worker() -> None:
    """Captures in a worker process until it ends. `begin` does this, too; call it earlier to capture before Beam is
    imported."""
    global _capture
    if _capture is None:
        _capture = _Capture(_ToOrigin())
        _for_good.enter_context(_capture.installed())
        atexit.register(_for_good.close)  # later, a daemon thread may have ended with the lock of the sink


def end() -> None:
    """Ends `begin`: this process executes no script any more."""
    global _label
    _flush()
    _label = None


def origin(remote: bool) -> Origin:
    """This process; with an address if lines are expected from other processes (`remote`) and are captured here."""
    address = _capture.address() if remote and _capture is not None else ""
    return Origin(address, socket.gethostname(), os.getpid())


def _flush() -> None:
    if _capture is not None:
        _capture.flush()


# ---------------------------------------------------------------- one process


class _Capture:
    """The standard streams and the root logger of this process, as long as they are captured."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._lock = threading.RLock()
        self._begun: dict[tuple[int, str], str] = {}  # lines without an end, by thread and stream
        self._listener: _Listener | None = None
        self._handler = _Handler(self)

    @contextmanager
    def installed(self) -> Iterator[None]:
        streams, root = (sys.stdout, sys.stderr), logging.getLogger()
        level, basic = root.level, logging.basicConfig
        sys.stdout, sys.stderr = (_Stream(self, *one) for one in zip(streams, _PRINTED, strict=True))
        self._handler.others = {*root.handlers, self._handler}
        root.addHandler(self._handler)
        if root.level == logging.WARNING:
            root.setLevel(logging.INFO)
        logging.basicConfig = self._basic_config(basic)
        try:
            yield
        finally:
            self.flush()
            logging.basicConfig = basic
            root.removeHandler(self._handler)
            root.setLevel(level)
            sys.stdout, sys.stderr = streams
            if self._listener is not None:
                self._listener.close()

    def _basic_config(self, original: Callable[..., None]) -> Callable[..., None]:
        """`logging.basicConfig` that ignores our handlers: it does nothing if the root logger has any, and a script's
        call must still apply. Beam's calls, one with each PipelineOptions, are dropped."""

        def basic_config(**settings: Any) -> None:
            if _label is None or in_beam(sys._getframe(1).f_code.co_filename):
                return
            root, ours = logging.getLogger(), self._handler.others
            hidden = [handler for handler in root.handlers if handler in ours]
            root.handlers = [handler for handler in root.handlers if handler not in ours]
            try:
                original(**settings)
            finally:
                root.handlers = [*hidden, *root.handlers]

        return basic_config

    def address(self) -> str:
        if self._listener is None:
            self._listener = _Listener(self.sink)
        return self._listener.address

    def written(self, name: str, text: str) -> None:
        """Passes on the lines that end in `text`. For a line that was overwritten (`\\r`), the last state counts."""
        if again.on:
            return
        place = (threading.get_ident(), name)
        with self._lock:
            *lines, rest = (self._begun.pop(place, "") + text).split("\n")
            if rest:
                self._begun[place] = rest
        for line in lines:
            self.line("INFO", name, line.rstrip("\r").rpartition("\r")[2])

    def flush(self) -> None:
        """Passes on lines without an end."""
        with self._lock:
            begun, self._begun = self._begun, {}
        for (_, name), text in begun.items():
            self.line("INFO", name, text.rstrip("\r").rpartition("\r")[2])

    def line(self, level: str, logger: str, message: str, at: float | None = None) -> None:
        label = _label or ("", 0, "")
        self.sink(Line(time.time() if at is None else at, level, logger, message, *label))


class _Stream:
    """A standard stream: the output of a script is captured, all other output passes."""

    def __init__(self, capture: _Capture, stream: Any, name: str) -> None:
        self._capture = capture
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        if _label is None or _capture is not self._capture:
            return int(self._stream.write(text))
        if not in_beam(sys._getframe(1).f_code.co_filename):  # a worker's traceback, which Beam logs, too
            self._capture.written(self._name, str(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Without effect: the command reports its result on it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Handler(logging.Handler):
    """Captures a record, unless a handler of the script handles it: that handler writes to a captured stream or
    elsewhere."""

    def __init__(self, capture: _Capture) -> None:
        super().__init__()
        self._capture = capture
        self.others: set[logging.Handler] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if again.on or is_from_beam(record) or _of_our_own(record) or self._shown_by_the_script(record):
            return
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._capture.line(record.levelname, record.name, text, record.created)

    def _shown_by_the_script(self, record: logging.LogRecord) -> bool:
        handlers = (one for logger in _chain(record.name) for one in logger.handlers if one not in self.others)
        active = (type(one) for one in handlers if not isinstance(one, logging.NullHandler))
        return any(not kind.__module__.startswith("apache_beam.") for kind in active)


def _chain(name: str) -> Iterator[logging.Logger]:
    """The logger and its ancestors, up to the last one to which it propagates."""
    logger: logging.Logger | None = logging.getLogger() if name == "root" else logging.getLogger(name)
    while logger is not None:
        yield logger
        logger = logger.parent if logger.propagate else None


def _of_our_own(record: logging.LogRecord) -> bool:
    """Whether a record is a detail of a library that this package uses, for which no level is set."""
    if record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _USED_HERE:
        return False
    return all(logger.level == logging.NOTSET for logger in _chain(record.name) if logger.name != "root")


# ---------------------------------------------------------------- several processes


class _Listener:
    """Receives the lines of the worker processes on this machine, and acknowledges each after passing it on."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._folder = tempfile.TemporaryDirectory(prefix="dynamodt-")  # of this user alone
        self.address = str(Path(self._folder.name) / "output")
        self._connections: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.address)
        self._server.listen()
        threading.Thread(target=self._accept, name="author-output", daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection = self._server.accept()[0]
                self._connections.append(connection)
                threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rwb") as stream:
            for text in stream:
                self._sink(Line(*json.loads(text)))
                stream.write(b"\n")
                stream.flush()

    def close(self) -> None:
        for one in (self._server, *self._connections):  # a worker that still runs writes to its own log
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._folder.cleanup()


class _ToOrigin:
    """Sends lines to the process that started the run, or to stderr if that process cannot be reached."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._address = ""
        self._stream: Any = None
        self._stderr = sys.stderr

    def connect(self, address: str) -> None:
        with self._lock:
            if address == self._address:
                return
            self._close()
            self._address = address
            if address and Path(address).exists():
                connection = socket.socket(socket.AF_UNIX)
                with suppress(OSError):
                    connection.connect(address)
                    self._stream = connection.makefile("rwb")

    def __call__(self, line: Line) -> None:
        with self._lock:
            if not self._sent(line):
                table = f"{line.table} v{line.version}: " if line.table else ""
                self._stderr.write(f"{line.utc} {table}{line.text}\n")
                self._stderr.flush()

    def _sent(self, line: Line) -> bool:
        if self._stream is None:
            return False
        with suppress(OSError):
            self._stream.write(json.dumps(line).encode() + b"\n")
            self._stream.flush()
            if self._stream.readline():
                return True
        self._close()
        return False

    def _close(self) -> None:
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
            self._stream = None
