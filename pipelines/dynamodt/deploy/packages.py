"""What is deployed, on this machine: the template, and the five things that its jobs are made of.

A project as one zip: what a job in AWS unpacks, to run the ordinary command line on it.

The same content gives the same bytes on every machine, so that the archive's hash says whether anything has changed.

This very package as a wheel, however it was installed: what a job in AWS installs.

It is put together from the files that run here (the format is a zip with three small files of its own, PEP 427), so
that it needs neither a source tree nor a build tool, and the same package gives the same bytes everywhere.

What a job in AWS needs of this machine, kept in the stage's storage under the hash of its content.

An asset that is there is the one that is meant, and is not sent again; none is ever replaced, so that a job that runs
keeps what it was started with.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import dynamodt
from dynamodt.config.settings import FILE_NAME
from dynamodt.errors import UsageError
from dynamodt.model.tables import Stage
from dynamodt.pipeline.spark.jar import jar
from dynamodt.script.versions import tables
from dynamodt.state.storage import Storage, open_storage

if TYPE_CHECKING:
    from dynamodt.model.tables import Stage


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


_SUFFIXES = (".py", ".typed")
_TAG = "Wheel-Version: 1.0\nGenerator: dynamodt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel_name() -> str:
    """The file's name, from which an installer reads the version. Raises UsageError when nothing is installed."""
    return f"dynamodt-{_installed().version}-py3-none-any.whl"


def wheel() -> bytes:
    """The wheel. Raises UsageError when the package is not installed, but run from its folder."""
    installed = _installed()
    info = f"dynamodt-{installed.version}.dist-info"
    files = {**_modules(Path(dynamodt.__file__).parent), **_described(installed, info)}
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_STORED) as archive:
        for name, content in files.items():
            add_file(archive, name, content)
    return target.getvalue()


@cache
def build() -> str:
    """The hash of the package's files: the same where they run and where their wheel was installed."""
    files = _modules(Path(dynamodt.__file__).parent)
    lines = [f"{name} {_digest(content)}" for name, content in files.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _installed() -> Distribution:
    try:
        return distribution("dynamodt")
    except PackageNotFoundError as error:
        hint = "pip install dynamodt, or, in a clone of it, make install"
        raise UsageError("this package runs without being installed, and cannot be packaged so", hint=hint) from error


def _modules(package: Path) -> dict[str, bytes]:
    """Not what only deploys it (`deployment/`), which a job has no use for."""
    found = (path for path in package.rglob("*") if path.suffix in _SUFFIXES)
    paths = sorted(path for path in found if package / "deployment" not in path.parents)
    return {f"dynamodt/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}


def _described(installed: Distribution, info: str) -> dict[str, bytes]:
    """What the package says of itself, without its README, whose every change would be another wheel."""
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""  # an .egg-info has the second
    head = text.partition("\n\n")[0]
    return {
        f"{info}/METADATA": f"{head}\n".encode(),
        f"{info}/WHEEL": _TAG.encode(),
        f"{info}/entry_points.txt": (installed.read_text("entry_points.txt") or "").encode(),
    }


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


PREFIX = "assets/"


class Assets:
    """The assets of a stage. Both `put` raise ServiceError when its storage cannot be used."""

    def __init__(self, stage: Stage, storage: Storage | None = None) -> None:
        self._storage = storage or open_storage(stage.connection, stage.storage)

    def put(self, name: str, content: bytes) -> str:
        """Store the content, unless it is there, and return its URL: `.../assets/SHA256/NAME`."""
        asset = _asset(name, content)
        if not self._has(asset):
            self._storage.write(asset, content)
        return self._storage.place(asset)

    def put_file(self, path: Path) -> str:
        """The same of a file under its own name, in parts where it is large."""
        asset = _asset(path.name, path)
        if not self._has(asset):
            self._storage.upload(asset, path)
        return self._storage.place(asset)

    def place(self, name: str, content: bytes | Path) -> str:
        """The URL that `put` or `put_file` would return; nothing is sent, and nothing asked."""
        return self._storage.place(_asset(name, content))

    def _has(self, asset: str) -> bool:
        return asset in self._storage.names(asset)


def _asset(name: str, content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return f"{PREFIX}{hashlib.sha256(content).hexdigest()}/{name}"
    with content.open("rb") as file:
        return f"{PREFIX}{hashlib.file_digest(file, 'sha256').hexdigest()}/{name}"


_TEMPLATE = "infra/template.yaml"


class JobPart(NamedTuple):
    """An asset by its name: its content, or the file that holds it."""

    name: str
    content: bytes | Path


Parts = Mapping[str, JobPart]  # by the parameter of the template that takes its URL


def template() -> str:
    """The text of infra/template.yaml."""
    return shipped(_TEMPLATE).read_text(encoding="utf-8")


def parts(folder: Path, stage: Stage, note: Callable[[str], None]) -> Parts:
    """All of the jobs' parts; `note` is told of what takes a while. Raises UsageError or RunFailed when one cannot be
    made."""
    return {
        "Package": JobPart(wheel_name(), wheel()),
        "Jar": _file(jar(note)),
        "MigrateScript": _file(shipped("glue_jobs/migrate.py")),
        "PrepareScript": _file(shipped("glue_jobs/prepare.py")),
        "Project": JobPart(PROJECT_FILE, project_zip(folder, stage)),
    }


def places(parts: Parts, assets: Assets) -> dict[str, str]:
    """Where the parts would be, by parameter."""
    return {parameter: assets.place(*part) for parameter, part in parts.items()}


def uploaded(parts: Parts, assets: Assets) -> dict[str, str]:
    """Where the parts are, by parameter, once they are there. Raises ServiceError."""
    return {parameter: _uploaded(part, assets) for parameter, part in parts.items()}


def _uploaded(part: JobPart, assets: Assets) -> str:
    return assets.put_file(part.content) if isinstance(part.content, Path) else assets.put(part.name, part.content)


def shipped(name: str) -> Path:
    """A file that comes with the package, in `deployment/` (in a clone, by links)."""
    found = Path(dynamodt.__file__).parent / "deployment" / name
    if not found.is_file():
        raise UsageError(f"{name} is missing in this installation", where=str(found), hint="install the package anew")
    return found


def _file(path: Path) -> JobPart:
    return JobPart(path.name, path)
