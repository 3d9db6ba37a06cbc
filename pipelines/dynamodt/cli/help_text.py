"""The text of `--help`, by command, from `help.txt` beside this module.

A section begins with `=== COMMAND`, in the order of `dynamodt --help`. Those in capitals are parts of several commands,
which a line `=> PART` takes in. A line `\\b` keeps the lines of its paragraph as they are.
"""

from __future__ import annotations

from pathlib import Path


def _sections() -> dict[str, str]:
    text = "\n" + Path(__file__).with_name("help.txt").read_text(encoding="utf-8").replace("\\b\n", "\b\n")
    heads_and_bodies = (section.split("\n\n", 1) for section in text.split("\n=== ")[1:])
    found = {head: body.strip("\n") + "\n" for head, body in heads_and_bodies}
    for part in [head for head in found if head.isupper()]:
        found.update({head: body.replace(f"=> {part}\n", found[part]) for head, body in found.items()})
    return found


_TEXTS = _sections()
EPILOG = _TEXTS["EXIT CODES"]
HELP = {"" if head == "dynamodt" else head: text for head, text in _TEXTS.items() if not head.isupper()}
