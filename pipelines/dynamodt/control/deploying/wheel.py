"""This very package as a wheel, however it was installed: what a job in AWS installs.

It is put together from the files that run here (the format is a zip with three small files of its own, PEP 427), so
that it needs neither a source tree nor a build tool, and the same package gives the same bytes everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import dynamodt
from dynamodt.control.deploying.project import add_file
from dynamodt.errors import UsageError

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
    """Not what only deploys it: a clone has that beside the package, and is to make the same wheel."""
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
