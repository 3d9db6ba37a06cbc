"""A fleet of up to a thousand workers, simulated: the real code in simulated time, over stores with partitions.

    .venv/bin/python benchmarks/fleet.py [WORKERS[:WCU] ...] [--seeds N]

Each column is a fleet of WORKERS, each with a budget of WCU write units a second (250 by default): they start within 20
seconds, a tenth of them dies, the run is paused, its rate is lowered to a quarter, it is aborted. Several seeds give as
many trials of each, and the median, minimum and maximum. A trial of a thousand workers takes about two minutes of one
core, and always gives the same figures. Exits with 1 if a trial has broken a limit: twenty workers do, whose requests
are large.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "pipelines")]

logging.disable(logging.WARNING)  # Beam's, about optional packages

from tests.simulation.fleet import Plan
from tests.simulation.trial import Figures, lines, problems, trial

DEFAULT = ["20", "200", "1000"]


def plan(words: str, seed: int) -> Plan:
    """`1000` or `1000:40`: the plan of a trial, a partition and ten units for each worker."""
    count, _, wcu = words.partition(":")
    workers, budget = int(count), float(wcu or 250) * int(count)
    return Plan(workers, budget, budget, units=10 * workers, partitions=workers, seed=seed)


def trials(words: str, seeds: int) -> list[Figures]:
    """One trial for each seed; prints the limits that it has broken."""
    found = []
    for seed in range(1, seeds + 1):
        print(f"... {words}, seed {seed}", file=sys.stderr, flush=True)
        found.append(trial(plan(words, seed)))
        for problem in problems(found[-1]):
            print(f"{words}, seed {seed}: {problem}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fleets", nargs="*", default=DEFAULT, metavar="WORKERS[:WCU]")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    fleets = [trials(words, arguments.seeds) for words in arguments.fleets]
    print("\n".join(lines(fleets)))
    sys.exit(1 if any(problems(one) for fleet in fleets for one in fleet) else 0)


if __name__ == "__main__":
    main()
