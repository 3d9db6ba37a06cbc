"""A run's dead letters, as far as a person is told of them at once."""

from __future__ import annotations

import json
import re

from dynamodt.control.terminal.item_diff import key_text
from dynamodt.core.codec import decode

_FRAME = r'File "{path}", line (\d+)'


def first_of(lines: bytes, script_path: str) -> str:
    """The first letter of a dead-letter file in a sentence: its key, its error, and, where the script is at fault, its
    file, with the line that the error came through last, if it did. Empty when there is none."""
    line = lines.partition(b"\n")[0]
    if not line:
        return ""
    letter = json.loads(line)
    key = decode(letter["key"])
    frames = re.findall(_FRAME.format(path=re.escape(script_path)), letter["traceback"])
    place = f"{script_path}:{frames[-1]}" if frames else script_path if letter["stage"] == "transform" else ""
    return f"{key_text(key, key)}: {letter['error']}" + (f" ({place})" if place else "")
