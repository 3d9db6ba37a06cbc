"""Applies a version in another process: with another hash seed, time, time zone and current folder, another machine's
and user's name, another order of items and of their attributes, and fresh modules.

A script that is loaded after `shift` gets a clock that is more than a year ahead, with another weekday and another time
of the day, so that a result that depends on the clock differs.

In a run an item may be transformed again in another process, so a result must not depend on any of these. `python -m
dynamodt.checks.other_process` is that process; it reads requests from stdin and answers on stdout, both pickled.
"""

from __future__ import annotations

import ast
import datetime as real
import os
import pickle
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date as _DATE  # noqa: N812
from datetime import datetime as _DATETIME  # noqa: N812
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dynamodt.checks.subject import CallLimit, HangError, Observed, Subject, first_rows
from dynamodt.errors import DynamodtError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Direction, Image, TableSpec
from dynamodt.script.load import parse

_SEED = "4242"  # of hashes; this process has another one, or a random one
_MOST_SECONDS = 60.0  # of a request, beside the time for items: native code that hangs is not interrupted
_TIME, _ITEMS, _ATTRIBUTES, _FOLDER = 1, 2, 3, 4  # of `_Request.alike`
_NAME = "elsewhere"  # of the machine and the user in the other process
_ZONE = "Asia/Kathmandu"  # its local time: rare on machines, and 5:45 ahead of UTC, so that hours differ
_NAMED = ("HOSTNAME", "LOGNAME", "USER", "LNAME", "USERNAME")
_THERE = {"PYTHONHASHSEED": _SEED, **dict.fromkeys(_NAMED, _NAME)}


@dataclass(frozen=True)
class VersionInputs:
    """A version with its tables and data. `prepared`: None if the data is missing. `derived`: the items were made by
    `transform_down` of later versions. `examples`: variants to try; `seconds`: the limit of one call."""

    script: Script
    table: TableSpec
    target: TableSpec | None = None
    prepared: Mapping[Any, Any] | None = field(default_factory=dict)
    derived: bool = False
    examples: int = 300
    seconds: float = 10.0

    def open(self, direction: Direction, limit: CallLimit) -> Subject:
        """One side of the version, loaded. Raises the errors of `Subject`."""
        return Subject(self.script, direction, self.table, self.target, self.prepared or {}, limit)


@dataclass(frozen=True)
class _Request:
    """A request: the version applied to the images. `alike`: the conditions that equal those of the asking process: 0
    none, 1 the time and its zone, 2 also the order of items, 3 that of attributes, 4 the current folder."""

    version: VersionInputs
    images: tuple[Image, ...] = ()
    alike: int = 0
    folder: str = os.sep
    zone: str | None = _ZONE  # TZ
    rows: int = 0  # of items(), instead of the images


class OtherProcess:
    """The other process, which the first request starts."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def observed(self, version: VersionInputs, images: Sequence[Image], alike: int = 0) -> list[Observed] | None:
        """The results of the version for the images in the other process, in their order. None: the process has ended,
        or it cannot load the script."""
        found: list[Observed] | None = self._asked(_Request(version, tuple(images), alike))
        return found

    def rows(self, version: VersionInputs, most: int) -> list[Image] | None:
        """The rows of `items()` in the other process; None as in `observed`."""
        found: list[Image] | None = self._asked(_Request(version, rows=most))
        return found

    def _asked(self, asked: _Request) -> Any:
        folder = os.getcwd() if asked.alike >= _FOLDER else os.sep
        zone = os.environ.get("TZ") if asked.alike >= _TIME else _ZONE
        version = replace(asked.version, prepared=dict(asked.version.prepared or {}))
        asked = replace(asked, version=version, folder=folder, zone=zone)
        process = self._process = self._process or _started()
        assert process.stdin is not None and process.stdout is not None
        bound = threading.Timer(_MOST_SECONDS + asked.version.seconds * len(asked.images), process.kill)
        bound.start()
        try:
            pickle.dump(asked, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (OSError, EOFError, pickle.PickleError):
            self.close()
            return None
        finally:
            bound.cancel()

    def close(self) -> None:
        """Ends the process; the next request starts another one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    assert pipe is not None
                    pipe.close()
            process.wait()


def _started() -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join([package, *map(os.path.abspath, filter(None, given))])
    return subprocess.Popen(
        [sys.executable, "-m", "dynamodt.checks.other_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_THERE, "PYTHONPATH": path},
    )


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    while True:
        try:
            asked: _Request = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(_answer(asked), answers)
        answers.flush()


def _answer(asked: _Request) -> list[Observed] | list[Image] | None:
    _import_packages(asked.version.script)
    _set_zone(asked.zone)
    reset = shift() if asked.alike < _TIME else lambda: None
    os.chdir(asked.folder)
    limit = CallLimit(asked.version.seconds)
    try:
        with limit.guarded():
            if asked.rows:
                return first_rows(asked.version.script, asked.version.target or asked.version.table, limit, asked.rows)
            subject = asked.version.open("up", limit)
            reverse = asked.alike < _ITEMS
            images = asked.images[::-1] if reverse else asked.images
            images = images if asked.alike >= _ATTRIBUTES else tuple(map(_turned, images))
            found = [subject.observe(image) for image in images]
            with suppress(DynamodtError, HangError):  # the asking process reports it
                subject.close()
        return found[::-1] if reverse else found
    except (DynamodtError, HangError):
        return None
    finally:
        reset()


def _set_zone(zone: str | None) -> None:
    """Sets the time zone; None: the machine's."""
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


def _import_packages(script: Script) -> None:
    """Imports the installed packages that a script imports. This precedes the shift of the clock: importing some, such
    as pandas, does not end if `datetime` is another class."""
    texts = (script.text, *(file.content.decode() for file in script.files if file.name.endswith(".py")))
    for node in (node for text in texts for node in ast.walk(parse(text, script.path))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for name in filter(_is_installed, names):
            with suppress(Exception):  # the script's own import reports the error
                import_module(name)


def _is_installed(name: str) -> bool:
    """Whether a module is one of an installed package, and not the author's."""
    with suppress(ImportError, ValueError):
        spec = find_spec(name.partition(".")[0])
        return spec is not None and "-packages" in (spec.origin or "")
    return False


def _turned(value: Any) -> Any:
    """An image with the attributes of the item and of its maps in the reverse order."""
    if isinstance(value, dict):
        return {name: _turned(inner) for name, inner in reversed(value.items())}
    return list(map(_turned, value)) if isinstance(value, list) else value


# ---------------------------------------------------------------- another time


_SHIFT = real.timedelta(days=401, hours=7, minutes=13, seconds=11, microseconds=123_457)
_SECONDS = _SHIFT.total_seconds()
_NANOSECONDS = int(_SECONDS * 1e9)
_CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")  # and the same in nanoseconds


class _Kind(type):
    """A class whose instances are also those of its base, as `isinstance` sees it."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.__mro__[1])


class _Datetime(_DATETIME, metaclass=_Kind):
    @classmethod
    def now(cls, tz: real.tzinfo | None = None) -> Any:
        return _DATETIME.now(tz) + _SHIFT

    @classmethod
    def utcnow(cls) -> Any:
        return _DATETIME.now(real.UTC).replace(tzinfo=None) + _SHIFT

    @classmethod
    def today(cls) -> Any:
        return _DATETIME.now() + _SHIFT


class _Date(_DATE, metaclass=_Kind):
    @classmethod
    def today(cls) -> Any:
        return (_DATETIME.now() + _SHIFT).date()


def shift() -> Callable[[], None]:
    """Shifts this process's clock; returns the function that restores it."""
    names = (*_CLOCKS, *(f"{name}_ns" for name in _CLOCKS), "gmtime", "localtime", "strftime", "ctime")
    before = {name: getattr(time, name) for name in names}
    of = before["localtime"]
    shifted: dict[str, Callable[..., Any]] = {
        **{name: partial(_later, before[name], _SECONDS) for name in _CLOCKS},
        **{f"{name}_ns": partial(_later, before[f"{name}_ns"], _NANOSECONDS) for name in _CLOCKS},
        "gmtime": lambda seconds=None: before["gmtime"](_moment(seconds)),
        "localtime": lambda seconds=None: of(_moment(seconds)),
        "strftime": lambda form, moment=None: before["strftime"](form, of(_moment(None)) if moment is None else moment),
        "ctime": lambda seconds=None: before["ctime"](_moment(seconds)),
    }

    def _moment(seconds: float | None) -> float:
        return float(before["time"]() + _SECONDS) if seconds is None else seconds

    _set(shifted, _Datetime, _Date)
    return lambda: _set(before, _DATETIME, _DATE)


def _later(clock: Callable[[], Any], by: float) -> Any:
    return clock() + by


def _set(functions: dict[str, Callable[..., Any]], datetime: type, date: type) -> None:
    for name, function in functions.items():
        setattr(time, name, function)
    setattr(real, "datetime", datetime)  # noqa: B010  (a class's module is not assigned to, for mypy)
    setattr(real, "date", date)  # noqa: B010


for _class, _name in ((_Datetime, "datetime"), (_Date, "date")):
    _class.__name__ = _class.__qualname__ = _name
    _class.__module__ = "datetime"


# ---------------------------------------------------------------- the process


def _main() -> None:
    """Serves requests on the pipes; the output of the author's code is discarded."""
    for module, name in ((socket, "gethostname"), (socket, "getfqdn"), (platform, "node")):
        setattr(module, name, lambda *_: _NAME)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    _serve(requests, answers)


if __name__ == "__main__":
    _main()
