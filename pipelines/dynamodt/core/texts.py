"""The texts of a version's script that a run has transformed items by: a script may be edited between two attempts."""

from __future__ import annotations

from dynamodt.model import Counts, RunRecord, ScriptText


def texts_of(record: RunRecord, transformed: int) -> tuple[ScriptText, ...]:
    """The texts of a run's script, each with the number of items that it has transformed, of so many in all."""
    items = {text.checksum: text.items for text in record.texts}
    rest = max(0, transformed - sum(items.values()))
    items[record.checksum] = items.get(record.checksum, 0) + rest
    return tuple(ScriptText(checksum, number) for checksum, number in items.items())


def transformed(counts: Counts) -> int:
    """How many items a script has brought through."""
    return counts.read - counts.dead


def texts_told(record: RunRecord) -> tuple[ScriptText, ...]:
    """The texts of an edited script that have transformed items; none where it was not edited."""
    texts = texts_of(record, transformed(record.counts))
    texts = tuple(text for text in texts if text.items)
    return texts if any(text.checksum != record.checksum for text in texts) else ()
