"""The memory for reading an export does not grow with its size: pages are read, passed on, and released."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamodt.export.request import ExportFolder
from dynamodt.export.stand_in import ExportWriter, Line
from dynamodt.model.tables import Image
from tests import ROOT
from tests.read_once import ARN, EXPORT, FolderObjects
from tests.waiting import HANG_SECONDS

SMALL, LARGE = 10_000, 100_000
ITEM_BYTES = 450


def written(root: Path, items: int) -> None:
    writer = ExportWriter(FolderObjects(root), ExportFolder(EXPORT))
    writer.start()
    writer.write_data(lines(items))
    summary = {"exportArn": f"{ARN}/export/{EXPORT}", "tableArn": ARN, "exportTime": "2023-11-14T22:13:20.000Z"}
    writer.write_summary({**summary, "manifestFilesS3Key": f"{EXPORT}/manifest-files.json"})


def lines(items: int) -> Iterator[Line]:
    dice = random.Random(1)
    for number in range(items):
        image: Image = {"id": {"N": str(number)}, "text": {"S": dice.randbytes(ITEM_BYTES // 2).hex()}}
        yield {"id": image["id"]}, {"Item": image}


def peak(folder: Path, items: int) -> int:
    """The peak memory of a process that reads an export of this number of items."""
    written(folder, items)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'pipelines'}"}
    words = [sys.executable, "-m", "tests.read_once", str(folder)]
    ended = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    read, bytes_ = map(int, ended.stdout.split())
    assert read == items
    return bytes_


@pytest.mark.chaos
def test_reading_ten_times_the_items_takes_the_same_memory(tmp_path: Path) -> None:
    small, large = peak(tmp_path / "small", SMALL), peak(tmp_path / "large", LARGE)
    print(f"peak memory: {small / 1e6:.0f} MB for {SMALL:,} items, {large / 1e6:.0f} MB for {LARGE:,}")
    # A file of the large one is more than one piece (2 MB), of the small one less, and four are open: some 20 MB.
    assert large - small < LARGE * ITEM_BYTES, "it grows with the table"
