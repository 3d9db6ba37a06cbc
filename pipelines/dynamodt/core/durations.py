"""A span of time as a person writes it: `90s`, `10m`, `1h`."""

from __future__ import annotations

import re

from dynamodt.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_WRITTEN = re.compile(r"(\d{1,6})([smh])", re.ASCII)


def seconds(flag: str, text: str) -> float:
    """The seconds of what was written after a flag; none for an empty text. Raises UsageError for anything else."""
    if not text:
        return 0.0
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise UsageError(f"{flag} cannot be {text!r}", hint="write a number and a unit: 90s, 10m or 1h")
    return float(int(written[1]) * _SECONDS[written[2]])
