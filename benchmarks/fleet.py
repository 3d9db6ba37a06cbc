"""A fleet of up to a thousand workers, simulated: the real code in simulated time, over stores with partitions.

    .venv/bin/python benchmarks/fleet.py [WORKERS[:WCU] ...] [--seed N]

Each column is a trial of so many workers with a budget of so many write units a second for each (250 where none is
said): they arrive within 20 seconds, a tenth of them dies, the run rests, its rate is lowered to a quarter, it is
aborted. The whole default takes about a minute and a half of one core, and prints the same figures each time. Exits
with 1 when a trial has broken a promise: twenty workers do, whose large requests come in lumps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "pipelines")]

from tests.simulation.fleet import Plan
from tests.simulation.trial import lines, problems, trial

DEFAULT = ["20", "200", "1000"]


def plan(words: str, seed: int) -> Plan:
    """`1000` or `1000:40`: the plan of a trial, a partition and ten units for each worker."""
    count, _, wcu = words.partition(":")
    workers, budget = int(count), float(wcu or 250) * int(count)
    spread = -(-workers // 50)
    return Plan(workers, budget, budget, units=10 * workers, partitions=workers, spread=spread, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fleets", nargs="*", default=DEFAULT, metavar="WORKERS[:WCU]")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    trials = []
    for words in arguments.fleets:
        print(f"... {words}", file=sys.stderr, flush=True)
        trials.append(trial(plan(words, arguments.seed)))
    print("\n".join(lines(trials)))
    broken = [f"{one.workers} workers: {problem}" for one in trials for problem in problems(one)]
    print("\n".join(broken), file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
