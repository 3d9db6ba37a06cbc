"""What is kept of an item that could not be transformed or written, and where."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from typing import Protocol

import orjson

from dynamodt.core.keys import key_text
from dynamodt.core.places import dead_prefix
from dynamodt.core.script import said
from dynamodt.errors import DynamodtError
from dynamodt.model import DeadLetter, Image, Job, Page

UNREADABLE = "unreadable"  # lines of an export that are no items: nothing can take them up again


class Objects(Protocol):
    """What `aws.storage.Storage` offers, and a test's fake must."""

    def write(self, name: str, data: bytes) -> None: ...

    def read(self, name: str) -> bytes | None: ...


def dead_letter(key: Image, image: Image, stage: str, error: BaseException) -> DeadLetter:
    """A failure with the item that it befell."""
    trace = "".join(traceback.format_exception(error))
    hint = f" ({error.hint})" if isinstance(error, DynamodtError) and error.hint else ""
    return DeadLetter(key, image, stage, _storable(f"{said(error)}{hint}"), _storable(trace))


def _storable(text: str) -> str:
    """An author's message may hold half a surrogate pair, which no UTF-8 can."""
    return text.encode("utf-8", "backslashreplace").decode()


def store(objects: Objects, job: Job, page: Page, stage: str, letters: Sequence[DeadLetter]) -> None:
    """Keep the letters of one page, as JSON lines; the same page read again replaces them. Each stage keeps its own,
    before anything counts them: a count without its letter cannot be."""
    if not letters:
        return
    name = f"{page.claim.unit:06d}-{page.number:08d}-{page.claim.epoch:04d}-{stage}.jsonl"
    objects.write(dead_prefix(job) + name, b"".join(_line(job, letter) for letter in letters))


def letters(objects: Objects, parts: Sequence[str]) -> Iterator[DeadLetter]:
    """The letters of some parts, each key once: the last of its letters."""
    found: dict[str, DeadLetter] = {}
    for part in parts:
        for line in (objects.read(part) or b"").splitlines():
            record = orjson.loads(line)
            letter = DeadLetter(*(record[name] for name in DeadLetter._fields))
            found[key_text(letter.key)] = letter
    yield from found.values()


def _line(job: Job, letter: DeadLetter) -> bytes:
    record = {"table": job.table.name, "version": job.script.sequence, "direction": job.direction, "run": job.base_run}
    return orjson.dumps({**record, **letter._asdict()}, option=orjson.OPT_APPEND_NEWLINE)
