"""A dry run of several versions has the result of their runs: the same counts for each version, and the same dead
letters. It writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from dynamodt.model.pages import Counts
from dynamodt.model.runs import INSERTED_ROWS, Job, RowsSource
from dynamodt.model.tables import Direction, IndexKey, KeyAttribute, TableSpec
from dynamodt.pipeline import attempts
from dynamodt.pipeline.author_output import Line, captured, origin
from dynamodt.runs.jobs import with_earlier_phases
from tests.fakes import FakeResources, numbers
from tests.pipeline.conftest import Bench
from tests.pipeline.exporter import Exporter

pytestmark = pytest.mark.slow

OTHERS = TableSpec("others", (KeyAttribute("name", "S"),))
DOUBLE = "def transform_up(item): return {**item, 'n': item['n'] * 2}"
ADD = (
    "def transform_up(item): return {**item, 'v': item['n'] + 1}\ndef transform_down(item): item.pop('v'); return item"
)
NEEDS = """
def transform_up(item): return {**item, 'w': item['v'] * 2}
def transform_down(item): item.pop('w'); return {**item, 'was': item['v']}
"""
MOVE = "SOURCE = 'export'\ndef transform_up(item): return {**item, 'id': item['id'] + 100}"
MOVED_ONLY = "def transform_up(item): assert item['id'] >= 100, 'not moved'; return {**item, 'moved': True}"
FAN_OUT = """
from dynamodt import Put
SOURCE = 'export'
def transform_up(item): return [item, Put({'id': item['id'] + 1000, 'n': 0, 'of': item['id']})]
"""
MARK_NEW = "def transform_up(item): return {**item, 'mark': True} if 'of' in item else item"
DELETE = "from dynamodt import Delete\ndef transform_up(item): return Delete() if item['n'] % 2 else item"
NO_ODD = "def transform_up(item): assert item['n'] % 2 == 0, 'odd'; return {**item, 'even': True}"
ROWS = "def items():\n    for n in range(4): yield {'id': 20 + n, 'n': n, 'added': True}"
ROWS_BOTH = ROWS + "\ndef transform_up(item): assert 'added' not in item; return {**item, 'old': True}"
USES_ROWS = "def transform_up(item): return {**item, 'seen': item['added']} if 'added' in item else item"
PREPARED = "def prepare(context): yield 'x', 1\ndef transform_up(item, prepared): return {**item, 'p': prepared['x']}"
FAILS = "def transform_up(item): return {**item, 'v': 1} if item['n'] % 3 else 1 / 0"
EMPTY_INDEX_KEY = "def transform_up(item): return {**item, 'mail': '' if item['n'] % 3 == 0 else 'x'}"
COLLIDES = "SOURCE = 'export'\ndef transform_up(item): return {**item, 'id': 500 + item['id'] // 2, 'was': item['id']}"
ONTO_ROWS = """
from dynamodt import Put
SOURCE = 'export'
def transform_up(item): return [{**item, 'n': -1}, Put({'id': 20 + item['id'], 'n': -2})] if item['id'] < 6 else item
"""
STAMPED = "STAMP = '_run'\n" + DOUBLE
INTO_OTHER = "TARGET_TABLE = 'others'\ndef transform_up(item): return {'name': str(item['n'] // 2), 'n': item['n']}"
ADOPTS = """
class TransformUp:
    def setup(self): self.step = 10
    def process(self, item):
        if item['n'] == 7: raise SystemExit("seven")
        yield {**item, 'n': item['n'] + self.step}
"""


@pytest.fixture
def exporter(bench: Bench) -> Exporter:
    return Exporter(bench)


def phases(
    bench: Bench, exporter: Exporter, number: int, text: str, direction: Direction = "up", applied_by: str = ""
) -> list[Job]:
    """The phases of one version, as `runs.jobs.jobs` plans them."""
    job = replace(bench.job(text), script=bench.script(text, number), direction=direction, max_errors=1_000)
    if job.script.source == "export":
        job = replace(exporter.job(exporter.export(), text), run=job.run, script=job.script, max_errors=1_000)
    if job.script.target_table:
        job = replace(job, target=OTHERS)
        bench.dynamodb.keys["others"] = ("name",)
    if job.script.has_prepare:
        job = bench.prepare(job, {"x": 1})
    own = replace(job, run=job.run + INSERTED_ROWS, splits=1, source=RowsSource(inserted_by=applied_by))
    rows = [own] if job.script.has_items else []
    main = [job] if (job.script.has_up if direction == "up" else job.script.has_down) else []
    return [*main, *rows] if direction == "up" else [*rows, *main]


def total(counts: list[Counts]) -> Counts:
    found = Counts()
    for one in counts:
        found = found.plus(one)
    return found


def up_job(bench: Bench, exporter: Exporter, texts: list[str]) -> Iterator[list[Job]]:
    for number, text in enumerate(texts, 1):
        yield phases(bench, exporter, number, text)


def dry_run(bench: Bench, versions: Iterable[list[Job]]) -> list[Counts]:
    before: list[Job] = []
    found = []
    for version in versions:
        own = [replace(job, dry_run=True) for job in version]
        found.append(total([bench.execute(job) for job in with_earlier_phases(own, before)]))
        before += own
    return found


def real_run(bench: Bench, versions: Iterable[list[Job]]) -> list[Counts]:
    return [total([bench.execute(job) for job in version]) for version in versions]


def errors(bench: Bench) -> list[tuple[int, str, str]]:
    """The errors of the dead letters. Of two items for one key, either may be the dead letter."""
    records = [json.loads(line) for line in bench.dead_letters()]
    either = {line["error"]: "two items" for line in records if "two items are for" in line["error"]}
    found = [(one["version"], json.dumps(one["key"]), one["error"]) for one in records]
    return sorted(
        (version, "", either[error]) if error in either else (version, key, error) for version, key, error in found
    )


@pytest.mark.parametrize(
    "texts",
    [
        [ADD, NEEDS],
        [MOVE, MOVED_ONLY, MOVE],
        [FAN_OUT, MOVE, MARK_NEW],
        [DELETE, NO_ODD, ADD],
        [ROWS, USES_ROWS, DELETE],
        [ROWS_BOTH, USES_ROWS],
        [ADD, ROWS, FAN_OUT, MARK_NEW],
        [PREPARED, ADOPTS, STAMPED, STAMPED],
        [FAILS, EMPTY_INDEX_KEY, NEEDS],
        [ROWS, ONTO_ROWS, DOUBLE],
        [INTO_OTHER.replace("// 2", ""), DELETE, INTO_OTHER],
        [INTO_OTHER, ADD],
        [COLLIDES, ADD],
        [DELETE, ROWS, ROWS.replace("range(4)", "range(5)"), ADD],
    ],
    ids=lambda texts: str(len(texts)),
)
def test_a_dry_run_has_the_counts_of_the_runs(bench: Bench, exporter: Exporter, texts: list[str]) -> None:
    bench.dynamodb.spec = replace(bench.dynamodb.spec, index_keys=(IndexKey("mail", "S", 2048, "by_mail"),))
    bench.dynamodb.put(*numbers(23))
    before = bench.items()
    expected = dry_run(bench, up_job(bench, exporter, texts))
    assert bench.items() == before and not bench.dynamodb.others.get("others")
    reported = errors(bench)
    assert real_run(bench, up_job(bench, exporter, texts)) == expected
    assert sorted([*reported, *reported]) == errors(bench)


def down(bench: Bench, exporter: Exporter, texts: list[str], runs: list[str]) -> Iterator[list[Job]]:
    for number, text in reversed(list(enumerate(texts, 1))):
        yield phases(bench, exporter, number, text, "down", runs[number - 1])


def test_down_skips_rows_that_a_later_version_has_deleted(bench: Bench, exporter: Exporter) -> None:
    """Rows are deleted if they are as the run inserted them. A row that the application has changed stays, and a row
    that existed before was never the run's."""
    checks = "\ndef transform_down(item): assert item.get('added') != True, 'a row'; return {**item, 'down': item['n']}"
    texts = [ADD, NEEDS, ROWS + checks, ROWS.replace("20", "30") + "\ndef transform_down(item): return item"]
    bench.dynamodb.put(*numbers(7), {"id": 21, "n": 1, "added": True, "v": 2, "w": 4})
    versions = list(up_job(bench, exporter, texts))
    real_run(bench, versions)
    bench.dynamodb.put({"id": 22, "n": 2, "added": 1, "v": 3, "w": 6})
    runs, before = [version[0].base_run for version in versions], bench.items()
    expected = dry_run(bench, down(bench, exporter, texts, runs))
    reported = errors(bench)
    assert bench.items() == before and reported
    assert real_run(bench, down(bench, exporter, texts, runs)) == expected
    assert sorted([*reported, *reported]) == errors(bench)


def test_two_items_for_one_key_are_found_within_the_bounded_memory(
    bench: Bench, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.dynamodb.put(*numbers(20))
    (found,) = dry_run(bench, up_job(bench, exporter, [COLLIDES]))
    assert (found.changed, found.dead) == (10, 10)
    monkeypatch.setattr(attempts.RecentKeys.__init__, "__defaults__", (1,))
    (found,) = dry_run(bench, up_job(bench, exporter, [COLLIDES]))
    assert found.read == 20 and found.dead < 10


def test_items_inserted_into_another_table_are_not_read(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put(*numbers(4))
    wide = INTO_OTHER.replace("// 2", "")
    assert [one.read for one in dry_run(bench, up_job(bench, exporter, [wide, ADD]))] == [4, 4]


def test_a_fault_of_the_script_ends_the_dry_run_as_it_ends_the_run(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put(*numbers(4))
    with pytest.raises(Exception, match="its own output"):
        dry_run(bench, up_job(bench, exporter, [ADD, MOVE.replace("'export'", "'scan'")]))


def test_the_output_of_a_version_is_shown_only_for_its_own_dry_run(
    bench: Bench, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeResources, "output", origin(remote=False))  # as in a run
    lines: list[Line] = []
    bench.dynamodb.put(*numbers(3))
    texts = [f"def transform_up(item): print('version {number}'); return item" for number in (1, 2, 3)]
    with captured(lines.append):
        dry_run(bench, up_job(bench, exporter, texts))
    found = [(line.version, line.message) for line in lines if line.logger == "stdout"]
    assert found == [(number, f"version {number}") for number in (1, 2, 3) for _ in range(3)]
