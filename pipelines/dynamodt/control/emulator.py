"""The emulator as a process: its command, its environment, its port, and whether it answers.

ministack keeps its tables in memory and writes them down when it is ended by a signal that it can handle. So it is
started apart from the command that needs it (a session of its own), and neither Ctrl-C nor the command's death ends it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from dynamodt.control.process import Process
from dynamodt.errors import ServiceError, UsageError

HOST = "127.0.0.1"
LOG_NAME = "emulator.log"

_READY_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOG_TAIL_LINES = 15
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")

# They outlive this command on purpose; held here, they are not reported as forgotten when they are collected.
_started: list[subprocess.Popen[bytes]] = []


def url(port: int) -> str:
    return f"http://{HOST}:{port}"


def spawn(folder: Path, port: int) -> Process:
    """Starts the emulator on the port, with its data under the folder, and does not wait for it.

    Raises UsageError when it is not installed, ServiceError when it ends at once.
    """
    _check_installed()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    with (folder / LOG_NAME).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            cwd=folder,  # -m looks into the current folder first, where an author may have a module of any name
            env=_environment(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _started.append(child)
    process = Process.of(child.pid)
    if process is None:
        raise _did_not_start("it ended at once", folder)
    return process


def wait_until_ready(process: Process, port: int, folder: Path, seconds: float = _READY_SECONDS) -> None:
    """Returns when it answers. Raises ServiceError, with the end of its log, when it ends or is silent for too long."""
    deadline = time.monotonic() + seconds
    while not answers(port):
        if not process.alive:
            raise _did_not_start("it ended while starting", folder)
        if time.monotonic() > deadline:
            raise _did_not_start(f"it does not answer on {url(port)}", folder)
        time.sleep(_POLL_SECONDS)


def answers(port: int) -> bool:
    """Whether the emulator (and not some other server) answers on this port of the loopback interface."""
    import http.client

    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)  # goes through no proxy, whatever the shell says
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port(preferred: int = 0) -> int:
    """The preferred port when it is free, else one that the system chooses."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else its own closed connections block it
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceError(f"no port of {HOST} is free", where="local stage")


def _check_installed() -> None:
    if find_spec("ministack") is None:
        hint = "pip install 'dynamodt[local]', or set AWS_ENDPOINT_URL to an endpoint of your own"
        raise UsageError("the embedded emulator (ministack) is not installed", where="local stage", hint=hint)


def _environment(folder: Path, port: int) -> dict[str, str]:
    """A fresh one: SERVICES, USE_SSL or AWS_* of the user's shell would make it another emulator."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "BIND_HOST": HOST,  # all interfaces otherwise
        "GATEWAY_PORT": str(port),
        "PORT": str(port),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "s3"),
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
