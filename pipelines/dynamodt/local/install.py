"""The emulator's environment: ministack and its requirements, separate from the packages of the user's project.

ministack requires one exact botocore. In an environment of its own this requirement applies to the emulator alone. The
environment is made once for each content of the lock, by `make install` or by the first command that needs it:
`ministack/RELEASE` in the virtual environment that runs dynamodt; else in the user's cache; else in `.dynamodt`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dynamodt.errors import ServiceError, exit_code_of, say
from dynamodt.model.tables import WORK_FOLDER
from dynamodt.state.storage import user_cache

Notify = Callable[[str], None]

LOCK = Path(__file__).parents[1] / "deployment" / "requirements" / "ministack.lock"

_NAME = "ministack"
_MARKER = "installed.json"  # written last: it has the versions of the layouts of a state
_BUILDING = "building-"
_TAIL_LINES = 5
_MISLEADING = ("PIP_PREFIX", "PIP_TARGET", "PIP_USER", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
_FORMATS = (
    "import json; from ministack.core import persistence as p;"
    " print(json.dumps({'': p.STATE_FORMAT_VERSION, **p.SERVICE_STATE_FORMAT_VERSIONS}))"
)


_WITHOUT_AN_INDEX = (
    "it needs a package index, once, as pip is configured for it. Without one: `pip download --no-deps -d WHEELS -r {}`"
    " on a machine that has one, and here PIP_NO_INDEX=1 PIP_FIND_LINKS=WHEELS with the same command; or set "
    "AWS_ENDPOINT_URL to an endpoint of your own"
)


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is complete. `formats` has the version of the layout of each service's state that its
    emulator reads, and of all other services under an empty name."""

    folder: Path
    formats: Mapping[str, int]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def release(self) -> str:
        """The release of ministack and of its requirements, such as "1.5.33-0a1b2c3d"."""
        return self.folder.name


def environment(work: Path, notify: Notify, lock: Path = LOCK) -> Environment:
    """The environment, which is made first if there is none; `work` is the project's `.dynamodt`.

    If two commands need it at the same time, one makes it. Raises ServiceError, with the end of its output, if Python
    cannot make an environment or pip finds no packages.
    """
    release = release_of(lock)
    places = [*_places(work)]
    found = next(filter(None, (_found(place / release) for place in places)), None)
    return found or _installed(next(filter(_is_writable, places), places[-1]), release, lock, notify)


def release_of(lock: Path = LOCK) -> str:
    """The release that a lock describes."""
    text = lock.read_bytes()
    version = re.search(rf"^{_NAME}==(\S+)".encode(), text, re.MULTILINE)
    assert version is not None, lock
    return f"{version[1].decode()}-{hashlib.sha256(text).hexdigest()[:8]}"


def _places(work: Path) -> Iterator[Path]:
    """The folders that may have it; the first one that can be written to gets it."""
    if sys.prefix != sys.base_prefix:
        yield Path(sys.prefix) / _NAME
    with suppress(RuntimeError):  # no home folder
        yield user_cache() / _NAME
    yield work / _NAME


def _found(folder: Path) -> Environment | None:
    try:
        return Environment(folder, json.loads((folder / _MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _is_writable(place: Path) -> bool:
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
    return os.access(place, os.W_OK)


# ---------------------------------------------------------------- making it


def _installed(place: Path, release: str, lock: Path, notify: Notify) -> Environment:
    with exclusive_lock(place / "lock"):
        found = _found(place / release)
        if found is None:
            notify(f"installing the embedded emulator, ministack {release.partition('-')[0]}, into {place} (once)")
            _build(place, release, lock)
            found = _found(place / release)
    assert found is not None, place
    return found


@contextmanager
def exclusive_lock(lock: Path) -> Iterator[None]:
    """Excludes other processes, by a file. The system frees the lock of a process that dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(place: Path, release: str, lock: Path) -> None:
    """Builds beside the final folder, then renames: an environment that is there is complete."""
    for unfinished in place.glob(f"{_BUILDING}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=_BUILDING, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / release
        python = str(folder / "bin" / "python")
        _run([sys.executable, "-m", "venv", str(folder)], place, "the package python3-venv of the system has the rest")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--require-hashes", "--requirement", str(lock)], place, _WITHOUT_AN_INDEX.format(lock))
        formats = _run([python, "-c", _FORMATS], place, "")
        (folder / _MARKER).write_text(formats, encoding="utf-8")
        shutil.rmtree(place / release, ignore_errors=True)  # one without its marker
        folder.rename(place / release)


def _run(command: list[str], place: Path, hint: str) -> str:
    """A command's output. Raises ServiceError, with the end of its output, if it fails."""
    given = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    done = subprocess.run(command, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-_TAIL_LINES:]
        what = "\n  ".join(["the embedded emulator could not be installed:", *tail])
        raise ServiceError(what, where=str(place), hint=hint or "delete the folder, then run the same command again")
    return done.stdout


def main() -> int:
    """`python -m dynamodt.local.install`: makes the environment, as the build of an image does; the exit code."""
    return exit_code_of(lambda: environment(Path(WORK_FOLDER), say))


if __name__ == "__main__":
    sys.exit(main())
