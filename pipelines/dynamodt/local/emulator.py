"""The emulator's process, for the commands that use it: its start, environment, lock, record and identity; and its
files: saving them, and their recovery after it was killed. `server` is the process itself.

It runs in a session of its own: neither Ctrl-C nor the end of the command that started it ends it.

`state/SERVICE.json` holds a consistent state of a service. The file `unsaved` exists while some changes are in memory
only, and contains the time of the first one; the next start reports it. A file that cannot be read is moved to
`damaged/` before an emulator starts, since the emulator would ignore and then overwrite it.
"""

from __future__ import annotations

import fcntl
import filecmp
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dynamodt.errors import ServiceError, file_explained, suggest
from dynamodt.local.install import Environment
from dynamodt.runs.liveness import Process, polls
from dynamodt.state.storage import to_disk

HOST = "127.0.0.1"
LOG_NAME = "emulator.log"
LOCK_NAME = "lock"
IDENTITY_PATH = "/_dynamodt"

STATE = "state"
_DAMAGED = "damaged"
_UNSAVED = "unsaved"
_LOST = "lost"
_SAVING = ".saving-"
_FORMAT = "__ministack_format__"  # ministack's key for the version of a state's layout
_RECORD_NAME = "emulator.json"
_READY_SECONDS = 120.0  # on a busy machine the start takes half a minute
_LOG_TAIL_LINES = 15
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ROOT = Path(__file__).resolve().parents[2]  # of this package: the emulator runs in another current folder
_BOOTSTRAP = (
    "import sys; root, release, token, port, lock = sys.argv[1:]; sys.path.append(root);"
    " from dynamodt.local.server import main; main(release, token, int(port), int(lock))"
)

# They outlive this command; the references keep Popen from warning about them.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Record:
    """The last emulator of a folder, as written by itself. It is kept after the end, for the port."""

    token: str  # tells this emulator from another one on the same port
    port: int
    pid: int
    started: str
    since: str
    inode: int  # of its folder: a copied folder has another one
    stopped: str = ""  # the time of a clean end, with all data saved
    release: str = ""  # of its environment; empty: ministack 1.4, which had none

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started)


def read_record(folder: Path) -> Record | None:
    try:
        record = Record(**json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # absent, or of another release
    return record if record.inode == folder.stat().st_ino else replace(record, token="", pid=0)


def write_record(folder: Path, record: Record) -> None:
    fresh = folder / f"{_RECORD_NAME}.new"
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(folder / _RECORD_NAME)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def url(port: int) -> str:
    return f"http://{HOST}:{port}"


# ---------------------------------------------------------------- its lock


def is_held(folder: Path) -> bool:
    """Whether an emulator, or a process that is starting one, holds the folder's lock."""
    lock = _locked(folder, fcntl.LOCK_SH)  # shared: two concurrent checks do not see each other
    if lock is not None:
        lock.close()
    return lock is None


def take(folder: Path) -> IO[bytes] | None:
    """Takes the folder's lock; None if it is held. It is free once every process that has inherited it has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    return _locked(folder, fcntl.LOCK_EX)


def _locked(folder: Path, kind: int) -> IO[bytes] | None:
    try:
        file = (folder / LOCK_NAME).open("a+b")
    except FileNotFoundError:
        return io.BytesIO()  # no folder, no emulator
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


# ---------------------------------------------------------------- its process


def spawn(found: Environment, folder: Path, port: int, token: str, lock: IO[bytes]) -> Process:
    """Starts the emulator of this environment with its data under the folder, on the port if it is free; returns at
    once. It inherits the lock. Raises ServiceError if it ends at once."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    with (folder / LOG_NAME).open("ab") as log:
        child = subprocess.Popen(
            [str(found.python), "-c", _BOOTSTRAP, str(_ROOT), found.release, token, str(port), str(lock.fileno())],
            cwd=folder,
            env=variables(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
    _started.append(child)
    process = Process.of(child.pid)
    if process is None:
        raise _did_not_start("it ended at once", folder)
    return process


def wait_until_ready(process: Process, token: str, folder: Path) -> Record:
    """Waits until it answers. Raises ServiceError, with the end of its log, if it ends or does not answer in time."""
    for _ in polls(_READY_SECONDS):
        record = read_record(folder)
        if record is not None and record.token == token and identity(record) is not None:
            return record
        if not process.alive:
            raise _did_not_start("it ended while starting", folder)
    raise _did_not_start(f"it does not answer after {_READY_SECONDS:.0f} s", folder)


def identity(record: Record) -> dict[str, Any] | None:
    """The identity document of the record's emulator; None if it does not answer, or another one does."""
    import http.client

    connection = http.client.HTTPConnection(HOST, record.port, timeout=2.0)  # bypasses proxies
    try:
        connection.request("GET", IDENTITY_PATH)
        document = json.loads(connection.getresponse().read())
        return document if document["token"] == record.token else None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        connection.close()


def variables(folder: Path) -> dict[str, str]:
    """Its environment variables: SERVICES, USE_SSL, AWS_* and PYTHON* of the user's shell would change the emulator."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "BIND_HOST": HOST,  # all interfaces otherwise
        "PERSIST_STATE": "1",
        "STATE_DIR": STATE,  # relative, like S3_DATA_DIR: a renamed folder keeps its emulator
        "S3_PERSIST": "1",
        "S3_DATA_DIR": "s3",
        "TMPDIR": str(folder / "tmp"),
        "SFTP_ENABLED": "0",  # otherwise a second listener, like IOT_MTLS
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder / 'no-docker'}",  # otherwise it stops the containers of any other ministack
        "LOG_LEVEL": "WARNING",
    }


def _did_not_start(reason: str, folder: Path) -> ServiceError:
    log = folder / LOG_NAME
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:] if log.exists() else []
    what = "\n  ".join([f"the embedded emulator did not start: {reason}", *lines])
    hint = suggest("local stop") + ", then the command again; " + suggest("local reset") + " starts with empty tables"
    return ServiceError(what, where=str(log), hint=hint)


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
            to_disk(file)
        for file in changed:
            file.replace(state / file.name)
        to_disk(state)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


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
