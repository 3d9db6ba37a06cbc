"""The embedded emulator's files: what is on disk, what is not yet, and what an unclean end has cost.

`state/SERVICE.json` holds a service's state as of one moment. `unsaved` is there while the emulator holds changes that
are on no disk, and says since when: it outlives a killed emulator, and the next start reports it. A file that cannot
be read is moved to `damaged/` before an emulator starts, since the emulator would go on without it and write over it.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamodt.errors import ServiceError

STATE = "state"
_DAMAGED = "damaged"
_UNSAVED = "unsaved"
_LOST = "lost"
_SAVING = ".saving-"
_FORMAT = "__ministack_format__"  # how ministack wraps a service's state, with the version of the layout


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# ---------------------------------------------------------------- what is not on disk


def mark_unsaved(data: Path, since: str) -> None:
    """Record that changes since then are on no disk."""
    data.joinpath(_UNSAVED).write_text(since, encoding="ascii")


def mark_saved(data: Path) -> None:
    data.joinpath(_UNSAVED).unlink(missing_ok=True)


def unsaved_since(data: Path) -> str:
    """Since when changes are on no disk; empty when all of them are."""
    return _since(data / _UNSAVED)


def _since(file: Path) -> str:
    """The moment in a file; where a full disk has left the file empty, that of its making."""
    try:
        made = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
        return file.read_text(encoding="ascii", errors="replace") or made
    except OSError:
        return ""


# ---------------------------------------------------------------- writing


def save(data: Path, services: Iterable[str], write: Callable[[Path], None]) -> None:
    """Replaces the services' files, each as a whole, when all of them are written and on disk.

    `write` puts them into the folder that it is given. Raises OSError for one that is not there afterwards.
    """
    state = data / STATE
    fresh = Path(tempfile.mkdtemp(prefix=_SAVING, dir=state))
    try:
        write(fresh)
        files = [fresh / f"{service}.json" for service in services]
        changed = [file for file in files if not _is_as(file, state / file.name)]
        for file in changed:
            _to_disk(file)
        for file in changed:
            file.replace(state / file.name)
        _to_disk(state)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_as(file: Path, older: Path) -> bool:
    return older.exists() and filecmp.cmp(file, older, shallow=False)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- after an end


def recover(data: Path, stopped: bool) -> list[str]:
    """Makes the files ready for a new emulator, and returns what the user has to know: what the end of the last one
    has cost, and which files could not be read. `stopped`: whether that one was stopped, or there was none. A second
    attempt says the same about the end, until `mark_recovered`.

    Raises ServiceError for a file that may not be read, or that a later release of the emulator has written.
    """
    state = data / STATE
    state.mkdir(parents=True, exist_ok=True)
    _keep_as_lost(data)
    for unfinished in state.glob(f"{_SAVING}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    found = [] if stopped else [_cost(data)]
    found += [_set_aside(data, file) for file in sorted(state.glob("*.json")) if not _is_readable(file)]
    return found


def mark_recovered(data: Path) -> None:
    """Record that a new emulator runs: what the end of the last one has cost was reported."""
    data.joinpath(_LOST).unlink(missing_ok=True)


def _cost(data: Path) -> str:
    since = _since(data / _LOST)
    lost = f"what was written since {since} may be lost" if since else "nothing that was written is lost"
    return f"the embedded emulator was not stopped (killed, or the machine went down): {lost}"


def _keep_as_lost(data: Path) -> None:
    """By renaming, which needs no space. What an earlier attempt has kept is older."""
    if not data.joinpath(_LOST).exists():
        with suppress(FileNotFoundError):
            data.joinpath(_UNSAVED).rename(data / _LOST)
    mark_saved(data)


def _is_readable(file: Path) -> bool:
    from dynamodt.dynamodb.clients import file_explained

    if not file.is_file():
        return False
    with file_explained("read", file):
        text = file.read_bytes()
    try:
        content = _parsed(text)
        version = content[_FORMAT]
        readable = isinstance(content["payload"], dict)
    except (ValueError, LookupError, TypeError):
        return False
    if version > _known_version(file.stem):
        hint = "pip install -U ministack, or `dynamodt local reset` to begin with empty tables"
        raise ServiceError("a later release of ministack has written the file", where=str(file), hint=hint)
    return readable


def _parsed(text: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)  # it takes what orjson refuses: lone surrogates


def _known_version(service: str) -> int:
    from ministack.core.persistence import SERVICE_STATE_FORMAT_VERSIONS, STATE_FORMAT_VERSION

    return int(SERVICE_STATE_FORMAT_VERSIONS.get(service, STATE_FORMAT_VERSION))


def _set_aside(data: Path, file: Path) -> str:
    (data / _DAMAGED).mkdir(exist_ok=True)
    moved = data / _DAMAGED / f"{file.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.json"
    file.rename(moved)
    what = "its tables begin empty" if file.stem == "dynamodb" else f"{file.stem} begins empty"
    return f"{file} is damaged; it was moved to {moved}, and {what}"
