"""What a run starts with besides the text of its functions, recorded by name, and compared when it is continued.

Each fact decides what the run writes, where, or how what it has written is recognised. A run whose facts differ from
those it has started with would write one half of a table by the one and the other half by the other.

The texts of a version's script that a run has transformed items by: a script may be edited between two attempts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from dynamodt.model.pages import Counts
from dynamodt.model.runs import PreparedRef, RunRecord, Script, ScriptText
from dynamodt.model.tables import KeyAttribute, TableSpec

TABLE, TARGET, ITEMS = "table", "target", "items"
_TOLD: Final = {  # facts whose values say nothing to a person
    TABLE: "the table was deleted and created again",
    TARGET: "the target table was deleted and created again",
    "prepared": "the prepared data has other rows",
    ITEMS: "items() gives other rows, or gives them in another order",
}
_REPEATABLE: Final = frozenset({"STAMP", "GUARD", "KEY", "storage", "prepared"})
_KEPT: Final = frozenset({"STAMP", "IDEMPOTENT"})
_CHANGEABLE: Final = frozenset({"GUARD"})  # what was written is told from the items alone, whatever guarded it


class Difference(NamedTuple):
    """A fact that is another one by now: its name, and both values in a sentence. `effect` is what that means for a run
    that is continued; empty: it is refused."""

    name: str
    told: str
    effect: str = ""


def started_with(
    table: TableSpec,
    script: Script,
    storage: str,
    prepared: PreparedRef | None = None,
    target: TableSpec | None = None,
    rows: str | None = "",
) -> dict[str, str]:
    """The facts by name. An empty one is not there, or not known; `rows` is the checksum of the rows of `items()`,
    None where it cannot be told from here."""
    facts = {
        TABLE: table.identity,
        "key": key_told(table.key),
        "TARGET_TABLE": script.target_table or "",
        TARGET: target.identity if target else "",
        "key of TARGET_TABLE": key_told(target.key) if target else "",
        "STAMP": script.stamp or "",
        "GUARD": script.guard,
        "IDEMPOTENT": str(script.idempotent),
        "KEY": key_told(script.key or table.key),
        "storage": storage.rstrip("/"),
        "prepared": (prepared.content or prepared.sha256) if prepared else "",
    }
    return facts if rows is None else {**facts, ITEMS: rows}


def differences(began: Mapping[str, str], now: Mapping[str, str]) -> tuple[Difference, ...]:
    """What is another one now. A fact that one side does not have was not known there."""
    both = [name for name in now if name in began and began[name] != now[name]]
    if "TARGET_TABLE" in both:  # what follows from it says nothing more
        both = [name for name in both if name not in (TARGET, "key of TARGET_TABLE")]
    unknown = {name for name in (TABLE, TARGET) if not (began.get(name) and now.get(name))}
    return tuple(_difference(name, began[name], now[name]) for name in both if name not in unknown)


def _difference(name: str, was: str, now: str) -> Difference:
    """What an idempotent run has written before, nothing tells from what it has not: it cannot go on otherwise."""
    effect = "the rest of the run goes by it" if name in _CHANGEABLE else ""
    if name in _KEPT and (name, was) != ("IDEMPOTENT", str(True)):
        effect = "the run goes on as it began"
    return Difference(name, _TOLD.get(name) or f"{name} was {was or 'not set'} and is {now or 'not set'}", effect)


def as_it_began(script: Script, began: Mapping[str, str]) -> Script:
    """The script with the settings that its run began with: by them the run knows what it has written."""
    return replace(
        script,
        stamp=(began["STAMP"] or None) if "STAMP" in began else script.stamp,
        idempotent=began.get("IDEMPOTENT", str(script.idempotent)) == str(True),
    )


def changed_within(now: Mapping[str, str]) -> dict[str, str]:
    """The facts that a run takes over when it is continued."""
    return {name: value for name, value in now.items() if name in _CHANGEABLE}


def may_be_repeated(found: tuple[Difference, ...]) -> bool:
    """Whether a second application from the beginning leaves nothing of what an idempotent one has written before."""
    return all(one.name in _REPEATABLE for one in found)


def key_told(key: tuple[KeyAttribute, ...]) -> str:
    """A key as a script writes it."""
    return json.dumps(dict(key), ensure_ascii=False)


def texts_of(record: RunRecord, transformed: int) -> tuple[ScriptText, ...]:
    """The texts of a run's script, each with the number of items that it has transformed, of so many in all."""
    items = {text.checksum: text.items for text in record.texts}
    rest = max(0, transformed - sum(items.values()))
    items[record.checksum] = items.get(record.checksum, 0) + rest
    return tuple(ScriptText(checksum, number) for checksum, number in items.items())


def transformed(counts: Counts) -> int:
    """How many items a script has brought through."""
    return counts.read - counts.dead


def texts_reported(record: RunRecord) -> tuple[ScriptText, ...]:
    """The texts of an edited script that have transformed items; none where it was not edited."""
    texts = texts_of(record, transformed(record.counts))
    texts = tuple(text for text in texts if text.items)
    return texts if any(text.checksum != record.checksum for text in texts) else ()
