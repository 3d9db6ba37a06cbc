"""Caches what libraries load or build again each time, and a process of the command builds once: the files of
botocore's data, megabytes of JSON for each session, and the parser of the command line, 20 ms for each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer.main
from botocore.loaders import JSONFileLoader


def remember() -> None:
    """Installs both caches in this process, once."""
    JSONFileLoader.load_file = _by_path(JSONFileLoader.load_file)
    typer.main.get_command = _by_identity(typer.main.get_command)


def _by_path(load: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A file that exists does not change."""
    known: dict[str, Any] = {}

    def remembered(self: Any, file_path: str) -> Any:
        if file_path not in known and (found := load(self, file_path)) is not None:
            known[file_path] = found
        return known.get(file_path)

    return remembered


def _by_identity(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The options of an app do not change once it is imported."""
    known: dict[int, tuple[Any, Any]] = {}

    def remembered(app: Any) -> Any:
        if id(app) not in known:
            known[id(app)] = app, build(app)
        return known[id(app)][1]

    return remembered
