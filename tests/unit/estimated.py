"""Scripts and items that the tests of estimates share."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from dynamodt.model.runs import Script
from dynamodt.model.tables import Image
from dynamodt.script.read import read_script

HALF = 'def transform_up(item):\n    return {**item, "half": True} if item["n"] % 2 else item\n'


def read(folder: Path, text: str, number: int = 1) -> Script:
    path = folder / "transforms" / "things" / f"v{number}_change.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"sequence = {number}\n{dedent(text)}")
    return read_script(path, folder)


def images(number: int) -> tuple[Image, ...]:
    return tuple({"id": {"S": f"i{n}"}, "n": {"N": str(n)}} for n in range(number))
