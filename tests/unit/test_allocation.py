"""One budget over many workers."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.rate import Allocation, shares

amounts = st.floats(0, 10_000)


@st.composite
def holding(draw: st.DrawFn) -> Allocation:
    granted = draw(amounts)
    return Allocation(granted, granted + draw(st.sampled_from([0.0, 1.0, 500.0])))  # more while it has not heard


allocations = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), holding(), max_size=8)


def allowed_from_now_on(held: dict[str, Allocation], told: dict[str, float]) -> float:
    """The maximum that all workers may use from now on."""
    return sum(max(told.get(name, holding.granted), holding.using) for name, holding in held.items())


@given(st.floats(0.1, 10_000), allocations)
def test_workers_are_granted_at_most_the_budget(allowed: float, held: dict[str, Allocation]) -> None:
    before = sum(holding.using for holding in held.values())
    assert allowed_from_now_on(held, shares(allowed, held)) <= max(allowed, before) * (1 + 1e-9) + 1e-6


@given(st.floats(0.1, 10_000), st.integers(1, 40))
def test_all_workers_finally_have_equal_allocations(allowed: float, workers: int) -> None:
    held = {f"w{number}": Allocation() for number in range(workers - 1)} | {"greedy": Allocation(allowed, allowed)}
    for _ in range(3):
        told = shares(allowed, held)
        held = {name: Allocation(told.get(name, h.granted), told.get(name, h.granted)) for name, h in held.items()}
    assert all(h.granted == pytest.approx(allowed / workers, rel=0.05) for h in held.values())


def test_a_new_worker_gets_nothing_until_the_others_have_confirmed_smaller_allocations() -> None:
    held = {"old": Allocation(100.0, 100.0), "new": Allocation()}
    assert shares(100.0, held) == {"old": 50.0}
    held["old"] = Allocation(50.0, 100.0)
    assert shares(100.0, held) == {}
    held["old"] = Allocation(50.0, 50.0)
    assert shares(100.0, held) == {"new": 50.0}


def test_without_a_limit_allocations_are_infinite() -> None:
    assert shares(inf, {"one": Allocation(5.0, 5.0), "two": Allocation(inf, inf)}) == {"one": inf}


def test_a_worker_without_a_limit_gets_one_before_others_get_an_allocation() -> None:
    held = {"one": Allocation(inf, inf), "two": Allocation(0.0, 0.0)}
    assert shares(10.0, held) == {"one": 5.0}


def test_an_allocation_that_would_hardly_grow_is_not_changed() -> None:
    assert shares(101.0, {"one": Allocation(100.0, 100.0)}) == {}
    assert shares(99.0, {"one": Allocation(100.0, 100.0)}) == {"one": 99.0}


def test_without_workers_there_are_no_allocations() -> None:
    assert shares(100.0, {}) == {}


# ---------------------------------------------------------------- among many

many = st.lists(holding(), min_size=50, max_size=150)


@given(st.floats(0.1, 100_000), many)
def test_many_workers_are_granted_at_most_the_budget(allowed: float, held_by: list[Allocation]) -> None:
    held = {f"w{number}": held for number, held in enumerate(held_by)}
    before = sum(holding.using for holding in held.values())
    assert allowed_from_now_on(held, shares(allowed, held)) <= max(allowed, before) * (1 + 1e-9) + 1e-6


def fleet(workers: int, allowed: float) -> dict[str, Allocation]:
    """Workers with their parts."""
    told = shares(allowed, {f"w{number}": Allocation() for number in range(workers)})
    return {name: Allocation(grant, grant) for name, grant in told.items()}


def test_a_new_worker_among_many_gets_its_allocation_at_once_and_no_other_changes() -> None:
    held = fleet(1000, 1000.0)
    assert all(holding.granted == pytest.approx(1000 / 1020) for holding in held.values())
    told = shares(1000.0, held | {"new": Allocation()})
    assert told == {"new": pytest.approx(1000 / 1021)}


def test_when_the_reserve_is_used_up_all_allocations_are_lowered() -> None:
    held = fleet(1000, 1000.0) | {f"new{number}": Allocation() for number in range(100)}
    told = shares(1000.0, held)
    assert sum(name.startswith("w") for name in told) == 1000
    some = [name for name, grant in told.items() if name.startswith("new") and grant > 1e-9]  # without rounding errors
    assert len(some) == pytest.approx(20, abs=2)  # the part that is already free


def test_a_smaller_budget_lowers_all_allocations_at_once() -> None:
    told = shares(250.0, fleet(1000, 1000.0))
    assert len(told) == 1000 and sum(told.values()) <= 250.0
