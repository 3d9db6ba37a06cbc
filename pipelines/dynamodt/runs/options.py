"""What a person asks for, as values, and the interfaces between the command line and the operations behind it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dynamodt.errors import UsageError
from dynamodt.model.items import Direction
from dynamodt.model.pages import Units
from dynamodt.model.reports import RunReport, TableReport, TableStatus, TakeOver, UndoReport
from dynamodt.model.runs import Lease, PreparedRef, RunProgress, RunRecord, RunState
from dynamodt.model.tables import Stage
from dynamodt.script.names import seconds

PROGRAM = "dynamodt"
GLUE = "glue"  # the runner that is a deployed job
MOVES = ("up", "down")
TOLD = ("pause", "resume", "abort", "unlock", "throttle")
TAKEN_OVER = ("stamp", "adopt")
OF_A_RUN = ("undo", "retry")
DOUBTFUL = ("again", "done")
_NEEDS_TABLE = ("create", "prepare", "down", *TOLD, *TAKEN_OVER)


DEFAULT_SHARE = 50.0
SOURCES = ("scan", "export")
CATCH_UPS = ("windows", "scan", "none")


@dataclass(frozen=True)
class RunOptions:
    """How to run: `max_errors` dead letters are tolerated; `beam_args` go to Beam as they are. `max_wcu` and `max_rcu`
    are units a second (0: as the stage has it), `share` is the percentage of what a table has provisioned. `journal` is
    the script's to decide where it is None; `alarms` of CloudWatch let the run rest. With `only`, a run's id, that
    unfinished run goes on or none; `doubtful` says what a person has decided about its letters of doubtful writes:
    "again" (transform them afresh), "done" (they are written), or nothing yet. `source` is "scan" or "export" (empty:
    as the script says); `export` is "new", an export's ARN, or its place in S3; `catch_up` is "windows", "scan" or
    "none". `spark_master` is of a local Spark (empty: all cores of this machine); `workers` is found out when the
    runner is ready. `partial` lets an undo restore what a journal that is not whole still has, `accept_partly_restored`
    lets a run transform items that an undo has restored in part.
    `wait_lock` is how long to wait for another run on the table, such as "10m" (empty: not at all)."""

    dry_run: bool = False
    max_errors: int = 0
    max_wcu: float = 0.0
    max_rcu: float = 0.0
    share: float = DEFAULT_SHARE
    runner: str = "direct"
    beam_args: tuple[str, ...] = ()
    no_pitr: bool = False
    journal: bool | None = None
    alarms: tuple[str, ...] = ()
    doubtful: str = ""
    only: str = ""
    source: str = ""
    export: str = ""
    catch_up: str = ""
    spark_master: str = ""
    workers: int = 1
    wait_lock: str = ""
    partial: bool = False
    accept_partly_restored: bool = False


@dataclass(frozen=True)
class Request:
    """One command, parsed. `number` is the version that `prepare` is for, `name` the one that `create` makes, `run` the
    run (or the beginning of its id) that `undo` and `retry` are about, `limits` are those of `throttle`. `purge` and
    `yes` are for `destroy`: its data too, and without a question."""

    command: str
    stage: str = "local"
    tables: tuple[str, ...] = ()
    to: int | None = None
    number: int | None = None
    name: str = ""
    json: bool = False
    interactive: bool = False
    run: str = ""
    options: RunOptions = RunOptions()
    limits: Units = Units()
    follow: bool = False
    purge: bool = False
    yes: bool = False


def command_words(request: Request) -> list[str]:
    """The words that ask for this request, without the program's name; defaults are left out."""
    words = request.command.split()
    for table in request.tables:
        words += [f"--table={table}"] if table.startswith("-") else ["--table", table]  # a name may begin with one
    for flag, value in (("--tNumber", request.number), ("--to", request.to)):
        words += [] if value is None else [flag, str(value)]
    for flag, units in (("--wcu", request.limits.wcu), ("--rcu", request.limits.rcu)):
        words += [flag, f"{units:g}"] if units else []
    words += [] if request.stage == "local" else ["--stage", request.stage]
    words += [flag for flag, given in _flags(request).items() if given]
    words += option_words(request.options)
    words += [] if request.options.runner == "direct" else ["--runner", request.options.runner]
    words += [word for word in (request.name, request.run) if word]
    return words + (["--", *request.options.beam_args] if request.options.beam_args else [])


def _flags(request: Request) -> dict[str, bool]:
    return {
        "--follow": request.follow,
        "--purge": request.purge,
        "--yes": request.yes,
        "--json": request.json,
        "--dry-run": request.options.dry_run,
    }


def command_line(request: Request) -> str:
    """The same as one line that a shell accepts."""
    return shlex.join([PROGRAM, *command_words(request)])


def check(request: Request) -> None:
    """Raises UsageError for words that cannot be together, or are missing."""
    if request.command in _NEEDS_TABLE and len(request.tables) != 1:
        raise UsageError(f"`{request.command}` needs one --table", hint=f"{PROGRAM} {_EXAMPLES[request.command]}")
    if request.command == "prepare":
        _check_prepare(request)
    if request.command == "create" and not request.name:
        raise UsageError("`create` needs a name for the version", hint=f"{PROGRAM} {_EXAMPLES['create']}")
    if request.command == "throttle" and not any(request.limits):
        raise UsageError("`throttle` needs --wcu or --rcu, above 0", hint=f"{PROGRAM} {_EXAMPLES['throttle']}")
    if request.command == "stamp" and request.to is None:
        raise UsageError("`stamp` needs --to", hint=f"{PROGRAM} {_EXAMPLES['stamp']}")
    if request.command in OF_A_RUN:
        _check_run(request)
    _check_source(request.options)
    seconds("--wait-lock", request.options.wait_lock)
    if request.options.beam_args and request.command not in (*MOVES, *OF_A_RUN):
        raise UsageError("only `up`, `down`, `undo` and `retry` take Beam's options after `--`", where=request.command)


def _check_prepare(request: Request) -> None:
    if request.number is None:
        raise UsageError("`prepare` needs --tNumber", hint=f"{PROGRAM} {_EXAMPLES['prepare']}")
    if request.options.runner not in ("direct", GLUE):
        raise UsageError(
            f"`prepare` has no runner {request.options.runner!r}: nothing of it is divided among workers",
            where="--runner",
            hint=f"leave it out, or gather the data in the deployed job: --runner {GLUE}",
        )


def _check_run(request: Request) -> None:
    if not request.run:
        raise UsageError(f"`{request.command}` needs the id of a run", hint=f"{PROGRAM} history shows them")
    if request.options.doubtful not in ("", *DOUBTFUL):
        hint = f"use one of: {', '.join(DOUBTFUL)}; {PROGRAM} retry --help says what they do"
        raise UsageError(f"--doubtful cannot be {request.options.doubtful!r}", hint=hint)


def _check_source(options: RunOptions) -> None:
    for flag, value, known in (
        ("--source", options.source, SOURCES),
        ("--catch-up", options.catch_up, CATCH_UPS),
    ):
        if value and value not in known:
            raise UsageError(f"{flag} cannot be {value!r}", hint=f"use one of: {', '.join(known)}")
    if options.source == SOURCES[0] and (options.export or options.catch_up):
        raise UsageError("--export and --catch-up are for --source export", hint="leave them out, or --source scan")


_EXAMPLES = {
    "create": "create --table users split_name",
    "prepare": "prepare --table users --tNumber 3",
    "down": "down --table users",
    "stamp": "stamp --table users --to 3",
    "adopt": "adopt --table users",
    **{command: f"{command} --table users" for command in TOLD},
    "throttle": "throttle --table users --wcu 200",
}


def option_words(options: RunOptions) -> list[str]:
    """The words for how to run, but for a dry run and the runner: `make run` has names of its own for these two."""
    words = ["--max-errors", str(options.max_errors)] if options.max_errors else []
    words += ["--max-wcu", f"{options.max_wcu:g}"] if options.max_wcu else []
    words += ["--max-rcu", f"{options.max_rcu:g}"] if options.max_rcu else []
    words += ["--share", f"{options.share:g}"] if options.share != DEFAULT_SHARE else []
    words += ["--spark-master", options.spark_master] if options.spark_master else []
    words += _caution_words(options)
    words += ["--doubtful", options.doubtful] if options.doubtful else []
    words += ["--source", options.source] if options.source else []
    words += ["--export", options.export] if options.export else []
    return words + (["--catch-up", options.catch_up] if options.catch_up else [])


def _caution_words(options: RunOptions) -> list[str]:
    """The words for what a run does without, waits or rests for."""
    words = ["--no-pitr"] if options.no_pitr else []
    words += ["--partial"] if options.partial else []
    words += ["--accept-partly-restored"] if options.accept_partly_restored else []
    words += [] if options.journal is None else ["--journal" if options.journal else "--no-journal"]
    words += ["--wait-lock", options.wait_lock] if options.wait_lock else []
    return words + [word for name in options.alarms for word in ("--pause-on-alarm", name)]


class Observer(Protocol):
    """Follows a run; called from the main thread several times a second."""

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        """`expected_items` is DynamoDB's own count: up to six hours old, 0 where it is not known."""

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        """Where the table's run stands."""

    def run_ended(self, report: RunReport) -> None:
        """The run that was started last has ended, whichever way."""

    def note(self, text: str) -> None:
        """Something worth a line: "starting the local stage", "created table users"."""


class Watcher(Observer, Protocol):
    """Follows runs that are at work elsewhere."""

    def run_found(self, record: RunRecord, expected_items: int, elapsed: float) -> None:
        """One is at work, and has been for so many seconds."""

    def tick(self) -> None:
        """Time has passed, and nothing else is known to have happened."""


class JobWatcher(Watcher, Protocol):
    """Follows a job that is at work elsewhere for whoever has started it."""

    def waiting(self, text: str) -> None:
        """As long as no run is at work this is what is awaited: "dynamodt-prod: starting"."""

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        """What a person chooses of `choices` (words, and what they mean); the first, where nobody can be asked."""


class Operations(Protocol):
    """The module behind the verbs. An empty `tables` means every table that has a folder."""

    def open_stage(self, name: str, folder: Path, observer: Observer) -> Stage: ...

    def up(
        self,
        stage: Stage,
        folder: Path,
        tables: Sequence[str],
        to: int | None,
        options: RunOptions,
        observer: Observer,
        /,
    ) -> list[TableReport]: ...

    def down(
        self,
        stage: Stage,
        folder: Path,
        tables: Sequence[str],
        to: int | None,
        options: RunOptions,
        observer: Observer,
        /,
    ) -> list[TableReport]: ...

    def undo(
        self, stage: Stage, folder: Path, tables: Sequence[str], run: str, options: RunOptions, observer: Observer, /
    ) -> UndoReport: ...

    def retry(
        self, stage: Stage, folder: Path, tables: Sequence[str], run: str, options: RunOptions, observer: Observer, /
    ) -> list[TableReport]: ...

    def history(self, stage: Stage, folder: Path, tables: Sequence[str], /) -> dict[str, list[RunRecord]]: ...

    def younger(self, stage: Stage, name: str, runs: Sequence[RunRecord], /) -> str: ...

    def status(self, stage: Stage, folder: Path, tables: Sequence[str], /) -> list[TableStatus]: ...

    def runs(self, stage: Stage, folder: Path, tables: Sequence[str], /) -> list[RunState]: ...

    def follow(self, stage: Stage, folder: Path, tables: Sequence[str], watcher: Watcher, /) -> list[RunReport]: ...

    def prepare(
        self,
        stage: Stage,
        folder: Path,
        table: str,
        version: int,
        observer: Observer,
        /,
        dry_run: bool = False,
        runner: str = "direct",
    ) -> PreparedRef: ...

    def init(self, stage: Stage, folder: Path, tables: Sequence[str], /, dry_run: bool = False) -> list[Path]: ...

    def tell(self, stage: Stage, table: str, command: str, limits: Units = ...) -> Lease: ...

    def stamp(
        self, stage: Stage, folder: Path, table: str, to: int, observer: Observer, /, dry_run: bool = False
    ) -> TakeOver: ...

    def adopt(
        self, stage: Stage, folder: Path, table: str, observer: Observer, /, dry_run: bool = False
    ) -> TakeOver: ...

    def create(self, folder: Path, table: str, name: str, /, dry_run: bool = False) -> list[Path]: ...


class LocalStatus(Protocol):
    """The embedded stage of a folder: whether it runs, and where its data is."""

    @property
    def running(self) -> bool: ...
    @property
    def url(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def folder(self) -> Path: ...
    @property
    def since(self) -> str: ...


class LocalOperations(Protocol):
    """The module behind `dynamodt local`."""

    def status(self, folder: Path) -> LocalStatus: ...

    def stop(self, folder: Path) -> bool: ...

    def reset(self, folder: Path) -> None: ...
