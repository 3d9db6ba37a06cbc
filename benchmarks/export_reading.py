"""Reading an export alone, against `zcat | wc -l` on the same files: items and megabytes a second of CPU.

    .venv/bin/python benchmarks/export_reading.py [ITEMS]

Writes an export of items of about 450 bytes into a folder and reads it in a process of its own, as a worker does:
gunzip, checksums, JSON, the key. The figures are by CPU seconds (user and system) of the process, less what the same
process takes for an empty export; megabytes are of the lines as text. The median of five, in turn.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

from benchmarks.table import item
from dynamodt.export.request import ExportFolder, moment_text
from dynamodt.export.stand_in import ExportWriter
from tests.read_once import ARN, EXPORT, FolderObjects

TIMES = 5


def write(root: Path, count: int) -> int:
    """Writes an export of `count` items; returns the size of its lines."""
    from datetime import UTC, datetime

    images = ({**item(number), "id": {"N": str(number)}} for number in range(count))
    size = sum(
        len(json.dumps({"Item": {**item(n), "id": {"N": str(n)}}}, separators=(",", ":"))) + 1 for n in range(count)
    )
    writer = ExportWriter(FolderObjects(root), ExportFolder(EXPORT))
    writer.start()
    writer.write_data(({"id": image["id"]}, {"Item": image}) for image in images)
    now = moment_text(datetime.now(UTC))
    writer.write_summary({"exportArn": f"{ARN}/export/{EXPORT.rpartition('/')[2]}", "tableArn": ARN, "exportTime": now})
    return size


def cpu_of(command: list[str]) -> float:
    """CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        env={"PYTHONPATH": f"{ROOT}:{ROOT}/pipelines", "PATH": "/usr/bin:/bin"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def reading(root: Path) -> list[str]:
    return [sys.executable, "-m", "tests.read_once", str(root)]


def main() -> None:
    items = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as name:
        full, empty = Path(name, "full"), Path(name, "empty")
        size = write(full, items)
        write(empty, 0)
        runs: dict[str, Callable[[], float]] = {
            "dynamodt": lambda: cpu_of(reading(full)) - cpu_of(reading(empty)),
            "zcat | wc -l": lambda: cpu_of(["sh", "-c", f"zcat {full}/{EXPORT}/data/*.json.gz | wc -l"]),
        }
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(TIMES):
            for label, run in runs.items():
                spent[label].append(run())
    for label, seconds in spent.items():
        median = statistics.median(seconds)
        figures = {
            "reader": label,
            "items": items,
            "items_per_cpu_s": round(items / median),
            "mb_per_cpu_s": round(size / median / 1e6, 1),
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
