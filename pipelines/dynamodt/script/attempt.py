"""The attempt of a version to change one item, with every check that a real write makes before it is sent.

Runs, dry runs, `check` and authors' tests apply a version by `attempted`, so that none of them passes an item that
another one refuses. What depends on other items, a key that is taken, is judged by `pipeline.conflicts`; what only the
service can refuse (a throttle, a concurrent write) is in no rehearsal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from dynamodt.errors import ScriptError
from dynamodt.model.tables import Change, Check, Image, Insert, Remove
from dynamodt.script.diff import parts_of, patched
from dynamodt.script.load import is_interrupt

ChangeOf = Callable[[Image], Change | None]
Request = Callable[[Change], object]  # makes the request of a change; raises ItemError where none can hold it


def any_request(change: Change) -> None:
    """A `Request` that holds every change."""


class Attempt(NamedTuple):
    """What a version makes of an item: its change (None: the item stays as it is), or the `error` that makes it a dead
    letter of `step`."""

    image: Image
    change: Change | None
    error: BaseException | None = None
    step: Literal["transform", "write"] = "transform"


def attempted(image: Image, change_of: ChangeOf, request: Request = any_request) -> Attempt:
    """The attempt to change an item. Everything that the author's code raises, `sys.exit` included, makes it a dead
    letter; raises ScriptError for a fault that stops the whole run, and a Ctrl-C."""
    step: Literal["transform", "write"] = "transform"
    try:
        change = change_of(image)
        if change is not None:
            step = "write"
            request(change)
    except BaseException as error:
        if isinstance(error, ScriptError) or is_interrupt(error):
            raise
        return Attempt(image, None, error, step)
    return Attempt(image, change)


class Effect(NamedTuple):
    """What is there after a change: the item itself (None: it was deleted or moved), and what was inserted."""

    stays: Image | None
    inserts: tuple[Insert, ...] = ()


def effect(image: Image, change: Change | None) -> Effect:
    """The effect of a change that was made of `image`, as if it were written now."""
    stays: Image | None = image
    inserts: list[Insert] = []
    for part in () if change is None else parts_of(change):
        if isinstance(part, Insert):
            inserts.append(part)
        elif isinstance(part, Remove):
            stays = None
        elif not isinstance(part, Check):
            stays = patched(part)
    return Effect(stays, tuple(inserts))
