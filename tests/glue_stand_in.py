"""The part of Glue that a job's client uses, in front of an emulator that only pretends Spark jobs: the stand-in starts
the job's script as a process, reports its state, and stores its output in the emulator's CloudWatch Logs. Other
requests are passed on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import urllib3

from dynamodt.dynamodb.clients import client
from tests import ROOT, programs
from tests.emulators import Endpoint
from tests.waiting import HANG_SECONDS

LOG_GROUP = "/aws-glue/jobs/output"
_OURS = ("StartJobRun", "GetJobRun", "GetJobRuns", "BatchStopJobRun")
_NOT_FORWARDED = ("host", "content-length", "connection", "transfer-encoding")
_DIRECT = """
import sys
from awsglue.utils import getResolvedOptions
from dynamodt.cli.job import carry_out
given = [name for name in ("by", "commit") if f"--{name}" in sys.argv]
options = getResolvedOptions(sys.argv, ["stage", "project", "command", "region", *given])
verb = options["command"].split()[0]
sys.exit(carry_out(options, *([] if verb == "prepare" else ["--runner", "direct"])))
"""

Words = dict[str, str]


def without_spark(arguments: Words) -> list[str]:
    """Runs the job's script without Spark, on Beam's in-process runner."""
    return [sys.executable, "-c", _DIRECT, *as_given(arguments)]


def as_given(arguments: Words) -> list[str]:
    """A job's arguments in the form in which Glue passes them to the script."""
    return [word for name, value in arguments.items() for word in (name, value)]


@dataclass
class Run:
    """One run: a process, once it is started."""

    id: str
    job: str
    arguments: Words
    log: Path
    started: float = field(default_factory=time.time)
    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False
    logged: bool = False

    @property
    def state(self) -> str:
        if self.process is None:
            return "STOPPED" if self.stopped else "STARTING"
        code = self.process.poll()
        if code is None:
            return "STOPPING" if self.stopped else "RUNNING"
        return "STOPPED" if self.stopped else "FAILED" if code else "SUCCEEDED"

    def document(self) -> dict[str, Any]:
        said = (
            {"ErrorMessage": f"SystemExit: {self.process.returncode}"}
            if self.process and self.state == "FAILED"
            else {}
        )
        told = {"Id": self.id, "JobName": self.job, "JobRunState": self.state, "StartedOn": self.started}
        return {**told, "Arguments": self.arguments, **said}


@dataclass
class GlueStandIn:
    """`command` makes a process of a job's arguments; at most `most` runs are active at once; while `hold` is set, no
    run starts; the next answer of each operation in `lost` is lost after the operation took effect."""

    endpoint: Endpoint
    folder: Path
    url: str = ""
    command: Callable[[Words], list[str]] = without_spark
    most: int = 3
    pause_reason: bool = False
    lost: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=16, retries=False))

    def started(self, job: str, arguments: Words) -> dict[str, Any]:
        if sum(run.state in ("STARTING", "RUNNING", "STOPPING") for run in self.runs) >= self.most:
            return {"__type": "ConcurrentRunsExceededException", "Message": f"Concurrent runs exceeded for {job}"}
        run = Run(f"jr_{uuid4().hex}", job, arguments, self.folder / f"{len(self.runs)}.log")
        self.runs.append(run)
        self.begin()
        return {"JobRunId": run.id}

    def begin(self) -> None:
        """Start the processes of the waiting runs."""
        for run in self.runs:
            if run.process is None and not run.stopped and not self.pause_reason:
                given = {"--JOB_NAME": run.job, "--JOB_RUN_ID": run.id, **self.defaults(run.job), **run.arguments}
                with run.log.open("wb") as log:
                    run.process = programs.popen(
                        self.command(given), cwd=self.folder, env=self._environment(), stdout=log, stderr=log
                    )

    def defaults(self, job: str) -> Words:
        """The deployed job's own arguments."""
        found = client(self.endpoint.connection, "glue").get_job(JobName=job)["Job"]
        return dict(found.get("DefaultArguments") or {})

    def _environment(self) -> dict[str, str]:
        own = {"AWS_ENDPOINT_URL": self.endpoint.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        path = os.pathsep.join([str(ROOT / "pipelines"), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, **own, "PYTHONPATH": path, **self.environment}

    def answered(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.calls.append(operation)
            job = request["JobName"]
            if operation == "StartJobRun":
                return self.started(job, request.get("Arguments", {}))
            self.begin()
            for run in self.runs:
                self._keep_log(run)
            if operation == "GetJobRuns":
                return {"JobRuns": [run.document() for run in reversed(self.runs) if run.job == job]}
            if operation == "GetJobRun":
                return {"JobRun": next(run.document() for run in self.runs if run.id == request["RunId"])}
            for run in self.runs:
                if run.id in request["JobRunIds"]:
                    self._stop(run)
            return {"SuccessfulSubmissions": [], "Errors": []}

    def _stop(self, run: Run) -> None:
        run.stopped = True
        if run.process:
            run.process.kill()

    def _keep_log(self, run: Run) -> None:
        """Stores both streams of a driver as Glue 5.0 does."""
        if run.process is None or run.process.poll() is None or run.logged:
            return
        run.logged = True
        logs = client(self.endpoint.connection, "logs")
        for create, names in (
            (logs.create_log_group, {"logGroupName": LOG_GROUP}),
            (logs.create_log_stream, {"logGroupName": LOG_GROUP, "logStreamName": run.id}),
        ):
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                create(**names)
        lines = run.log.read_text(errors="replace").splitlines() or ["-"]
        events = [{"timestamp": int(time.time() * 1000), "message": line or " "} for line in lines]
        logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=run.id, logEvents=events)

    def forward(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        kept = {name: value for name, value in headers.items() if name.lower() not in _NOT_FORWARDED}
        return self.pool.request(
            method, self.endpoint.url + path, body=body, headers=kept, decode_content=False, redirect=False
        )

    def close(self) -> None:
        for run in self.runs:
            self._stop(run)
            if run.process:
                run.process.wait(HANG_SECONDS)
        self.pool.clear()


@contextmanager
def glue_before(endpoint: Endpoint, folder: Path) -> Iterator[GlueStandIn]:
    """A stand-in on a free loopback port, in threads of this process; the processes that it started are killed at the
    end."""
    stand_in = GlueStandIn(endpoint, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, stand_in))
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        stand_in.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, stand_in: GlueStandIn, *arguments: Any) -> None:
        self.stand_in = stand_in
        super().__init__(*arguments)

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service, _, operation = (self.headers.get("X-Amz-Target") or "").partition(".")
        if service == "AWSGlue" and operation in _OURS:
            return self._glue(operation, json.loads(body))
        response = self.stand_in.forward(self.command, self.path, body, self.headers)
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self._end(response.data, response.headers.get("Content-Length") if self.command == "HEAD" else None)
        return None

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _any  # noqa: N815

    def _glue(self, operation: str, request: dict[str, Any]) -> None:
        answer = self.stand_in.answered(operation, request)
        if operation in self.stand_in.lost:
            self.stand_in.lost.remove(operation)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response_only(400 if "__type" in answer else 200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self._end(json.dumps(answer).encode())

    def _end(self, data: bytes, length: str | None = None) -> None:
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
