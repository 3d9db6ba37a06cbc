"""Random versions, faults, deaths and writes of an application, on the fakes; then an undo (guarantees G1, G2, G3, G5).

A seed determines a case. `DYNAMODT_SEEDS=0-5000,20260131` tries these seeds; `make test-chaos` tries thousands.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz import equal_items, invariants, target_invariants
from tests.fuzz.case import Case, drawn
from tests.fuzz.equal_items import EqualItems
from tests.fuzz.seeds import seeds_to_try
from tests.inline import without_threads

SEEDS = seeds_to_try("0-99")
BUNCH = 50  # seeds of one test
AGAIN = "DYNAMODT_SEEDS={seed} .venv/bin/python -m pytest tests/pipeline/test_fuzz.py"


def breaches(seed: int, folder: Path) -> list[str]:
    """The violated conditions of a case."""
    case = Case(seed, folder)
    return _run_and_undone(case, target_invariants if case.draw.target else invariants)


def breaches_of_equal_items(seed: int, folder: Path) -> list[str]:
    return _run_and_undone(EqualItems(seed, folder), equal_items)


def _run_and_undone(case: Case, what: ModuleType) -> list[str]:
    random.seed(case.seed)  # the jitter of retries
    case.run()
    found = list(what.breaches_of_run(case))
    case.undo()
    found += what.breaches_of_undo(case)
    return [f"{one}; the application: {', '.join(case.application.log)}" for one in found]


@pytest.mark.slow
@pytest.mark.scaled
@pytest.mark.usefixtures("without_error_logs")
@pytest.mark.parametrize("breaches", [breaches, breaches_of_equal_items])
@pytest.mark.parametrize("first", range(0, len(SEEDS), BUNCH))
def test_random_runs(
    first: int, breaches: Callable[[int, Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_threads(monkeypatch)
    found: list[str] = []
    for seed in SEEDS[first : first + BUNCH]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        found += [f"{one}\n  {drawn(seed)}\n  {AGAIN.format(seed=seed)}" for one in breaches(seed, folder)]
    assert not found, "\n".join(found[:5])
