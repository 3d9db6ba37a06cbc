"""The checksum of what `prepare` depends on."""

from __future__ import annotations

import ast

import pytest

from dynamodt.script.syntax import part_checksum

TEXT = '''
"""Title."""
import csv
from pathlib import Path

sequence = 1
RATES = {"a": 1}
if True:
    SCALE = 2


def _row(line):
    return line[0], RATES[line[1]] * SCALE


class Base:
    def __init_subclass__(cls):
        RATES[cls.__name__] = cls


def prepare(context):
    for line in csv.reader((context.folder / "x").open()):
        yield _row(line)


def _cents(value):
    return value * 100


def transform_up(item, prepared):
    return {**item, "rate": _cents(prepared["rate"])}
'''


def checksum(text: str = TEXT) -> str:
    return part_checksum(ast.parse(text), "prepare")


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('yield _row(line)', 'yield _row(line[1:])'),
        ("line[0], RATES", "line[2], RATES"),
        ('{"a": 1}', '{"a": 2}'),
        ("SCALE = 2", "SCALE = 3"),
        ("import csv", "import mycsv as csv"),
        ("sequence = 1\n", "sequence = 1\nprint(RATES.clear())\n"),
        ("sequence = 1\n", "sequence = 1\nfrom names import *\n"),
        ("if True:", 'for name in "bc":\n    RATES[name] = 2\nif True:'),
        ("if True:", 'with open("x") as file:\n    RATES.update(file)\nif True:'),
        ("if True:", '_ = RATES.setdefault("b", 2)\nif True:'),
        ("def prepare", 'FIRST = _row("x,a")\ndef prepare'),
        ("def prepare", "@RATES.update\ndef more():\n    return {}\ndef prepare"),
        ("def prepare", "class Rate(Base): ...\ndef prepare"),
    ],
)  # fmt: skip
def test_everything_that_prepare_uses_changes_the_checksum(was: str, now: str) -> None:
    assert was in TEXT and checksum(TEXT.replace(was, now)) != checksum()


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("value * 100", "value * 1000"),
        ('"rate": _cents', '"cents": _cents'),
        ("Title.", "Another."),
        ("sequence = 1", "sequence = 1\nGUARD = 'changed'"),
        ("def _cents", "@_traced\ndef _cents"),
        ("def _cents", "WORDS = csv.reader(Path('x').open())\ndef _cents"),
        ("def _row(line):\n", "def _row(line):\n    # a remark\n\n"),
        ('{"a": 1}', "{\n    'a': 1,\n}"),
    ],
)
def test_nothing_else_changes_the_checksum(was: str, now: str) -> None:
    assert was in TEXT and checksum(TEXT.replace(was, now)) == checksum()


def test_everything_counts_if_prepare_looks_names_up() -> None:
    text = TEXT.replace("yield _row(line)", 'yield globals()["_row"](line)')
    assert checksum(text.replace("line[0], RATES", "line[2], RATES")) != checksum(text)


def test_without_a_prepare_there_is_no_checksum() -> None:
    assert checksum("sequence = 1") == ""
