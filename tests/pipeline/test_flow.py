"""The composition of `pipeline.migrate`, on a fake DynamoDB with pages of five items."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.errors import ScriptError, ServiceError
from dynamodt.model.pages import AppliedPage, Counts, Page
from dynamodt.model.runs import Job, RowsSource
from dynamodt.model.tables import Item, KeyAttribute, TableSpec
from dynamodt.pipeline import record, signals
from dynamodt.pipeline.migrate import WritePatches, migrate
from dynamodt.pipeline.ownership import split_groups
from dynamodt.runs.jobs import retry_job
from dynamodt.script.codec import decode, encode, key_text
from dynamodt.script.diff import change
from dynamodt.state.object_keys import DEAD, key_of_job
from tests.fakes import FakeDynamoDB, numbers
from tests.pipeline.conftest import Bench

DOUBLE = """
def transform_up(item):
    return {**item, "n": item["n"] * 2}
"""
IN_PLACE = """
def transform_up(item):
    item["deep"]["n"] += 1
    item["tags"].add("new")
    return item
"""


def test_every_item_is_read_and_written_once(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(23))
    assert bench.run(DOUBLE) == Counts(read=23, changed=22, unchanged=1)  # 0 doubled is 0
    assert [item["n"] for item in bench.items()] == [2 * n for n in range(23)]


def test_only_changed_attributes_are_sent(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1, "note": "x"})
    sent: list[object] = []
    original = bench.dynamodb._execute
    bench.dynamodb._execute = lambda text, parameters: sent.append(text) or original(text, parameters)  # type: ignore
    bench.run(DOUBLE)
    assert sent == ['UPDATE "things" SET "n"=? WHERE "id"=? AND "n"=? AND "note"=?']


def test_an_item_altered_in_place_is_written(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "deep": {"n": 1}, "tags": {"old"}})
    assert bench.run(IN_PLACE).changed == 1
    assert bench.items() == [{"id": 1, "deep": {"n": 2}, "tags": {"old", "new"}}]


def test_an_empty_table(bench: Bench) -> None:
    assert bench.run(DOUBLE) == Counts()


@pytest.mark.parametrize("hands_back", [True, False])
def test_a_live_write_stays_and_the_item_is_transformed_from_it(
    make_bench: Callable[..., Bench], hands_back: bool
) -> None:
    bench = make_bench(hands_back=hands_back)
    bench.dynamodb.put(*numbers(10))

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 3, "n": 100, "note": "live"})
        table.before_write = None

    bench.dynamodb.before_write = application
    assert bench.run(DOUBLE) == Counts(read=10, changed=9, unchanged=1)
    assert bench.items()[3] == {"id": 3, "n": 200, "note": "live"}


def test_a_live_write_that_leaves_nothing_to_do_counts_as_superseded(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "name": "old"})

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "name": "new", "upper": "NEW"})

    bench.dynamodb.before_write = application
    script = 'def transform_up(item):\n    return {**item, "upper": item["name"].upper()}'
    assert bench.run(script) == Counts(read=1, superseded=1)
    assert bench.items() == [{"id": 1, "name": "new", "upper": "NEW"}]


@pytest.mark.parametrize("hands_back", [True, False])
def test_a_deleted_item_stays_deleted(make_bench: Callable[..., Bench], hands_back: bool) -> None:
    bench = make_bench(hands_back=hands_back, page=6)
    bench.dynamodb.put(*numbers(6))
    bench.dynamodb.before_write = lambda table: table.delete({"id": 4})  # when all are read
    assert bench.run(DOUBLE, splits=1, page_items=6) == Counts(read=6, changed=4, unchanged=1, vanished=1)
    assert len(bench.items()) == 5


@pytest.mark.parametrize("fault", ["throttled", "lost", "reset", "partial", "partial-500"])
@pytest.mark.parametrize("hands_back", [True, False])
def test_with_faults_each_item_is_written_exactly_once(
    make_bench: Callable[..., Bench], fault: str, hands_back: bool
) -> None:
    bench = make_bench(hands_back=hands_back)
    bench.dynamodb.put(*numbers(40))
    bench.dynamodb.faults = deque([fault, "", fault, fault, "", fault])
    assert bench.run(DOUBLE) == Counts(read=40, changed=39, unchanged=1)
    assert [item["n"] for item in bench.items()] == [2 * n for n in range(40)]
    assert not bench.dynamodb.faults


class FullPartition:
    """The partition of a split group's last split: its items are throttled while other splits have items."""

    def __init__(self, bench: Bench, job: Job, count: int) -> None:
        ((*_, self.split),) = split_groups(job)
        self.items: list[Item] = []
        self.others: list[Item] = []
        self.refusals = 0
        dynamodb = bench.dynamodb
        for item in islice(numbers(90), 1, None):
            here = sum(dynamodb._text(encode(item)).encode()) % job.splits == self.split
            (self.items if here else self.others).append(item)
        self.items = sorted(self.items, key=lambda item: dynamodb._text(encode(item)))[:count]
        self._to_do = {str(item["id"]) for item in self.others}
        self._answered = dynamodb._answered
        dynamodb._answered = self._refusing  # type: ignore[method-assign]

    def _refusing(self, statement: dict[str, Any], fault: str, index: int) -> dict[str, Any]:
        number = statement["Parameters"][1]["N"]
        self._to_do.discard(number)
        refused = self._to_do and int(number) in [item["id"] for item in self.items]
        self.refusals += bool(refused)
        return self._answered(statement, "full" if refused else fault, index)


def test_a_split_group_continues_with_other_partitions_while_one_is_full(bench: Bench) -> None:
    """A split group that waited for the full partition would fail that page's items."""
    job = bench.job(DOUBLE, split_groups=1)
    full = FullPartition(bench, job, bench.dynamodb.page)
    bench.dynamodb.put(*full.items, *full.others)
    count = len(full.items + full.others)
    assert bench.execute(job) == Counts(read=count, changed=count)
    assert full.refusals


def test_a_waiting_page_keeps_its_intent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous page, which has no changes, may be recorded while the page waits."""
    monkeypatch.setattr(record, "_FLUSH_SECONDS", 60.0)
    job = bench.job(DOUBLE, split_groups=1)
    full = FullPartition(bench, job, 2 * bench.dynamodb.page)
    unchanged = [{**item, "n": 0} for item in full.items[: bench.dynamodb.page]]
    bench.dynamodb.put(*unchanged, *full.items[bench.dynamodb.page :], *full.others)
    intended: list[bool] = []

    def application(table: FakeDynamoDB) -> None:
        if full.refusals:
            monkeypatch.setattr(record, "_FLUSH_SECONDS", 0.0)
            claim = bench.state.splits(job.run).read(full.split)
            intended.append(claim is not None and claim.intent is not None)

    bench.dynamodb.before_write = application
    assert bench.execute(job).changed == len(full.items + full.others) - len(unchanged)
    assert len(intended) > 3 and all(intended)


@pytest.mark.parametrize("failed", [False, True])
def test_waiting_pages_are_completed_at_the_end_of_their_split_group_unless_the_run_has_failed(
    bench: Bench, failed: bool
) -> None:
    """After a failure of another split group, the run's end does not wait for a waiting page, and its intent stays."""
    job = bench.job(DOUBLE, splits=1)
    bench.state.lease(job)
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults = deque(["full"])
    claim, (image,) = bench.state.splits(job.run).claim(0, job.attempt), bench.dynamodb.items.values()
    update = change(job.table, image, decode(image), {"id": 1, "n": 2})
    assert update is not None
    write = WritePatches(job, bench.resources)
    write.setup()
    write.start_bundle()
    assert list(write.process(AppliedPage(Page(claim, 1, [image], last=True), [update], 0, 0))) == []
    if failed:
        signals.context_of(job).end()
    assert len(list(write.finish_bundle())) == (0 if failed else 1)
    assert bench.items() == [{"id": 1, "n": 1 if failed else 2}]
    found = bench.state.splits(job.run).read(0)
    assert found is not None and found.intent is not None


def test_a_refused_write_whose_values_the_item_has_is_in_doubt(bench: Bench) -> None:
    """The application writes exactly the patch's values, as a request that the network executes twice would."""
    bench.dynamodb.put({"id": 1, "n": 1})

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "n": 2})
        table.before_write = None

    bench.dynamodb.before_write = application
    assert bench.run(DOUBLE) == Counts(read=1, dead=1)
    assert json.loads(bench.dead_letters()[0])["step"] == "doubt"
    assert bench.items() == [{"id": 1, "n": 2}]


def test_an_item_throttled_at_every_try_is_a_dead_letter(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults = deque(["throttled"] * 1000)
    assert bench.run(DOUBLE) == Counts(read=1, dead=1)
    assert "gave up after" in bench.dead_letters()[0]


@pytest.mark.parametrize("fault", ["lost", "reset"])
def test_a_run_that_gets_no_answer_to_its_writes_ends_and_its_doubts_are_decided_when_it_continues(
    bench: Bench, fault: str
) -> None:
    """The first try of each write has had an effect, or none; no later one was answered."""
    bench.dynamodb.put(*numbers(20))
    job = bench.job(DOUBLE, splits=1)
    bench.dynamodb.faults = deque([fault, *["lost"] * 1000])
    with pytest.raises(ServiceError, match="gave up after 12 tries"):
        bench.execute(job)
    bench.dynamodb.faults.clear()
    assert not bench.dead_letters()
    assert bench.execute(replace(job, attempt=2)) == Counts(read=20, changed=19, unchanged=1)
    assert [item["n"] for item in bench.items()] == [2 * n for n in range(20)]


def test_an_item_that_changes_before_every_try_is_a_dead_letter(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    values = iter(range(3, 10_000, 2))  # the run writes even numbers
    bench.dynamodb.before_write = lambda table: table.put({"id": 1, "n": next(values)})
    assert bench.run(DOUBLE) == Counts(read=1, dead=1)
    assert "changed by others" in bench.dead_letters()[0]


def test_a_failing_item_is_a_dead_letter_with_key_image_error_and_traceback(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2})
    assert bench.run(DOUBLE, max_errors=1) == Counts(read=2, changed=1, dead=1)
    dead_letter = json.loads(bench.dead_letters()[0])
    assert dead_letter["key"] == {"id": {"N": "2"}} == dead_letter["image"]
    assert dead_letter["step"] == "transform"
    assert dead_letter["error"] == "KeyError: 'n'"
    assert 'return {**item, "n": item["n"] * 2}' in dead_letter["traceback"]  # the author's own line


def test_too_many_errors_stop_the_run_between_two_pages(bench: Bench) -> None:
    bench.dynamodb.put(*({"id": number} for number in range(100)))
    counts = bench.run(DOUBLE, max_errors=7)
    assert counts.balanced and 7 < counts.dead < 100


def test_the_run_stops_at_the_first_error_above_the_limit(bench: Bench) -> None:
    bench.dynamodb.put(*({"id": number} for number in range(12)))
    assert bench.run(DOUBLE, splits=1, page_items=1, max_errors=2).dead == 3


def test_errors_up_to_the_limit_do_not_stop_the_run(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(20), {"id": 99})
    assert bench.run(DOUBLE, max_errors=1) == Counts(read=21, changed=19, unchanged=1, dead=1)


def test_a_dry_run_writes_nothing_and_counts_the_same(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job(DOUBLE, dry_run=True)
    assert bench.execute(job) == Counts(read=12, changed=11, unchanged=1)
    assert bench.state.splits(job.run).totals(job.splits).units.wcu == 11
    assert set(bench.dynamodb.calls) == {"Scan"}


def test_prepared_data_reaches_the_script(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "country": "AT"}, {"id": 2, "country": "XX"})
    script = """
    def prepare(context):
        yield "AT", "Austria"

    def transform_up(item, prepared):
        return {**item, "name": prepared.get(item["country"], "?")}
    """
    job = bench.prepare(bench.job(script), {"AT": "Austria"})
    assert bench.execute(job).changed == 2
    assert [item["name"] for item in bench.items()] == ["Austria", "?"]


def test_all_life_cycle_methods_of_a_dofn_are_called(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.mktemp("log") / "life"
    bench.dynamodb.put(*numbers(3))
    script = f"""
    import apache_beam as beam

    def note(word):
        with open({str(log)!r}, "a") as file:
            file.write(word + " ")

    class TransformUp(beam.DoFn):
        def setup(self): note("setup")
        def start_bundle(self): note("start")
        def process(self, item, prepared):
            yield {{**item, "seen": True}}
        def finish_bundle(self): note("finish")
        def teardown(self): note("teardown")
    """
    assert bench.run(script).changed == 3
    assert log.read_text().split() == ["setup", "start", "finish", "teardown"]


@pytest.mark.parametrize("method", ["setup", "start_bundle", "finish_bundle"])
def test_an_error_of_a_life_cycle_method_is_reported_with_its_line(bench: Bench, method: str) -> None:
    bench.dynamodb.put(*numbers(3))
    script = f"""
    class TransformUp:
        def {method}(self):
            raise ValueError("none")

        def process(self, item):
            yield {{**item, "seen": True}}
    """
    job = bench.job(script)
    with pytest.raises(Exception, match=f"TransformUp.{method} fails"):
        bench.execute(job)
    error = signals.reported_error(bench.state.leases.read(job.lease), job)
    assert isinstance(error, ScriptError) and error.what == f"TransformUp.{method} fails: ValueError: none"
    assert error.where.endswith("v1_change.py:5") and "Correct the line" in error.hint


def test_rows_of_items_are_inserted_only_at_free_keys(bench: Bench) -> None:
    script = 'def items():\n    for n in range(7):\n        yield {"id": n, "n": n}'
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": "mine"})
    assert bench.run(script, source=RowsSource(), splits=1) == Counts(read=7, changed=5, unchanged=1, superseded=1)
    assert bench.items()[2] == {"id": 2, "n": "mine"}


def test_down_deletes_rows_of_items_that_are_unchanged(bench: Bench) -> None:
    script = 'def items():\n    for n in range(3):\n        yield {"id": n, "n": n}'
    up = bench.job(script, source=RowsSource(), splits=1)
    bench.execute(up)
    bench.dynamodb.put({"id": 1, "n": "used"})
    bench.run(script, source=RowsSource(inserted_by=up.run), splits=1, direction="down")
    assert bench.items() == [{"id": 1, "n": "used"}]


def test_down_keeps_a_row_that_existed_before_the_version(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    script = 'def items():\n    for n in range(3):\n        yield {"id": n, "n": n}'
    up = bench.job(script, source=RowsSource(), splits=1)
    assert bench.execute(up) == Counts(read=3, changed=2, unchanged=1)
    down = bench.job(script, source=RowsSource(inserted_by=up.run), splits=1, direction="down")
    assert bench.execute(down) == Counts(read=3, changed=2, unchanged=1)
    assert bench.items() == [{"id": 1, "n": 1}]


def test_the_next_owner_completes_the_deletion_of_rows_of_items(bench: Bench) -> None:
    """The previous owner had recorded that intent, and died."""
    script = 'def items():\n    for n in range(3):\n        yield {"id": n, "n": n}'
    up = bench.job(script, source=RowsSource(), splits=1)
    bench.execute(up)
    down = bench.job(script, source=RowsSource(inserted_by=up.run), splits=1, direction="down")
    bench.die_after(down, 0)
    assert bench.execute(replace(down, attempt=2)) == Counts(read=3, changed=3)
    assert bench.items() == []


def test_a_rekey_moves_the_item_in_one_transaction(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(3))
    script = 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "id": item["id"] % 100 + 100}'
    counts = bench.run(script)
    assert counts.balanced and counts.dead == 0 and counts.changed == 3
    assert [item["id"] for item in bench.items()] == [100, 101, 102]
    assert bench.dynamodb.calls["TransactWriteItems"] >= 3


def test_a_rekey_onto_another_item_is_a_dead_letter_and_loses_nothing(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 101, "n": "other"})
    script = """
    IDEMPOTENT = True
    def transform_up(item):
        return {**item, "id": Decimal(101)}
    from decimal import Decimal
    """
    assert bench.run(script, max_errors=1) == Counts(read=2, unchanged=1, dead=1)
    assert bench.items() == [{"id": 1, "n": 1}, {"id": 101, "n": "other"}]


def test_a_rekey_whose_answer_was_lost_is_done_once(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults = deque(["reset"])
    script = (
        'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "id": 101 if item["id"] == 1 else item["id"]}'
    )
    counts = bench.run(script, splits=1)
    assert (counts.changed, counts.dead, counts.vanished) == (1, 0, 0)
    assert bench.items() == [{"id": 101, "n": 1}]


def test_a_fan_out_writes_all_or_nothing(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "parts": [{"id": 11}, {"id": 12}]}, {"id": 12, "n": "other"})
    script = """
    from dynamodt import Delete, Put
    IDEMPOTENT = True
    def transform_up(item):
        if "parts" not in item:
            return item
        return [*map(Put, item["parts"]), Delete()]
    """
    assert bench.run(script, splits=1).dead == 1  # 12 is taken, and the source would be deleted
    assert [item["id"] for item in bench.items()] == [1, 12]
    bench.dynamodb.delete({"id": 12})
    assert bench.run(script, splits=1).dead == 0
    assert [item["id"] for item in bench.items()] == [11, 12]


@pytest.mark.parametrize(
    "body",
    ['{**item, "id": item["id"] + 100}', 'Put({"id": 7})', '[item, Put({"id": 7})]'],
    ids=["re-key", "put", "fan-out"],
)
def test_a_scan_that_would_meet_its_own_insertions_stops_at_the_first_item(bench: Bench, body: str) -> None:
    bench.dynamodb.put(*numbers(30))
    job = bench.job(f"from dynamodt import Put\ndef transform_up(item):\n    return {body}")
    with pytest.raises(Exception, match="its own output"):
        bench.execute(job)
    error = signals.reported_error(bench.state.leases.read(job.lease), job)
    assert error is not None and error.exit_code == 2
    assert "v1_change.py" in str(error) and "IDEMPOTENT" in error.hint
    assert len(bench.items()) == 30


def test_an_item_removed_by_its_script(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(4))
    script = 'from dynamodt import Delete\ndef transform_up(item):\n    return Delete() if item["id"] > 1 else item'
    assert bench.run(script) == Counts(read=4, changed=2, unchanged=2)
    assert len(bench.items()) == 2


def test_a_stamp_is_set_on_each_patched_item(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": 0})
    job = bench.job('STAMP = "_dynamodt"' + DOUBLE)
    assert bench.execute(job) == Counts(read=2, changed=1, unchanged=1)
    assert bench.items() == [{"id": 1, "n": 2, "_dynamodt": job.run}, {"id": 2, "n": 0}]


def test_guard_changed_compares_only_the_attributes_that_are_written(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1, "note": "old"})

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "n": 1, "note": "live"})
        table.before_write = None

    bench.dynamodb.before_write = application
    assert bench.run('GUARD = "changed"' + DOUBLE).changed == 1
    assert bench.dynamodb.calls["BatchExecuteStatement"] == 1  # no conflict
    assert bench.items() == [{"id": 1, "n": Decimal(2), "note": "live"}]


def test_a_run_sends_one_statement_per_item_and_one_batch_per_page(bench: Bench) -> None:
    """100 items in pages of 5 over 3 segments: one statement an item, and a batch a page."""
    bench.dynamodb.put(*numbers(100))
    bench.run('def transform_up(item):\n    return {**item, "new": 1}')
    pages = bench.dynamodb.calls["Scan"]
    assert pages <= 100 / 5 + 3
    assert bench.dynamodb.calls["BatchExecuteStatement"] <= pages
    assert set(bench.dynamodb.calls) == {"Scan", "BatchExecuteStatement"}


# ---------------------------------------------------------------- a global table that is strongly consistent

STRONG = TableSpec("things", (KeyAttribute("id", "N"),), replicas=("us-west-2",), strong=True)
MOVES_AND_CHANGES = """
from dynamodt import Delete

IDEMPOTENT = True


def transform_up(item):
    if item["id"] == 1:
        return {**item, "id": 100}
    return Delete() if item["id"] == 2 else {**item, "n": 1}
"""


def test_without_transactions_updates_and_deletions_are_written_and_a_move_is_a_dead_letter(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(STRONG)
    bench.dynamodb.put(*({"id": n} for n in range(1, 5)))
    assert bench.run(MOVES_AND_CHANGES, max_errors=5) == Counts(4, changed=3, dead=1)
    assert bench.items() == [{"id": 1}, {"id": 3, "n": 1}, {"id": 4, "n": 1}]
    assert "needs a transaction" in bench.dead_letters()[0] and not bench.dynamodb.calls["TransactWriteItems"]


def test_a_write_of_another_region_is_a_conflict_and_its_item_is_transformed_afresh(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(STRONG)
    bench.dynamodb.put(*({"id": n} for n in range(4)))
    original, busy = bench.dynamodb._answered, iter([True])

    def answered(statement: dict[str, Any], fault: str, index: int) -> dict[str, Any]:
        if next(busy, False):
            return {"Error": {"Code": "ReplicatedWriteConflict", "Message": "being modified in another Region"}}
        return original(statement, fault, index)

    bench.dynamodb._answered = answered  # type: ignore[method-assign]
    assert bench.run("def transform_up(item):\n    return {**item, 'n': 1}\n") == Counts(4, changed=4)
    assert [item["n"] for item in bench.items()] == [1] * 4


def test_accepted_dead_letters_are_left_out_of_a_replay(bench: Bench) -> None:
    """By their key, of the part that lists them: the others of the page are replayed."""
    bench.dynamodb.put(*numbers(6))
    fails = "def transform_up(item):\n    return {**item, 'n': item['n'] * 2 // (item['id'] not in (2, 4))}\n"
    job = bench.job(fails, splits=1, max_errors=9)
    assert bench.execute(job).dead == 2
    parts = tuple(name for name in bench.storage.names(key_of_job(job, DEAD)))
    left_out = tuple((part, key_text({"id": {"N": "4"}})) for part in parts)
    again = retry_job(replace(bench.job(DOUBLE), run=job.run, attempt=2), 1, parts, left_out=left_out)
    bench.state.lease(again)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        migrate(pipeline, again, bench.resources)
    assert bench.state.splits(again.run).totals(1).counts == Counts(changed=1, dead=-1)
    assert [item["n"] for item in bench.items() if item["id"] in (2, 4)] == [4, 4]
