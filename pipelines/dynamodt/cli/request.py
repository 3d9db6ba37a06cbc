"""One parsed command: its required options, and its text as it is typed, also by make and the Serverless plugin."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import join, quote
from typing import Any

from dynamodt.errors import PROGRAM, Hint, UsageError, option_words, suggest
from dynamodt.model.pages import Units
from dynamodt.model.tables import TableNames
from dynamodt.runs.options import (
    CONFIRMED,
    GLUE,
    MIGRATIONS,
    OF_A_RUN,
    SAMPLE,
    SHOW,
    STAGE_VARIABLE,
    Command,
    Option,
    RunOptions,
    command_argv,
    options_of,
    run_argv,
    takes_several_tables,
)
from dynamodt.script.names import seconds, tables


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


_NAMES = {"create": "split_name"}
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
    if options.keys and not options.in_doubt:
        raise UsageError("--key needs --in-doubt", hint="add it: --in-doubt again, or --in-doubt done")
    if options.accept and options.accept_all:
        raise UsageError("--accept and --accept-all exclude each other", hint="leave one of them out")
    if (options.accept or options.accept_all) and not options.reason.strip():
        raise UsageError(f"--accept{'' if options.accept else '-all'} needs --reason", hint="add it: --reason TEXT")


def _example(request: Request) -> Hint:
    """The command with the options that were given, one table, and examples of what is missing."""
    if request.command in (*OF_A_RUN, SHOW):
        return suggest("history") + " shows the ids of runs"
    name = request.name or _NAMES.get(request.command, "")
    words = command_argv(replace(request, tables=(*request.tables, _table_here())[:1], name=name))
    examples = _EXAMPLES.get(request.command, {}) if not any(request.limits) else {}
    missing = [option_words(f"--{name}", value) for name, value in examples.items() if f"--{name}" not in words]
    return Hint((words[0], *(word for each in missing for word in each), *words[1:]))


def _table_here() -> str:
    """A table's name for an example of a command: one of the current folder, if it has any."""
    return next(iter(tables(Path("transforms"), needed=False)), "users")


def check_rates(request: Request, parsed: Mapping[str, Any]) -> None:
    """Raises UsageError for 0, which means no limit, while its author means that nothing may be used."""
    for option in options_of(request.command):
        if option.is_rate and parsed[option.parameter] is not None and not parsed[option.parameter] > 0:
            raise UsageError(f"{option.names[0]} must be above 0", hint=_without_rate(request, option))


def _without_rate(request: Request, option: Option) -> Hint:
    if option.names[0] in ("--max-usd", "--max-hours"):
        return Hint("leave it out for no limit")
    hint = Hint(
        "leave it out: the limit stays as it is"
        if request.command == "throttle"
        else "leave it out for the usual limit"
    )
    if request.command not in ("throttle", *MIGRATIONS, *OF_A_RUN) or (request.run and not request.tables):
        return hint
    pause = suggest("pause", table=(*request.tables, _table_here())[0])
    return hint + "; " + with_stage(pause, request.stage) + " pauses an active run"


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
    gives if the Serverless Framework has. In a deployed job it is the command that starts the job."""
    if _needs_yes and request.command in CONFIRMED and not request.options.dry_run:
        request = Request(**{**vars(request), "yes": True})
    if _in_job:
        request = replace(request, options=replace(request.options, runner=GLUE))
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


_in_job = False


def in_job(is_job: bool) -> None:
    """Writes all later commands as the caller of a deployed job types them, who names no Spark."""
    global _in_job
    _in_job = is_job


_needs_yes = False


def with_yes(is_needed: bool) -> None:
    """Writes all later commands that are confirmed with `--yes`: the stage is protected, and there is no terminal."""
    global _needs_yes
    _needs_yes = is_needed


def completed(hint: Hint, request: Request, names: TableNames) -> Hint:
    """A hint whose commands have the runner and the stage of the request, and the logical names of the tables."""
    return with_tables(with_stage(with_runner(_confirmed(hint), request.options), request.stage), names)


def _confirmed(hint: Hint) -> Hint:
    def confirmed(words: tuple[str, ...]) -> tuple[str, ...]:
        asks = _needs_yes and words[0] in CONFIRMED and not {"--yes", "--dry-run", "--help"} & {*words}
        return (words[0], "--yes", *words[1:]) if asks else words

    return Hint(*(part if isinstance(part, str) else confirmed(part) for part in hint.parts))


def with_runner(hint: Hint, options: RunOptions) -> Hint:
    """Adds the runner to the commands of a hint that take one and name none, if it is a deployed job: on this machine,
    they would be executed by this machine, which may lack what they need."""
    if not _in_job and options.runner != GLUE:
        return hint
    return Hint(*(part if isinstance(part, str) else _on_glue(part) for part in hint.parts))


def _on_glue(words: tuple[str, ...]) -> tuple[str, ...]:
    takes_runner = any(option.field == "options.runner" for option in options_of(words[0]))
    if not takes_runner or "--runner" in words or "--help" in words or (words[0] == "prepare" and in_service()):
        return words
    return (words[0], *option_words("--runner", GLUE), *words[1:])


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


# ---------------------------------------------------------------- as the plugin of the Serverless Framework has it

_BY_PLUGIN = "DYNAMODT_SERVICE"  # what the plugin gives the stage: see `config.stage`
_ANY = {"--table": "--table", "--stage": "--stage", "--dry-run": "--dry"}
_RUNS = {**_ANY, "--to": "--to", "--runner": "--runner", "--wait-lock": "--wait-lock"}
_OF_PLUGIN = {
    **dict.fromkeys(("init", "history", "status"), _ANY),
    "up": _RUNS,
    "down": {**_RUNS, "--yes": "--yes"},
    "prepare": {**_ANY, "--version": "--tNumber"},
}


def in_service() -> bool:
    """Whether the plugin of the Serverless Framework has started this program."""
    return bool(os.environ.get(_BY_PLUGIN))


def plugin_command(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """The Serverless Framework's form of a command, if its plugin has started this program; empty if it has not, or if
    the plugin lacks the command or an option."""
    given, flags = environment.get(_BY_PLUGIN), _OF_PLUGIN.get(words[0]) if words else None
    if not given or flags is None:
        return ""
    typed, rest = ["sls", "dynamodt", words[0]], list(words[1:])
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in flags:
            return ""
        named = [] if flag in ("--dry-run", "--yes") else [value if equals else rest.pop(0)]
        typed += [flags[flag], *(_stage_of(given, named[0]) if flag == "--stage" else named)]
    return join(typed)


def _stage_of(given: str, stage: str) -> list[str]:
    """The framework's own name of a stage, as its options take it."""
    of = json.loads(given)
    return [of.get("serverless", stage) if of.get("stage") == stage else stage]


def with_plugin(hint: Hint, stage: str, environment: Mapping[str, str] = os.environ) -> Hint:
    """A hint for a service: with the plugin's commands, and for any other command with the missing entry of
    `dynamodt.toml`."""
    if not environment.get(_BY_PLUGIN):
        return hint
    typed = [part if isinstance(part, str) else (plugin_command(part, environment) or part) for part in hint.parts]
    others = list(dict.fromkeys(part[0] for part in typed if not isinstance(part, str) and "--stage" in part))
    needs = needs_entry(stage, environment) if others else ""
    return Hint(*typed, *([f"; {', '.join(f'`{name}`' for name in others)}: {needs}"] if needs else []))


def with_needs(text: str, command: Command) -> str:
    """A text about a command; if the plugin lacks the command, with the entry that it needs."""
    needs = "" if plugin_command(command_argv(command)) else needs_entry(command.stage)
    return f"{text} ({needs})" if needs else text


def needs_entry(stage: str, environment: Mapping[str, str] = os.environ) -> str:
    """The entry in `dynamodt.toml` that a command without a form of the plugin needs; empty if the file has the
    stage."""
    from dynamodt.config.settings import FILE_NAME, read_settings

    of = json.loads(environment.get(_BY_PLUGIN) or "{}")
    if of.get("stage") != stage or stage in read_settings(Path(FILE_NAME)):
        return ""
    given = {"region": environment.get("AWS_REGION"), "storage": of.get("storage")}
    keys = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items() if value)
    tables = ", ".join(f"{name} = {json.dumps(source)}" for name, source in of.get("tables", {}).items())
    return f"this needs [stages.{stage}] in {FILE_NAME}, with {keys}, tables = {{ {tables} }}"
