"""The process of the embedded emulator: ministack, with an identity and persistent data.

ministack keeps its tables in memory and writes them when it is stopped. Here a forked copy of the process writes them
shortly after each change, without delaying requests, so that a killed emulator loses at most the last seconds. The
process and its copies hold a lock on the folder as long as they live: no second emulator is started on the same files,
in any container. All paths are relative, so that a renamed folder keeps its emulator, which ends once the folder is
deleted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamodt.local import emulator
from dynamodt.local.emulator import HOST, IDENTITY_PATH, LOCK_NAME, LOG_NAME, Record, read_record, write_record
from dynamodt.runs.liveness import Process

HERE = Path()
_LEAST_PAUSE = 0.5
_PAUSES_A_SAVE = 2  # saving takes at most a third of the time
_LONGEST_SAVE = 600
_WATCH_SECONDS = 2.0
_READS = ("Get", "BatchGet", "TransactGet", "Scan", "Query", "Describe", "List")

_log = logging.getLogger("dynamodt.emulator")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def main(release: str, token: str, preferred_port: int, lock: int) -> None:
    """Serves until SIGTERM, SIGINT, or the deletion of the current folder, which is the emulator's; `lock` is the file
    descriptor of its lock, `release` that of the environment that it runs in."""
    os.umask(0o077)  # only the owner reads its data
    listener = _listening(preferred_port)
    port = listener.getsockname()[1]
    os.environ.update(GATEWAY_PORT=str(port), PORT=str(port))
    me = Process.of(os.getpid())
    started = me.started if me else ""
    record = Record(token, port, os.getpid(), started, emulator.now(), HERE.stat().st_ino, release=release)
    write_record(HERE, record)
    asyncio.run(_serve(listener, record, lock))


def _listening(preferred_port: int) -> socket.socket:
    """On the preferred port if it is free, else on any free port."""
    for port in (preferred_port, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections would block the port
        try:
            listener.bind((HOST, port))
            listener.listen()  # at once: only listening, not binding, excludes a second process
        except OSError:
            listener.close()
            continue
        return listener
    raise SystemExit(f"no port of {HOST} is free")


async def _serve(listener: socket.socket, record: Record, lock: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app as server
    from ministack.core import responses
    from ministack.services import s3

    responses._service_model = lambda service: None  # corrects few content types, and loads botocore for it
    s3._persist_object = _written(s3._persist_object)
    s3.handle_request = _refused_if_unwritten(s3.handle_request)
    saver = Saver(server._build_persistence_save_dict, lock)
    server._load_persisted_state = lambda: _load(server)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    saving = asyncio.create_task(saver.keep_saving())
    watching = asyncio.create_task(_watch_folder(lock, ended, record))

    async def until_ended() -> None:
        await ended.wait()
        watching.cancel()
        saving.cancel()
        await saver.end_copy()

    server.save_all = lambda _: saver.save_at_end(record)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    await serve(identified(server.app, record.token, saver), config, shutdown_trigger=until_ended)


def _load(server: Any) -> None:
    """Loads the saved data. Ends the emulator if the data cannot be loaded: ministack's own function would continue
    with empty tables, and the next save would replace the file."""
    from ministack.core import persistence

    for service, module in server._state_map.items():
        state = persistence.load_state(service)
        if state:
            try:
                server._get_module(module).load_persisted_state(state)
            except Exception:
                _log.exception("state/%s.json cannot be loaded", service)
                os._exit(1)


async def _watch_folder(lock: int, ended: asyncio.Event, record: Record) -> None:
    """Ends the emulator once its folder is deleted or replaced. Writes a lost record again: without it no command finds
    or ends the emulator."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        try:
            mine = os.stat(LOCK_NAME).st_ino == os.fstat(lock).st_ino
        except OSError:
            mine = False
        if not mine:
            _log.warning("the folder was deleted: ending")
            ended.set()
            return
        if read_record(HERE) != record:
            with suppress(OSError):
                write_record(HERE, record)


# ---------------------------------------------------------------- requests


def identified(inner: Application, token: str, saver: Saver) -> Application:
    """The application, extended by its identity, and by a report of each change to the saver."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == IDENTITY_PATH:
            await _answer(send, {"token": token, "failure": saver.failure})
        elif _changes(scope):
            with saver.change():
                await inner(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return app


def _changes(scope: Scope) -> bool:
    """Whether a request may change data: its method and its operation are not known to be read-only."""
    if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
        return False
    target = dict(scope["headers"]).get(b"x-amz-target", b"").decode("latin-1")
    return not target.rpartition(".")[2].startswith(_READS)


async def _answer(send: Send, document: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})


class _Unwritten(Exception):
    """An object's file could not be written."""


def _written(persist: Callable[[str, str, Any], None]) -> Callable[[str, str, Any], None]:
    """ministack's writing of an object to its file, with an error if the file could not be written. ministack itself
    only logs the failure, keeps the object in memory, and loses it when it ends."""

    def written(bucket: str, key: str, stored: Any) -> None:
        persist(bucket, key, stored)
        if stored.get("body") is not None:  # it is dropped from memory once it is in the file
            raise _Unwritten(key)

    return written


def _refused_if_unwritten(handle: Callable[..., Awaitable[tuple[Any, ...]]]) -> Callable[..., Awaitable[Any]]:
    """ministack's S3, which answers `_Unwritten` with a status that no client retries."""

    async def handled(*request: Any, **more: Any) -> tuple[Any, ...]:
        try:
            return await handle(*request, **more)
        except _Unwritten as error:
            reason = f"{HERE.resolve() / LOG_NAME} has the reason"
            body = f"<Error><Code>InsufficientStorage</Code><Message>{reason}</Message><Key>{error}</Key></Error>"
            return 507, {"Content-Type": "application/xml"}, body.encode()

    return handled


# ---------------------------------------------------------------- saving


class Saver:
    """Writes changed data from a forked copy of the process, which sees a consistent state between two requests."""

    def __init__(self, services: Callable[[], Mapping[str, Callable[[], Any]]], lock: int) -> None:
        self.failure = ""  # of the last save
        self._services = services
        self._lock = lock
        self._changed = asyncio.Event()
        self._under_way = 0
        self._since = ""  # the first change that is in no save, and in no running copy
        self._copy = 0

    @contextmanager
    def change(self) -> Iterator[None]:
        """Encloses a request that may change data. The change is recorded first: after a SIGKILL nothing could record
        it."""
        if not emulator.unsaved_since(HERE):
            with suppress(OSError):  # the save reports a full disk
                emulator.mark_unsaved(HERE, emulator.now())
        self._since = self._since or emulator.now()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._since = self._since or emulator.now()
            self._changed.set()

    async def keep_saving(self) -> None:
        pause = _LEAST_PAUSE
        while True:
            await self._changed.wait()
            await asyncio.sleep(pause)
            began = time.monotonic()
            await self._save_by_copy()
            pause = max(_LEAST_PAUSE, _PAUSES_A_SAVE * (time.monotonic() - began))

    async def end_copy(self) -> None:
        """Ends a running copy: its data is older than the last save's."""
        if self._copy:
            with suppress(ProcessLookupError):
                os.kill(self._copy, signal.SIGKILL)
        while self._copy:
            await asyncio.sleep(0.01)

    def save_at_end(self, record: Record) -> None:
        """The last save, after the last request."""
        try:
            _save(self._services())
            emulator.mark_saved(HERE)
            write_record(HERE, replace(record, stopped=emulator.now()))
        except Exception:
            _log.exception("the tables could not be written")

    async def _save_by_copy(self) -> None:
        self._changed.clear()
        seen, self._since = self._since, emulator.now() if self._under_way else ""
        self._copy = os.fork()
        if not self._copy:
            _save_and_exit(self._services, self._lock)
        waiting = asyncio.get_running_loop().run_in_executor(None, os.waitpid, self._copy, 0)
        waiting.add_done_callback(self._copy_has_ended)
        self._judge(seen, (await asyncio.shield(waiting))[1])

    def _copy_has_ended(self, _: object) -> None:
        self._copy = 0

    def _judge(self, seen: str, status: int) -> None:
        if status:
            self._since = seen
            self._changed.set()
            self.failure = f"what was written since {emulator.unsaved_since(HERE) or seen} is not saved yet"
            return
        self.failure = ""
        with suppress(OSError):
            if self._since:
                emulator.mark_unsaved(HERE, self._since)
            else:
                emulator.mark_saved(HERE)


def _save_and_exit(services: Callable[[], Mapping[str, Callable[[], Any]]], lock: int) -> None:
    """Runs in the copy, which keeps the lock, so that no emulator is started while it writes, and the log."""
    try:
        os.closerange(3, lock)
        os.closerange(lock + 1, os.sysconf("SC_OPEN_MAX"))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LONGEST_SAVE)  # a thread that was not copied may hold a lock
        gc.disable()
        _without_copying()
        _save(services())
        os._exit(0)
    except BaseException:
        _log.exception("the tables could not be written")
        os._exit(1)


def _without_copying() -> None:
    """Disables the copy that each service makes of its state: the process is a copy already."""
    import copy

    copy.deepcopy = lambda value, memo=None: value  # type: ignore


def _save(services: Mapping[str, Callable[[], Any]]) -> None:
    from ministack.core import persistence

    states = {name: state for name, get in services.items() if (state := get()) is not None}  # None: nothing to save

    def write(folder: Path) -> None:
        persistence.STATE_DIR = str(folder)
        for name, state in states.items():
            persistence.save_state(name, state)  # logs a failure instead of raising

    emulator.save(HERE, states, write)
