"""One parsed command: its required options, its text (for `dynamodt` or for `make`), and the next steps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import join, quote
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.errors import PROGRAM, CostReached, Hint, Refused, ServiceError, UsageError, option_words, suggest
from dynamodt.model.pages import Units
from dynamodt.runs.options import (
    GLUE,
    MIGRATIONS,
    OF_A_RUN,
    SAMPLE,
    SHOW,
    STAGE_VARIABLE,
    Command,
    RunOptions,
    command_argv,
    options_of,
    run_argv,
    takes_several_tables,
)
from dynamodt.script.names import seconds

if TYPE_CHECKING:
    from dynamodt.model.reports import RunReport, TableReport, TableStatus, TakeOver, UndoReport
    from dynamodt.model.tables import TableNames


@dataclass(frozen=True)
class Request(Command):
    """A command as it was typed. `name` is the version that `create` makes, `key` the one of a table that `init`
    declares, `limits` are those of `throttle`; `purge` and `yes` are for `destroy`: delete the data too, and ask
    nothing; `state_only` is for `deploy`; `full` and `in_job` are for `doctor`: try the service, and run in the
    deployed job; `follow` and `check` are for `status`, `keys` and `verbose` for `show`. `log_file` gets the messages
    in `log_format`, which is that of stderr without a file. `sample`, `items`, `export`, `variants`, `save` and
    `markdown` are for `check`; `sample`, `max_hours` and `markdown` also for `plan`."""

    name: str = ""
    key: str = ""
    json: bool = False
    interactive: bool = False
    limits: Units = Units()
    follow: bool = False
    check: bool = False
    sample: int = SAMPLE
    max_hours: float = 0.0
    markdown: bool = False
    purge: bool = False
    state_only: bool = False
    yes: bool = False
    full: bool = False
    in_job: bool = False
    log_file: str = ""
    log_format: str = ""
    items: str = ""
    export: str = ""
    variants: int = 300
    save: bool = False
    keys: bool = False
    verbose: bool = False


_ARGUMENTS = {"create": ("split_name",)}
_EXAMPLES: dict[str, dict[str, str | int]] = {
    "prepare": {"version": "N"},
    "stamp": {"to": "N"},
    "repair": {"reason": "WHY"},
    "throttle": {"wcu": 200},
}
_EXCLUSIVE = (("check", "follow"), ("items", "export"), ("json", "markdown"))


def check(request: Request) -> None:
    """Raises UsageError for options that are missing, contradict each other, or have an unknown value."""
    for option in options_of(request.command):
        value = option.value(request)
        if request.command in option.needed and value in (option.default, ()):
            name = option.names[0] if option.names else option.metavar
            raise UsageError(f"`{request.command}` needs {name}", hint=_example(request))
        if option.choices and value and value not in option.choices:
            hint = f"use one of: {', '.join(option.choices)}; " + suggest(request.command, help=True)
            raise UsageError(f"{option.names[0]} cannot be {value!r}", hint=hint)
    if not takes_several_tables(request.command) and len(request.tables) > 1:
        raise UsageError(f"`{request.command}` takes one --table", hint=_example(request))
    if request.command == "throttle" and not any(request.limits):
        raise UsageError("`throttle` needs --wcu or --rcu, above 0", hint=_example(request))
    for one, other in _EXCLUSIVE:
        if getattr(request, one) and getattr(request, other):
            raise UsageError(f"--{one} and --{other} exclude each other", hint="leave one of them out")
    _check_options(request, request.options)
    _check_accepting(request.options)


def _check_accepting(options: RunOptions) -> None:
    """Raises UsageError if dead letters are accepted in both ways, or without a reason."""
    if options.accept and options.accept_all:
        raise UsageError("--accept and --accept-all exclude each other", hint="leave one of them out")
    if (options.accept or options.accept_all) and not options.reason.strip():
        raise UsageError(f"--accept{'' if options.accept else '-all'} needs --reason", hint="add it: --reason TEXT")


def _example(request: Request) -> Hint:
    if request.command in (*OF_A_RUN, SHOW):
        return suggest("history") + " shows the ids of runs"
    from dynamodt.config.names import example

    more = {"table": (*request.tables, example())[0], **_EXAMPLES.get(request.command, {})}
    return suggest(request.command, *_ARGUMENTS.get(request.command, ()), **more)


def _check_options(request: Request, options: RunOptions) -> None:
    if request.command == "prepare" and options.runner not in ("direct", GLUE):
        raise UsageError(
            f"`prepare` does not run with --runner {options.runner}",
            hint=f"leave the option out, or use the deployed job: --runner {GLUE}",
        )
    if options.source == "scan" and (options.export or options.catch_up):
        raise UsageError("--export and --catch-up are for --source export", hint="leave them out, or --source scan")
    seconds("--wait-lock", options.wait_lock)
    if options.beam_args and request.command not in (*MIGRATIONS, *OF_A_RUN):
        raise UsageError("only `up`, `down`, `undo` and `retry` take Beam's options after `--`", where=request.command)


# ---------------------------------------------------------------- as it is typed

_BY_MAKE = "DYNAMODT_MAKE"
_INSTALLED = ".venv/bin/"
_MAKE_TARGETS = {"up": "run", "down": "run", "prepare": "prepare", "deploy": "deploy"}


def as_typed(request: Command, environment: Mapping[str, str] = os.environ) -> str:
    """The command line of this request: `make TARGET ...` if make has started the program, and what `plugin_command`
    gives if the Serverless Framework has."""
    from dynamodt.cli.plugin import plugin_command

    if typed := plugin_command(command_argv(request), environment):
        return typed
    if not environment.get(_BY_MAKE):
        return f"{program(environment)} {join(command_argv(request))}"
    target = None if getattr(request, "state_only", False) else _MAKE_TARGETS.get(request.command)
    if target is None:
        return join([program(environment), *command_argv(request)])
    version = request.number if request.command == "prepare" else request.to
    pairs = {
        "TABLE": ",".join(request.tables),
        "VERSION": "" if version is None else str(version),
        "DIRECTION": "down" if request.command == "down" else "",
        "STAGE": "" if request.stage == "local" else request.stage,
        "RUNNER": "" if request.options.runner == "direct" else request.options.runner,
        "DRY": "1" if request.options.dry_run else "",
        "ARGS": join(run_argv(request)),
    }
    return " ".join(["make", target, *(f"{name}={quote(value)}" for name, value in pairs.items() if value)])


def program(environment: Mapping[str, str] = os.environ) -> str:
    """The program's name for a shell: with make, the program is in .venv, not on the PATH; with `-C` if it was
    given."""
    return (_INSTALLED if environment.get(_BY_MAKE) else "") + PROGRAM + (f" -C {quote(_folder)}" if _folder else "")


_folder = ""  # of `-C`


def in_folder(folder: str) -> None:
    """Writes all later commands for this folder; empty: for the current one."""
    global _folder
    _folder = folder


def with_stage(hint: Hint, stage: str) -> Hint:
    """Adds the stage to the commands of a hint that name none."""
    return Hint(*(part if isinstance(part, str) else _staged(part, stage) for part in hint.parts))


def _staged(words: tuple[str, ...], stage: str) -> tuple[str, ...]:
    takes_stage = any(option.field == "stage" for option in options_of(words[0]))
    is_default = stage == "local" and not os.environ.get(STAGE_VARIABLE)
    if is_default or not takes_stage or "--stage" in words or "--help" in words:
        return words
    return (words[0], *option_words("--stage", stage), *words[1:])


def with_tables(hint: Hint, names: TableNames) -> Hint:
    """A hint whose commands have the logical names of tables."""
    return Hint(*(part if isinstance(part, str) else _by_logical_name(part, names) for part in hint.parts))


def _by_logical_name(words: tuple[str, ...], names: TableNames) -> tuple[str, ...]:
    flags = ("", *words[:-1])
    return tuple(names.logical(word) if flag == "--table" else word for flag, word in zip(flags, words, strict=True))


# ---------------------------------------------------------------- what to try next


class NextStep(NamedTuple):
    command: str
    why: str


CommandStep = tuple[Command, str]
Step = CommandStep | tuple[str, str]  # a command, or that of another program as it is typed; and why


def written_steps(
    request: Request, steps: Iterable[Step], environment: Mapping[str, str] = os.environ
) -> list[NextStep]:
    """The steps as they are typed; those that the plugin lacks with the entry that they need."""
    from dynamodt.cli.plugin import needs_entry, plugin_command

    needs, written = needs_entry(request.stage, environment), list[NextStep]()
    for command, why in steps:
        if needs and isinstance(command, Command) and not plugin_command(command_argv(command), environment):
            why, needs = f"{why}; {needs}", "this needs it, too"
        written.append(NextStep(command if isinstance(command, str) else as_typed(command, environment), why))
    return written


def steps_of(request: Request, report: TableReport) -> list[CommandStep]:
    """Two or three commands that make sense after this table's `up`, `down` or `retry`."""
    options = replace(request.options, reason="")
    asked = replace(
        request, tables=(report.table,), json=False, interactive=False, log_file="", log_format="", options=options
    )
    if request.command == "retry" and options.dry_run:
        return [(_without_dry_run(request), "replay them")]
    if request.command == "retry":  # it continues as `up` or `down` would
        options = replace(options, in_doubt="", accept=(), accept_all=False)
        asked = replace(asked, command=report.direction, run="", options=options)
    return _after(asked, report)


def after_init(missing: Sequence[str]) -> list[Step]:
    """The steps after `init` for tables that the embedded stage lacks: declare their keys, so that it creates them."""
    why = "with the table's own key: the local stage creates the table"
    return [(Request("init", tables=(table,), key="id:S"), why) for table in missing]


def after_files(request: Request) -> list[Step]:
    """The steps after a script was written: `check` and a dry run."""
    from dynamodt.cli.plugin import in_service

    checked = Command("check", request.stage, request.tables), "test it on a sample of items"
    tried = dry_run_of(request), "try it on all items, without writing"
    return [tried] if in_service() else [checked, tried]


def step_after_sample(request: Request, table: str) -> Step:
    """The step after `check` or `plan`: a dry run with the same limits, except that of the cost, which a dry
    run does not have."""
    up = Command("up", request.stage, (table,), request.to, options=replace(request.options, max_usd=0.0))
    return dry_run_of(up), "try it on all items, without writing"


def after_preparation(request: Request, status: TableStatus, unprepared: int = 0) -> list[Step]:
    """The steps after `prepare`: `up` to the version that joins the data; first `prepare` of the earlier version
    `unprepared`, which lacks its data; or the status, if the version is applied or cannot be reached now."""
    number = request.number or 0
    refused = {"edited", "unfinished", "running"} & {version.state for version in status.versions}
    if number <= status.at or refused or status.error or status.younger or status.older_state:
        why = f"version {status.at} is applied" if status.at else "shows the obstacle"
        return [(Command("status", request.stage, request.tables), why)]
    if 0 < unprepared < number:
        return [_preparation(request, unprepared)]
    up = Command("up", request.stage, request.tables, request.number, options=request.options)
    return [(dry_run_of(up), "try it without writing"), (up, "write it")]


def after_baseline(request: Request, taken: TakeOver) -> list[Step]:
    """The steps after `stamp`, `import-history` or `repair`: the status, and the pending versions."""
    if taken.dry_run and taken.records:
        return [(_without_dry_run(request), "record it")]
    plain = Command("status", request.stage, request.tables)
    steps: list[Step] = [(plain, _STATUS)]
    if any(version.outcome == "edited" for version in taken.outcomes):
        accepting = replace(plain, command="repair", options=RunOptions(reason="WHY"))
        steps.insert(0, (accepting, "accept the edit, if what is applied may stay as it is"))
    return [*steps, (dry_run_of(plain), "try what is pending without writing")] if taken.at < taken.latest else steps


def after_undo(request: Request, undo: UndoReport, names: TableNames) -> list[Step]:
    """The step after `undo`: the same without a dry run, or the status."""
    if undo.run.status == "dry-run":
        return [(_without_dry_run(request), "undo it")]
    status = Command("status", request.stage, (names.logical(undo.run.table),))
    return [(status, f"{names.shown(undo.run.table)} is at version {undo.at}")]


def after_deploy(request: Request, dry_run: bool) -> list[Step]:
    """The steps after `deploy`: the same without a dry run, or the pending versions and the job that applies them."""
    if dry_run:
        return [(_without_dry_run(request), "deploy it")]
    status: Step = Command("status", request.stage), _STATUS
    if request.state_only:
        return [status]
    on_glue = Command("up", request.stage, options=RunOptions(runner=GLUE))
    tried = dry_run_of(on_glue), "try what is pending in the job, without writing"
    return [status, tried, (on_glue, "apply it there")]


def _without_dry_run(request: Request) -> Request:
    return replace(request, json=False, interactive=False, options=replace(request.options, dry_run=False))


_STATUS = "what is applied, what is pending"


def with_higher_limit(request: Request, reached: CostReached) -> Request:
    """The request with a higher limit of its cost, which an earlier attempt has reached."""
    higher = reached.higher or 2 * request.options.max_usd
    return replace(request, options=replace(request.options, max_usd=higher))


def dry_run_of(command: Command) -> Command:
    """The dry run of `up` for the command's tables."""
    options = replace(command.options, dry_run=True)
    return Command("up", command.stage, command.tables, command.to, options=options)


def _after(request: Request, report: TableReport) -> list[CommandStep]:
    options = replace(request.options, dry_run=False)
    plain = replace(request, to=None, options=replace(options, max_errors=0, wait_lock=""))
    status = replace(plain, command="status", tables=()), _STATUS
    if report.error is not None or any(run.status == "failed" for run in report.versions):
        rehearsed = replace(request, options=replace(options, dry_run=True)), "try it without writing"
        refused = request.options.dry_run and isinstance(report.error, Refused)  # it would be again
        return [*_continuation_steps(request, report), *([] if refused else [rehearsed]), status]
    if request.options.dry_run:
        return [(replace(request, options=options), "write it"), status] if report.versions else [status]
    steps = [_preparation(plain, report.unprepared)] if report.unprepared else []
    steps += [(replace(plain, command="up"), _pending(report))] if report.at < report.latest else []
    return [*_with_dead_letters(plain, report), *steps, status, *_step_back(plain, report)]


def _with_dead_letters(plain: Request, report: TableReport) -> list[CommandStep]:
    """The steps for the dead letters of a run that has succeeded."""
    last = report.versions[-1] if report.versions else None
    if last is None or not last.tolerated:
        return []
    return [(_show_run(plain, last), "its dead letters"), (_for_run(plain, "retry", last), "after a fix: replay them")]


def _show_run(request: Request, run: RunReport) -> Request:
    return replace(request, command="show", run=run.run, to=None)


def _continuation_steps(request: Request, report: TableReport) -> list[CommandStep]:
    """The steps that continue an unfinished run."""
    left = next((run for run in report.versions if run.left_early), None)
    if left is None or request.options.dry_run:
        return []
    goes_on = left.status != "failed" or isinstance(report.error, ServiceError)
    onward = with_higher_limit(request, report.error) if isinstance(report.error, CostReached) else request
    steps: list[CommandStep] = [(onward, "continue it")] if goes_on else []
    steps += [(_show_run(request, left), "its dead letters, by error")] if left.dead_letters else []
    steps += [(_for_run(request, "retry", left), "after a fix: replay its dead letters")] if left.dead_letters else []
    undone = [(_for_run(request, "undo", left), "undo its changes")]
    return steps + (undone if left.journal and left.counts.changed else [])


def _step_back(plain: Request, report: TableReport) -> list[CommandStep]:
    what = f"roll back version {report.at}"
    if report.at and report.reversible:
        return [(replace(plain, command="down", options=_without_choices(plain.options)), what)]
    last = report.versions[-1] if report.versions else None
    undoable = last is not None and last.journal and last.direction == "up"  # the version, and not a `down` of the next
    return [(_for_run(plain, "undo", last), what)] if last is not None and undoable else []


def _for_run(request: Request, command: str, run: RunReport) -> Request:
    options = replace(_without_choices(request.options), max_errors=0)
    return replace(request, command=command, run=run.run, to=None, options=options)


def _without_choices(options: RunOptions) -> RunOptions:
    """The request without the options that apply to one version's run only."""
    return replace(options, journal=None, source="", export="", catch_up="", wait_lock="")


def _preparation(plain: Request, version: int) -> CommandStep:
    asked = Command("prepare", plain.stage, plain.tables, number=version)
    return asked, f"first gather the data that version {version} joins"


def _pending(report: TableReport) -> str:
    first = report.at + 1
    return f"version {first}, the last one" if first == report.latest else f"versions {first} to {report.latest}"
