"""Random lives of a table: sequences of commands with edits, deaths, faults and an application (guarantees G1 to G6).

A seed determines a life; `make test-lives SEEDS=0-999` tries these. A build tries ten: of about a thousand, one ends in
a state that `tests.fuzz.history` does not foresee, and a person decides whether the product or the condition is wrong.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.life import Life
from tests.fuzz.service import Service, install


def seeds(words: str) -> range:
    """`7`, or `0-299`."""
    first, _, last = words.partition("-")
    return range(int(first), int(last or first) + 1)


SEEDS = [seed for words in os.environ.get("DYNAMODT_SEEDS", "0-9").split(",") for seed in seeds(words)]
BUNCH = 20  # seeds of one test
AGAIN = "PYTHONHASHSEED=0 DYNAMODT_SEEDS={seed} .venv/bin/python -m pytest tests/pipeline/test_sequences.py"


@pytest.fixture
def without_error_logs() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.usefixtures("without_error_logs")
@pytest.mark.parametrize("first", range(0, len(SEEDS), BUNCH))
def test_random_lives(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present: list[Service] = []
    clock = install(monkeypatch, lambda: present[-1])
    found: list[str] = []
    for seed in SEEDS[first : first + BUNCH]:
        clock.restart(seed)
        life = Life(seed, tmp_path / str(seed))
        present.append(life.service)
        life.run()
        found += [f"{one}\n  {life.versions}\n  {AGAIN.format(seed=seed)}" for one in life.found]
    assert not found, "\n".join(found[:5])
