"""A run that is held after most of its items until a file exists."""

from __future__ import annotations

from tests.emulators import Endpoint
from tests.service.kills import scan
from tests.waiting import until

ITEMS = 600
# Most of the items are done, in whole pages; the last hundred wait for the file, however long other processes take.
SCRIPT = """
import time
from pathlib import Path

sequence = 1
seen = 0


def transform_up(item):
    global seen
    seen += 1
    while seen > 500 and not Path({go_on!r}).exists():
        time.sleep(0.01)
    return {{**item, "n": item["n"] + 1}}
"""


def wait_until_changed(endpoint: Endpoint, table: str) -> None:
    until(lambda: any(item["n"] for item in scan(endpoint, table).values()), "a first item is changed")
