"""The request of a command, the options of the command line in one table, and the interface of an observer of runs.

The parser, the menu and the arguments of a command are made from `OPTIONS`, the only place where an option is declared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dynamodt.errors import UsageError, option_words
from dynamodt.script.names import seconds

if TYPE_CHECKING:
    from dynamodt.model.reports import RunReport
    from dynamodt.model.runs import RunProgress, RunRecord

GLUE = "glue"  # the runner that is a deployed job
DEFAULT_SHARE = 50.0
STAGE_VARIABLE = "DYNAMODT_STAGE"  # the stage of commands without --stage
SAMPLE = 1000  # items of a plan

MIGRATIONS = ("up", "down")
OF_A_RUN = ("undo", "retry")
BASELINE = ("stamp", "import-history", "repair")
CONTROL = ("pause", "resume", "abort", "unlock", "throttle")
ALIASES = {"adopt": "import-history"}  # the name that users of dynamo-data-transform know
READING = ("history", "status")
FILES = ("init", "create")
STACK = ("deploy", "destroy")
DOCTOR = "doctor"
CONFIRMED = ("down", "undo", "unlock", "local reset")  # these ask first; `destroy` asks in its own way
VALIDATE = "validate"  # needs no stage
CHECK = "check"
PLAN = "plan"
SHOW = "show"
_RUNS = (*MIGRATIONS, *OF_A_RUN)
_STAGED = (*FILES, "prepare", PLAN, *_RUNS, *READING, SHOW, "runs", *BASELINE, *CONTROL, *STACK, DOCTOR, CHECK)
RECORDED = (*_RUNS, *BASELINE)  # commands that end in the history
_LOCAL = ("local status", "local env", "local stop", "local reset")
_TABLES = ("--table", "-t", "-n", "--tableNames")  # the last two as in dynamo-data-transform
_OF_TABLES = ("init", "up", *READING, "runs", VALIDATE, PLAN, DOCTOR, CHECK)
_OF_ONE_TABLE = ("create", "prepare", "down", *BASELINE, *CONTROL)


@dataclass(frozen=True)
class RunOptions:
    """The options of a run. An empty text, None or 0 is the default of the script or the stage.

    At most `max_errors` dead letters are tolerated. `max_wcu` and `max_rcu` are capacity units per second, `share` is a
    percentage of the provisioned throughput. `beam_args` are passed to Beam unchanged. With `only`, a run's id, the run
    continues that unfinished run or fails. `in_doubt` decides about dead letters of writes without a response, with
    `keys` only about these: "again" or "done". `accept` are the keys of dead letters that count as accepted,
    `accept_all` means all of them. `by`, `reason` and `commit` are kept in the run's record. `workers` is set when the
    runner is ready. `max_usd` are US dollars, for all runs of a command together.
    """

    dry_run: bool = False
    max_errors: int = 0
    max_wcu: float = 0.0
    max_rcu: float = 0.0
    share: float = DEFAULT_SHARE
    runner: str = "direct"
    beam_args: tuple[str, ...] = ()
    allow_no_pitr: bool = False
    journal: bool | None = None
    alarms: tuple[str, ...] = ()
    in_doubt: str = ""
    keys: tuple[str, ...] = ()
    only: str = ""
    source: str = ""
    export: str = ""
    catch_up: str = ""
    spark_master: str = ""
    workers: int = 1
    wait_lock: str = ""
    strict: bool = False
    reason: str = ""
    accept: tuple[str, ...] = ()
    accept_all: bool = False
    by: str = ""
    commit: str = ""
    partial: bool = False
    accept_partly_restored: bool = False
    single_region_writers: bool = False
    max_usd: float = 0.0


@dataclass(frozen=True)
class Command:
    """One command. `number` is the version to prepare; `run` is the id, or its beginning, of the run to undo or retry.
    An empty `tables` means every table that has a folder."""

    command: str
    stage: str = "local"
    tables: tuple[str, ...] = ()
    to: int | None = None
    number: int | None = None
    run: str = ""
    options: RunOptions = RunOptions()


class Option(NamedTuple):
    """An option, or an argument (without `names`), of some commands. `field` is the attribute of a Command that has its
    value, such as `options.max_wcu`. `names` are its name and aliases; `/` divides the two of a switch. The menu asks
    `question`; `choices` are the allowed values; the commands in `needed` require it; its default is the environment's
    `variable`."""

    field: str
    names: tuple[str, ...]
    commands: tuple[str, ...]
    help: str
    metavar: str = ""
    kind: type = str
    default: Any = ""
    repeated: bool = False
    minimum: int | None = None
    maximum: int | None = None
    shows_default: bool = False
    choices: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    question: str = ""
    variable: str = ""

    @property
    def parameter(self) -> str:
        """The name of the value that the parser returns."""
        return self.field.rpartition(".")[2]

    @property
    def is_rate(self) -> bool:
        """Whether the option is a number of units a second, which must be above 0 if it is given."""
        return self.kind is float and self.default == 0.0

    def value(self, command: Command) -> Any:
        """The option's value in a command; its default if the command has no such field."""
        found: Any = command
        for name in self.field.split("."):
            found = getattr(found, name, self.default)
        return found

    def argv(self, value: object) -> list[str]:
        """The arguments for a value; none for the default."""
        if value == self.default and not (self.variable and os.environ.get(self.variable)):
            return []
        if self.kind is bool:
            return [self.names[0].split("/")[0 if value else -1]]
        values = value if isinstance(value, tuple) else (value,)
        return [word for one in values for word in (option_words(self.names[0], one) if self.names else [str(one)])]


def _flag(
    field: str, names: tuple[str, ...], commands: tuple[str, ...], help: str, default: bool | None = False
) -> Option:
    return Option(field, names, commands, help, kind=bool, default=default)


def _rate(field: str, name: str, commands: tuple[str, ...], help: str, question: str = "") -> Option:
    return Option(field, (name,), commands, help, "N", float, 0.0, minimum=0, question=question)


def _version(field: str, names: tuple[str, ...], command: str, help: str, minimum: int, needed: bool = False) -> Option:
    return Option(field, names, (command,), help, "N", int, None, minimum=minimum, needed=(command,) * needed)


OPTIONS = (
    Option("name", (), ("create",), "What the version does, such as split_name.", "NAME", needed=("create",),
           question="What does the version do? (as in split_name)"),
    Option("run", (), (*OF_A_RUN, SHOW), "A run's id, or its beginning.", "RUN", needed=(*OF_A_RUN, SHOW),
           question="Which run? (its id, or its beginning: `dynamodt history` shows them)"),
    Option("tables", _TABLES, _OF_TABLES, "A table, or several: a,b; may be repeated.", "T", default=(), repeated=True),
    Option("tables", _TABLES, (*_OF_ONE_TABLE, *OF_A_RUN, SHOW), "The table.", "T", default=(), needed=_OF_ONE_TABLE),
    Option("key", ("--key",), ("init",), "The table's key, for the local stage: PK:S or PK:S,SK:N.", "KEY",
           question="The key of a table that the local stage creates? (PK:S or PK:S,SK:N; none: the table exists)"),
    _version("number", ("--version", "--tNumber"), "prepare", "The version to prepare for.", 1, needed=True),
    _version("number", ("--version",), CHECK, "Only this version.", 1),
    Option("sample", ("--sample",), (CHECK, PLAN), "The number of items to read.", "N", int, SAMPLE, minimum=1,
           shows_default=True),
    Option("items", ("--items",), (CHECK,), "Use the items of a file, one per line.", "FILE"),
    Option("export", ("--export",), (CHECK,), "Use items of an export: its ARN, or s3://...", "WHICH"),
    Option("variants", ("--variants",), (CHECK,), "Number of variants to generate.", "N", int, 300, minimum=1,
           shows_default=True),
    _flag("save", ("--save",), (CHECK,), "Keep the items, their values replaced, as transforms/T/sample.jsonl."),
    _flag("markdown", ("--markdown",), (CHECK, PLAN), "Print Markdown, for a pull request."),
    _version("to", ("--to",), "up", "Stop after this version.", 0),
    _version("to", ("--to",), PLAN, "The last version of the plan.", 0),
    Option("max_hours", ("--max-hours",), (PLAN,), "Fail above this many hours.", "H", float, 0.0, minimum=0),
    _version("to", ("--to",), "down", "The version to end at; 0: none.", 0),
    _version("to", ("--to",), "stamp", "The last version that is applied; 0: none.", 0, needed=True),
    _version("to", ("--to",), "repair", "The last version whose edit is accepted; default: of all.", 1),
    _flag("follow", ("--follow", "-f"), ("status",), "Watch the active runs until they end."),
    _flag("check", ("--check",), ("status",), "Exit with 1 unless every version is applied and unedited."),
    Option("options.in_doubt", ("--in-doubt", "--doubtful"), ("retry",), "Dead letters in doubt: again, or done.",
           "WHAT", choices=("again", "done")),
    Option("options.keys", ("--key",), ("retry",), "Decide only about this key in doubt; may be repeated.", "KEY",
           default=(), repeated=True),
    _flag("keys", ("--keys",), (SHOW,), "Only the keys of its dead letters, one per line, as --accept takes them."),
    _flag("verbose", ("--verbose", "-v"), (SHOW,), "Whole tracebacks, and more keys."),
    Option("options.accept", ("--accept",), ("retry",), "Accept the dead letter of this key; may be repeated.", "KEY",
           default=(), repeated=True),
    _flag("options.accept_all", ("--accept-all",), ("retry",), "Accept all dead letters; none is replayed."),
    Option("options.reason", ("--reason",), ("repair",), "The reason, kept in the history.", "TEXT", needed=("repair",),
           question="Why is the edit accepted?"),
    Option("options.reason", ("--reason",), (*_RUNS, "stamp", "import-history"),
           "The reason, kept in the history.", "TEXT"),
    Option("options.by", ("--by",), RECORDED,
           "The caller's name in the history; default: the CI's actor, or the user.", "NAME"),
    _rate("limits.wcu", "--wcu", ("throttle",), "Write units per second.", "Write units per second? (none: unchanged)"),
    _rate("limits.rcu", "--rcu", ("throttle",), "Read units per second.", "Read units per second? (none: unchanged)"),
    Option("stage", ("--stage",), _STAGED, "local, or a stage of dynamodt.toml.", "NAME", default="local",
           shows_default=True, variable=STAGE_VARIABLE),
    _flag("state_only", ("--state-only",), ("deploy",), "The bucket, the state table and the key, without jobs."),
    _flag("purge", ("--purge",), ("destroy",), "Delete the bucket, the state table and the key, too."),
    _flag("yes", ("--yes", "-y"), (*CONFIRMED, "destroy"), "Do not ask for confirmation."),
    _flag("full", ("--full",), (DOCTOR,), "Also test the services, on a temporary table that is deleted at the end."),
    _flag("in_job", ("--glue",), (DOCTOR,), "Also run the checks in the deployed job."),
    Option("options.runner", ("--runner",), ("prepare",), "direct, or glue.", "NAME", default="direct",
           shows_default=True),
    Option("options.runner", ("--runner",), (PLAN, *_RUNS), "direct, spark, glue, or one of Beam's own.", "NAME",
           default="direct", shows_default=True),
    Option("options.spark_master", ("--spark-master",), _RUNS, "The local Spark; default: all cores of this machine.",
           "URL"),
    Option("options.max_errors", ("--max-errors",), _RUNS, "Tolerate up to N dead letters.", "N", int, 0, minimum=0,
           shows_default=True),
    _rate("options.max_wcu", "--max-wcu", (PLAN, *_RUNS), "Maximum write units per second."),
    _rate("options.max_rcu", "--max-rcu", ("prepare", PLAN, CHECK, *_RUNS), "Maximum read units per second."),
    Option("options.share", ("--share",), ("prepare", PLAN, CHECK, *_RUNS),
           "The share of the provisioned or maximum capacity.", "PERCENT", float, DEFAULT_SHARE, minimum=1, maximum=100,
           shows_default=True),
    _flag("options.strict", ("--strict",), ("up",), "Refuse the command if an applied version has no file here."),
    Option("options.max_usd", ("--max-usd",), _RUNS, "Pause when the command's runs have cost this much.", "USD", float,
           0.0, minimum=0),
    Option("options.max_usd", ("--max-usd",), (PLAN,), "Fail above this cost.", "USD", float, 0.0, minimum=0),
    _flag("options.partial", ("--partial",), ("undo",), "Restore what an incomplete journal still has."),
    _flag("options.accept_partly_restored", ("--accept-partly-restored",), MIGRATIONS,
          "Also transform items that an undo has not restored in full."),
    _flag("options.allow_no_pitr", ("--allow-no-pitr", "--no-pitr"), (PLAN, *_RUNS),
          "Write to a protected stage without point-in-time recovery."),
    _flag("options.single_region_writers", ("--single-region-writers",), (PLAN, *_RUNS),
          "All writers of a global table are in this region."),
    _flag("options.journal", ("--journal/--no-journal",), (PLAN, *MIGRATIONS),
          "Keep a journal, for undo; default: unless the script is IDEMPOTENT.", None),
    Option("options.source", ("--source",), (PLAN, *MIGRATIONS), "scan, or export; default: SOURCE in the script.",
           "WHAT", choices=("scan", "export")),
    Option("options.export", ("--export",), (PLAN, *MIGRATIONS), "The export: new, an ARN, or s3://...", "WHICH"),
    Option("options.catch_up", ("--catch-up",), MIGRATIONS,
           "How to cover writes after an export: windows, scan, or none.", "HOW", choices=("windows", "scan", "none")),
    Option("options.wait_lock", ("--wait-lock",), _RUNS, "Wait up to this long for another run: 90s, 10m.", "TIME"),
    Option("options.alarms", ("--pause-on-alarm",), _RUNS,
           "Pause while this CloudWatch alarm is on; may be repeated.", "NAME", default=(), repeated=True),
    _flag("options.dry_run", ("--dry-run", "--dry", "-d"),
          (*FILES, "prepare", *MIGRATIONS, *OF_A_RUN, *READING, *BASELINE, *STACK),
          "Write nothing; show what would be done."),
    Option("log_file", ("--log-file",), ("prepare", *_RUNS), "Also append all messages, with their times, to a file.",
           "PATH"),
    Option("log_format", ("--log-format",), ("prepare", *_RUNS), "text, or json: an object per line; of the log file, "
           "or of stderr without one.", "WHAT", choices=("text", "json")),
    _flag("json", ("--json",), (*_STAGED, VALIDATE, *_LOCAL), "One JSON object on stdout, all else on stderr."),
    _flag("interactive", ("-i", "--interactive"),
          (*FILES, "prepare", *_RUNS, *READING, SHOW, *BASELINE), "Choose from a menu."),
)  # fmt: skip


def options_of(command: str) -> list[Option]:
    """The options that a command takes, in the order of its `--help`."""
    return [option for option in OPTIONS if command in option.commands]


def takes_several_tables(command: str) -> bool:
    return any(option.field == "tables" and option.repeated for option in options_of(command))


def command_argv(command: Command) -> list[str]:
    """The arguments of this command, without the program's name; defaults are left out."""
    taken = options_of(command.command)
    named = [word for option in taken if option.names for word in option.argv(option.value(command))]
    arguments = [word for option in taken if not option.names for word in option.argv(option.value(command))]
    return [*command.command.split(), *named, *arguments, *_beam_argv(command)]


def run_argv(command: Command) -> list[str]:
    """The arguments of the run's options, without the dry run and the runner, for which `make run` has variables."""
    named = ("options.dry_run", "options.runner")
    taken = [o for o in options_of(command.command) if o.field.startswith(("options.", "yes")) and o.field not in named]
    return [word for option in taken for word in option.argv(option.value(command))] + _beam_argv(command)


def _beam_argv(command: Command) -> list[str]:
    """Beam's own options, if the command executes a pipeline; other commands refuse them."""
    taken = command.options.beam_args and command.command in (*MIGRATIONS, *OF_A_RUN)
    return ["--", *command.options.beam_args] if taken else []


def check_values(options: RunOptions) -> None:
    """Raises UsageError for a value that the command line does not accept. A program may give any: an unknown source
    would be read as an empty one, and a rate below 0 would be awaited for ever."""
    for option in OPTIONS:
        if option.field.startswith("options."):
            _check_value(option, getattr(options, option.parameter))
    _check_texts("beam_args", options.beam_args)
    seconds("wait_lock", options.wait_lock)


def _check_value(option: Option, value: Any) -> None:
    if option.repeated:
        _check_texts(option.parameter, value)
        check_filled(option, value)
    elif value != option.default and not _is_allowed(option, value):
        hint = f"use {_allowed(option)}, or leave it out"
        raise UsageError(f"{option.parameter} cannot be {value!r}", where="RunOptions", hint=hint)


def _is_allowed(option: Option, value: Any) -> bool:
    if isinstance(value, bool) != (option.kind is bool):
        return False
    if option.kind in (bool, str):
        return isinstance(value, option.kind) and (not option.choices or value in option.choices)
    least, most = option.minimum or 0, inf if option.maximum is None else option.maximum
    is_number = isinstance(value, int) or (option.kind is float and isinstance(value, float))
    return is_number and bool(least <= value <= most) and not (option.is_rate and value == 0)


def _allowed(option: Option) -> str:
    if option.choices:
        return "one of: " + ", ".join(option.choices)
    if option.kind in (bool, str):
        return "True or False" if option.kind is bool else "a text"
    if option.maximum is not None:
        return f"a number from {option.minimum} to {option.maximum}"
    return "a number above 0" if option.is_rate else f"a whole number, at least {option.minimum}"


def _check_texts(name: str, values: Any) -> None:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        hint = f"give a tuple of texts: {name}=({values!r},)" if isinstance(values, str) else "give a tuple of texts"
        raise UsageError(f"{name} cannot be {values!r}", where="RunOptions", hint=hint)


def check_filled(option: Option, values: Iterable[str]) -> None:
    """Raises UsageError for an empty value of an option that may be repeated. Without this, `--table ""` would mean all
    tables, and an alarm without a name would pause a run for ever."""
    if not all(value.strip() for value in values):
        hint = "give it a value, or leave it out; a variable may be unset"
        raise UsageError(f"{option.names[0]} has an empty value", hint=hint)


def check_control(command: str, limits: Sequence[float]) -> None:
    """Raises UsageError for a command to a run, or the limits of `throttle`, that the command line does not accept."""
    if command not in CONTROL:
        raise UsageError(f"there is no command {command!r}", hint=f"use one of: {', '.join(CONTROL)}")
    if command == "throttle" and not (any(limits) and all(units >= 0 for units in limits)):
        hint = "give units a second above 0; a limit of 0 stays as it is"
        raise UsageError(f"the limits cannot be {', '.join(map(str, limits))}", hint=hint)


class Observer(Protocol):
    """Follows a run; called from the main thread several times per second."""

    def run_started(self, record: RunRecord, expected_items: int) -> None:
        """`expected_items` is DynamoDB's own count: up to six hours old, 0 if unknown."""

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        """The progress of the table's run."""

    def run_ended(self, report: RunReport) -> None:
        """The last started run has ended, with any status."""

    def notify(self, text: str) -> None:
        """A message of one line: "starting the local stage", "created table users"."""
