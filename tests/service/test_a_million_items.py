"""The document's example of a patch within a budget, on a million items of an endpoint that is written in C."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.endpoints import Canner, canner
from benchmarks.endpoints import Endpoint as Counting
from benchmarks.programs import Taken, timed
from tests import ROOT
from tests.emulators import Endpoint, unavailable

pytestmark = [pytest.mark.chaos, pytest.mark.endpoints("ministack")]

SMALL, LARGE = 100_000, 1_000_000
BUDGET = 12_000  # write units a second, so that a million take more than 80 seconds
# Its keys are those that the endpoint reads.
ITEM = '{"id":{"S":"user-@@@@@@@"},"customer":{"S":"c@@@@@@@"},"total":{"N":"@@@@@@@"}}'


@pytest.fixture
def canned(endpoint: Endpoint) -> Iterator[Canner]:
    """An endpoint that answers as a table of this number of items, each of one unit, and stores no write."""
    if shutil.which("cc") is None:
        unavailable("the canned endpoint needs a C compiler, and cc is not installed")
    with canner(Counting(endpoint.url), ITEM) as found:
        yield found


def patched(canned: Canner, items: int, folder: Path) -> tuple[Taken, dict[str, float]]:
    """A process that runs the example on a table of this number of items, and the requests that the endpoint has
    counted."""
    page = (ROOT / "docs" / "connectors.md").read_text(encoding="utf-8")
    (example,) = (text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if 'mode="patch"' in text)
    assert "max_wcu=500" in example
    file = folder / "example.py"
    file.write_text(example.replace("max_wcu=500", f"max_wcu={BUDGET}"), encoding="utf-8")
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}
    with canned.open({"orders": items}) as orders:
        more = {**keys, "AWS_ENDPOINT_URL": orders.url, "PYTHONPATH": str(ROOT / "pipelines")}
        taken = timed([sys.executable, str(file)], folder, more)
        return taken, orders.stats()


def test_the_example_patches_a_million_items_within_its_budget_and_its_memory(canned: Canner, tmp_path: Path) -> None:
    small, _ = patched(canned, SMALL, tmp_path)
    large, counted = patched(canned, LARGE, tmp_path)
    assert counted["wcu"] == LARGE, "there are as many writes as items"
    assert counted["wcu"] / large.seconds <= BUDGET
    assert large.peak <= small.peak * 1.2, "memory does not grow with the table"
