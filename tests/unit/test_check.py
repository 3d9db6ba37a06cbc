"""`check`: the source of its items, faults and warnings, the smallest item, and its report."""

from __future__ import annotations

import io
import json
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from rich.console import Console

from dynamodt.checks import other_process as another
from dynamodt.checks import subject, variants
from dynamodt.checks.check import sample_of_file
from dynamodt.checks.examples import Replacer, smallest_item
from dynamodt.checks.other_process import OtherProcess, VersionInputs
from dynamodt.checks.version import VersionTrial
from dynamodt.cli import check_report
from dynamodt.cli.next_steps import written_steps
from dynamodt.cli.request import Request
from dynamodt.dynamodb.reads import ScanPage
from dynamodt.errors import UsageError
from dynamodt.model.reports import Finding, TableCheck, VersionCheck
from dynamodt.model.tables import Image, Index, KeyAttribute, TableNames, TableSpec
from dynamodt.pipeline import process
from dynamodt.pipeline.author_output import Line, captured
from dynamodt.runs import estimate
from dynamodt.runs.context import Project
from dynamodt.runs.estimate import TableSample
from dynamodt.script.apply import Attempt, attempt_change
from dynamodt.script.codec import MAX_ITEM_BYTES, image_bytes
from dynamodt.script.diff import stored_bytes
from dynamodt.script.read import read_script
from tests.fake_operations import STAGE
from tests.unit.checked.items import USERS, users
from tests.waiting import HANG_SECONDS, join

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[OtherProcess]:
    with OtherProcess() as process:
        yield process


class FakeReads:
    """A table of `items` items in equal segments."""

    def __init__(self, items: int) -> None:
        self.items = [{"id": {"S": f"u{number}"}} for number in range(items)]
        self.asked: list[int] = []

    def scan(self, segment: int, total: int, cursor: Image | None, limit: int, consistent: bool) -> ScanPage:
        self.asked.append(segment)
        mine = self.items[segment::total]
        start = 0 if cursor is None else 1 + mine.index(cursor)
        page = mine[start : start + limit]
        more = start + limit < len(mine)
        return ScanPage(page, page[-1] if more else None, 0.5)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int, int], tuple[TableSample, FakeReads]]:
    """The sample of a table with this number of items, and with the number that DescribeTable reports."""

    def found(items: int, number: int, counted: int) -> tuple[TableSample, FakeReads]:
        reads = FakeReads(items)
        monkeypatch.setattr(estimate, "shared_wire", lambda connection: None)
        monkeypatch.setattr(estimate, "Reads", lambda *_, **__: reads)
        table = TableSpec("users", USERS.key, item_count=counted)
        return estimate.read_sample(Project(STAGE, Path()), table, number, dice=random.Random(1)), reads

    return found


# ---------------------------------------------------------------- the sample


@pytest.mark.parametrize(("items", "counted"), [(0, 0), (3, 3), (3, 0), (700, 0), (1000, 1000)])
def test_a_small_table_is_read_completely(sampled: Any, items: int, counted: int) -> None:
    sample, _ = sampled(items, 1000, counted)
    assert sorted(map(str, sample.images)) == sorted(map(str, FakeReads(items).items)) and sample.whole


def test_a_table_that_is_counted_as_small_is_read_in_the_fewest_requests(sampled: Any) -> None:
    _, reads = sampled(1000, 1000, 1000)
    assert reads.asked == [0]


@pytest.mark.parametrize("counted", [20_000, 500, 0])  # 500: a count of hours ago
def test_the_sample_of_a_large_table_has_at_most_the_requested_items_from_many_places(
    sampled: Any, counted: int
) -> None:
    sample, reads = sampled(20_000, 1000, counted)
    keys = {image["id"]["S"] for image in sample.images}
    assert len(keys) == 1000 and not sample.whole and sample.read_units == 0.5 * len(reads.asked)
    assert len(set(reads.asked)) >= 16


def test_items_of_a_file_must_have_the_key_and_one_each(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": {"S": "1"}}\n{"id": {"N": "1"}}\n')
    with pytest.raises(UsageError, match="no id of type S"):
        sample_of_file(path, USERS)
    path.write_text('{"id": {"S": "1"}}\n{"id": {"S": "1"}, "n": {"N": "1"}}\n')
    with pytest.raises(UsageError, match="items 1 and 2 have one key"):
        sample_of_file(path, USERS)


# ---------------------------------------------------------------- faults and warnings


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / "transforms" / "users" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"sequence = 1\n{text}", encoding="utf-8")
    return path


def checked(
    folder: Path, text: str, images: list[Image], elsewhere: OtherProcess, **more: Any
) -> tuple[VersionCheck, list[Image]]:
    asked = VersionInputs(
        read_script(written(folder, "v1_change.py", text), folder), USERS, **{"examples": 60, "seconds": 20.0, **more}
    )
    return VersionTrial(asked, elsewhere).check(images)


NAMED: list[Image] = [{"id": {"S": f"u{number}"}, "name": {"S": f"Ada {number}"}} for number in range(9)]
READS_NAME = "def transform_up(item): return {**item, 'upper': item['name'].upper()}\n"


def levels(found: VersionCheck) -> dict[str, set[str]]:
    return {level: {one.name for one in found.findings if one.level == level} for level in ("fault", "warning")}


def test_a_fault_shown_only_by_a_variant_is_a_warning_with_the_difference(
    tmp_path: Path, elsewhere: OtherProcess
) -> None:
    found, after = checked(tmp_path, READS_NAME, NAMED, elsewhere)
    assert levels(found) == {"fault": set(), "warning": {"raises"}} and found.bound == pytest.approx(3 / 9)
    texts = [one.what for one in found.findings]
    assert "KeyError: 'name', where name is absent" in texts and any("name is NULL" in text for text in texts)
    assert all(one.items == 0 and one.where == "transforms/users/v1_change.py:2" for one in found.findings)
    assert after[0]["upper"] == {"S": "ADA 0"}


def test_a_fault_shown_by_an_item_of_the_sample_has_the_smallest_such_item(
    tmp_path: Path, elsewhere: OtherProcess
) -> None:
    stub: Image = {"id": {"S": "u77"}, "phone": {"S": "030 7"}, "state": {"S": "closed"}}
    found, after = checked(tmp_path, READS_NAME, [*NAMED, stub], elsewhere)
    (fault,) = found.faults
    assert (fault.name, fault.items, fault.what) == ("raises", 1, "KeyError: 'name'") and found.bound is None
    assert fault.shown is not None and [set(image) for _, image in fault.shown.images] == [{"id"}]
    assert fault.shown.invented and fault.shown.images[0][1] != {"id": stub["id"]}
    assert len(after) == 9  # the tenth would be a dead letter


def test_an_output_that_the_scan_would_read_is_shown_by_an_item_that_writes_it(
    tmp_path: Path, elsewhere: OtherProcess
) -> None:
    moves = "def transform_up(item): return {**item, 'id': item['id'] + 'x'} if item['id'] in ('u5', 'u7') else item\n"
    (fault,) = checked(tmp_path, moves, NAMED, elsewhere)[0].faults
    assert (fault.name, fault.items, fault.shown and fault.shown.of) == ("input", 2, {"id": {"S": "u5"}})


@pytest.mark.parametrize(
    "value",
    ["1 / item['n']", "item['id'].split('#')[1]", "('free', 'paid').index(item['plan'])"],
    ids=["zero", "a key", "a word"],
)
def test_other_values_of_the_types_that_items_have_are_warnings(
    tmp_path: Path, elsewhere: OtherProcess, value: str
) -> None:
    images: list[Image] = [
        {"id": {"S": f"USER#{n}"}, "plan": {"S": ("free", "paid")[n % 2]}, "n": {"N": str(n + 1)}} for n in range(9)
    ]
    found, _ = checked(tmp_path, f"def transform_up(item): return {{**item, 'x': str({value})}}\n", images, elsewhere)
    assert not found.faults and "raises" in {one.name for one in found.findings}


def test_without_prepared_data_and_on_derived_items_errors_are_warnings(
    tmp_path: Path, elsewhere: OtherProcess
) -> None:
    text = "def prepare(context): yield 'a', 1\ndef transform_up(item, prepared): return {**item, 'n': prepared['a']}\n"
    found, _ = checked(tmp_path, text, NAMED, elsewhere, prepared=None)
    assert found.prepared == "missing" and levels(found) == {"fault": set(), "warning": {"raises"}}
    assert found.bound is None
    found, _ = checked(tmp_path, text, NAMED, elsewhere, prepared={"a": 1})
    assert found.prepared == "used" and found.bound is not None
    found, _ = checked(tmp_path, text, NAMED, elsewhere, prepared={}, derived=True)
    assert levels(found)["fault"] == set() and found.bound is None


def test_a_table_without_items_is_tried_with_the_names_of_the_script(tmp_path: Path, elsewhere: OtherProcess) -> None:
    found, after = checked(tmp_path, READS_NAME, [], elsewhere)
    assert after == [] and not found.faults and found.items == 0 and found.variants > 0
    assert "KeyError: 'name', where name is absent" in [one.what for one in found.findings]
    assert (found.deterministic, found.idempotent, found.bound, found.effect.kind) == (None, None, None, "")


def test_a_tried_script_can_neither_print_nor_end_the_process(
    tmp_path: Path, elsewhere: OtherProcess, capfd: Any
) -> None:
    text = "import os\nprint('loaded')\ndef transform_up(item):\n    print(item)\n    os._exit(0)\n"
    found, _ = checked(tmp_path, text, NAMED, elsewhere)
    assert [one.name for one in found.faults] == ["raises"] and "os._exit" in found.faults[0].what
    assert capfd.readouterr() == ("", "")


def test_a_log_record_of_a_tried_script_has_table_and_version_and_is_shown_once_an_item(
    tmp_path: Path, elsewhere: OtherProcess
) -> None:
    text = (
        "import logging\nlog = logging.getLogger('shop')\nIDEMPOTENT = True\n"
        "def items():\n    log.warning('rows')\n    yield {'id': 'r'}\n"
        "def transform_up(item):\n    log.warning('up %s', item['id'])\n    return {**item, 'l': item['name'] + ''}\n"
        "def transform_down(item):\n    log.warning('down %s', item['id'])\n    return {**item, 'name': 'A'}\n"
    )
    lines: list[Line] = []
    with captured(lines.append):
        found, _ = checked(tmp_path, text, NAMED, elsewhere)
    assert found.variants and found.faults
    assert {(line.table, line.version) for line in lines} == {("users", 1)}
    each = [f"WARNING shop: {side} {item['id']['S']}" for item in NAMED for side in ("up", "down")]
    assert sorted(line.text for line in lines) == sorted(["WARNING shop: rows", *each])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import datetime\ndef transform_up(item): return {**item, 'd': str(datetime.date.today())}", "on the time"),
        ("import time\ndef transform_up(item): return {**item, 'y': time.strftime('%Y-%m')}", "on the time"),
        (
            "first = []\ndef transform_up(item): return {**item, 'f': (first, first.append(item['id']))[0][0]}",
            "before it",
        ),
        ("def transform_up(item): return {**item, 'h': hash(item['id'])}", "another process"),
        (
            "from datetime import datetime as d\ndef transform_up(item): return {**item, 'h': str(d.fromtimestamp(9))}",
            "or its zone",
        ),
        ("import uuid\ndef transform_up(item): return {**item, 'h': str(uuid.uuid4())}", "applied twice"),
    ],
)
def test_the_cause_of_a_varying_result_is_named(tmp_path: Path, elsewhere: OtherProcess, body: str, why: str) -> None:
    found, _ = checked(tmp_path, body + "\n", NAMED, elsewhere)
    (fault,) = found.faults
    assert fault.name == "deterministic" and why in fault.what and found.deterministic is False


def test_the_limit_of_a_call_is_for_the_author_s_code_alone(
    tmp_path: Path, elsewhere: OtherProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = 2 + int(HANG_SECONDS / subject._TICK)

    def slowly(*arguments: Any) -> Attempt:
        for _ in range(ticks):  # as the timer of a call that takes longer than the limit
            signal.raise_signal(signal.SIGALRM)
        return attempt_change(*arguments)

    monkeypatch.setattr(subject, "attempt_change", slowly)
    text = "def transform_up(item): return item\n"
    found, _ = checked(tmp_path, text, NAMED[:1], elsewhere, seconds=HANG_SECONDS, examples=1)
    assert not found.faults


def test_a_process_without_an_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code that does not end cannot be interrupted in its own process."""
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    monkeypatch.setattr(another, "_MOST_SECONDS", 0.0)
    monkeypatch.setattr(another, "_started", lambda: Popen(silent, stdin=PIPE, stdout=PIPE))
    script = read_script(written(tmp_path, "v1_change.py", READS_NAME), tmp_path)
    side = VersionInputs(script, USERS, seconds=0.01)
    with OtherProcess() as process:
        assert process.observed(side, NAMED) is None


def test_lost_data_is_a_warning_and_a_wrong_transform_down_a_fault(tmp_path: Path, elsewhere: OtherProcess) -> None:
    lossy = "from dynamodt import without\ndef transform_up(item): return without(item, 'name')\n"
    found, _ = checked(tmp_path, lossy + "def transform_down(item): return item\n", NAMED, elsewhere)
    assert found.reversible == "lossy" and not found.faults
    assert any("name is lost" in one.what and one.items == 9 for one in found.findings)
    kept = "def transform_up(item): return {**item, 'upper': item['name'].upper()}\n"
    found, _ = checked(tmp_path, kept + "def transform_down(item): return item\n", NAMED, elsewhere)
    assert found.reversible == "no" and "leaves upper" in found.faults[0].what


def test_an_effect_names_changes_that_code_may_depend_on(tmp_path: Path, elsewhere: OtherProcess) -> None:
    text = """
def transform_up(item):
    address = {k: v for k, v in item.get("address", {}).items() if k != "zip"}
    new = {k: v for k, v in item.items() if k != "country"}
    return {**new, "address": {**address, "city": "x"}, "visits": str(item.get("visits", 0))}
"""
    found, _ = checked(tmp_path, text, users(), elsewhere)
    paths = {path.path: path[1:] for path in found.effect.paths}
    assert paths["address.city"] == (99, 0, 0, 0) and paths["address.zip"] == (0, 0, 0, 99)
    assert paths["visits"] == (1, 0, 99, 0) and paths["country"] == (0, 0, 0, 99)
    assert (found.effect.kind, found.effect.leaves) == ("both", ("by_country",))


def test_doubling_a_large_text_is_a_warning_and_a_small_addition_is_none(
    tmp_path: Path, elsewhere: OtherProcess
) -> None:
    images: list[Image] = [*NAMED, {"id": {"S": "long"}, "name": {"S": "x" * 5000}}]
    found, _ = checked(tmp_path, "def transform_up(item): return {**item, 'was': item['name']}\n", images, elsewhere)
    sizes = [one for one in found.findings if one.name == "size"]
    assert [one.level for one in sizes] == ["warning"] and "390," in sizes[0].what
    found, _ = checked(
        tmp_path, "def transform_up(item): return {**item, 'was': item['name'][:9]}\n", images, elsewhere
    )
    assert not [one for one in found.findings if one.name == "size"]


def test_a_large_item_leaves_room_for_its_entries_in_local_indexes() -> None:
    table = replace(USERS, projections=(Index("by_name", ("name",), None, local=True),))
    for name in ({"name": {"S": "n"}}, {}):
        image: Image = {"id": {"S": "long"}, "text": {"S": "x" * 5000}, **name}
        large = variants.large(image, table)
        assert large is not None and len(large["text"]["S"]) > 190_000
        assert stored_bytes(table, large) <= MAX_ITEM_BYTES


def test_an_error_that_only_another_time_causes_is_no_fault(tmp_path: Path, elsewhere: OtherProcess) -> None:
    text = """
import datetime, os

YEAR = int(os.popen("date +%Y").read())

def transform_up(item):
    if datetime.date.today().year != YEAR:
        raise OSError("the request is signed in the future")
    return {**item, "x": 1}
"""
    found, _ = checked(tmp_path, text, NAMED, elsewhere)
    assert not found.faults and found.deterministic


# ---------------------------------------------------------------- the smallest item, and replaced values


def test_the_smallest_item_keeps_the_key_and_what_shows_the_fault() -> None:
    image: Image = {
        "id": {"S": "u1"},
        "a": {"S": "long text"},
        "m": {"M": {"x": {"L": [{"S": "no"}, {"S": "yes!"}, {"N": "1"}]}, "y": {"BOOL": True}}},
        "s": {"SS": ["p", "q"]},
    }

    def shows(one: Image) -> bool:
        inner = one.get("m", {}).get("M", {}).get("x", {}).get("L", [])
        return any("!" in value.get("S", "") for value in inner)

    assert smallest_item(image, ("id",), shows) == {"id": {"S": "u1"}, "m": {"M": {"x": {"L": [{"S": "!"}]}}}}


def test_replaced_items_have_the_shapes_of_the_others_and_none_of_their_data() -> None:
    images = users()
    replacer = Replacer(images, "salt")
    made = [replacer.image(image) for image in images]
    assert [image_bytes(image) for image in made] == [image_bytes(image) for image in images]
    assert [variants.shape(image) for image in made] == [variants.shape(image) for image in images]
    assert len({image["id"]["S"] for image in made}) == len(images)
    for before, after in zip(images, made, strict=True):
        assert before.get("state") == after.get("state")  # a word of the application
        for name in ("id", "name", "email", "phone", "joined"):
            if "S" in before.get(name, {}):
                assert before[name] != after[name], name
    assert Replacer(images).image(images[0]) != made[0]  # the next one cannot be compared with it


def test_equal_values_stay_equal_and_different_ones_different() -> None:
    images: list[Image] = [
        {"id": {"S": f"USER#{number}"}, "of": {"S": f"USER#{number // 2}"}, "n": {"N": str(number)}}
        for number in range(40)
    ]
    replacer = Replacer(images)
    made = [replacer.image(image) for image in images]
    ids = [image["id"]["S"] for image in made]
    assert len(set(ids)) == 40 and all(text.startswith("USER#") for text in ids)
    assert [image["of"]["S"] for image in made] == [ids[number // 2] for number in range(40)]
    assert replacer.image({"part": {"S": "7 of 12"}})["part"]["S"] == f"{ids[7][5:]} of {ids[12][5:]}".replace(
        "of", replacer.image({"x": {"S": "of"}})["x"]["S"]
    )


def test_stored_dead_letters_of_all_alphabets_are_replaced_by_as_many_bytes() -> None:
    image: Image = {"id": {"S": "Jürgen 山田 Ω"}, "b": {"B": "AAEC"}, "x": {"N": "-12.50"}, "one": {"N": "7"}}
    made = Replacer([image], "salt").image(image)
    assert image_bytes(made) == image_bytes(image) and made["one"] == image["one"]
    assert not set("ü山田Ω") & set(made["id"]["S"]) and made["id"]["S"][1].isalpha()
    assert made["b"] != image["b"] and made["x"]["N"].startswith("-") and made["x"] != image["x"]


def test_the_stamps_of_runs_stay() -> None:
    image: Image = {"id": {"S": "u1"}, "_run": {"S": "20260131T101112.131415Z-0a1b2c"}, "at": {"S": "20260131T101112Z"}}
    made = Replacer([image]).image(image)
    assert made["_run"] == image["_run"] and made["at"] != image["at"]


# ---------------------------------------------------------------- variants


def test_variants_keep_the_key_s_type_and_are_the_same_each_time() -> None:
    table = TableSpec("t", (KeyAttribute("id", "S"), KeyAttribute("n", "N")))
    images: list[Image] = [
        {
            "id": {"S": "a"},
            "n": {"N": "1"},
            "m": {"M": {"deep": {"SS": ["x", "y"]}}},
            "l": {"L": [{"S": "1"}, {"S": "2"}]},
        }
    ]
    first, second = (variants.drawn(variants.variants(variants.bases(images, table), table), 200) for _ in range(2))
    assert first == second
    assert all({"S", "N"} == {*one.image["id"], *one.image["n"]} and one.image["id"]["S"] for one in first)
    kinds = {str(deviation) for one in first for deviation in one.deviations}
    assert {"m.deep is absent", "m is NULL", "m.deep has one element", "l is empty", "l is another type"} <= kinds


def test_hypothesis_leaves_nothing_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    variants.drawn(variants.variants(variants.bases(users(), USERS), USERS), 20)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the report


def report_of(found: TableCheck) -> tuple[str, str, dict[str, Any]]:
    """As text, as Markdown, as JSON."""
    shown = []
    for write in (check_report.print_check, check_report.print_markdown):
        console = Console(file=io.StringIO(), width=60, color_system=None)
        write(console, Request("check", tables=("users",)), [found], TableNames())
        assert isinstance(console.file, io.StringIO)
        shown.append(console.file.getvalue())
    return shown[0], shown[1], json.loads(json.dumps(check_report.check_document([found])))


def test_json_and_markdown_have_no_value_that_was_not_replaced(tmp_path: Path, elsewhere: OtherProcess) -> None:
    text = "def transform_up(item): return {**item, 'n': int(item['name'].split()[-1])}\n"
    one = [{"id": {"S": "u3"}, "name": {"S": "<secret>"}}]
    found, _ = checked(tmp_path, text, [*NAMED, *one], elsewhere)
    table = TableCheck("users", 0, "a file", 10, versions=(found,))
    plain, markdown, document = report_of(table)
    assert "fault raises: ValueError" in plain and "1 fault" in markdown and document["faults"] == 1
    assert "secret" not in markdown and "secret" not in json.dumps(document)
    kept = Finding("fault", "raises", "ValueError: '<secret>'", shown=found.faults[0].shown._replace(invented=False))  # type: ignore[union-attr]
    plain, markdown, document = report_of(
        TableCheck("users", 0, "a file", 1, versions=(VersionCheck(1, "a", "p", findings=(kept,)),))
    )
    assert "secret" in plain and "secret" not in markdown and "secret" not in json.dumps(document)


def test_several_tables_have_one_step_for_what_they_have_saved(tmp_path: Path, elsewhere: OtherProcess) -> None:
    found, _ = checked(tmp_path, "def transform_up(item): return item\n", users(), elsewhere)
    two = [TableCheck(table, 0, "a file", 1, versions=(found,), saved="x") for table in ("carts", "users")]
    request = Request("check", "local")
    steps = written_steps(request, check_report._next_steps(request, two, TableNames()), {})
    assert [step.command for step in steps] == [
        "pytest --dynamodt",
        "dynamodt up --table carts --dry-run",
        "dynamodt up --table users --dry-run",
    ]


def test_the_report_states_what_a_sample_can_show(tmp_path: Path, elsewhere: OtherProcess) -> None:
    found, _ = checked(tmp_path, "def transform_up(item): return item\n", users(), elsewhere)
    plain, markdown, document = report_of(TableCheck("users", 0, "random segments of a scan", 100, versions=(found,)))
    assert "with 95 % certainty at most 3 %" in plain and "at most 3 %" in markdown
    few, _, _ = report_of(TableCheck("users", 0, "a file", 2, versions=(replace(found, bound=1.0),)))
    assert "at most 100 % of" in few
    assert document["tables"][0]["versions"][0]["bound"] == 0.03
    plain, _, _ = report_of(TableCheck("users", 0, "a scan of the whole table", 100, whole=True, versions=(found,)))
    assert "all 100 items of the table were tried" in plain and "certainty" not in plain


class WatchedLock:
    """`wanted` is set when a thread has to wait for the lock."""

    def __init__(self) -> None:
        self.lock, self.wanted = threading.RLock(), threading.Event()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.wanted.set()
            assert self.lock.acquire(timeout=HANG_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_checks_in_two_threads_leave_the_standard_streams_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before, inside, leave, lock = (sys.stdout, sys.stderr), threading.Event(), threading.Event(), WatchedLock()
    monkeypatch.setattr(process, "_redirecting", lock)

    def other() -> None:
        with subject.CallLimit(1).guarded():
            inside.set()
            assert leave.wait(HANG_SECONDS)

    thread = threading.Thread(target=other)
    with subject.CallLimit(1).guarded():
        thread.start()
        assert lock.wanted.wait(HANG_SECONDS) and not inside.is_set()
    leave.set()
    join(thread, "the other check ends")
    assert (sys.stdout, sys.stderr) == before
