"""Stored rows are read unchanged through DynamoDB's types; rows of other releases are read or refused."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt.errors import Refused
from dynamodt.model.pages import Claim, Contention, Counts, Intent, JournalCount, OwnershipPeriod, Totals, Units
from dynamodt.model.runs import AppliedVersion, Lease, PreparedRef, RunRecord, ScriptText
from dynamodt.script.codec import decode, encode
from dynamodt.state.lease_rows import Grant, JobAnswer, Report, Throttles
from dynamodt.state.row_codec import SCHEMA, from_row, to_row

KEY: dict[str, Any] = {"id": {"S": "é"}, "n": {"N": "12345678901234567890123456789012345678"}}
RECORD = RunRecord(
    table="users", run="r", version=2, name="split", direction="down", checksum="c", status="failed", started="s",
    counts=Counts(6, 1, 2, 1, 1, 1), consumed=Units(0.1, 1e-7), seconds=0.3, exports=("a", "b"), journal=True,
    incremental_exports=(3, 1), order=("@1", "/items@2"), began={"key": '{"id": "é"}'}, texts=(ScriptText("t", 7),),
    revision=4,
)  # fmt: skip
TOTALS = Totals(Counts(read=3), Units(0.1, 2.5), 1, Contention(1, 2), 1 << 60, JournalCount(1, 2, 3))
INTENT = Intent(("part",), KEY, False, Counts(unchanged=1), 0.7, 8, TOTALS, 5)
VALUES = [
    RECORD,
    AppliedVersion("users", 2, "split", "c", "r", "when", "me", Counts(2, 2), Units(0.1), 1.25),
    Lease("users", 3, "r", pid=7, beat=1700000000.123456, paused=True, error={"kind": "x"}, write_ids=("b", "a")),
    Claim(5, 9, 7, KEY, INTENT.counts, Units(0.1), False, INTENT, (OwnershipPeriod(9, 7, ("p",), 2),), bytes=1 << 60),
    Claim(5, 9, cursor=12_000),
    Report(1, 2, Units(0.1, 3.0), Throttles(4, 5)),
    Grant(6, Units(float("inf"), 0.1)),
    JobAnswer({"error": None, "list": [1, {"a": "b"}]}, 3),
    PreparedRef("url", 3, "sha", "sum", "now"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_stored_value_is_read_unchanged(value: Any) -> None:
    row = decode(encode(to_row(value)))
    assert from_row(type(value), row, "state table x") == value
    assert from_row(type(value), {**row, "of_a_later_release": "?"}, "state table x") == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_row_holds_text_whole_numbers_and_booleans_only(value: Any) -> None:
    assert {type(attribute) for attribute in to_row(value).values()} <= {str, int, bool}


def test_a_missing_attribute_gets_its_default() -> None:
    row = {name: value for name, value in to_row(RECORD).items() if name not in ("texts", "revision", "schema")}
    assert from_row(RunRecord, row, "") == from_row(RunRecord, {**row, "texts": "[]", "revision": 0}, "")
    assert from_row(RunRecord, {**row, "counts": "[6, 1]"}, "").counts == Counts(6, 1)
    assert from_row(RunRecord, {**row, "counts": "[6, 1, 2, 1, 1, 1, 99]"}, "").counts == RECORD.counts


def test_a_row_of_a_newer_schema_is_refused_by_its_table() -> None:
    row = {"pk": "TABLE#users", "sk": "RUN#r", **to_row(RECORD), "schema": SCHEMA + 1}
    with pytest.raises(Refused, match=r"state table x.*TABLE#users.*version 2.*up to 1") as found:
        from_row(RunRecord, row, "state table x")
    assert "install" in found.value.hint
