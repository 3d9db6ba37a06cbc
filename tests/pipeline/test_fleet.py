"""Twenty-five workers in simulated time, from their arrival to an abort; a thousand: benchmarks/fleet.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.runs import runner
from tests.simulation.fleet import Plan, running
from tests.simulation.process import KEPT, stages
from tests.simulation.trial import Figures, problems, trial

pytestmark = pytest.mark.slow

PLAN = Plan(workers=25, wcu=6_250.0, rcu=6_250.0, units=250, partitions=25)


@pytest.fixture(scope="module")
def figures() -> Figures:
    return trial(PLAN)


def test_a_fleet_violates_none_of_the_conditions(figures: Figures) -> None:
    """The budget, the state table's partitions, deaths, a pause, a lower rate, an abort: see `problems`."""
    assert problems(figures) == []


def test_a_fleet_starts_far_below_its_budget(figures: Figures) -> None:
    assert 0.0 < figures.first_10_s <= 0.5


def test_every_worker_pauses_within_seconds(figures: Figures) -> None:
    assert figures.paused_after <= 5.0


def test_the_state_table_costs_little_compared_with_the_writes(figures: Figures) -> None:
    assert figures.control_share <= 0.02


def test_every_item_of_a_fleet_is_transformed_exactly_once(figures: Figures) -> None:
    """A tenth of the workers died within a page, and others have continued their splits by the journal."""
    assert figures.changed > 0 and figures.twice == 0


def test_a_trial_is_determined_by_its_seed() -> None:
    def few_seconds(seed: int) -> dict[tuple[str, int], float]:
        with running(replace(PLAN, workers=10, units=100, seed=seed)) as fleet:
            fleet.live(12.0)
            return dict(fleet.things.spent)

    assert few_seconds(1) == few_seconds(1) != few_seconds(2)


def test_a_failed_fleet_leaves_no_stand_in_and_no_task() -> None:
    """A task that continued, or a stand-in in a module, would disturb later tests."""
    before = {module: dict(vars(module)) for module in (runner, *stages())}
    with pytest.raises(ZeroDivisionError), running(replace(PLAN, workers=60, units=240)) as fleet:
        fleet.live(8.0)
        raise ZeroDivisionError
    assert {module: dict(vars(module)) for module in before} == before
    assert fleet.loop.tasks == 0 and fleet.workers[0].begun_at > 0


def test_each_simulated_process_has_its_own_module_state() -> None:
    """State that is added to a module of the pipeline must be added to KEPT."""
    kept = {
        (module, name)
        for module in stages()
        for name, value in vars(module).items()
        if isinstance(value, dict | set | list) and name.startswith("_") and name.islower() and name[1] != "_"
    }
    assert kept == {place for place, make in KEPT.items() if make() is not None}


def test_the_conditions_detect_a_fleet_over_its_budget(figures: Figures) -> None:
    """The checks can fail: otherwise they would prove nothing."""
    assert problems(replace(figures, busiest_10_s=1.2, state_throttled=1, twice=1)) == [
        "more than a tenth over the budget in ten seconds",
        "the state table was throttled",
        "an item was transformed twice",
    ]
