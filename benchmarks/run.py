"""`make bench`: everything that is measured, on this machine, in one run; then RESULTS.md and its plot.

    .venv/bin/python -m benchmarks.run [--only cpu,rate] [--size 0.1] [--times 3]

Other figures are kept from the last run (`results.json`), each with its date.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.endpoints import canner, ministack
from benchmarks.machine import described
from benchmarks.measures import MEASURES, Bench
from benchmarks.programs import BENCH_PYTHON, TIMES

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"


def main() -> None:
    asked = _asked()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as name, ministack(Path(name)) as emulator, canner(emulator) as canned:
        bench = Bench(emulator, canned, asked.size, asked.times)
        for measure in asked.only:
            results[measure] = _measured(measure, bench)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(report.written(results), encoding="utf-8")
    subprocess.run([BENCH_PYTHON, HERE / "plot.py", RESULTS, HERE / "results.png"], check=True)


def _measured(name: str, bench: Bench) -> dict[str, Any]:
    print(f"{name} ...", end=" ", flush=True)
    begun = time.monotonic()
    figures = MEASURES[name](bench)
    seconds = time.monotonic() - begun
    print(f"{seconds:.0f} s", flush=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "figures": figures,
        "when": when,
        "seconds": seconds,
        "size": bench.size,
        "times": bench.times,
        **described(),
    }


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(MEASURES), metavar="NAME,...")
    parser.add_argument("--size", type=float, default=1.0, help="of the tables: 0.1 for a quick look")
    parser.add_argument("--times", type=int, default=TIMES)
    asked = parser.parse_args()
    unknown = set(asked.only) - set(MEASURES)
    if unknown:
        sys.exit(f"there is no measurement {', '.join(unknown)}; there are: {', '.join(MEASURES)}")
    return asked


if __name__ == "__main__":
    main()
