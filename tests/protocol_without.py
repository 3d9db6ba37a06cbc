"""Conditions of the protocol, each of which can be taken away: the explorer shows what goes wrong without it."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt.aws import unit_rows
from dynamodt.core import conflicts
from dynamodt.core.statements import Statements
from dynamodt.stages.ledger import Ledger


def claims_condition(patch: pytest.MonkeyPatch) -> None:
    write_once = unit_rows.write_once

    def write(rows: Any, key: Any, row: Any, condition: str, **values: Any) -> Any:
        return write_once(rows, key, row, "" if "claimant" in row else condition, **values)

    patch.setattr(unit_rows, "write_once", write)


def announcement(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "announce", lambda self, changes: None)


def announcement_of_fresh_changes(patch: pytest.MonkeyPatch) -> None:
    announce = Ledger.announce

    def first(self: Ledger, changes: Any) -> None:
        if not self.announced:
            announce(self, changes)

    patch.setattr(Ledger, "announce", first)


def recognition(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts, "carries", lambda update, now: False)
    patch.setattr(conflicts, "as_before", lambda update, now: True)


def refusal_to_guess(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts, "as_before", lambda update, now: True)


def guard_of_updates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Statements, "_guarded", lambda self, change, whole=False: ())


def source_of_insertions(patch: pytest.MonkeyPatch) -> None:
    condition = Statements._condition

    def exists(self: Statements, expression: Any, change: Any, whole: bool = False) -> str:
        return condition(self, expression, change, whole).split(" AND ")[0]

    patch.setattr(Statements, "_condition", exists)
