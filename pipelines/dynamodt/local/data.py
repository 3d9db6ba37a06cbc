"""The embedded emulator's files: saving them, and their recovery after the emulator was killed.

`state/SERVICE.json` holds a consistent state of a service. The file `unsaved` exists while some changes are in memory
only, and contains the time of the first one; the next start reports it. A file that cannot be read is moved to
`damaged/` before an emulator starts, since the emulator would ignore and then overwrite it.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamodt.errors import ServiceError, file_explained, suggest

STATE = "state"
_DAMAGED = "damaged"
_UNSAVED = "unsaved"
_LOST = "lost"
_SAVING = ".saving-"
_FORMAT = "__ministack_format__"  # ministack's key for the version of a state's layout


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# ---------------------------------------------------------------- unsaved changes


def mark_unsaved(data: Path, since: str) -> None:
    """Records that changes since then are in memory only."""
    data.joinpath(_UNSAVED).write_text(since, encoding="ascii")


def mark_saved(data: Path) -> None:
    data.joinpath(_UNSAVED).unlink(missing_ok=True)


def unsaved_since(data: Path) -> str:
    """The time of the first unsaved change; empty if all changes are saved."""
    return _since(data / _UNSAVED)


def _since(file: Path) -> str:
    """The time that the file contains; if a full disk has left it empty, the time of its creation."""
    try:
        made = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
        return file.read_text(encoding="ascii", errors="replace") or made
    except OSError:
        return ""


# ---------------------------------------------------------------- writing


def save(data: Path, services: Iterable[str], write: Callable[[Path], None]) -> None:
    """Replaces the services' files, each atomically, after `write` has written all of them into a folder and they are
    synced. Raises OSError for a file that `write` has not written.
    """
    state = data / STATE
    fresh = Path(tempfile.mkdtemp(prefix=_SAVING, dir=state))
    try:
        write(fresh)
        files = {fresh / f"{service}.json": state / f"{service}.json" for service in services}
        changed = [new for new, old in files.items() if not (old.exists() and filecmp.cmp(new, old, shallow=False))]
        for file in changed:
            _to_disk(file)
        for file in changed:
            file.replace(state / file.name)
        _to_disk(state)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- recovery


def recover(data: Path, stopped: bool, formats: Mapping[str, int]) -> list[str]:
    """Prepares the files for a new emulator; returns the messages for the user: what may be lost, and which files were
    damaged. `stopped`: the last emulator has ended cleanly, or there was none. `formats`: see `install.Environment`.
    Until `mark_recovered`, a second attempt returns the same loss.

    Raises ServiceError for a file without read access, or of a later release of the emulator.
    """
    state = data / STATE
    state.mkdir(parents=True, exist_ok=True)
    _keep_as_lost(data)
    for unfinished in state.glob(f"{_SAVING}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    found = [] if stopped else [_cost(data)]
    found += [_set_aside(data, file) for file in sorted(state.glob("*.json")) if not _is_readable(file, formats)]
    return found


def mark_recovered(data: Path) -> None:
    """Records that a new emulator runs, and that the loss was reported."""
    data.joinpath(_LOST).unlink(missing_ok=True)


def _cost(data: Path) -> str:
    since = _since(data / _LOST)
    lost = f"changes since {since} may be lost" if since else "no change is lost"
    return f"the embedded emulator was killed, or the machine stopped: {lost}"


def _keep_as_lost(data: Path) -> None:
    """Renames the file, which needs no space. A file of an earlier attempt is older, and is kept."""
    if not data.joinpath(_LOST).exists():
        with suppress(FileNotFoundError):
            data.joinpath(_UNSAVED).rename(data / _LOST)
    mark_saved(data)


def _is_readable(file: Path, formats: Mapping[str, int]) -> bool:
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
    if version > formats.get(file.stem, formats[""]):
        hint = "pip install -U dynamodt, or " + suggest("local reset") + " to start with empty tables"
        raise ServiceError("the file was written by a later release of ministack", where=str(file), hint=hint)
    return readable


def _parsed(text: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)  # accepts lone surrogates, which orjson refuses


def _set_aside(data: Path, file: Path) -> str:
    (data / _DAMAGED).mkdir(exist_ok=True)
    moved = data / _DAMAGED / f"{file.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.json"
    file.rename(moved)
    what = "its tables are empty" if file.stem == "dynamodb" else f"{file.stem} is empty"
    return f"{file} is damaged; it was moved to {moved}, and {what}"
