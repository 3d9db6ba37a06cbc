"""One trial of a fleet: it starts, a tenth of its workers die, it is paused, its rate is lowered, and it is aborted.
The figures concern guarantee G7 and the state table's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from dynamodt.runs.cost import MILLION, PRICES, THOUSAND
from tests.simulation.fleet import Fleet, Plan, running
from tests.simulation.store import READS, WRITES
from tests.simulation.worker import Worker

DEATHS, REBORN, PAUSE, RESUME, SLOWER, ABORT, END = 45.0, 55.0, 75.0, 85.0, 92.0, 107.0, 135.0
_DYING = 10  # every tenth
_LUMPS = 1.25  # of the lower rate one batch, 25 items of 16 KB, takes a worker ten seconds: it comes in lumps
_SLOWER = 4.0  # times
_SAVED = 1.25  # a second may use units that were left in the one before
_PRICES = PRICES["us-east-1"]


@dataclass
class Figures:
    """The results of a trial: shares are of 1, times in seconds, and the state table's figures are those of its busiest
    second."""

    workers: int
    budget: float
    first_10_s: float  # units as a share of the budget
    busiest_10_s: float
    busiest_1_s: float
    full_after: float  # from the first worker on, until nine tenths of the budget are in use
    steady: float  # of the budget, from there to the deaths
    throttled: float  # of all statements
    share_taken_up_after: float  # the dead workers' part is used by others
    units_taken_up_after: float  # from a new worker's start until it has recorded a page of a dead one's unit
    paused_after: float  # until the last write
    slower_after: float  # until every worker keeps to its part of a quarter of the budget
    slower_busiest_10_s: float  # from then on
    aborted_after: float  # until the last worker has ended; its last page was read while the rate was higher
    begun_after_abort: int  # units: of a worker that has read one copy of the lease, and asks another one next
    state_requests: int
    state_partition_writes: float  # of 1,000
    state_partition_reads: float  # of 3,000
    state_key_writes: float
    state_key_reads: float
    state_throttled: int
    journal_puts: int
    control_share: float  # of the cost of the table's and the state table's units, while the budget is in use
    journal_share: float  # and the cost of the journal's requests
    changed: int
    counted: int  # as changed, in the units' rows
    intended: int  # of pages that the abort has left to the journal
    twice: int


def trial(plan: Plan) -> Figures:
    """Run it. The times of the plan's arrival must be over before the first death."""
    with running(plan) as fleet:
        return _lived(fleet)


def _lived(fleet: Fleet) -> Figures:
    plan = fleet.plan
    fleet.live(plan.arrival + 15.0)
    before = _costs(fleet)
    fleet.live(DEATHS)
    costs = [after - so_far for after, so_far in zip(_costs(fleet), before, strict=True)]
    dead = fleet.workers[::_DYING]
    for worker in dead:
        worker.process.alive = False
    fleet.live(REBORN)
    again = [fleet.start(worker.split_group) for worker in dead if worker.split_group is not None]
    fleet.live(PAUSE)
    fleet.tell(paused=True)
    fleet.live(RESUME)
    fleet.tell(paused=False)
    fleet.live(SLOWER)
    fleet.tell(wcu=plan.wcu / _SLOWER)
    awaited = _awaited(fleet, plan.wcu / _SLOWER)
    fleet.live(ABORT)
    fleet.tell(stop="abort")
    begun = fleet.begun
    fleet.live(END)
    return _figures(fleet, again, awaited, costs, fleet.begun - begun)


def _awaited(fleet: Fleet, rate: float) -> float:
    """The time at which all workers together keep to a rate."""
    while sum(worker.rate for worker in fleet.workers if worker.process.alive) > rate and fleet.loop.now < ABORT:
        fleet.live(fleet.loop.now + 0.1)
    return fleet.loop.now


def _figures(fleet: Fleet, again: list[Worker], awaited: float, costs: list[float], begun: int) -> Figures:
    plan, things, state = fleet.plan, fleet.things, fleet.rows
    lower, full, (work, control, journal) = plan.wcu / _SLOWER, _full_after(fleet), costs
    statements = len(things.numbers) + sum(things.throttled.values())
    return Figures(
        workers=plan.workers,
        budget=plan.wcu,
        first_10_s=fleet.spent(1.0, 11.0) / (10.0 * plan.wcu),
        busiest_10_s=fleet.busiest(10.0),
        busiest_1_s=fleet.busiest(1.0),
        full_after=full - 1.0,
        steady=_steady(fleet, full),
        throttled=sum(things.throttled.values()) / statements,
        share_taken_up_after=_first(fleet, DEATHS, 0.95 * plan.wcu * _granted(plan)) - DEATHS,
        units_taken_up_after=max(worker.paged_at - worker.begun_at for worker in again),
        paused_after=_last_write(fleet, PAUSE, RESUME) - PAUSE,
        slower_after=awaited - SLOWER,
        slower_busiest_10_s=fleet.busiest(10.0, awaited, ABORT) * plan.wcu / lower,
        aborted_after=max(_ended_at(worker) for worker in fleet.workers if worker.process.alive) - ABORT,
        begun_after_abort=begun,
        state_requests=max(state.requests.values()),
        state_partition_writes=_peak(state.by_partition, "write"),
        state_partition_reads=_peak(state.by_partition, "read"),
        state_key_writes=_peak(state.by_key, "write"),
        state_key_reads=_peak(state.by_key, "read"),
        state_throttled=state.throttled,
        journal_puts=max(fleet.bucket.puts.values()),
        control_share=control / (control + work),
        journal_share=journal / work,
        changed=len(things.numbers),
        counted=fleet.totals.counts.changed,
        intended=fleet.intended(),
        twice=sum(number != 1 for number in things.numbers.values()),
    )


def _ended_at(worker: Worker) -> float:
    return worker.ended_at if worker.ended else float("inf")


def _granted(plan: Plan) -> float:
    return plan.workers / (plan.workers + plan.workers // 50)


def _full_after(fleet: Fleet) -> float:
    return _first(fleet, 0.0, 0.9 * fleet.plan.wcu * _granted(fleet.plan))


def _steady(fleet: Fleet, since: float) -> float:
    return fleet.spent(since, DEATHS) / ((DEATHS - since) * fleet.plan.wcu) if since < DEATHS else 0.0


def _first(fleet: Fleet, since: float, rate: float, seconds: int = 3) -> float:
    """The end of the first few seconds with this number of units a second; the very first ones are not counted."""
    for end in range(int(since) + 2 * seconds, int(fleet.loop.now)):
        if fleet.spent(end - seconds, end) >= rate * seconds:
            return float(end)
    return float("inf")


def _last_write(fleet: Fleet, since: float, until: float) -> float:
    tenths = [tenth for (kind, tenth), units in fleet.things.spent.items() if kind == "write" and units]
    return max([since, *(tenth / 10 + 0.1 for tenth in tenths if since <= tenth / 10 < until)])


def _peak(metered: object, kind: str) -> float:
    return max(units for key, units in metered.items() if key[1] == kind)  # type: ignore[attr-defined]


def _costs(fleet: Fleet) -> list[float]:
    """The costs so far in dollars: the table's units, the state table's, the journal's requests."""
    prices = {"write": _PRICES.write / MILLION, "read": _PRICES.read / MILLION}
    work = sum(units * prices[kind] for (kind, _), units in fleet.things.spent.items())
    control = sum(units * prices[kind] for (_, kind), units in fleet.rows.by_purpose.items())
    return [work, control, sum(fleet.bucket.puts.values()) * _PRICES.put / THOUSAND]


def lines(fleets: Sequence[Sequence[Figures]]) -> list[str]:
    """The figures as a table, a fleet a column: of several trials the median, the least and the most."""
    return [
        f"{field.name:<24}" + "".join(f"{_of([getattr(one, field.name) for one in fleet]):>36}" for fleet in fleets)
        for field in fields(Figures)
    ]


def _of(values: list[float]) -> str:
    if min(values) == max(values):
        return _shown(values[0])
    return f"{_shown(sorted(values)[len(values) // 2])} ({_shown(min(values))} to {_shown(max(values))})"


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if abs(value) < 0.1 else f"{value:,.2f}"


def problems(figures: Figures) -> list[str]:
    """The conditions that a trial has violated."""
    promises = {
        "more than a tenth over the budget in ten seconds": figures.busiest_10_s <= 1.1,
        "more than a tenth over the budget in the first ten seconds": figures.first_10_s <= 1.1,
        "more than a quarter over the lower budget": figures.slower_busiest_10_s <= _LUMPS,
        "the budget is not used": figures.steady >= 0.85,
        "the state table was throttled": figures.state_throttled == 0,
        "a partition of the state table is written too often": figures.state_partition_writes <= _SAVED * WRITES,
        "a partition of the state table is read too often": figures.state_partition_reads <= _SAVED * READS,
        "an item was transformed twice": figures.twice == 0,
        "a change was not counted, or one that was not made": 0
        <= figures.changed - figures.counted
        <= figures.intended,
        "the dead workers' part is lost": figures.share_taken_up_after <= 30.0,
        "a dead worker's unit is not taken up": 0.0 < figures.units_taken_up_after <= 30.0,
        "a lower rate is not applied": figures.slower_after <= 10.0,
        "a pause is not applied": figures.paused_after <= 6.0,
        "an aborted run begins new split groups": figures.begun_after_abort <= figures.workers // 10,
        "an abort is not applied": figures.aborted_after <= 5.0 + _SLOWER * 4.0,
    }
    return [broken for broken, kept in promises.items() if not kept]
