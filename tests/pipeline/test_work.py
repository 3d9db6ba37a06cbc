"""The work of a run, counted on a fixed table and never in seconds: requests, statements, bytes, decoded values, calls
of functions. A change that increases one of these figures must change it here.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import FrameType
from typing import Any

import orjson
import pytest

from benchmarks.table import ITEM_BYTES, item, script
from dynamodt import pipeline
from dynamodt.model.pages import Counts, Page
from dynamodt.model.tables import KeyAttribute, TableSpec
from dynamodt.pipeline.migrate import ApplyVersion, WritePatches
from dynamodt.script import codec
from dynamodt.script.codec import decode, image_bytes
from tests.pipeline.conftest import Bench

ITEMS, PAGE, UNITS = 1_000, 250, 2
PAGES = ITEMS // PAGE
TABLE = TableSpec("things", (KeyAttribute("id", "S"),))


class Work:
    """Counts what the fakes are asked, and what the codec decodes."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: Counter[str] = Counter()
        self.state: Counter[str] = Counter()
        self.statements = self.bytes = self.decoded = 0
        call, lock = bench.dynamodb.call, Lock()

        def counted(operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
            payload = body if isinstance(body, bytes) else orjson.dumps(body)
            statements = len(orjson.loads(payload).get("Statements", ()))
            with lock:  # several writers send at once
                self.requests[operation] += 1
                self.bytes += len(payload)
                self.statements += statements
            return call(operation, body)

        monkeypatch.setattr(bench.dynamodb, "call", counted)
        for kind, decoder in list(codec._DECODERS.items()):
            monkeypatch.setitem(codec._DECODERS, kind, self._decoding(decoder))
        rows = bench.state.rows
        for name in ("get", "update", "put"):
            monkeypatch.setattr(rows, name, self._asking(name, getattr(rows, name)))

    def _decoding(self, decoder: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(raw: Any) -> Any:
            self.decoded += 1
            return decoder(raw)

        return counted

    def _asking(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(key: Any, *args: Any, **values: Any) -> Any:
            if key[1] == "SPLIT":  # reads of the lease and reports of the budget depend on time, not on items
                self.state[name] += 1
            return method(key, *args, **values)

        return counted


def work_of(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, share: int, constants: str = ""
) -> tuple[Counts, Work]:
    bench = make_bench(TABLE, page=PAGE)
    bench.dynamodb.put(*(decode(item(number)) for number in range(ITEMS)))
    work = Work(bench, monkeypatch)
    text = script(share, constants).replace("sequence = 1\n", "")
    return bench.run(text, splits=UNITS, page_items=PAGE), work


@pytest.mark.parametrize(("share", "sent"), [(0, 1), (20, 192), (100, 953)])
def test_the_requests_and_bytes_of_a_run(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, share: int, sent: int
) -> None:
    counts, work = work_of(make_bench, monkeypatch, share)
    changed = ITEMS * share // 100
    assert counts == Counts(read=ITEMS, changed=changed, unchanged=ITEMS - changed)
    assert work.statements == changed  # a change is one write
    assert work.requests["BatchExecuteStatement"] <= changed / 25 + PAGES  # a batch is of one page
    assert work.requests["Scan"] == PAGES
    assert set(work.requests) <= {"Scan", "BatchExecuteStatement"}
    assert work.bytes / ITEMS <= sent
    # two numbers, a set, a flag, a map and its number; the set and that number again, to see that they are the same
    assert work.decoded == 8 * ITEMS


@pytest.mark.parametrize(
    ("constants", "asked"),
    [("", 2 * PAGES), ("IDEMPOTENT = True", PAGES)],
    ids=["journal", "idempotent"],
)
def test_the_requests_to_the_state_table(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, constants: str, asked: int
) -> None:
    """Two requests claim a split, and two more record each page: intent and checkpoint. An idempotent script has no
    intent, and at most one checkpoint a second."""
    _, work = work_of(make_bench, monkeypatch, 100, constants)
    assert work.state["get"] == UNITS
    assert work.state["update"] - UNITS <= asked


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Counts the calls of the package's functions in this thread."""
    package, calls = str(Path(pipeline.__file__).parents[1]), Counter[str]()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(("share", "most"), [(0, 23), (100, 40)])
def test_the_calls_for_each_item(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, share: int, most: int
) -> None:
    """On one page with a journal, from the images that were read to the outcome. The table does every write."""
    bench = make_bench(TABLE)

    def done(_: str, body: bytes) -> dict[str, Any]:
        statements = orjson.loads(body)["Statements"]
        return {"Responses": [{} for _ in statements], "ConsumedCapacity": [{"CapacityUnits": len(statements)}]}

    monkeypatch.setattr(bench.dynamodb, "call", done)
    job = bench.job(script(share, "").replace("sequence = 1\n", ""), splits=1)
    bench.state.lease(job)
    claim = bench.state.splits(job.run).claim(0, job.attempt)
    applies, writes = ApplyVersion(job, bench.resources), WritePatches(job, bench.resources)
    for stage in (applies, writes):
        stage.setup()
        stage.start_bundle()
    page = Page(claim, 1, [item(number) for number in range(ITEMS)], last=True)
    with counted_calls() as calls:
        written = [outcome for applied in applies.process(page) for outcome in writes.process(applied)]
    assert sum(one.counts.changed for one in written) == ITEMS * share // 100
    assert calls.total() / ITEMS <= most, calls.most_common(30)


def test_the_fixed_table_has_the_documented_items() -> None:
    assert image_bytes(item(7)) == ITEM_BYTES
