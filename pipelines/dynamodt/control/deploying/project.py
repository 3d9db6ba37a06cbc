"""A project as one zip: what a job in AWS unpacks, to run the ordinary command line on it.

The same content gives the same bytes on every machine, so that the archive's hash says whether anything has changed.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from dynamodt.control.settings import FILE_NAME
from dynamodt.core.versions import tables
from dynamodt.errors import UsageError
from dynamodt.model import Stage

PROJECT_FILE = "project.zip"
_SCRIPTS = "transforms"
_LEFT_OUT = ("tests", "__pycache__")
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest moment that a zip can name
_READABLE = 0o644 << 16


def project_zip(folder: Path, stage: Stage) -> bytes:
    """`dynamodt.toml` with this stage alone, and `transforms/` with everything beside the scripts but their tests.

    Neither profile, role nor endpoint goes along: a job reaches AWS by its own role. Raises UsageError when there is
    no folder `transforms/`, or nothing in it.
    """
    files = [(f"{_SCRIPTS}/{name}", path) for name, path in _files(folder / _SCRIPTS)]
    if not files:
        raise UsageError("transforms/ holds no table", where=str(folder), hint="dynamodt init --table TABLE")
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_STORED) as archive:  # what zlib makes of a file is not the same everywhere
        add_file(archive, FILE_NAME, stage_file(stage).encode())
        for name, path in files:
            add_file(archive, name, path.read_bytes())
    return target.getvalue()


def stage_file(stage: Stage) -> str:
    """The text of a `dynamodt.toml` that needs nothing of the environment to mean this stage."""
    values: dict[str, str | bool | None] = {
        "region": stage.connection.region,
        "storage": stage.storage.url,
        "kms_key": stage.storage.kms_key,
        "state_table": stage.state_table,
        "protected": stage.protected,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[stages.{_toml(stage.name)}]", *lines, ""])


def _toml(value: str | bool) -> str:
    """A basic string of TOML is one of JSON, but for DEL, and for surrogates in place of what is beyond 16 bits."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """The files below the folder, by their names with `/`, in order."""
    found: list[tuple[str, Path]] = []
    planned = tables(root) if root.is_dir() else ()
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if _is_taken(here, name, planned if here == root else ())]
        paths = (Path(place) / name for name in names if not name.startswith("."))
        found += [(path.relative_to(root).as_posix(), path) for path in paths if path.is_file()]
    return iter(sorted(found))


def _is_taken(place: Path, name: str, planned: tuple[str, ...]) -> bool:
    """What is planned is packed, whatever a table is called; a link back to a folder around it is not followed."""
    if name not in planned and (name in _LEFT_OUT or name.startswith(".")):
        return False
    target, here = (place / name).resolve(), place.resolve()
    return target != here and target not in here.parents


def add_file(archive: ZipFile, name: str, content: bytes) -> None:
    """Add a file, with nothing of when and where that was done."""
    entry = ZipInfo(name, _FIRST_TIME)
    entry.create_system = 3  # Unix, on Windows too
    entry.external_attr = _READABLE
    archive.writestr(entry, content)
