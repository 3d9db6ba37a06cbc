"""Prepared data: the rows of a script's `prepare`, stored as Parquet beside a small manifest that describes them.

Keys and values are stored as DynamoDB JSON, so that they are read back exactly as the script yielded them. `load`
verifies the file against the manifest: its checksum and its number of rows.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from dynamodt.errors import Hint, ItemError, Refused, ScriptError, file_error, is_of_the_disk, require, suggest
from dynamodt.model.runs import PreparedRef, Script
from dynamodt.script.codec import decode_value, encode_value
from dynamodt.script.functions import frozen
from dynamodt.state.object_keys import folder_of
from dynamodt.state.row_codec import from_row, to_row

if TYPE_CHECKING:
    from dynamodt.state.storage import Storage


_ROW_GROUP = 10_000


def save(
    storage: Storage, script: Script, rows: Iterable[tuple[Any, Any]], created: str, place: str = ""
) -> PreparedRef:
    """Streams rows to storage and returns their description. The manifest is written last and marks the data as
    complete.

    Memory holds all keys and one row group. Raises ScriptError for a row that cannot be stored, for two equal keys (1,
    1.0 and True are equal), and for a tuple as the key, which would be read back as a list.
    """
    with _temporary() as path:
        content = _Content()
        count = _write_parquet(path, rows, script, content)
        storage.upload(_data_name(script), path)
        ref = PreparedRef(
            url=storage.place(_data_name(script)),
            rows=count,
            sha256=_sha256(path),
            script_checksum=script.checksum,
            created=created,
            prepare_checksum=script.prepare_checksum,
            content=content.text,
            place=place,
        )
    manifest = {**to_row(ref), "table": script.table, "version": script.sequence}
    storage.write(_manifest_name(script), orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return ref


def find(storage: Storage, script: Script, place: str = "") -> PreparedRef:
    """The prepared data of a version. Raises Refused when it is missing, belongs to another version or to another table
    of the same name (`place`: `region:account:identity`), or was made by another text of the version's `prepare`."""
    hint = suggest("prepare", table=script.table, version=script.sequence)
    raw = storage.read(_manifest_name(script))
    if raw is None:
        what = f"version {script.sequence} needs prepared data, and has none"
        raise Refused(what, where=storage.place(_manifest_name(script)), hint=hint)
    try:
        manifest = orjson.loads(raw)
        owner = (manifest["table"], manifest["version"])
        ref = from_row(PreparedRef, manifest, storage.place(_manifest_name(script)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        where = storage.place(_manifest_name(script))
        raise Refused("the prepared data's manifest cannot be read", where=where, hint=hint) from error
    if owner != (script.table, script.sequence):
        what = f"the prepared data belongs to version {owner[1]} of {owner[0]}"
        raise Refused(what, where=ref.url, hint=hint)
    _check_place(storage, script, ref, place, hint)
    if ref.prepare_checksum != script.prepare_checksum:
        what = f"the prepared data was made by another text of {script.path}'s prepare, or of a file that it uses"
        raise Refused(what, where=ref.url, hint=hint + "; or restore that text")
    return ref


def _check_place(storage: Storage, script: Script, ref: PreparedRef, place: str, hint: Hint) -> None:
    """Raises Refused for data of a table in another region or account, or of one that was deleted since."""
    was, now = ref.place.split(":", 2), place.split(":", 2)
    differs = [bool(one and other) and one != other for one, other in zip(was, now, strict=False)]
    if any(differs[:2]):
        there, here = ":".join(was[:2]), ":".join(now[:2])
        what = f"the prepared data is of {script.table} in {there}, and the stage's table is in {here}"
        hint += "; stages with tables of one name in two regions or accounts need a storage each"
        raise Refused(what, where=ref.url, hint=hint)
    if any(differs):
        what = f"the prepared data is of a former table {script.table}, which was deleted and created again since"
        hint += "; or, if its rows apply to the present table, too, remove `place` from " + storage.place(
            _manifest_name(script)
        )
        raise Refused(what, where=ref.url, hint=hint)


def load(storage: Storage, script: Script, ref: PreparedRef) -> Mapping[Any, Any]:
    """The prepared rows as a mapping that is read-only in depth. Raises Refused when the file is missing or differs
    from its manifest."""
    _require_parquet(script.path)
    hint = "prepare it again: " + suggest("prepare", table=script.table, version=script.sequence)
    with _temporary() as path:
        if not storage.download(_data_name(script), path):
            raise Refused("the prepared data is missing", where=ref.url, hint=hint)
        if _sha256(path) != ref.sha256:
            raise Refused("the prepared data is damaged: its checksum is not the manifest's", where=ref.url, hint=hint)
        rows = dict(_read_parquet(path))
    if len(rows) != ref.rows:
        raise Refused(f"the prepared data has {len(rows)} rows instead of {ref.rows}", where=ref.url, hint=hint)
    return MappingProxyType(rows)


class _Content:
    """A checksum that is independent of the rows' order: the sum of the checksums of the rows. Keys are unique."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, key: str, value: str) -> None:
        value = orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS).decode()  # maps are unordered
        digest = hashlib.sha256(f"{len(key)}:{key}{value}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % (1 << 256)

    @property
    def text(self) -> str:
        return f"{self._sum:064x}"


def _data_name(script: Script) -> str:
    return f"prepared/{folder_of(script.table)}/v{script.sequence}.parquet"


def _manifest_name(script: Script) -> str:
    return f"prepared/{folder_of(script.table)}/v{script.sequence}.json"


def _write_parquet(path: Path, rows: Iterable[tuple[Any, Any]], script: Script, content: _Content) -> int:
    _require_parquet(script.path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("key", pa.string()), ("value", pa.string())])
    seen: set[Any] = set()
    source = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := [_row(key, value, script, seen) for key, value in islice(source, _ROW_GROUP)]:
            for key, value in group:
                content.add(key, value)
            writer.write_table(pa.table(list(map(list, zip(*group, strict=True))), schema=schema))
    return len(seen)


def storable(rows: Iterable[tuple[Any, Any]], script: Script) -> Iterator[tuple[Any, Any]]:
    """The rows, one at a time, unstored. Raises ScriptError as `save` does."""
    seen: set[Any] = set()
    for key, value in rows:
        _row(key, value, script, seen)
        yield key, value


def _row(key: Any, value: Any, script: Script, seen: set[Any]) -> tuple[str, str]:
    try:
        row = _json(key, "key"), _json(value, f"value of {key!r}")
    except ItemError as error:
        what = f"prepare yields a row that cannot be stored: {error}"
        raise ScriptError(what, where=script.path, hint=error.hint) from error
    _check_key(key, script, seen)
    seen.add(key)
    return row


def _check_key(key: Any, script: Script, seen: set[Any]) -> None:
    if isinstance(key, (tuple, frozenset)):
        hint = 'yield one value as the key, such as f"{country}/{year}"'
        raise ScriptError(f"prepare yields the key {key!r}, a {type(key).__name__}", where=script.path, hint=hint)
    if key in seen:
        raise ScriptError(f"prepare yields the key {key!r} twice", where=script.path, hint="yield each key once")


def _json(value: Any, path: str) -> str:
    return orjson.dumps(encode_value(value, path)).decode()


def _require_parquet(where: str) -> None:
    """Raises UsageError where the package that reads and writes the prepared rows is not installed."""
    require("pyarrow", "beam", where)


def _read_parquet(path: Path) -> Iterator[tuple[Any, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROW_GROUP):
            for key, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                yield decode_value(orjson.loads(key)), frozen(decode_value(orjson.loads(value)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _temporary() -> Iterator[Path]:
    """A temporary file that only its owner can read. Raises ServiceError, with its path, where its disk is full."""
    handle, name = tempfile.mkstemp(suffix=".parquet")
    os.close(handle)
    try:
        yield Path(name)
    except OSError as error:
        if not is_of_the_disk(error):
            raise
        found = file_error("written", name, error)
        raise found.hinted(f"{found.hint}; TMPDIR names another folder for temporary files") from error
    finally:
        Path(name).unlink(missing_ok=True)
