"""The writing connector in Beam's in-process runner, on a fake table, and with faults."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue
from apache_beam.utils.windowed_value import WindowedValue

from dynamodt.dynamodb.wire import Refusal
from dynamodt.errors import DynamodtError, UsageError
from dynamodt.io import FailedWrite, WriteOutcome, WriteToDynamoDB, connector
from dynamodt.io import write as writing
from dynamodt.io.connector import METRICS, Endpoint
from dynamodt.model.tables import IndexKey, KeyAttribute, TableSpec
from dynamodt.pipeline.write_page import PageWriter
from tests.fakes import FakeDynamoDB

pytestmark = pytest.mark.pipeline

SPEC = TableSpec("things", (KeyAttribute("id", "N"),), index_keys=(IndexKey("city", "S", 2048, "by_city"),))
MODES = ["put", "put_if_absent", "patch", "delete"]


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"id": Decimal(number), **more}


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> FakeDynamoDB:
    fake = FakeDynamoDB(SPEC)
    writing._description.cache_clear()
    monkeypatch.setattr(Endpoint, "wire", lambda self, table: fake)
    monkeypatch.setattr(Endpoint, "describe", lambda self, table: SPEC)
    monkeypatch.setitem(PageWriter.__init__.__kwdefaults__, "sleep", lambda seconds: None)  # type: ignore[arg-type]
    return fake


class Written:
    """What a bundle has written: the elements, and those that failed."""

    def __init__(
        self, elements: list[Any], mode: Any = "put", guard: Any = "item", of: connector.Budget = connector.Budget()
    ) -> None:
        writer = writing._WriteElements(writing.Target("things", mode, guard, Endpoint()), of)
        writer.setup()
        writer.start_bundle()
        found = [output for element in elements for output in writer.process(element, 0, GlobalWindow())]
        found += writer.finish_bundle()
        values = [one.value if isinstance(one, WindowedValue) else one for one in found]
        failed = [one.value for one in values if isinstance(one, TaggedOutput)]
        self.failed: list[FailedWrite] = [one.value if isinstance(one, WindowedValue) else one for one in failed]
        self.written = [one for one in values if not isinstance(one, TaggedOutput)]

    @property
    def codes(self) -> list[str]:
        return [one.error.code for one in self.failed]


def piped(elements: Any, check: Callable[[WriteOutcome], None], **how: Any) -> Counter[str]:
    """Writes in a pipeline; the metrics of its namespace."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        check(pipeline | beam.Create(elements, reshuffle=False) | WriteToDynamoDB("things", **how))
    counters = pipeline.result.metrics().query()["counters"]
    return Counter({c.key.metric.name: c.committed for c in counters if c.key.metric.namespace == METRICS})


def elements(mode: str, count: int = 60) -> list[Any]:
    """The elements of each mode, for a table of `count` items with n = 1: afterwards n = 2, or the items are
    deleted."""
    if mode == "patch":
        return [(item(n, n=1), item(n, n=2)) for n in range(count)]
    return [item(n) if mode == "delete" else item(n, n=2) for n in range(count)]


def fill(things: FakeDynamoDB, mode: str, count: int = 60) -> None:
    things.put(*(item(n, n=1) for n in range(count) if mode != "put_if_absent"))


def expect(things: FakeDynamoDB, mode: str, count: int = 60) -> None:
    images = sorted(things.items.values(), key=lambda image: int(image["id"]["N"]))
    assert images == ([] if mode == "delete" else [{"id": {"N": str(n)}, "n": {"N": "2"}} for n in range(count)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("faults", [[], ["throttled", "partial", "lost", "reset", "partial", "reset", "lost"] * 3])
def test_with_faults_each_element_is_written_once(things: FakeDynamoDB, mode: str, faults: list[str]) -> None:
    fill(things, mode)
    things.faults.extend(faults)
    found = Written(elements(mode), mode=mode)
    expect(things, mode)
    assert not found.failed and len(found.written) == 60 and not things.faults


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("guard", ["item", "changed"])
def test_a_bundle_that_is_repeated_counts_the_same_and_changes_nothing(
    things: FakeDynamoDB, mode: str, guard: str
) -> None:
    fill(things, mode)
    for _ in range(2):
        found = Written(elements(mode), mode=mode, guard=guard)
        expect(things, mode)
        assert not found.failed and len(found.written) == 60


def test_the_last_element_of_a_key_wins_in_order(things: FakeDynamoDB) -> None:
    found = Written([item(n % 3, n=n) for n in range(70)])
    assert len(found.written) == 70
    assert {int(i["id"]["N"]): int(i["n"]["N"]) for i in things.items.values()} == {0: 69, 1: 67, 2: 68}


def test_patches_of_one_key_follow_each_other(things: FakeDynamoDB) -> None:
    things.put(item(1, n=0))
    found = Written([(item(1, n=n), item(1, n=n + 1)) for n in range(5)], mode="patch")
    assert not found.failed and things.get(item(1)) == {"id": {"N": "1"}, "n": {"N": "5"}}


@pytest.mark.parametrize(
    ("guard", "now", "code"),
    [
        ("item", item(1, n=1, note="theirs", old=1), "conflict"),
        ("changed", item(1, n=1, note="theirs", old=1), None),
        ("changed", item(1, n=7, old=1), "conflict"),
        (None, item(1, n=7), None),
        (None, None, "missing"),
        ("item", None, "missing"),
        ("item", item(1, n=2), None),  # as new
    ],
)
def test_a_patch_is_guarded(things: FakeDynamoDB, guard: Any, now: dict[str, Any] | None, code: str | None) -> None:
    things.put(*([] if now is None else [now]))
    found = Written([(item(1, n=1, note="ours", old=1), item(1, n=2, note="ours"))], mode="patch", guard=guard)
    assert found.codes == [code] * (code is not None)
    wanted = now if code else {**(now or {}), "n": 2}
    if not code:
        wanted = {name: value for name, value in (wanted or {}).items() if name != "old"}
    expected = FakeDynamoDB(SPEC)
    expected.put(*([] if wanted is None else [wanted]))
    assert things.items == expected.items


def test_a_taken_key_is_reported_and_an_equal_item_counts_as_written(things: FakeDynamoDB) -> None:
    things.put(item(1, n=2), item(2, n=1))
    found = Written([item(n, n=2) for n in range(4)], mode="put_if_absent")
    assert found.codes == ["exists"] and found.failed[0].element == item(2, n=2) and len(found.written) == 3
    assert things.get(item(2)) == {"id": {"N": "2"}, "n": {"N": "1"}}


@pytest.mark.parametrize(
    ("mode", "element", "told"),
    [
        ("put", {"n": 1}, "id: a new item needs the key attribute with type N"),
        ("put", {"id": "x"}, "needs the key attribute with type N"),
        ("put", item(1, city=5), "is a key of the index by_city of table things, which takes type S"),
        ("put", item(1, text="x" * 410_000), "keeps at most"),
        ("put", "an item", "an item must be a dict or a row, not str"),
        ("put_if_absent", item(1, f={1, "a"}), "a set must hold"),
        ("delete", {"n": 1}, "needs the key attribute"),
        ("patch", item(1), r"an element must be a pair: \(old, new\)"),
        ("patch", (item(1), item(2)), "old and new have different keys"),
        ("patch", (item(1), {"n": 2}), "id: new needs the key attribute with type N"),
        ("patch", (item(1), {"id": "1", "n": 2}), "^id: new needs the key attribute with type N for table things$"),
        ("patch", ({"n": 1}, item(2)), "id: old needs the key attribute with type N"),
        ("patch", ({"id": "x"}, {"id": "x", "n": 2}), "id: old needs the key attribute with type N"),
    ],
)
def test_an_element_that_the_table_cannot_hold_fails_alone(
    things: FakeDynamoDB, mode: str, element: Any, told: str
) -> None:
    fill(things, mode, 3)
    found = Written([*elements(mode, 3), element], mode=mode)
    expect(things, mode, 3)
    assert found.codes == ["invalid"]
    assert re.search(told, found.failed[0].error.message)


def test_an_element_that_the_service_rejects_fails_alone(things: FakeDynamoDB) -> None:
    things.refused = frozenset({"bad"})
    found = Written([item(n, **({"bad": 1} if n == 7 else {})) for n in range(60)])
    assert found.codes == ["rejected"] and found.failed[0].element == item(7, bad=1) and len(things.items) == 59


def test_elements_throttled_at_every_try_are_reported(things: FakeDynamoDB) -> None:
    things.faults.extend(["throttled"] * 200)
    found = Written([item(n) for n in range(3)])
    assert found.codes == ["gave_up"] * 3 and not things.items


def test_elements_without_an_answer_are_reported(things: FakeDynamoDB) -> None:
    things.faults.extend(["reset"] * 200)
    assert Written([item(n) for n in range(3)]).codes == ["in_doubt"] * 3


@pytest.mark.parametrize(
    ("code", "told"), [("AccessDeniedException", "grant the action"), ("ExpiredToken", "then run the pipeline again$")]
)
def test_an_error_that_no_retry_resolves_fails_the_bundle(
    things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    def denied(request: Any) -> Any:
        raise Refusal(code, "not authorized", {})

    monkeypatch.setattr(things, "_batchwriteitem", denied, raising=False)
    with pytest.raises(DynamodtError, match=f"^table things: .*{told}"):
        Written([item(1)])


class Clock:
    """The time of the budget, which its waits alone move."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reported", [True, False])
def test_a_process_writes_within_its_part_of_the_budget(
    things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch, mode: str, reported: bool
) -> None:
    """Each item takes a unit: 300 units, of which this process may use 10 a second. DynamoDB Local does not report
    units."""
    clock, sent = Clock(), list[tuple[float, int]]()
    monkeypatch.setattr(connector, "time", clock)
    fill(things, mode, 300)
    for name in ("_batchwriteitem", "_batchexecutestatement"):
        monkeypatch.setattr(things, name, partial(noted, getattr(things, name), clock, sent, reported))
    assert not Written(elements(mode, 300), mode, of=connector.Budget(20.0, 2, f"{mode} {reported}")).failed
    expect(things, mode, 300)
    assert 290 / 10 <= clock.now <= 300 / 10 * 1.1
    for begin, _ in sent:
        within = sum(size for at, size in sent if begin <= at < begin + 2.0)
        assert within <= 10 * (2.0 + 0.25) + 1, "more than a quarter of a second was saved up"


def noted(
    asked: Callable[[Any], Any], clock: Clock, sent: list[tuple[float, int]], reported: bool, request: dict[str, Any]
) -> Any:
    """A request's answer, after its time and size were recorded; without units unless they are `reported`."""
    answer = asked(request)
    writes = request["Statements"] if "Statements" in request else request["RequestItems"]["things"]
    sent.append((clock.now, len(writes)))
    return answer if reported else {name: part for name, part in answer.items() if name != "ConsumedCapacity"}


def test_a_patch_without_a_difference_counts_as_unchanged(things: FakeDynamoDB) -> None:
    things.put(item(1, n=1))
    elements = [(item(1, n=1), item(1, n=1)), (item(1, n=1), item(1, n=2))]
    counted = piped(elements, lambda found: None, mode="patch")
    assert (counted["items_unchanged"], counted["items_written"]) == (1, 1)


def test_a_table_is_described_anew_for_each_pipeline(things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook, where a table is made again with another key."""
    described = list[str]()
    monkeypatch.setattr(Endpoint, "describe", lambda self, table: (described.append(table), SPEC)[1])
    for _ in range(2):
        piped([item(n) for n in range(3)], lambda found: None)
    assert len(described) == 2


def test_a_pipeline_has_windows_metrics_and_two_outputs(things: FakeDynamoDB) -> None:
    elements = [TimestampedValue(item(n, **({"city": 5} if n == 5 else {})), 10 * n) for n in range(6)]
    things.faults.extend(["partial", "throttled"])

    def check(found: WriteOutcome) -> None:
        sizes = found.written | beam.WindowInto(FixedWindows(20)) | beam.Map(lambda one: (1, 1))
        assert_that(sizes | beam.CombinePerKey(sum), equal_to([(1, 2), (1, 2), (1, 1)]), label="written")
        assert_that(found.failed | beam.Map(lambda one: one.error.code), equal_to(["invalid"]), label="failed")

    counted = piped(elements, check, max_wcu=100_000.0)
    assert counted["items_written"] == 5 and counted["items_failed"] == counted["failed_invalid"] == 1
    assert counted["write_units"] == 5 and counted["write_throttles"] >= 2


def test_elements_keep_their_windows(things: FakeDynamoDB) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        elements = pipeline | beam.Create([TimestampedValue(item(n), 10 * n) for n in range(6)], reshuffle=False)
        found = elements | beam.WindowInto(FixedWindows(20)) | WriteToDynamoDB("things")
        sizes = found.written | beam.Map(lambda one: (1, 1)) | beam.CombinePerKey(sum)
        assert_that(sizes, equal_to([(1, 2)] * 3))


class Row(NamedTuple):
    id: int
    n: int
    none: str | None = None


class Place(NamedTuple):
    city: str
    none: str | None = None


def test_nested_rows_are_maps_and_floats_decimals(things: FakeDynamoDB) -> None:
    """Rows that were read with a schema can be written: Beam YAML has no decimals, and a Beam row is a tuple."""
    places = {"a": Place("x"), "l": [beam.Row(city="y")], "m": {"k": Place("z")}, "f": 0.1, "fs": [1.5, float("1e22")]}
    assert not Written([beam.Row(id=1, **places)]).failed
    of = [{"M": {"city": {"S": city}}} for city in "xyz"]
    numbers = {"f": {"N": "0.1"}, "fs": {"L": [{"N": "1.5"}, {"N": "1E+22"}]}}
    expected = {"id": {"N": "1"}, "a": of[0], "l": {"L": [of[1]]}, "m": {"M": {"k": of[2]}}, **numbers}
    assert things.get(item(1)) == expected
    assert Written([beam.Row(id=2, f=float("nan"))]).codes == Written([item(2, f=0.1)]).codes == ["invalid"]


def test_rows_are_items(things: FakeDynamoDB) -> None:
    assert not Written([beam.Row(id=1, n=2, none=None), Row(2, 3)]).failed
    assert things.get(item(1)) == {"id": {"N": "1"}, "n": {"N": "2"}}
    assert things.get(item(2)) == {"id": {"N": "2"}, "n": {"N": "3"}}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"mode": "upsert"}, "mode is 'upsert'; give one of 'put', 'put_if_absent', 'patch', 'delete'"),
        ({"guard": "all"}, "guard is 'all'"),
        ({"guard": "all", "mode": "patch"}, "guard is 'all'; give one of 'item', 'changed', None"),
        ({"guard": "changed"}, "guard is 'changed', and mode 'put' compares nothing: .*leave guard out"),
        ({"guard": "item", "mode": "delete"}, "guard is 'item', and mode 'delete'"),
        ({"guard": None, "mode": "put_if_absent"}, "guard is None, and mode 'put_if_absent'"),
        ({"max_wcu": 0}, "max_wcu is 0"),
        ({"table": "a b"}, "is not the name or the ARN"),
        ({"region": ""}, "region is ''"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(how: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        WriteToDynamoDB(**{"table": "things", **how})


def test_a_transform_is_applied_to_one_of_the_outputs(things: FakeDynamoDB) -> None:
    outcome = beam.Pipeline(runner=FnApiRunner()) | beam.Create([]) | WriteToDynamoDB("things")
    with pytest.raises(AttributeError, match="it has the outputs written and failed; apply the next transform to one"):
        outcome | beam.Map(print)


def test_a_budget_needs_the_number_of_processes(things: FakeDynamoDB) -> None:
    with pytest.raises(UsageError, match="give processes=N"):
        beam.Pipeline(runner=PortableRunner()) | beam.Create([]) | WriteToDynamoDB("things", max_wcu=10)


def test_display_data() -> None:
    shown = WriteToDynamoDB("things", mode="patch", max_wcu=5).display_data()
    assert shown == {"table": "things", "mode": "patch", "guard": "item", "max_wcu": 5}
