"""The record that the tool dynamo-data-transform keeps in the table that it transforms.

The record's content (github.com/jitsecurity/dynamo-data-transform at 53a4c30,
`src/services/dynamodb/transformations-executions-manager.js` and `src/config/constants.js`), as DynamoDB's JSON::

    {<each key attribute>: {"S": "DataTransformations"},
     "executionState": {"L": [{"N": "1"}, {"N": "2"}]},
     "TransformationsRunHistory": {"M": {
         "2023-05-04T08:15:30.123Z": {"M": {"transformationNumber": {"N": "2"}, "executedCommand": {"S": "up"},
                                            "transformed": {"N": "1234"}}}}}}

- The key has this string in every attribute of the key schema, so that only a table with a key of strings can hold it.
- `up` appends the version's number to `executionState`, and adds an entry with `transformed`, the number of items
  written; `down` removes the number from the list and adds an entry without `transformed`. Both put the whole item, and
  keep its other attributes. The last `down` leaves an empty list: the record itself is never deleted.
- An entry's name is the moment of its end, JavaScript's `toISOString()`: UTC, to the millisecond. A failed or dry run
  leaves no entry; nor does an `up` whose function returned nothing, which will therefore run again.
- `up` runs every file whose number is above the highest in the list, so that the numbers may
  have gaps; two concurrent commands may have left a number twice, or lost each other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from dynamodt.errors import Refused, suggest
from dynamodt.model.tables import Direction, Image, TableSpec

TOOL: Final = "dynamo-data-transform"
STATE: Final = "executionState"
HISTORY: Final = "TransformationsRunHistory"
_KEY_TEXT: Final = "DataTransformations"


class PastRun(NamedTuple):
    """One entry of the record's history. `transformed` is the reported number of items written; 0 for `down`."""

    version: int
    direction: Direction
    ended: datetime  # UTC
    transformed: int


class Past(NamedTuple):
    """The record's content: the applied versions, ascending, and the runs, the oldest first."""

    versions: tuple[int, ...]
    runs: tuple[PastRun, ...]


# ---------------------------------------------------------------- distinguishing it from the application's items


def record_key(spec: TableSpec) -> Image | None:
    """The record's key in this table; None for a table that cannot hold the record."""
    if any(attribute.type != "S" for attribute in spec.key):
        return None
    return {name: {"S": _KEY_TEXT} for name in spec.key_names}


def without_record(spec: TableSpec) -> Callable[[list[Image]], list[Image]]:
    """A function that drops the record from a page's images. An item of the application with the record's key, but
    without `executionState`, stays. It costs one comparison for each item, as it is on the hot path."""
    key = record_key(spec)
    if key is None:
        return lambda images: images
    first = spec.key_names[0]

    def left_out(images: list[Image]) -> list[Image]:
        return [image for image in images if image[first]["S"] != _KEY_TEXT or not _is_record(key, image)]

    return left_out


def _is_record(key: Image, image: Image) -> bool:
    return STATE in image and all(image[name] == value for name, value in key.items())


# ---------------------------------------------------------------- reading it


def read_record(image: Image, table: str) -> Past:
    """The record's content; other attributes are ignored. Raises Refused for a record that differs from the
    description above."""
    with _shaped(f"{STATE} is not a list of versions", table):
        versions = {_number(value) for value in image[STATE]["L"]}
    with _shaped(f"{HISTORY} is not a map of runs", table):
        entries = image.get(HISTORY, {"M": {}})["M"]
        runs = sorted((_run(text, entry["M"]) for text, entry in entries.items()), key=lambda run: run.ended)
    return Past(tuple(sorted(versions)), tuple(runs))


@contextmanager
def _shaped(complaint: str, table: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(
            f"the record of {TOOL} differs from what that tool writes: {complaint}",
            where=f"table {table}",
            hint="find out which versions have run, and record them: " + suggest("stamp", table=table, to="N"),
        ) from error


def _run(text: str, entry: Image) -> PastRun:
    command = entry["executedCommand"]["S"]
    if command not in ("up", "down"):
        raise ValueError("executedCommand must be up or down")
    transformed = _number(entry.get("transformed", {"N": "0"}), least=0)
    return PastRun(_number(entry["transformationNumber"]), command, _moment(text), transformed)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return moment.astimezone(UTC)


def _number(value: dict[str, Any], least: int = 1) -> int:
    number = int(value["N"])
    if number < least:
        raise ValueError("the number is too small")
    return number
