"""The emulator as a process, from outside: its command, its environment, its lock, and whether it answers.

It is started apart from the command that needs it (a session of its own), and neither Ctrl-C nor the command's death
ends it. What it does with its data: `emulator_server`.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from dynamodt.errors import ServiceError, UsageError
from dynamodt.local.data import STATE
from dynamodt.runs.liveness import Process

HOST = "127.0.0.1"
LOG_NAME = "emulator.log"
LOCK_NAME = "lock"
IDENTITY_PATH = "/_dynamodt"

_RECORD_NAME = "emulator.json"
_READY_SECONDS = 120.0  # alive and silent for so long, it hangs: on a busy machine it starts for half a minute
_POLL_SECONDS = 0.05
_LOG_TAIL_LINES = 15
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
_ROOT = Path(__file__).resolve().parents[2]  # where this package is: the emulator's current folder is not the user's
_BOOTSTRAP = (
    "import sys; root, token, port, lock = sys.argv[1:]; sys.path.append(root);"
    " from dynamodt.local.server import main; main(token, int(port), int(lock))"
)

# They outlive this command on purpose; held here, they are not reported as forgotten when they are collected.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Record:
    """The emulator that was started last in a folder, written by itself. It stays when that has ended: for the port."""

    token: str  # which emulator answers on the port: it may be another project's by now
    port: int
    pid: int
    started: str
    since: str
    inode: int  # of its folder: a copy of the folder is not the emulator's
    stopped: str = ""  # when it had ended as it should, with its data on disk

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started)


def read_record(folder: Path) -> Record | None:
    try:
        record = Record(**json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # absent, or of another release: as if nothing had been started
    return record if record.inode == folder.stat().st_ino else replace(record, token="", pid=0)


def write_record(folder: Path, record: Record) -> None:
    fresh = folder / f"{_RECORD_NAME}.new"
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(folder / _RECORD_NAME)


def url(port: int) -> str:
    return f"http://{HOST}:{port}"


# ---------------------------------------------------------------- its lock


def is_held(folder: Path) -> bool:
    """Whether an emulator, or a process that is starting one, holds the folder's lock now."""
    lock = _locked(folder, fcntl.LOCK_SH)  # two that look at once do not take each other for an emulator
    if lock is not None:
        lock.close()
    return lock is None


def take(folder: Path) -> IO[bytes] | None:
    """The folder's lock, which is free when every process that has inherited it has ended; None: it is held."""
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


def spawn(folder: Path, port: int, token: str, lock: IO[bytes]) -> Process:
    """Starts the emulator with its data under the folder, on the port if it is free, and does not wait for it.

    It inherits the lock. Raises UsageError when it is not installed, ServiceError when it ends at once.
    """
    _check_installed()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    with (folder / LOG_NAME).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, str(_ROOT), token, str(port), str(lock.fileno())],
            cwd=folder,
            env=environment(folder),
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


def wait_until_ready(process: Process, token: str, folder: Path, seconds: float = _READY_SECONDS) -> Record:
    """Returns when it answers. Raises ServiceError, with the end of its log, when it ends or is silent for too long."""
    deadline = time.monotonic() + seconds
    while True:
        record = read_record(folder)
        if record is not None and record.token == token and identity(record) is not None:
            return record
        if not process.alive:
            raise _did_not_start("it ended while starting", folder)
        if time.monotonic() > deadline:
            raise _did_not_start(f"it does not answer after {seconds:.0f} s", folder)
        time.sleep(_POLL_SECONDS)


def identity(record: Record) -> dict[str, Any] | None:
    """What the emulator of the record says of itself; None when it does not answer on its port, or another one does."""
    import http.client

    connection = http.client.HTTPConnection(HOST, record.port, timeout=2.0)  # goes through no proxy
    try:
        connection.request("GET", IDENTITY_PATH)
        document = json.loads(connection.getresponse().read())
        return document if document["token"] == record.token else None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        connection.close()


def _check_installed() -> None:
    if find_spec("ministack") is None:
        hint = "pip install 'dynamodt[local]', or set AWS_ENDPOINT_URL to an endpoint of your own"
        raise UsageError("the embedded emulator (ministack) is not installed", where="local stage", hint=hint)


def environment(folder: Path) -> dict[str, str]:
    """A fresh one: SERVICES, USE_SSL or AWS_* of the user's shell would make it another emulator."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    given = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in given.split(os.pathsep) if entry)
    return kept | {
        **({"PYTHONPATH": path} if path else {}),
        "BIND_HOST": HOST,  # all interfaces otherwise
        "PERSIST_STATE": "1",
        "STATE_DIR": STATE,  # relative, as is the next: a folder that is renamed keeps its emulator
        "S3_PERSIST": "1",
        "S3_DATA_DIR": "s3",
        "TMPDIR": str(folder / "tmp"),
        "SFTP_ENABLED": "0",  # a listener of its own otherwise, as is the next
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder / 'no-docker'}",  # it would stop the containers of any other ministack
        "LOG_LEVEL": "WARNING",
    }


def _did_not_start(reason: str, folder: Path) -> ServiceError:
    log = folder / LOG_NAME
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:] if log.exists() else []
    what = "\n  ".join([f"the embedded emulator did not start: {reason}", *lines])
    hint = "try `dynamodt local stop` and the command again; `dynamodt local reset` starts with empty tables"
    return ServiceError(what, where=str(log), hint=hint)
