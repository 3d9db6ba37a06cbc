"""Random lives of a table: sequences of commands with edits, deaths, faults and an application (guarantees G1 to G6).

A seed determines a life; `make test-lives SEEDS=0-999` tries these. A build tries ten: of about a thousand, one ends in
a state that `tests.fuzz.history` does not foresee, and a person decides whether the product or the condition is wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.life import Life
from tests.fuzz.seeds import seeds_to_try
from tests.fuzz.service import Service, install

SEEDS = seeds_to_try("0-9")
BUNCH = 20  # seeds of one test
AGAIN = "PYTHONHASHSEED=0 DYNAMODT_SEEDS={seed} .venv/bin/python -m pytest tests/pipeline/test_sequences.py"


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
