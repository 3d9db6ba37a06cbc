"""Text from outside (an author's error, an item, a key, a service's words), before it is shown: it moves no cursor,
changes no colour, and is no command for the CI system that reads the log."""

from __future__ import annotations

import json
import re
from typing import Any, TextIO

# GitHub's runner takes a line for a command that begins with `::`, spaces aside; it and Azure's also one with `##[name`
# or `##vso[name` anywhere in it.
_AT_THE_START = re.compile(r"^((?:[^\S\n]|\x1b\[[0-9;]*m)*)::", re.MULTILINE)
_ANYWHERE = re.compile(r"##(?=\w*\[)")


def printable(text: str) -> str:
    """The text with control and other invisible characters spelt out; line ends stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def inert(text: str) -> str:
    """The text without a line that a CI system would obey: a backslash stands before what would make it one."""
    return _ANYWHERE.sub(r"#\\#", _AT_THE_START.sub(r"\1\\::", text))


def json_line(document: dict[str, Any]) -> str:
    """A document as one line of JSON, in ASCII, and as inert."""
    return json.dumps(document).replace("##", "#\\u0023") + "\n"


class InertStream:
    """A stream that passes on what is written to it, `inert`. Each write is taken for whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(inert(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
