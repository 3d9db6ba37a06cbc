"""For authors' tests: applies a version to items as a run does (docs/testing.md).

The fixture `dynamodt_table`, a table of an embedded emulator, and `pytest --dynamodt` come with the package's pytest
plugin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dynamodt.model.tables import Direction, Item
from dynamodt.script.codec import decode, encode
from dynamodt.testing.rehearsal import rehearsed, subject

if TYPE_CHECKING:
    from dynamodt.testing.embedded import EmbeddedTable as EmbeddedTable

__all__ = ["transformed"]


def transformed(
    version: str | Path | ModuleType,
    items: Iterable[Item],
    *,
    direction: Direction = "up",
    prepared: Mapping[Any, Any] | None = None,
    key: Mapping[str, str] | None = None,
    target_key: Mapping[str, str] | None = None,
) -> list[Item]:
    """The items of a table with `items` after a run of a version, with every check of a run.

    `version` is the path of its file, its module (`load_script`), or its name, `"users/v2"` or `"users/v2_split_name"`,
    in the `transforms/` of the current folder or of one above it. `direction` "down" reverts it. `prepared` are the
    rows of its `prepare`. The result is in the order of `items`, each followed by the items inserted for it, and then
    the rows of `items()`; for a version with a TARGET_TABLE it is the content of that table. Numbers are Decimal.

    `key`, such as `{"id": "S"}`, is needed if neither KEY in the script nor dynamodt.toml has the table's key, and
    `target_key` likewise; indexes of dynamodt.toml are checked.

    Raises the error that would make an item a dead letter: the script's own exception, or ItemError; ScriptError for a
    fault that ends a run, and UsageError for arguments that do not fit the version.
    """
    found = subject(version, key, target_key)
    outcomes = rehearsed(found, [encode(item) for item in items], direction, prepared)
    for outcome in outcomes.outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [decode(image) for image in outcomes.images]
