"""`status --follow --json`: one JSON object a line, for each look at each run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dynamodt.control.running.history import now
from dynamodt.control.terminal import shapes
from dynamodt.control.terminal.escaping import json_line
from dynamodt.control.terminal.progress import Recorder
from dynamodt.model import Standing


class JsonLines(Recorder):
    """Hands each look to `emit` as a document; notes are for a person, and go to `tell`."""

    def __init__(self, emit: Callable[[shapes.Document], None], tell: Callable[[str], None]) -> None:
        super().__init__(watching=True)
        self._emit = emit
        self._tell = tell

    def progressed(self, table: str, standing: Standing) -> None:
        super().progressed(table, standing)
        if table in self.running:
            run = self.running[table]
            self._emit(shapes.look_document(run, now(), self.clock() - run.since))

    def note(self, text: str) -> None:
        self._tell(text)


def print_line(document: dict[str, Any]) -> None:
    """To stdout at once. Raises BrokenPipeError when the reader has left."""
    sys.stdout.write(json_line(document))
    sys.stdout.flush()
