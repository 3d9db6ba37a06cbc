"""Zero-downtime data transformations for Amazon DynamoDB.

For an author's script: `Put`, `Delete`, `without`, and for its annotations `Item`, `Result`, `Prepared` and `Context`.
For its test: `load_script`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodt.model.tables import Context, Delete, Item, Prepared, Put, Result

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


__all__ = ["Context", "Delete", "Item", "Prepared", "Put", "Result", "load_script", "without"]
__version__ = "0.1.0.dev0"


def without(item: Item, *names: str) -> Item:
    """A copy of `item` without the named attributes; absent ones are ignored."""
    return {name: value for name, value in item.items() if name not in names}


def load_script(path: Path | str) -> ModuleType:
    """The module of the version file at `path`, for a test that calls its functions. Raises ScriptError."""
    from pathlib import Path

    from dynamodt.script.load import load
    from dynamodt.script.read import read_script

    script = read_script(Path(path), Path.cwd())
    module = load(script)
    vars(module)["__dynamodt__"] = script, Path(path).absolute().parents[2]  # for `testing.transformed`
    return module
