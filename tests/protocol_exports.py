"""The exports of a scene of `tests/protocol_world.py`, each in one file for a split."""

from __future__ import annotations

from functools import lru_cache, partial

import orjson
import pytest

from dynamodt.export import stand_in
from dynamodt.export.request import Export, ExportRequest, folder_of
from dynamodt.export.stand_in import ExportWriter
from dynamodt.model.runs import ExportSource
from dynamodt.model.tables import Image, KeyAttribute, TableSpec
from dynamodt.script.codec import decode
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB

SPEC = TableSpec("things", (KeyAttribute("id", "N"),))
ARN = "arn:aws:dynamodb:local:0:table/things"
_NOW = 1_700_000_000.0


class Described:
    """The table that is exported."""

    def describe_table(self, TableName: str) -> dict[str, dict[str, str]]:  # noqa: N803
        return {"Table": {"TableArn": ARN, "TableId": "i-1"}}


def exported(
    table: FakeDynamoDB, objects: FakeObjects, now: float = _NOW, since: Export | None = None, files: int = 1
) -> Export:
    """A full export of a table, or the changes since one."""
    moment = since and (since.at or since.until)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stand_in, "ExportWriter", partial(ExportWriter, files=files))
        exports = stand_in.StandInExports(Described(), table, objects, "bucket", "p", lambda: now)
        return exports.request(ExportRequest(SPEC, f"token {now}", since=moment))


def window_of(items: dict[str, Image]) -> tuple[FakeObjects, ExportSource]:
    """An incremental export in whose span all these items were created."""
    return _window_of(orjson.dumps(sorted(items.items())))


@lru_cache(maxsize=512)
def _window_of(items: bytes) -> tuple[FakeObjects, ExportSource]:
    table, objects = FakeDynamoDB(SPEC), FakeObjects()
    full = exported(table, objects)
    table.put(*(decode(image) for _, image in orjson.loads(items)))
    made = exported(table, objects, _NOW + 1, full)
    return objects, ExportSource("bucket", folder_of(made).key, ARN, incremental=True, created_only=True)
