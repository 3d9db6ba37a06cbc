"""Another time for one process: what reads the clock gives another moment than it really is.

A script that is loaded afterwards gets classes and functions that are more than a year off, on another weekday and at
another time of the day, so that a result that depends on the clock differs.
"""

from __future__ import annotations

import datetime as real
import time
from collections.abc import Callable
from datetime import date as _DATE  # noqa: N812
from datetime import datetime as _DATETIME  # noqa: N812
from typing import Any

_SHIFT = real.timedelta(days=401, hours=7, minutes=13, seconds=11, microseconds=123_457)
_SECONDS = _SHIFT.total_seconds()
_NANOSECONDS = int(_SECONDS * 1e9)


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
    """Shifts this process's clock; returns what sets it right again."""
    before = {name: getattr(time, name) for name in ("time", "time_ns", "gmtime", "localtime", "strftime", "ctime")}
    of = before["localtime"]
    shifted: dict[str, Callable[..., Any]] = {
        "time": lambda: before["time"]() + _SECONDS,
        "time_ns": lambda: before["time_ns"]() + _NANOSECONDS,
        "gmtime": lambda seconds=None: before["gmtime"](_moment(seconds)),
        "localtime": lambda seconds=None: of(_moment(seconds)),
        "strftime": lambda form, moment=None: before["strftime"](form, of(_moment(None)) if moment is None else moment),
        "ctime": lambda seconds=None: before["ctime"](_moment(seconds)),
    }

    def _moment(seconds: float | None) -> float:
        return float(before["time"]() + _SECONDS) if seconds is None else seconds

    _set(shifted, _Datetime, _Date)
    return lambda: _set(before, _DATETIME, _DATE)


def _set(functions: dict[str, Callable[..., Any]], datetime: type, date: type) -> None:
    for name, function in functions.items():
        setattr(time, name, function)
    setattr(real, "datetime", datetime)  # noqa: B010  (a class's module is not assigned to, for mypy)
    setattr(real, "date", date)  # noqa: B010


for _class, _name in ((_Datetime, "datetime"), (_Date, "date")):
    _class.__name__ = _class.__qualname__ = _name
    _class.__module__ = "datetime"
