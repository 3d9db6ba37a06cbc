"""Reading an export: two exports made by hand (tests/exports), and every way in which an export can be wrong."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.errors import DynamodtError, Refused, RunFailed, UsageError
from dynamodt.export import objects as gunzip
from dynamodt.export.datafiles import (
    CHUNK_BYTES,
    DataFile,
    DataReader,
    Manifest,
    check_same_table,
    check_there,
    data_files,
    read_manifest,
)
from dynamodt.export.objects import Damaged, lines, unzipped
from dynamodt.export.request import ExportFolder, TableIdentity, find, split_url
from dynamodt.model.tables import Atomic, Change, Insert, KeyAttribute, Remove, TableSpec, Update
from dynamodt.script.diff import parts_of
from dynamodt.state.journal import Journal, UnreadableLine, change_of, item_of
from dynamodt.state.storage import FolderStorage
from tests.fake_objects import FakeObjects

EXPORTS = Path(__file__).parent.parent / "exports"
CATALOG = "arn:aws:dynamodb:us-east-1:123456789012:table/ProductCatalog"
CUSTOMERS = "arn:aws:dynamodb:us-east-1:123456789012:table/customers"
FOLDER = "AWSDynamoDB/01604474854028-a1b2c3d4"
BOOKS = f"{FOLDER}/data/kgrlcoqzjvljveqzz7wxdzkxma.json.gz"
PRODUCTS = TableSpec("ProductCatalog", (KeyAttribute("Id", "N"),))


@pytest.fixture
def full() -> FakeObjects:
    return FakeObjects.of_folder(EXPORTS / "full")


@pytest.fixture
def incremental() -> FakeObjects:
    return FakeObjects.of_folder(EXPORTS / "incremental")


def manifest_of(objects: FakeObjects, table_arn: str = CATALOG) -> Manifest:
    return read_manifest(objects, find(objects, ""), table_arn)


def items_of(objects: FakeObjects, size: int = 1000) -> list[Any]:
    files = data_files(objects, manifest_of(objects))
    reader = DataReader(objects, PRODUCTS, size=size)
    return [record for file in files for chunk in reader.items(file) for record in chunk.records]


def lay(text: bytes, items: int | None = None, key: str = "data/a.json.gz") -> tuple[FakeObjects, DataFile]:
    """A bucket with one data file of this text, as its manifest would list it."""
    data = gzip.compress(text)
    count = len(text.splitlines()) if items is None else items
    return FakeObjects({key: data}), DataFile(key, count, hashlib.md5(data).digest(), "x-2")


def sealed(objects: FakeObjects, name: str, change: Callable[[bytes], bytes]) -> None:
    """Changes a manifest, and its checksum with it."""
    data = change(objects.content[f"{FOLDER}/{name}.json"])
    objects.content[f"{FOLDER}/{name}.json"] = data
    objects.content[f"{FOLDER}/{name}.md5"] = base64.b64encode(hashlib.md5(data).digest())


# ---------------------------------------------------------------- what AWS writes


def test_a_full_export_is_read(full: FakeObjects) -> None:
    manifest = manifest_of(full)
    assert (manifest.kind, manifest.items, manifest.view) == ("full", 3, "")
    assert manifest.at is not None and manifest.at.isoformat() == "2020-11-04T07:28:34.028000+00:00"
    book, odd, bike = items_of(full)
    assert book["Authors"] == {"SS": ["Author1", "Author2"]} and book["InPublication"] == {"BOOL": False}
    assert odd["exact"] == {"N": "0.12345678901234567890123456789012345678"}
    assert odd["map"] == {"M": {"a.b": {"N": "1"}, 'say "hi"': {"S": "line\nbreak"}}}
    assert {kind for value in odd.values() for kind in value} == set("N B NULL BOOL NS BS L M S".split())
    assert bike == {"Id": {"N": "7"}, "Title": {"S": "Bike"}}


def test_an_incremental_export_has_inserts_updates_and_deletes(incremental: FakeObjects) -> None:
    manifest = manifest_of(incremental, CUSTOMERS)
    assert (manifest.kind, manifest.view) == ("incremental", "NEW_AND_OLD_IMAGES")
    assert str(manifest.since) < str(manifest.until) and manifest.at is None
    (file,) = data_files(incremental, manifest)
    (chunk,) = DataReader(incremental, TableSpec("customers", (KeyAttribute("PK", "S"),))).changes(file)
    insert, update, delete = chunk.records
    assert insert.old is None and insert.new is not None and insert.micros == 1680109764000000
    assert update.old is not None and update.new is not None
    assert (update.old["LastName"], update.new["LastName"]) == ({"S": "Grace"}, {"S": "Smith"})
    assert delete.key == {"PK": {"S": "CUST#300"}} and delete.old is not None and delete.new is None
    assert delete.micros == 1680109764000002  # written as the guide prints it


def test_an_etag_of_an_upload_in_one_part_is_known_without_reading(full: FakeObjects) -> None:
    listed = data_files(full, manifest_of(full))
    full.etags = {file.key: file.etag for file in listed}
    assert len(items_of(full)) == 3
    copied = listed[0]._replace(etag="of several parts, once-9")
    assert [chunk.last for chunk in DataReader(full, PRODUCTS).items(copied)] == [True]
    full.etags[BOOKS] = "0" * 32 + "-1"
    full.reads.clear()
    with pytest.raises(RunFailed, match="ETag") as caught:
        items_of(full)
    assert caught.value.where == f"s3://bucket/{BOOKS}" and BOOKS not in full.reads


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize("place", ["", "AWSDynamoDB", FOLDER, f"{FOLDER}/", f"{FOLDER}/manifest-summary.json"])
def test_an_export_is_found_by_any_prefix_of_its_place(full: FakeObjects, place: str) -> None:
    assert find(full, place) == ExportFolder(FOLDER)


def test_an_export_that_was_copied_is_read_where_it_is(full: FakeObjects) -> None:
    full.content = {f"copies/of/it/{key}": data for key, data in full.content.items()}
    manifest = read_manifest(full, find(full, "copies/of/it"), CATALOG)
    assert data_files(full, manifest)[0].key == f"copies/of/it/{BOOKS}"


def test_nothing_outside_of_the_exports_root_is_read() -> None:
    folder = ExportFolder("p/AWSDynamoDB/01604474854028-a1b2c3d4")
    assert folder.data_key("elsewhere/secret.json.gz") == "p/AWSDynamoDB/elsewhere/secret.json.gz"


def test_a_prefix_with_several_exports_lists_them(full: FakeObjects) -> None:
    full.content["AWSDynamoDB/01700000000000-ffffffff/_started"] = b""
    with pytest.raises(UsageError, match="holds 2 exports") as caught:
        find(full, "")
    assert f"s3://bucket/{FOLDER}" in caught.value.what and "01700000000000-ffffffff" in caught.value.what
    assert find(full, FOLDER) == ExportFolder(FOLDER)


def test_a_place_without_an_export_is_an_error(full: FakeObjects, incremental: FakeObjects) -> None:
    for prefix in ("nothing/here", "AWSDynamoDB/01700000000000-ffffffff"):
        with pytest.raises(UsageError, match="there is no export") as caught:
            find(full, prefix)
        assert caught.value.where == f"s3://bucket/{prefix}"
    assert find(incremental, "").id == "01695097218000-d6299cbd"  # the folder `data` is no export


def test_an_unfinished_export_is_an_error(full: FakeObjects) -> None:
    del full.content[f"{FOLDER}/manifest-summary.json"]
    with pytest.raises(Refused, match="unfinished") as caught:
        find(full, "")
    assert caught.value.where == f"s3://bucket/{FOLDER}"


@pytest.mark.parametrize("url", ["bucket/prefix", "s3://", "/tmp/x", "s3:///x"])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_url(url)
    assert caught.value.where == url
    assert split_url("s3://b/p/q/") == ("b", "p/q")


# ---------------------------------------------------------------- manifests that cannot be trusted


def replaced(**values: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return json.dumps({**json.loads(data), **values}).encode()

    return change


@pytest.mark.parametrize(
    ("name", "change", "error", "what"),
    [
        ("manifest-summary", replaced(tableArn=CATALOG + "2"), UsageError, "another table"),
        ("manifest-summary", replaced(tableArn=CATALOG.replace("us-", "eu-")), UsageError, "another account or region"),
        ("manifest-summary", replaced(outputFormat="ION"), Refused, "format ION"),
        ("manifest-summary", replaced(itemCount=4), RunFailed, "of 3 items together; manifest-summary.json has 4"),
        ("manifest-summary", replaced(itemCount="many"), RunFailed, "not complete"),
        ("manifest-summary", replaced(exportType="OTHER"), RunFailed, "not complete"),
        ("manifest-summary", lambda data: data[:-1], RunFailed, "not JSON"),
        ("manifest-summary", lambda data: b"[]", RunFailed, "not a JSON object"),
        ("manifest-files", lambda data: data + b"[1]\n", RunFailed, "line 4"),
        ("manifest-files", lambda data: data.replace(b"itemCount", b"items", 1), RunFailed, "line 1"),
        ("manifest-files", lambda data: data[: data.index(b"\n")], RunFailed, "of 2 items together"),
        ("manifest-files", lambda data: data[: data.index(b"\n") + 1] * 2, RunFailed, "a data file twice"),
    ],
)
def test_a_wrong_manifest_is_refused(
    full: FakeObjects, name: str, change: Callable[[bytes], bytes], error: type[DynamodtError], what: str
) -> None:
    sealed(full, name, change)
    with pytest.raises(error, match=what) as caught:
        items_of(full)
    assert caught.value.where.startswith(f"s3://bucket/{FOLDER}/manifest-") and caught.value.hint


@pytest.mark.parametrize("name", ["manifest-summary", "manifest-files"])
def test_a_manifest_with_a_wrong_or_missing_checksum_is_refused(full: FakeObjects, name: str) -> None:
    whole = dict(full.content)
    full.content[f"{FOLDER}/{name}.json"] = whole[f"{FOLDER}/{name}.json"].replace(b":", b": ", 1)
    with pytest.raises(RunFailed, match=f"{name}.md5") as caught:
        items_of(full)
    assert caught.value.where == f"s3://bucket/{FOLDER}/{name}.json"
    full.content = {key: data for key, data in whole.items() if key != f"{FOLDER}/{name}.md5"}
    with pytest.raises(RunFailed, match=f"{name}.md5 is missing"):
        items_of(full)
    full.content[f"{FOLDER}/{name}.checksum"] = whole[f"{FOLDER}/{name}.md5"]  # the guide's name for it
    assert len(items_of(full)) == 3


@pytest.mark.parametrize("key", [f"{FOLDER}/manifest-files.json", BOOKS])
def test_a_missing_data_file_is_an_error(full: FakeObjects, key: str) -> None:
    del full.content[key]
    with pytest.raises(RunFailed, match="missing") as caught:
        items_of(full)
    assert caught.value.where == f"s3://bucket/{key}"


# ---------------------------------------------------------------- data files that cannot be trusted


def test_no_item_of_a_replaced_file_is_returned() -> None:
    objects, file = lay(b'{"Item":{"Id":{"N":"1"}}}\n' * 3)
    objects.secret.add(file.key)
    objects.etags[file.key] = "of a copy by a key of KMS"  # which says nothing
    assert len(list(DataReader(objects, PRODUCTS, size=2).items(file))) == 2
    wrong = file._replace(md5=hashlib.md5(b"other").digest())
    with pytest.raises(RunFailed, match="MD5") as caught:
        next(DataReader(objects, PRODUCTS, size=2).items(wrong))
    with pytest.raises(RunFailed, match="MD5"):  # gone on with: at the latest before its last chunk
        list(DataReader(objects, PRODUCTS, size=2).items(wrong, 2))
    assert caught.value.where == f"s3://bucket/{file.key}"
    del objects.etags[file.key]
    objects.secret.clear()
    with pytest.raises(RunFailed, match="ETag"):
        next(DataReader(objects, PRODUCTS, size=2).items(wrong))


@pytest.mark.parametrize(("listed", "found"), [(2, 3), (4, 3), (0, 1), (1, 0)])
def test_a_wrong_number_of_lines_is_an_error(listed: int, found: int) -> None:
    objects, file = lay(b'{"Item":{"Id":{"N":"1"}}}\n' * found, listed)
    with pytest.raises(RunFailed, match=f"has {found} lines; the manifest says {listed} items") as caught:
        list(DataReader(objects, PRODUCTS).items(file))
    assert caught.value.where == f"s3://bucket/{file.key}"


@pytest.mark.parametrize("cut", [1, 8, 9, 20])
def test_a_truncated_file_is_an_error(cut: int) -> None:
    objects, file = lay(b'{"Item":{"Id":{"N":"1"}}}\n' * 50)
    data = objects.content[file.key][:-cut]
    objects.content[file.key] = data
    whole = file._replace(md5=hashlib.md5(data).digest())  # even where the manifest fits it
    with pytest.raises(RunFailed, match="truncated") as caught:
        list(DataReader(objects, PRODUCTS).items(whole))
    assert caught.value.where == f"s3://bucket/{file.key}"


def test_a_file_that_is_damaged_or_not_gzip_is_an_error() -> None:
    objects, file = lay(b'{"Item":{"Id":{"N":"1"}}}\n' * 50)
    data = objects.content[file.key]
    for bad in (b"{}", data[:20] + bytes([data[20] ^ 255]) + data[21:], data + b"more"):
        objects.content[file.key] = bad
        changed = file._replace(md5=hashlib.md5(bad).digest())
        with pytest.raises(RunFailed, match="gzip file, or damaged") as caught:
            list(DataReader(objects, PRODUCTS).items(changed))
        assert caught.value.where == f"s3://bucket/{file.key}"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", 'no "Item"'),
        (b'{"Item": {"Id": 1}}', "not in DynamoDB's JSON"),
    ],
)
def test_an_unreadable_line_is_returned_with_its_place(line: bytes, why: str) -> None:
    good = b'{"Item":{"Id":{"N":"1"}}}'
    objects, file = lay(b"\n".join([good, good, line, good]) + b"\n")
    (chunk,) = DataReader(objects, PRODUCTS).items(file)
    assert len(chunk.records) == 3 and chunk.cursor == 4
    (bad,) = chunk.bad
    assert bad[:2] == UnreadableLine(f"s3://bucket/{file.key}", 3, "")[:2] and why in bad.why


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"Keys":{"Id":{"N":"1"}}}', "WriteTimestampMicros"),
        (b'{"Metadata":{"WriteTimestampMicros":{"N":"x"}},"Keys":{"Id":{"N":"1"}}}', "WriteTimestampMicros"),
        (b'{"Metadata":{"WriteTimestampMicros":{"N":"1"}},"NewImage":{}}', 'no "Keys"'),
        (b'{"Metadata":{"WriteTimestampMicros":{"N":"1"}},"Keys":{"Id":{"N":"1"}},"NewImage":3}', 'no "NewImage"'),
    ],
)
def test_an_unreadable_line_of_an_incremental_export_is_returned(line: bytes, why: str) -> None:
    objects, file = lay(line + b"\n")
    (chunk,) = DataReader(objects, PRODUCTS).changes(file)
    assert why in chunk.bad[0].why and chunk.records == []


@pytest.mark.parametrize(
    ("item", "why"),
    [({"Other": {"N": "1"}}, 'no "Id"'), ({"Id": {"S": "1"}}, '"Id" is of type S')],
)
def test_a_file_of_another_key_schema_names_file_and_line(item: dict[str, Any], why: str) -> None:
    objects, file = lay(b"no\n" + json.dumps({"Item": item}).encode() + b"\n")
    with pytest.raises(RunFailed, match=f"line 2 is not an item of this table: it.*{why}") as caught:
        list(DataReader(objects, PRODUCTS).items(file))
    assert caught.value.where == f"s3://bucket/{file.key}"


# ---------------------------------------------------------------- chunks and cursors


@given(
    ids=st.lists(st.integers(0, 10**6), max_size=30),
    size=st.integers(1, 7),
    piece=st.integers(1, 60),
    ended=st.booleans(),
    resume=st.integers(0, 40),
)
def test_reading_from_any_cursor_gives_the_remaining_lines(
    ids: list[int], size: int, piece: int, ended: bool, resume: int
) -> None:
    text = b"\n".join(b'{"Item":{"Id":{"N":"%d"}}}' % number for number in ids) + (b"\n" if ids and ended else b"")
    objects, file = lay(text)
    objects.piece = piece
    reader = DataReader(objects, PRODUCTS, size=size)
    chunks = list(reader.items(file))
    assert [int(r["Id"]["N"]) for chunk in chunks for r in chunk.records] == ids
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(len(chunk.records) == size for chunk in chunks[:-1]) and chunks[-1].cursor == len(ids)
    cursor = [0, *(chunk.cursor for chunk in chunks)][resume % (len(chunks) + 1)]
    again = [int(r["Id"]["N"]) for chunk in reader.items(file, cursor) for r in chunk.records]
    assert again == ids[cursor:]


def test_skipped_lines_are_not_parsed() -> None:
    objects, file = lay(b'no\nno\n{"Item":{"Id":{"N":"1"}}}\n')
    (chunk,) = DataReader(objects, PRODUCTS).items(file, 2)
    assert (chunk.bad, len(chunk.records), chunk.cursor) == ([], 1, 3)


def test_a_cursor_beyond_the_end_of_the_file_is_an_error() -> None:
    objects, file = lay(b'{"Item":{"Id":{"N":"1"}}}\n')
    with pytest.raises(RunFailed, match="was read up to line 5 before"):
        list(DataReader(objects, PRODUCTS).items(file, 5))


def test_a_chunk_of_large_items_stays_small() -> None:
    item = json.dumps({"Item": {"Id": {"N": "1"}, "text": {"S": "x" * 400_000}}}).encode() + b"\n"
    objects, file = lay(item * 7)
    chunks = list(DataReader(objects, PRODUCTS).items(file))
    assert [len(chunk.records) for chunk in chunks] == [2, 2, 2, 1]
    assert 2 * len(item) <= CHUNK_BYTES < 3 * len(item)


def test_an_empty_file_has_one_empty_chunk() -> None:
    for data in (b"", gzip.compress(b"")):  # S3 has both
        objects = FakeObjects({"a": data})
        file = DataFile("a", 0, hashlib.md5(data).digest(), "")
        assert list(DataReader(objects, PRODUCTS).items(file)) == [([], [], 0, True, 0)]


@given(
    texts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1500), max_size=5),
)
def test_several_gzip_members_in_pieces_of_any_size_are_one_text(texts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(gzip.compress, texts))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert b"".join(unzipped(pieces)) == b"".join(texts)


def test_highly_compressed_data_is_returned_in_bounded_steps() -> None:
    steps = list(unzipped([gzip.compress(b"x" * 20_000_000)]))
    assert max(map(len, steps)) <= 1 << 20 and sum(map(len, steps)) == 20_000_000


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunzip, "MAX_LINE", 1000)
    with pytest.raises(Damaged, match="longer than 1,000 bytes"):
        list(lines([b"x" * 600] * 2))


# ---------------------------------------------------------------- the journal is read by the same parser


def test_the_journal_s_lines_are_changes(tmp_path: Path) -> None:
    import zstandard

    key = {"Id": {"N": "1"}}
    update = Update(key, {**key, "a": {"S": "x"}, "b": {"N": "1"}}, {"a": {"S": "y"}}, ("b",))
    insert = Insert("ProductCatalog", {"Id": {"N": "2"}}, {"Id": {"N": "2"}})
    remove = Remove({"Id": {"N": "3"}}, {"Id": {"N": "3"}})
    storage = FolderStorage(tmp_path)
    name = Journal(storage, PRODUCTS, "j/").write(0, 1, 1, 0, [update, insert, remove], 1234)
    part = zstandard.ZstdDecompressor().decompressobj().decompress(storage.read(name) or b"")
    assert [change_of(line) for line in part.splitlines()] == [
        (key, update.read, {**key, "a": {"S": "y"}}, 1234),
        (insert.key, None, insert.item, 1234),
        (remove.key, remove.read, None, 1234),
    ]


def test_a_transaction_is_read_from_the_journal_as_one_change(tmp_path: Path) -> None:
    """An undo reads its records key by key; other tools find only the records."""
    key = {"Id": {"N": "1"}}
    update = Update(key, {**key, "TransactionSource": {"S": "x"}}, {"TransactionSource": {"S": "y"}}, ())
    puts = [Insert("ProductCatalog", {"Id": {"N": n}}, {"Id": {"N": n}}) for n in ("2", "3", "4")]
    remove = Remove({"Id": {"N": "5"}}, {"Id": {"N": "5"}})
    changes: list[Change] = [
        puts[0],
        Insert("ProductCatalog", {"Id": {"N": "6"}}, {"Id": {"N": "6"}}),
        Atomic(key, update.read, (update, puts[1])),
        Atomic(remove.key, remove.read, (puts[2], remove)),
        remove,
    ]
    journal = Journal(FolderStorage(tmp_path), PRODUCTS, "j/")
    name = journal.write(0, 1, 1, 0, changes, 1234)
    sources = [one._replace(read={}) if isinstance(one, Atomic) else one for one in changes]
    assert journal.intended(name) == sources
    records = [part for change in journal.intended(name) for part in parts_of(change)]
    assert records == [puts[0], changes[1], update, puts[1], puts[2], remove, remove]


def test_an_item_keeps_every_digit() -> None:
    line = b'{"Item":{"Id":{"N":"9.9999999999999999999999999999999999999E+125"}}}'
    assert item_of(line) == {"Id": {"N": "9.9999999999999999999999999999999999999E+125"}}


def test_a_missing_or_replaced_file_is_an_error_before_any_is_read(full: FakeObjects) -> None:
    objects, files = full, data_files(full, manifest_of(full))
    check_there(objects, files)
    assert objects.reads == [read for read in objects.reads if read.endswith("manifest-files.json")]
    objects.write(files[1].key, b"other")
    with pytest.raises(RunFailed, match="it was replaced") as caught:
        check_there(objects, files)
    assert caught.value.where == objects.place(files[1].key)
    del objects.content[files[0].key]
    with pytest.raises(RunFailed, match="is missing") as caught:
        check_there(objects, files)
    assert caught.value.where == objects.place(files[0].key)


# ---------------------------------------------------------------- a table that was made anew under its name

AT = datetime(2020, 11, 4, 7, 28, 34, 28_000, UTC)


@pytest.mark.parametrize(
    ("found", "own", "created", "refused"),
    [
        ("id-1", "id-1", AT - timedelta(days=1), False),
        ("id-1", "id-2", AT + timedelta(days=1), True),
        ("id-1", "id-2", None, True),
        ("", "id-2", AT + timedelta(seconds=1), True),
        ("", "id-2", AT - timedelta(seconds=1), False),
        ("id-1", "", AT + timedelta(seconds=1), True),
        ("", "", None, False),
    ],
)
def test_an_export_of_a_deleted_table_of_the_same_name_is_refused(
    full: FakeObjects, found: str, own: str, created: datetime | None, refused: bool
) -> None:
    manifest = replace(manifest_of(full), table_id=found, at=AT)
    with pytest.raises(Refused, match="deleted") if refused else nullcontext() as caught:
        check_same_table(manifest, TableIdentity(CATALOG, own, created), "s3://b/p")
    if caught is not None:
        assert caught.value.where == "s3://b/p" and "--export new" in caught.value.hint
