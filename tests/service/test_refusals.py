"""Invalid input and denied access: the message has the error, the place and the next step; nothing is written, and
nothing is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dynamodt import api as operations
from dynamodt.dynamodb.clients import client
from dynamodt.errors import Busy, DeadLetters, DynamodtError, Refused, ScriptError, ServiceError
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableReport
from dynamodt.model.tables import Connection, Item, StorageSpec
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.proxy import Proxy

pytestmark = dynamodb_local_in_chaos

TOUCH = 'def transform_up(item):\n    return {**item, "seen": True}\n'
PREPARED = """
def prepare(context):
    for number in range(50):
        yield str(number), number

def transform_up(item, prepared):
    return {**item, "n": prepared["7"]}
"""
ITEMS: list[Item] = [{"id": "a", "n": 1}, {"id": "b", "n": 2}]


def refused(bench: Bench, table: str, kind: type[DynamodtError]) -> DynamodtError:
    """The error with which `up` was refused before its start; the history is empty."""
    (report,) = bench.up(table)
    assert isinstance(report.error, kind), report.error
    assert report.versions == ()
    return report.error


# ---------------------------------------------------------------- closed doors


def test_up_of_an_unknown_table_is_refused(bench: Bench) -> None:
    table = f"test_{uuid4().hex[:12]}"
    bench.script(table, TOUCH)
    error = refused(bench, table, ServiceError)
    assert (error.what, error.where, error.exit_code) == ("the table does not exist", f"table {table}", 1)
    assert "create the table first" in error.hint and bench.history(table) == []


def test_up_with_an_unknown_target_is_refused(bench: Bench, make_table: MakeTable) -> None:
    table, target = make_table(id="S"), f"test_{uuid4().hex[:12]}"
    bench.tables.put(table, *ITEMS)
    bench.script(table, f'TARGET_TABLE = "{target}"\n{TOUCH}')
    assert refused(bench, table, ServiceError).where == f"table {target}"


@pytest.mark.parametrize("head", ['STAMP = "g"\n', 'STAMP = "id"\n', 'IDEMPOTENT = True\nSTAMP = "g"\n'])
@pytest.mark.parametrize("as_target", [False, True], ids=["table", "target"])
def test_a_stamp_in_a_key_or_in_an_index_s_key_is_refused(
    bench: Bench, make_table: MakeTable, indexed_table: str, head: str, as_target: bool
) -> None:
    table = make_table(at="N") if as_target else indexed_table
    bench.script(table, head + (f'TARGET_TABLE = "{indexed_table}"\n' if as_target else "") + TOUCH)
    error = refused(bench, table, Refused)
    assert "STAMP" in error.what and indexed_table in error.what and error.where.endswith(".py")
    assert bench.history(table) == []


def test_an_item_whose_stamp_attribute_has_other_data_is_a_dead_letter(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, {"id": "a", "owner": "Ann"}, {"id": "b"})
    report = bench.failed(table, 'STAMP = "owner"\n' + TOUCH, max_errors=5)
    assert report.versions[-1].counts == Counts(read=2, changed=1, dead=1)
    assert '"a"' in report.versions[-1].first_dead_letter and "owner" in report.versions[-1].first_dead_letter
    assert {"id": "a", "owner": "Ann"} in bench.tables.items(table)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_transformation_of_the_state_table_is_refused(bench: Bench, make_table: MakeTable, dry_run: bool) -> None:
    table, own = make_table(id="S"), bench.stage.state_table
    bench.script(own, TOUCH)
    bench.script(table, f'TARGET_TABLE = "{own}"\n' + TOUCH)
    for name in (own, table):
        (report,) = bench.up(name, dry_run=dry_run)
        assert isinstance(report.error, Refused) and "dynamodt's own state" in report.error.what
    assert not [item for item in bench.tables.items(own) if "seen" in item]


def test_a_stage_without_a_state_table_is_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    elsewhere = replace(bench, stage=replace(bench.stage, state_table="no_state_here"))
    elsewhere.script(table, TOUCH)
    error = refused(elsewhere, table, ServiceError)
    assert error.where == "state table no_state_here" and bench.tables.items(table) == ITEMS


def test_an_endpoint_without_a_listener_is_reported(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    connection = replace(bench.stage.connection, endpoint_url=url)
    nowhere = replace(bench, stage=replace(bench.stage, connection=connection))
    nowhere.script(table, TOUCH)
    error = refused(nowhere, table, ServiceError)
    assert "refuses connections" in error.what and url in error.what and "AWS_ENDPOINT_URL" in error.hint


@pytest.fixture
def silent_metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """An instance's metadata service that takes connections and never answers, as a firewall may make it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def connections(server: socket.socket) -> int:
    """How many connections wait to be accepted."""
    count = 0
    server.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_missing_credentials_are_reported(bench: Bench, make_table: MakeTable, silent_metadata: socket.socket) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    connection = Connection("us-east-1", bench.stage.connection.endpoint_url)
    stranger = replace(bench, stage=replace(bench.stage, connection=connection))
    stranger.script(table, TOUCH)
    error = refused(stranger, table, ServiceError)
    assert error.what == "no AWS credentials were found" and "AWS_PROFILE" in error.hint and error.exit_code == 1
    assert connections(silent_metadata) == 2, "each of them is waited for, for a second"
    assert bench.tables.items(table) == ITEMS


def test_an_unknown_profile_is_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    connection = Connection("us-east-1", bench.stage.connection.endpoint_url, profile="nobody")
    stranger = replace(bench, stage=replace(bench.stage, connection=connection))
    stranger.script(table, TOUCH)
    error = refused(stranger, table, ServiceError)
    assert "nobody" in error.what and error.hint


@pytest.mark.parametrize("operation", ["DescribeTable", "Query"])
def test_a_missing_permission_to_describe_is_reported(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable, operation: str
) -> None:
    table = make_table(id="S")
    bad_line.tables.put(table, *ITEMS)
    bad_line.script(table, TOUCH)
    proxy.spared = ""
    proxy.always[operation] = "denied"
    error = refused(bad_line, table, ServiceError)
    assert operation in error.what and "AccessDenied" in error.what and "grant the action" in error.hint
    assert error.where in (f"table {table}", f"state table {bad_line.stage.state_table}")
    assert bad_line.tables.items(table) == ITEMS


RE_KEY = 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "id": "x" + item["id"]}\n'
ODD_NAME = 'def transform_up(item):\n    return {**item, "#": 1}\n'


@pytest.mark.parametrize(
    ("operation", "script"),
    [("Scan", TOUCH), ("BatchExecuteStatement", TOUCH), ("UpdateItem", ODD_NAME), ("TransactWriteItems", RE_KEY)],
    ids=["Scan", "BatchExecuteStatement", "UpdateItem", "TransactWriteItems"],
)
def test_a_missing_permission_to_read_or_write_is_reported(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable, operation: str, script: str
) -> None:
    table = make_table(id="S")
    bad_line.tables.put(table, ITEMS[0])
    proxy.always[operation] = "denied"
    error = bad_line.failed(table, script).error
    assert isinstance(error, ServiceError) and error.where == f"table {table}" and "grant the action" in error.hint
    assert operation in error.what and "AccessDenied" in error.what
    assert bad_line.tables.items(table) == ITEMS[:1]


def test_a_write_that_is_denied_is_in_the_history(bad_line: Bench, proxy: Proxy, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bad_line.tables.put(table, *ITEMS)
    proxy.always["BatchExecuteStatement"] = "denied"
    report = bad_line.failed(table, TOUCH)
    (record,) = bad_line.history(table)
    assert record.status == report.versions[0].status == "failed" and "AccessDenied" in record.error


def test_a_table_deleted_during_its_run_fails_the_run(
    bench: Bench, bad_line: Bench, proxy: Proxy, endpoint: Endpoint, make_table: MakeTable
) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    bench.script(table, TOUCH)
    proxy.always["BatchExecuteStatement"] = "gone"
    (report,) = bad_line.up(table)
    assert isinstance(report.error, ServiceError) and report.error.what == "the table does not exist"
    assert report.error.where == f"table {table}" and bench.applied(table) == []


# ---------------------------------------------------------------- buckets (ministack has S3, DynamoDB Local has not)


on_ministack = pytest.mark.endpoints("ministack")


@pytest.fixture
def s3_bench(bench: Bench) -> Bench:
    """The bench with its storage in S3, in a bucket that is not there."""
    return replace(
        bench, stage=replace(bench.stage, storage=StorageSpec(f"s3://missing-{uuid4().hex[:12]}/some/prefix"))
    )


@on_ministack
def test_prepare_with_a_missing_bucket_is_refused(s3_bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    s3_bench.script(table, PREPARED)
    with pytest.raises(ServiceError, match="the bucket does not exist") as caught:
        s3_bench.prepare(table)
    assert caught.value.where.startswith(s3_bench.stage.storage.url) and "create the bucket" in caught.value.hint


@on_ministack
def test_a_run_with_a_missing_bucket_is_refused(s3_bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    s3_bench.tables.put(table, *ITEMS)
    s3_bench.script(table, PREPARED)
    error = refused(s3_bench, table, ServiceError)
    assert error.what == "the bucket does not exist" and error.where.startswith(s3_bench.stage.storage.url)
    assert s3_bench.tables.items(table) == ITEMS


@on_ministack
def test_a_run_that_cannot_keep_its_dead_letters_does_not_succeed(s3_bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    s3_bench.tables.put(table, *ITEMS)
    s3_bench.script(table, 'def transform_up(item):\n    return {**item, "x": item["none"]}\n')
    (report,) = s3_bench.up(table)
    assert isinstance(report.error, ServiceError) and "bucket does not exist" in report.error.what
    assert s3_bench.applied(table) == [] and s3_bench.tables.items(table) == ITEMS


@on_ministack
def test_prepared_data_and_dead_letters_in_a_bucket(s3_bench: Bench, endpoint: Endpoint, make_table: MakeTable) -> None:
    """The same, once the bucket is there; everything in it is encrypted as the bucket does by default."""
    s3, bucket = client(endpoint.connection, "s3"), s3_bench.stage.storage.url.split("/")[2]
    s3.create_bucket(Bucket=bucket)
    by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:aws:kms:us-east-1:000000000000:key/ours"}
    rules = [{"ApplyServerSideEncryptionByDefault": by_default}]
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    table = make_table(id="S")
    s3_bench.tables.put(table, *ITEMS)
    s3_bench.script(
        table, PREPARED.replace('prepared["7"]', 'prepared["7"] if item["id"] == "a" else prepared["none"]')
    )
    s3_bench.prepare(table)
    report = s3_bench.run_past_dead_letters(table, max_errors=1)
    assert isinstance(report.error, DeadLetters) and report.error.where.startswith(s3_bench.stage.storage.url)
    key = report.error.where.removeprefix(f"s3://{bucket}/")
    dead_letter = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert dead_letter["key"] == {"id": {"S": "b"}} and dead_letter["error"] == "KeyError: 'none'"
    assert s3_bench.tables.items(table) == [{"id": "a", "n": 7}, {"id": "b", "n": 2}]
    entries = s3.list_objects_v2(Bucket=bucket)["Contents"]
    heads = [s3.head_object(Bucket=bucket, Key=entry["Key"]) for entry in entries]
    assert len(heads) > 2 and all(head["SSEKMSKeyId"] == by_default["KMSMasterKeyID"] for head in heads)


# ---------------------------------------------------------------- prepared data


@pytest.fixture
def prepared_table(bench: Bench, make_table: MakeTable) -> str:
    """A table whose version 1 is prepared."""
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    bench.script(table, PREPARED)
    bench.prepare(table)
    return table


def stored(bench: Bench, table: str, ending: str, number: int = 1) -> Path:
    return Path(bench.stage.storage.url) / "prepared" / table / f"v{number}.{ending}"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink], ids=["truncated", "flipped", "missing"])
def test_altered_prepared_data_is_refused(bench: Bench, prepared_table: str, harm: Callable[[Path], None]) -> None:
    path = stored(bench, prepared_table, "parquet")
    harm(path)
    (report,) = bench.up(prepared_table)
    assert isinstance(report.error, Refused) and report.error.exit_code == 3, report.error
    assert str(path) in report.error.where and "prepared data is" in report.error.what
    assert f"dynamodt prepare --table {prepared_table} --version 1" in report.error.hint
    assert bench.applied(prepared_table) == [] and bench.tables.items(prepared_table) == ITEMS


@pytest.mark.parametrize("harm", [truncate, Path.unlink], ids=["truncated", "missing"])
def test_an_unreadable_manifest_is_refused(bench: Bench, prepared_table: str, harm: Callable[[Path], None]) -> None:
    path = stored(bench, prepared_table, "json")
    harm(path)
    error = refused(bench, prepared_table, Refused)
    assert str(path) in error.where and error.hint == f"dynamodt prepare --table {prepared_table} --version 1"
    assert bench.tables.items(prepared_table) == ITEMS


def test_prepared_data_of_another_version_is_refused(bench: Bench, prepared_table: str, make_table: MakeTable) -> None:
    other = make_table(id="S")
    bench.script(other, PREPARED)
    stored(bench, other, "json").parent.mkdir(parents=True)
    for ending in ("json", "parquet"):
        stored(bench, other, ending).write_bytes(stored(bench, prepared_table, ending).read_bytes())
    error = refused(bench, other, Refused)
    assert f"belongs to version 1 of {prepared_table}" in error.what


def test_prepared_rows_that_cannot_be_stored_are_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    for body, said in (
        ('yield "a", 1\n    yield "a", 2', "yields the key 'a' twice"),
        ('yield "a", 1.5', "the float 1.5"),
        ('yield "a", {1, "b"}', "a set must hold"),
        ('yield "a"', "as row 1"),
    ):
        path = bench.script(table, f"def prepare(context):\n    {body}\n{TOUCH}")
        with pytest.raises(ScriptError, match=said) as caught:
            bench.prepare(table)
        assert path.name in caught.value.where and not stored(bench, table, "json").exists()


# ---------------------------------------------------------------- what an item must not become

BAD: dict[str, tuple[str, str, str]] = {  # the expression, the attribute path, the message
    "float": ("{**item, 'price': {'net': [1, 1.5]}}", "price.net[1]", "the float 1.5"),
    "nan": ("{**item, 'price': Decimal('NaN')}", "price", "NaN is not a number"),
    "infinity": ("{**item, 'price': [Decimal('-Infinity')]}", "price[0]", "-Infinity is not a number"),
    "float-nan": ("{**item, 'price': float('nan')}", "price", "nan is not a number"),
    "39 digits": ("{**item, 'price': 10 ** 38 + 1}", "price", "would lose precision"),
    "empty set": ("{**item, 'tags': {'of': set()}}", "tags.of", "an empty set"),
    "mixed set": ("{**item, 'tags': {1, 'a'}}", "tags", "of one type"),
    "a set of lists": ("{**item, 'tags': frozenset({(1,)})}", "tags", "of one type"),
    "an object": ("{**item, 'when': datetime.now()}", "when", "datetime cannot be stored"),
    "a name that is no text": ("{**item, 'map': {1: 2}}", "map.1", "must be a string"),
    "too deep": ("{**item, 'deep': reduce(lambda inner, _: [inner], range(33), 'x')}", "deep[0]", "32 levels"),
    "no key": ("{'n': item['n']}", "id", "key attribute is missing"),
    "key of another type": ("{**item, 'id': 1}", "id", "must stay of type S"),
    "empty key": ("{**item, 'id': ''}", "id", "must not be empty"),
    "long key": ("{**item, 'id': 'x' * 2049}", "id", "at most 2,048"),
    "too large": ("{**item, 'text': 'x' * 410_000}", "", "409,600"),
    "none": ("None", "", "returned None (forgot to return?)"),
    "no item": ("'b'", "", "returned a str"),
    "nothing": ("[]", "", "gave nothing"),
    "two items": ("[item, dict(item)]", "", "gave 2 dicts"),
    "the author's own": ("{**item, 'x': item['nested']['attribute']}", "", "KeyError: 'nested'"),
}


def test_an_item_whose_result_cannot_be_stored_is_a_dead_letter(bench: Bench, make_table: MakeTable) -> None:
    """Each item's result cannot be stored, so that it stays unchanged; the one with a valid result is written."""
    table = make_table(id="S")
    before: list[Item] = [{"id": kind, "n": number} for number, kind in enumerate(BAD)]
    bench.tables.put(table, *before, {"id": "~good", "n": 0})
    cases = ",\n    ".join(f"{kind!r}: lambda item: {expression}" for kind, (expression, _, _) in BAD.items())
    script = f"""
from datetime import datetime
from decimal import Decimal
from functools import reduce
IDEMPOTENT = True
CASES = {{
    {cases}
}}

def transform_up(item):
    return CASES[item["id"]](item) if item["id"] in CASES else {{**item, "n": 7}}
"""
    report = bench.failed(table, script, max_errors=len(BAD))
    assert isinstance(report.error, DeadLetters) and report.error.exit_code == 1
    assert report.error.where == report.versions[0].dead_letters and "fix the script" in report.error.hint
    assert report.versions[0].counts == Counts(read=len(BAD) + 1, changed=1, dead=len(BAD))
    dead_letters = {dead_letter["key"]["id"]["S"]: dead_letter for dead_letter in bench.dead_letters(report)}
    for item in before:
        check_letter(dead_letters.pop(item["id"]), item)
    assert not dead_letters
    after = {item["id"]: item for item in bench.tables.items(table)}
    assert after.pop("~good") == {"id": "~good", "n": 7}
    assert after == {item["id"]: item for item in before}


def check_letter(dead_letter: dict[str, Any], item: Item) -> None:
    _, path, said = BAD[item["id"]]
    assert dead_letter["image"] == {"id": {"S": item["id"]}, "n": {"N": str(item["n"])}}
    assert path in dead_letter["error"] and said in dead_letter["error"], dead_letter["error"]
    assert dead_letter["step"] == "transform" and "Traceback" in dead_letter["traceback"]


def test_by_default_the_first_dead_letter_stops_the_run(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    items = [{"id": number, "text": "x" * 30_000} for number in range(300)]  # nine pages of 1 MB
    bench.tables.put(table, *items)
    report = bench.failed(table, 'def transform_up(item):\n    return {**item, "x": item["none"]}\n')
    counts = report.versions[0].counts
    assert counts.balanced and 0 < counts.dead < 300
    assert len(bench.dead_letters(report)) == counts.dead
    assert len(bench.tables.items(table)) == 300


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('return {**item, "id": item["id"] + "x"}', "its own output"),
        ('return Put({"id": "new"})', "its own output"),
    ],
    ids=["re-key", "put"],
)
def test_a_script_whose_scan_would_read_its_own_insertions_is_refused(
    bench: Bench, make_table: MakeTable, body: str, said: str
) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    report = bench.failed(table, f"from dynamodt import Put\ndef transform_up(item):\n    {body}\n")
    assert isinstance(report.error, ScriptError) and report.error.exit_code == 2
    assert said in report.error.what and report.error.where.startswith(f"transforms/{table}/v1_change.py: item {{")
    assert "IDEMPOTENT" in report.error.hint and bench.tables.items(table) == ITEMS


def test_a_row_of_items_that_the_table_cannot_hold_is_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    report = bench.failed(table, 'def items():\n    yield {"id": "a"}\n    yield {"id": 2}\n')
    assert isinstance(report.error, ScriptError) and "type S" in report.error.what
    assert report.error.where == f"transforms/{table}/v1_change.py: items(): id"
    assert bench.tables.items(table) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def transform_up(item):\n    return {**item\n", "syntax error"),
        ("import no_such_module\n" + TOUCH, "no_such_module"),
        ("1 / 0\n" + TOUCH, "ZeroDivisionError"),
        ("def transform_up(a, b, c):\n    return a\n", "has parameters other than"),
    ],
    ids=["syntax", "import", "raises", "signature"],
)
def test_an_unusable_script_is_refused(bench: Bench, make_table: MakeTable, text: str, said: str) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    path = bench.script(table, text)
    error = refused(bench, table, ScriptError)
    assert said in error.what and path.name in error.where and error.exit_code == 2
    assert bench.history(table) == [] and bench.tables.items(table) == ITEMS


def test_all_versions_of_a_down_are_checked_before_the_first(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *ITEMS)
    bench.script(table, TOUCH, 1)
    bench.script(table, TOUCH + "def transform_down(item):\n    return item\n", 2)
    bench.up(table)
    before, runs = bench.tables.items(table), len(bench.history(table))
    (report,) = bench.down(table, to=0)
    assert isinstance(report.error, Refused) and "irreversible" in report.error.what
    assert "v1_change.py" in report.error.where and report.versions == ()
    assert bench.tables.items(table) == before and len(bench.history(table)) == runs


def test_each_refusal_is_in_the_report_of_its_table(bench: Bench) -> None:
    """One table's refusal is in its own report, beside the others'."""
    names = [f"test_{uuid4().hex[:12]}" for _ in range(2)]
    for name in names:
        bench.script(name, TOUCH)
    reports: list[TableReport] = operations.up(bench.stage, bench.folder, [], None, RunOptions(), bench.recorder)
    assert [(report.table, str(report.error)) for report in reports] == [
        (name, f"table {name}: the table does not exist") for name in sorted(names)
    ]


# ---------------------------------------------------------------- all tables before the first


def test_a_fault_of_one_table_stops_all_tables_and_all_faults_are_reported(bench: Bench, make_table: MakeTable) -> None:
    good, unprepared, wrong = (make_table(id="S") for _ in range(3))
    for table in (good, unprepared, wrong):
        bench.tables.put(table, *ITEMS)
    bench.script(good, TOUCH)
    bench.script(unprepared, PREPARED)
    bench.script(wrong, "def transform_up(item):\nreturn item\n")
    reports = {report.table: report for report in bench.up(good, unprepared, wrong)}
    errors = {table: type(report.error) for table, report in reports.items()}
    assert errors == {good: type(None), unprepared: Refused, wrong: ScriptError}
    assert [table for table, report in reports.items() if report.held_back] == [good]
    assert all(report.versions == () for report in reports.values()) and bench.history(good) == []
    tried = {report.table: report for report in bench.up(good, wrong, dry_run=True)}
    assert [run.status for run in tried[good].versions] == ["dry-run"] and not tried[good].held_back


def test_a_held_or_missing_table_stops_no_other_table(bench: Bench, make_table: MakeTable) -> None:
    good, busy, absent = make_table(id="S"), make_table(id="S"), f"test_{uuid4().hex[:12]}"
    for table in (good, busy, absent):
        bench.script(table, TOUCH)
    leases = State(bench.stage.connection, bench.stage.state_table).leases
    with hold_lease(leases, busy, "another", lambda text: None):
        reports = {report.table: report for report in bench.up(busy, absent, good)}
    assert isinstance(reports[busy].error, Busy) and isinstance(reports[absent].error, ServiceError)
    assert [run.status for run in reports[good].versions] == ["succeeded"]
