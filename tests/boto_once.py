"""Caches the files of botocore's data: each session of its own reads and decodes them anew, megabytes of JSON, and the
tests make hundreds of sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.loaders import JSONFileLoader


def remember() -> None:
    """Installs the cache in this process, once."""
    JSONFileLoader.load_file = _by_path(JSONFileLoader.load_file)


def _by_path(load: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A file that exists stays as it is."""
    known: dict[str, Any] = {}

    def remembered(self: Any, file_path: str) -> Any:
        if file_path not in known and (found := load(self, file_path)) is not None:
            known[file_path] = found
        return known.get(file_path)

    return remembered
