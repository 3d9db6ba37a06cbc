"""The facts that a run starts with, recorded by name and compared when the run is continued.

Each fact decides what the run writes, where, or how its own writes are recognized. A run that continued with other
facts would write one half of a table by the one and the other half by the other. A script's text is recorded apart:
the script may be edited between two attempts, and the record counts the items that each text has transformed.
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
_SENTENCES: Final = {  # for facts whose values are identifiers or checksums
    TABLE: "the table was deleted and created again",
    TARGET: "the target table was deleted and created again",
    "prepared": "the prepared data has other rows",
    ITEMS: "items() gives other rows, or gives them in another order",
}
_REPEATABLE: Final = frozenset({"STAMP", "GUARD", "KEY", "storage", "prepared"})
_KEPT: Final = frozenset({"STAMP", "IDEMPOTENT"})
_CHANGEABLE: Final = frozenset({"GUARD"})  # the run's own writes are recognized under either guard


class Difference(NamedTuple):
    """A fact that has changed: its name, and both values in a `sentence`. `effect` is what that means for a run that is
    continued; empty: the run is refused."""

    name: str
    sentence: str
    effect: str = ""


def started_with(
    table: TableSpec,
    script: Script,
    storage: str,
    prepared: PreparedRef | None = None,
    target: TableSpec | None = None,
    rows: str | None = "",
) -> dict[str, str]:
    """The facts by name; an empty one is absent or unknown. `rows` is the checksum of the rows of `items()`, None where
    it is unknown."""
    facts = {
        TABLE: table.identity,
        "key": declared_key(table.key),
        "TARGET_TABLE": script.target_table or "",
        TARGET: target.identity if target else "",
        "key of TARGET_TABLE": declared_key(target.key) if target else "",
        "STAMP": script.stamp or "",
        "GUARD": script.guard,
        "IDEMPOTENT": str(script.idempotent),
        "KEY": declared_key(script.key or table.key),
        "storage": storage.rstrip("/"),
        "prepared": (prepared.content or prepared.sha256) if prepared else "",
    }
    return facts if rows is None else {**facts, ITEMS: rows}


def differences(began: Mapping[str, str], now: Mapping[str, str]) -> tuple[Difference, ...]:
    """The facts that have changed, of those that both sides have."""
    both = [name for name in now if name in began and began[name] != now[name]]
    if "TARGET_TABLE" in both:  # the others follow from it
        both = [name for name in both if name not in (TARGET, "key of TARGET_TABLE")]
    unknown = {name for name in (TABLE, TARGET) if not (began.get(name) and now.get(name))}
    return tuple(_difference(name, began[name], now[name]) for name in both if name not in unknown)


def _difference(name: str, was: str, now: str) -> Difference:
    """A change of STAMP or IDEMPOTENT has no effect on a run in progress, unless the run was idempotent: its own writes
    cannot be recognized, and it is refused."""
    effect = "it applies to the rest of the run" if name in _CHANGEABLE else ""
    if name in _KEPT and (name, was) != ("IDEMPOTENT", str(True)):
        effect = "the run continues as it began"
    return Difference(name, _SENTENCES.get(name) or f"{name} was {was or 'not set'} and is {now or 'not set'}", effect)


def as_it_began(script: Script, began: Mapping[str, str]) -> Script:
    """The script with the settings that its run began with, by which the run recognizes its own writes."""
    return replace(
        script,
        stamp=(began["STAMP"] or None) if "STAMP" in began else script.stamp,
        idempotent=began.get("IDEMPOTENT", str(script.idempotent)) == str(True),
    )


def changed_within(now: Mapping[str, str]) -> dict[str, str]:
    """The facts that a run takes over when it is continued."""
    return {name: value for name, value in now.items() if name in _CHANGEABLE}


def may_be_repeated(found: tuple[Difference, ...]) -> bool:
    """Whether a second application from the beginning overwrites all that an idempotent one has written."""
    return all(one.name in _REPEATABLE for one in found)


def declared_key(key: tuple[KeyAttribute, ...]) -> str:
    """A key as a script writes it."""
    return json.dumps(dict(key), ensure_ascii=False)


def texts_of(record: RunRecord, transformed: int) -> tuple[ScriptText, ...]:
    """The texts of a run's script, each with the number of items that it has transformed; `transformed` in all."""
    items = {text.checksum: text.items for text in record.texts}
    rest = max(0, transformed - sum(items.values()))
    items[record.checksum] = items.get(record.checksum, 0) + rest
    return tuple(ScriptText(checksum, number) for checksum, number in items.items())


def transformed(counts: Counts) -> int:
    """The number of items that a script has transformed."""
    return counts.read - counts.dead


def texts_reported(record: RunRecord) -> tuple[ScriptText, ...]:
    """The texts of an edited script that have transformed items; none where it was not edited."""
    texts = texts_of(record, transformed(record.counts))
    texts = tuple(text for text in texts if text.items)
    return texts if any(text.checksum != record.checksum for text in texts) else ()
