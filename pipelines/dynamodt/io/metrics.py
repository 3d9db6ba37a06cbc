"""What the connectors count, in the namespace `dynamodt.io`."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from dynamodt.dynamodb.reads import ScanPage
from dynamodt.pipeline.outcomes import WriteResult

METRICS = "dynamodt.io"


class Units:
    """A counter of capacity units, which has whole numbers alone: less than one is held back."""

    def __init__(self, name: str) -> None:
        self._counter = Metrics.counter(METRICS, name)
        self._rest = 0.0

    def add(self, units: float) -> None:
        self._rest += units
        whole = int(self._rest)
        self._rest -= whole
        self._counter.inc(whole)


class PageMetrics:
    """What is counted of pages, in the namespace `dynamodt.io`."""

    def __init__(self) -> None:
        self._items = Metrics.counter(METRICS, "items_read")
        self._pages = Metrics.counter(METRICS, "pages_read")
        self._units = Units("read_units")
        self._throttles = Metrics.counter(METRICS, "read_throttles")
        self._sizes = Metrics.distribution(METRICS, "read_page_items")
        self._latency = Metrics.distribution(METRICS, "read_latency_ms")

    def page(self, page: ScanPage, seconds: float) -> None:
        """A page was received, after a wait of some seconds."""
        self._units.add(page.rcu)
        self._pages.inc()
        self._throttles.inc(page.throttles)
        self._latency.update(round(1000 * seconds))

    def read(self, items: int) -> None:
        """Items of a page are output."""
        self._items.inc(items)
        self._sizes.update(items)


class WriteMetrics:
    """What is counted of writes, in the namespace `dynamodt.io`."""

    def __init__(self) -> None:
        self._items = Metrics.counter(METRICS, "items_written")
        self._unchanged = Metrics.counter(METRICS, "items_unchanged")
        self._failures = Metrics.counter(METRICS, "items_failed")
        self._units = Units("write_units")
        self._throttles = Metrics.counter(METRICS, "write_throttles")
        self._conflicts = Metrics.counter(METRICS, "write_conflicts")
        self._sizes = Metrics.distribution(METRICS, "write_batch_items")
        self._latency = Metrics.distribution(METRICS, "write_latency_ms")

    def request(self, size: int, seconds: float) -> None:
        """A request was answered."""
        self._sizes.update(size)
        self._latency.update(round(1000 * seconds))

    def page(self, ends: WriteResult) -> None:
        """A page was written."""
        self._units.add(ends.units.wcu)
        self._throttles.inc(ends.contention.throttles)
        self._conflicts.inc(ends.contention.conflicts)
        self._items.inc(ends.counts.changed + ends.counts.unchanged)

    def unchanged(self) -> None:
        """An element has nothing to write."""
        self._unchanged.inc()

    def failed(self, code: str) -> None:
        """An element was not written."""
        self._failures.inc()
        Metrics.counter(METRICS, f"failed_{code}").inc()
