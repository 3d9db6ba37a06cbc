"""The attempt of a version to change one item, with every check that a real write makes before it is sent.

Dry runs, `check` and authors' tests apply a version by `attempt_change`. It accepts and refuses the same items as a
run, in which `pipeline.transform` calls the author's function and `pipeline.write_page` makes the requests. Conflicts
with other items, such as a taken key, are resolved by `pipeline.conflicts`. Refusals by the service (a throttle, a
concurrent write) occur in a run only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from dynamodt.errors import ScriptError
from dynamodt.model.tables import Change, Check, Image, Insert, Remove
from dynamodt.script.diff import image_after, parts_of
from dynamodt.script.load import is_interrupt

ChangeOf = Callable[[Image], Change | None]
Request = Callable[[Change], object]  # makes the request of a change; raises ItemError if no request can hold it


def any_request(change: Change) -> None:
    """A `Request` that accepts every change."""


class Attempt(NamedTuple):
    """The result of a version for one item: the change (None: the item stays as it is), or the `error` that makes the
    item a dead letter of `step`."""

    image: Image
    change: Change | None
    error: BaseException | None = None
    step: Literal["transform", "write"] = "transform"


def attempt_change(image: Image, change_of: ChangeOf, request: Request = any_request) -> Attempt:
    """Applies a version to an item. Any exception of the author's code, including `sys.exit`, makes the item a dead
    letter. Raises ScriptError for a fault that stops the whole run, and KeyboardInterrupt for Ctrl-C."""
    step: Literal["transform", "write"] = "transform"
    try:
        change = change_of(image)
        if change is not None:
            step = "write"
            request(change)
    except BaseException as error:
        check_continues(error)
        return Attempt(image, None, error, step)
    return Attempt(image, change)


def check_continues(error: BaseException) -> None:
    """Raises an error of `change_of` that stops the whole run; any other makes its item a dead letter."""
    if isinstance(error, ScriptError) or is_interrupt(error):
        raise error


class ItemsAfter(NamedTuple):
    """The items after a change: `stays` is the item itself (None: it was deleted or moved), `inserts` are the new
    ones."""

    stays: Image | None
    inserts: tuple[Insert, ...] = ()


def effect(image: Image, change: Change | None) -> ItemsAfter:
    """The effect of a change of `image`, if the change is written now."""
    stays: Image | None = image
    inserts: list[Insert] = []
    for part in () if change is None else parts_of(change):
        if isinstance(part, Insert):
            inserts.append(part)
        elif isinstance(part, Remove):
            stays = None
        elif not isinstance(part, Check):
            stays = image_after(part)
    return ItemsAfter(stays, tuple(inserts))
