"""Items that the last run of a version in the other direction has left as dead letters, accepted or tolerated.

They were not transformed: taking the version back must leave them alone, and so must an `up` after a `down` has left
them. Evidence decides (ADR 074): an item as its dead letter has it stays as it is; one that was changed since, or whose
write was in doubt, is a dead letter of step `doubt`, unless the script would not change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from dynamodt.errors import WrittenOrNot
from dynamodt.model.runs import DeadLetterSource, Job
from dynamodt.model.tables import Change, Image
from dynamodt.script.codec import key_text, same_image
from dynamodt.script.diff import key_of

if TYPE_CHECKING:
    from dynamodt.script.attempt import ChangeOf
    from dynamodt.state.storage import Storage

_CHANGED = "the {} of this version has left this item as a dead letter, and it was changed since"
_HINT = "look at the item: `retry --in-doubt again` transforms it, `--in-doubt done` leaves it as it is"


def leaving(job: Job, storage: Storage, change_of: ChangeOf) -> ChangeOf:
    """`change_of` for all items but those that the other direction has left. It reads their dead letters at once, and
    keeps them in memory."""
    left: dict[str, list[dict[str, Any]]] = {}
    for part, keys in job.untransformed:
        for letter in _lines(storage, [part]):
            if keys is None or key_text(letter["key"]) in keys:
                left.setdefault(key_text(letter["key"]), []).append(letter)
    asked = asked_again(storage, job)

    def change_of_others(image: Image) -> Change | None:
        text = key_text(key_of(job.table, image))
        if text not in left or text in asked:
            return change_of(image)
        in_doubt = any(letter["step"] == "doubt" for letter in left[text])
        if not in_doubt and any(same_image(letter["image"], image) for letter in left[text]):
            return None
        if change_of(image) is None:
            return None
        raise WrittenOrNot(_CHANGED.format("up" if job.direction == "down" else "down"), hint=_HINT)

    return change_of_others


def asked_again(storage: Storage, job: Job) -> frozenset[str]:
    """The items in doubt that an operator has asked to be transformed, by `key_text`."""
    parts = job.source.parts if isinstance(job.source, DeadLetterSource) else ()
    doubtful = [part for part in parts if part.endswith("-doubt.jsonl")]
    return frozenset(key_text(letter["key"]) for letter in _lines(storage, doubtful))


def _lines(storage: Storage, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from map(orjson.loads, (storage.read(part) or b"").splitlines())
