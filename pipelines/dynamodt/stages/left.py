"""What an undo leaves as it is, and where that is kept: keys, attributes' names and reasons, never their values."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from dynamodt.core.places import left_prefix, page_prefix
from dynamodt.model import Job, LeftItem, Page
from dynamodt.stages.deadletters import Objects


def store_left(objects: Objects, job: Job, page: Page, left: Sequence[LeftItem]) -> None:
    """Keep what a page leaves, as JSON lines, before anything counts it."""
    if left:
        lines = (orjson.dumps(item._asdict(), option=orjson.OPT_APPEND_NEWLINE) for item in left)
        name = page_prefix(left_prefix(job), page.claim.unit, page.number, page.claim.epoch)
        objects.write(f"{name}left.jsonl", b"".join(lines))
