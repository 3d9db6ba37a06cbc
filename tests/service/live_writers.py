"""A table that is migrated while two processes write to it, and the conditions for each item."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dynamodt.model.pages import Counts
from dynamodt.model.tables import Item
from tests import programs
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.writer import CONTESTED, ITEMS, STEP
from tests.waiting import HANG_SECONDS, HOLD

Entry = tuple[str, int, int]  # verb, item, what n was before
# Not idempotent, and no mark in the item. Each call leaves a line, so that second looks at an item can be counted, and
# at a contested one the first look lasts until its writer has been there (see `tests.service.writer`).
DOUBLE = (
    HOLD
    + """
import os

LOG = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def transform_up(item):
    os.write(LOG, b"%d\\n" % item["id"])
    if item["id"] < ITEMS and item["id"] % 500 < 6:
        hold({log!r} + ".%d" % item["id"])
    if item["archived"]:
        return item
    return {{**item, "n": item["n"] * 2}}
""".replace("ITEMS", str(ITEMS))
)


def first(number: int) -> Item:
    item: Item = {"id": number, "n": number + 1, "note": f"item {number}", "archived": 0}
    return {**item, "touched": 0} if number % 4 else item


@contextmanager
def writing(endpoint: Endpoint, table: str, number: int, log: Path, poller: Path) -> Iterator[None]:
    """An active writer, which must end without an error."""
    words, group = (endpoint.url, table, number, log, poller), {"start_new_session": True}
    process = programs.start("tests.service.writer", *words, stdin=subprocess.PIPE, stderr=None, **group)
    try:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield
        process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def entries(*logs: Path) -> dict[int, list[Entry]]:
    """The writers' writes to each item. Only its owner changes `n`, so the order of the entries is that of doing."""
    done: dict[int, list[Entry]] = defaultdict(list)
    for log in logs:
        for line in log.read_text(encoding="utf-8").splitlines():
            command, number, before = json.loads(line)
            done[number].append((command, number, before))
    return done


def times_doubled(number: int, done: list[Entry], n: int) -> int:
    """The number of times that the migration has doubled `n`, by the writers' logs; AssertionError if they contradict
    it."""
    value, doubled, archived = number + 1, 0, False
    for command, _, before in [*done, ("end", number, n)]:
        if command == "touch":
            continue
        if before != value:
            assert before == 2 * value, f"item {number}: {value} became {before}; {done}"
            assert not archived, f"item {number} was doubled after it had been archived; {done}"
            doubled += 1
        value = before + STEP if command == "add" else before
        archived = archived or command == "archive"
    return doubled


def migrate_under_writers(endpoint: Endpoint, bench: Bench, table: str, **options: Any) -> None:
    """The whole scenario, with `options` as `up` has them."""
    bench.tables.put(table, *map(first, range(ITEMS)))
    poller, logs = bench.folder / "looks.txt", [bench.folder / f"writer-{number}.jsonl" for number in (0, 1)]
    poller.touch()
    with ExitStack() as writers:
        for number, log in enumerate(logs):
            writers.enter_context(writing(endpoint, table, number, log, poller))
        counts = bench.run(table, DOUBLE.format(log=str(poller)), **options)

    done = entries(*logs)
    found = {int(item["id"]): item for item in bench.tables.items(table)}
    deleted = {number for number, commands in done.items() if any(command == "delete" for command, *_ in commands)}
    assert found.keys() == set(range(ITEMS)) - deleted  # no deleted item exists, none is lost
    for number, item in found.items():
        check_item(item, done[number])

    assert counts.dead == 0 and counts.balanced and counts.read <= ITEMS
    check_contest(counts, poller)


def check_contest(counts: Counts, poller: Path) -> None:
    """Fails unless writes have occurred between reading and writing, without which the test would prove nothing."""
    conflicts = len(poller.read_text().splitlines()) - counts.read
    assert conflicts >= 2 * CONTESTED, (counts, conflicts)  # added and archived items are read again
    assert counts.vanished >= CONTESTED and counts.superseded >= CONTESTED, (counts, conflicts)


def check_item(item: Item, done: list[Entry]) -> None:
    number = int(item["id"])
    touches = sum(command == "touch" for command, *_ in done)
    assert item.get("touched", 0) == touches, f"item {number} lost a touch"
    assert item["note"] == f"item {number}"
    assert item["archived"] == any(command == "archive" for command, *_ in done)
    assert ("writer" in item) == any(command == "add" for command, *_ in done)
    doubled = times_doubled(number, done, int(item["n"]))
    assert doubled == 1 or (doubled == 0 and item["archived"]), f"item {number} was doubled {doubled} times; {done}"
