"""The text of each version as it was applied, in the storage: a record has a checksum, and names the object here.

A text is stored when a run begins or continues with it, when its version is stamped or imported, and when an edit is
accepted (`runs.repair`). Its object is named by the exact text, is written once, and does not expire with the run.
"""

from __future__ import annotations

from dynamodt.model.runs import Script
from dynamodt.state.object_keys import text_key
from dynamodt.state.storage import Storage


def keep_text(storage: Storage, script: Script) -> str:
    """Stores a script's text, and returns the place of its object. Raises ServiceError."""
    name = text_key(script.table, script.sequence, script.text_checksum)
    storage.write(name, script.text.encode())
    return storage.place(name)
