"""A run that is held after most of its items until a file exists."""

from __future__ import annotations

from pathlib import Path

from tests.emulators import Endpoint
from tests.service.bench import Tables
from tests.service.kills import scan, write_script
from tests.waiting import HOLD, until

ITEMS = 600
# Most of the items are done, in whole pages; the last hundred wait for the file, however long other processes take.
SCRIPT = """
sequence = 1
seen = 0


def transform_up(item):
    global seen
    seen += 1
    if seen > 500:
        hold({go_on!r})
    return {{**item, "n": item["n"] + 1}}
"""


def hold(endpoint: Endpoint, folder: Path, table: str) -> Path:
    """Fills the table, and writes its version. Returns the file for which the run waits."""
    Tables(endpoint.client).put(table, *({"id": number, "n": 0} for number in range(ITEMS)))
    go_on = folder / "go_on"
    write_script(folder, table, HOLD + SCRIPT.format(go_on=str(go_on)))
    return go_on


def wait_until_changed(endpoint: Endpoint, table: str) -> None:
    until(lambda: any(item["n"] for item in scan(endpoint, table).values()), "a first item is changed")
