"""Python programs as processes of their own, forked from one that has imported what they need.

An interpreter's start and its imports take most of the CPU of a short command. `Forks.popen` takes the words of
`subprocess.Popen` (`[python, "-m", MODULE, ...]`, `[python, "-c", CODE, ...]` or `[PROGRAM, ...]`, a file of Python)
and returns one: pid, streams, signals and exit code are those of a process of its own. Modules are the exception: a
program finds those of `imports` imported. What a command imports or prints by importing is tested on real starts.

As a program (`python forks.py MODULE...`) this file is the server: it imports the modules, and forks for each request
on its standard input, a socket. It ends with its client.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

_SIZE = 8  # bytes of a request's length
_OPEN = 4  # descriptors of a request: the program's streams, and where its pid and its exit code are to be written


class Forks:
    """A server of one interpreter, started with the first program."""

    def __init__(self, python: str, imports: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
        self._command = [python, __file__, *imports]
        self._folder = folder
        self._environment = environment
        self._server: socket.socket | None = None
        self._asking = threading.Lock()

    def popen(self, words: list[str], **options: Any) -> subprocess.Popen[Any]:
        """As `subprocess.Popen`, of whose options `cwd`, `env`, `start_new_session` and all of the streams count."""
        return _Forked(self, words, **options)

    def run(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with its output captured as text."""
        process = self.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        with process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def close(self) -> None:
        """Ends the server. The programs that it has forked continue."""
        if self._server is not None:
            self._server.close()
            self._process.wait()
            self._server = None

    def ask(self, request: dict[str, Any], descriptors: list[int]) -> None:
        data = json.dumps(request).encode()
        with self._asking:
            server = self._server or self._start()
            socket.send_fds(server, [len(data).to_bytes(_SIZE, "big")], descriptors)
            server.sendall(data)

    def _start(self) -> socket.socket:
        self._server, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C ends the tests, and they end it
            )
        return self._server


class _Forked(subprocess.Popen[Any]):
    """A process that a server starts and waits for. Everything else is `subprocess.Popen`'s."""

    def __init__(self, forks: Forks, words: list[str], **options: Any) -> None:
        self._forks = forks
        self._status = -1
        super().__init__(words, **options)

    def _execute_child(  # type: ignore[no-untyped-def]
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
        start_new_session, *rest,
    ) -> None:  # fmt: skip
        self._status, theirs = os.pipe()
        request = {
            "words": [os.fspath(word) for word in args],
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "session": bool(start_new_session),
        }
        streams = [given if given >= 0 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        try:
            self._forks.ask(request, [*streams, theirs])
        finally:
            os.close(theirs)
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        self.pid = int(self._line())
        self._child_created = True

    def _line(self) -> str:
        """The next of the two lines: its pid, and its exit code, negative for a signal."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._status, 1)
            assert byte, "the server of tests/forks.py has ended"
            line += byte
        return line.decode()

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._ready(0):
            self._ended()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            if not self._ready(timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._ended()
        return self.returncode

    def _ready(self, timeout: float | None) -> bool:
        return bool(select.select([self._status], [], [], timeout)[0])

    def _ended(self) -> None:
        self.returncode = int(self._line())
        os.close(self._status)


# ---------------------------------------------------------------- the server


def serve(modules: list[str]) -> None:
    """Forks for each request. Returns in the client's programs only, which have done their work then."""
    own_path = sys.path[1:]  # without this file's folder
    sys.path[0] = ""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # nothing of it is looked through in a program's collections, which would copy its memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # its parent waits for its forks
    with socket.socket(fileno=os.dup(0)) as client:
        while (request := _next(client)) is not None:
            found, descriptors = request
            if os.fork() == 0:
                client.close()
                return _watch(found, descriptors, own_path)
            for descriptor in descriptors:
                os.close(descriptor)
    os._exit(0)


def _next(client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(client, _SIZE, _OPEN)
    if not head:
        return None
    left = int.from_bytes(head, "big")
    data = b""
    while len(data) < left:
        data += client.recv(left - len(data))
    return json.loads(data), list(descriptors)


def _watch(request: dict[str, Any], descriptors: list[int], path: list[str]) -> None:
    """The process in between: starts the program, and reports its end in any case."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = descriptors
    child = os.fork()
    if child == 0:
        os.close(status)
        return _become(request, streams, path)
    for stream in streams:
        os.close(stream)
    with suppress(BrokenPipeError):
        os.write(status, b"%d\n" % child)
        _, code = os.waitpid(child, 0)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(code))
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int], path: list[str]) -> None:
    """Does what an interpreter does between its start and the program's first line."""
    _take(streams)
    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    _end(_run(request, path))


def _run(request: dict[str, Any], path: list[str]) -> int:
    """Runs the program; its exit code by the interpreter's rules."""
    try:
        _execute(request, path)
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


def _end(code: int) -> None:
    """Ends the process as an interpreter does, but without finalizing the imported modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120
    os._exit(code)


def _execute(request: dict[str, Any], path: list[str]) -> None:
    first, *rest = request["words"]
    more = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    if rest[:1] == ["-m"]:
        sys.argv, sys.path = rest[1:], [request["cwd"], *more, *path]
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    elif rest[:1] == ["-c"]:
        sys.argv, sys.path = ["-c", *rest[2:]], ["", *more, *path]
        exec(compile(rest[1], "<string>", "exec"), vars(sys.modules["__main__"]) | {"__name__": "__main__"})
    else:
        sys.argv, sys.path = request["words"], [str(Path(first).parent), *more, *path]
        runpy.run_path(first, run_name="__main__")


def _take(streams: list[int]) -> None:
    """Installs the descriptors, and new Python objects for them, whose mode and buffering depend on the descriptor."""
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    err = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]


if __name__ == "__main__":
    serve(sys.argv[1:])
