"""The command line: arguments to a Request, errors to exit codes. `cli.commands` executes the commands.

Only the parser is imported at the top, so that `--help` is fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dynamodt import __version__
from dynamodt.cli import console
from dynamodt.cli.console import EPILOG, HELP, completion_of
from dynamodt.cli.request import Request, check_rates, in_folder
from dynamodt.errors import PROGRAM, DynamodtError, Hint, UsageError, suggest
from dynamodt.model.pages import Units
from dynamodt.runs.options import (
    ALIASES,
    GLUE,
    MIGRATIONS,
    OF_A_RUN,
    STAGE_VARIABLE,
    Option,
    RunOptions,
    check_filled,
    command_argv,
    options_of,
)

if TYPE_CHECKING:
    from dynamodt.cli.json_output import CommandResult
    from dynamodt.runs.pace import ProgressRecorder


NAMES = (PROGRAM, "ddt")
OnResult = Callable[["CommandResult"], None]


def main(arguments: Sequence[str] | None = None, on_result: OnResult | None = None) -> int:
    """Runs one command and returns its exit code; `arguments` are `sys.argv[1:]` by default. `on_result` is called with
    the result before it is shown."""
    console.prepare()
    argv, beam_args = _split(list(sys.argv[1:] if arguments is None else arguments))
    before = Path.cwd()
    try:
        argv = [*argv[1:], "--help"] if argv[:1] == ["help"] else argv
        request = _parsed(argv, beam_args, on_result)
        return _run(request, on_result) if isinstance(request, Request) else request
    finally:
        in_folder("")
        os.chdir(before)  # `-C`, for a program that calls this


def _parsed(argv: list[str], beam_args: tuple[str, ...], on_result: OnResult | None) -> Request | int:
    """The request; an exit code where the parser ends the command: with --help, --version or an error."""
    try:
        request = app(argv, prog_name=_typed_name(), standalone_mode=False, obj={"beam_args": beam_args})
    except (typer.TyperException, typer.Abort) as error:
        return _parser_error("--json" in argv, error, on_result)
    except UsageError as error:
        return _ended_early(Request("", json="--json" in argv), None, error, on_result)
    except OSError as error:  # the parser itself writes nothing but help
        return _report_unwritten(console.not_written(error))
    if isinstance(request, Request):
        return request
    unwritten = _report_unwritten(console.flush_results())
    return (request if isinstance(request, int) else 0) or unwritten


def _typed_name() -> str:
    """The program as it was typed: a shell completes each name by itself."""
    name = Path(sys.argv[0]).name
    return name if name in NAMES else PROGRAM


def _report_unwritten(error: DynamodtError | None) -> int:
    """The exit code if the result could not be written to stdout."""
    if error is None:
        return 0
    console.print_error(console.message_console(), error)
    return error.exit_code


def _split(argv: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """dynamodt's arguments, and Beam's, which follow the first `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], tuple(argv[end + 1 :])


# ---------------------------------------------------------------- running a request


def _run(request: Request, on_result: OnResult | None) -> int:
    """Runs the request; without a command, the menu until the user leaves it."""
    from dynamodt.pipeline.process import reduce_collections

    reduce_collections()
    console.lenient()
    code, goes_on = _run_once(request, on_result)
    while goes_on and request.interactive and not request.command:
        again, goes_on = _run_once(request, on_result)
        code = again if goes_on else code
    return code


def _run_once(request: Request, on_result: OnResult | None) -> tuple[int, bool]:
    """The exit code, and whether a command was run and has not been stopped."""
    from dynamodt.pipeline.process import raise_on_signals

    try:
        recorder = _recorder(request)
    except DynamodtError as error:
        return _ended_early(request, None, error, on_result), False
    with raise_on_signals(recorder.stopping) as signals:
        code, done = _execute(request, recorder, on_result)
    if signals.count > 1:
        console.leave(code)
    return code, done


def _recorder(request: Request) -> ProgressRecorder:
    """Shows a run's progress on stderr; with `--follow`, whose result is the progress, on stdout."""
    from dynamodt.cli.progress import JSON, display, on_stderr, stderr_format, with_file

    if not request.follow:
        watching = request.options.runner == GLUE
        shown = on_stderr(watching) if stderr_format(request) == JSON else display(console.message_console(), watching)
        shown.asks = console.on_terminal(request)
        return with_file(shown, request.log_file, request.log_format) if request.log_file else shown
    if not request.json:
        return display(console.output_console(), watching=True)
    from dynamodt.cli.json_output import JsonLines, print_line

    return JsonLines(print_line, console.message_console().print)


def _execute(request: Request, recorder: ProgressRecorder, on_result: OnResult | None) -> tuple[int, bool]:
    asked: Request | None = None
    try:
        asked = _completed_by_menu(request)
        if asked is None:
            return 0, False
        _mention_stage(asked, recorder)
        from dynamodt.cli.commands import execute
        from dynamodt.pipeline.author_output import captured

        clean = console.stdout_kept_clean() if asked.json and not asked.follow else nullcontext()
        with clean, captured(recorder.author_line):
            result = execute(asked, Path.cwd(), recorder, load_api)
        recorder.close()
        return _show(asked, result, on_result, recorder), True
    except (Exception, KeyboardInterrupt) as error:
        recorder.close()
        stopped = asked is None or isinstance(error, KeyboardInterrupt)
        return _ended_early(asked or request, recorder, error, on_result), not stopped


def load_api() -> Any:
    """The module `api`, which imports boto3; tests replace it."""
    from dynamodt import api

    return api


def _mention_stage(request: Request, recorder: ProgressRecorder) -> None:
    """Names a stage that comes from the environment: the output may have no other mention of it."""
    given = os.environ.get(STAGE_VARIABLE)
    if given and request.stage == given and any(option.variable for option in options_of(request.command)):
        recorder.notify(f"stage {given}, from {STAGE_VARIABLE}")


def _ended_early(
    request: Request, recorder: ProgressRecorder | None, error: BaseException, on_result: OnResult | None
) -> int:
    from dynamodt.cli.commands import ended_early

    return _show(request, ended_early(request, recorder, error), on_result, recorder)


def _completed_by_menu(request: Request) -> Request | None:
    """The request, completed by the menu with `-i`. None: the menu was left without a command."""
    if not request.interactive:
        return request
    if request.json:
        raise UsageError("--json and -i exclude each other", hint="leave one of them out")
    if not console.on_terminal(request):
        raise UsageError("the menu needs a terminal", hint="name the command: " + suggest("--help"))
    from dynamodt.cli.questions import choose

    return choose(request, Path.cwd())


def _show(
    request: Request, result: CommandResult, on_result: OnResult | None, recorder: ProgressRecorder | None = None
) -> int:
    """Results to stdout, errors to stderr. A reader that closes the pipe (`| head`) changes no exit code. If stdout is
    full or closed, a success becomes a failure."""
    if on_result is not None:
        on_result(result)
    unwritten = console.print_results(result.document if request.json else None, result.render)
    messages = console.message_console()
    from dynamodt.cli.json_output import without_duplicates

    for error in without_duplicates(result.errors):
        if recorder is not None:
            recorder.failed(error)
        if recorder is None or request.log_format != "json" or request.log_file:
            console.print_error(messages, error)
    return result.exit_code or _report_unwritten(unwritten)


def _parser_error(json: bool, error: Exception, on_result: OnResult | None) -> int:
    """The parser's error as an error of dynamodt."""
    text = error.format_message() if isinstance(error, typer.TyperException) else "aborted"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else PROGRAM
    request, hint = Request("", json=json), Hint((*command.split()[1:], "--help"))
    unknown, known = getattr(error, "option_name", ""), getattr(error, "possibilities", None)
    if context is not None and unknown and known is not None:
        text = f"No such option: {unknown}"
        meant = _similar(unknown, [name for parameter in context.command.params for name in parameter.opts])
        hint = Hint(f"did you mean {meant}? ") + hint if meant else hint
    elif context is not None and text.startswith("Got unexpected extra argument"):
        hint = _named_option(context, text.rpartition("(")[2].rstrip(").").split()) or hint
    usage = UsageError(text.rstrip("."), hint=hint)
    return _ended_early(request, None, usage, on_result)


def _similar(unknown: str, known: Sequence[str]) -> str:
    """The options whose names resemble an unknown one."""
    from difflib import get_close_matches

    plain = {name.lower().strip("-").replace("_", "").replace("-", ""): name for name in known if len(name) > 2}
    found = get_close_matches(unknown.lower().strip("-").replace("_", "").replace("-", ""), plain, 2, 0.7)
    return " or ".join(plain[name] for name in found)


def _named_option(context: typer.Context, extra: Sequence[str]) -> Hint | None:
    """The command as typed, with its extra words as the tables, or the stage, that they probably are; None if it takes
    words."""
    command = " ".join(context.command_path.split()[1:])
    options = options_of(command)
    fields = {option.field for option in options} if all(option.names for option in options) else set()
    field = "tables" if "tables" in fields else "stage"
    if field not in fields:
        return None
    request = _request(command, context.params, context.obj)
    if field == "tables":
        request = replace(request, tables=(*request.tables, *extra))
    else:
        request = replace(request, stage=extra[0])
    return Hint(f"name it by its option, --{field.removesuffix('s')}: ", tuple(command_argv(request)))


# ---------------------------------------------------------------- the parser


def _make_parser(command: str, **settings: Any) -> typer.Typer:
    """Plain help: rendering it with rich takes longer than all the rest of `--help`."""
    return typer.Typer(
        add_completion=not command,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        help=HELP[command],
        epilog=EPILOG,
        **settings,
    )


app = _make_parser("")
local = _make_parser("local", invoke_without_command=True)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    interactive: bool = typer.Option(False, "-i", "--interactive", help="Choose from a menu."),
    json: bool = typer.Option(False, "--json", help="One JSON object on stdout, all else on stderr."),
    folder: str = typer.Option("", "-C", metavar="DIR", help="Run in this folder.", show_default=False),
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> object:
    if folder:
        _change_folder(folder)
    if context.invoked_subcommand is None and not interactive:
        typer.echo(context.get_help())
        return None
    context.obj.update(interactive=interactive, json=json)
    return Request("", json=json, interactive=True) if context.invoked_subcommand is None else None


def _change_folder(folder: str) -> None:
    """Raises UsageError for a folder that cannot be entered."""
    try:
        os.chdir(folder)
    except OSError as error:
        hint = "name the folder that holds transforms/: dynamodt -C DIR COMMAND"
        raise UsageError(f"-C cannot enter the folder: {error.strerror}", where=folder, hint=hint) from error
    in_folder(folder)


@local.callback()
def local_root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add_command(owner: typer.Typer, name: str, command: str, hidden: bool = False) -> None:
    """Adds a command under a name: its options are those that `OPTIONS` has for it."""

    def parsed(context: typer.Context, **_: Any) -> Request:
        request = _request(command, context.params, context.obj)
        check_rates(request, context.params)
        return request

    # typer makes a command's parameters of its function's signature
    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    signature = Signature([context, *map(_parameter, options_of(command))])
    parsed.__signature__ = signature  # type: ignore[attr-defined]
    metavar = "[OPTIONS] [-- BEAM OPTIONS]" if command in (*MIGRATIONS, *OF_A_RUN) else "[OPTIONS]"
    owner.command(name, help=HELP[command], epilog=EPILOG, options_metavar=metavar, hidden=hidden)(parsed)


def _parameter(option: Option) -> Parameter:
    several = option.repeated or option.field == "tables"  # a second table is an error, and not the only one
    default: Any = None if several or option.is_rate else option.default
    kind: Any = list[str] | None if several else option.kind | None if default is None else option.kind
    about: dict[str, Any] = {"metavar": option.metavar or None, "help": option.help}
    if option.names:
        about.update(min=option.minimum, max=option.maximum, show_default=option.shows_default)
        about.update(envvar=option.variable or None, autocompletion=completion_of(option))
        typed = typer.Option(default, *option.names, **about)
    else:
        typed = typer.Argument(default, show_default=False, autocompletion=completion_of(option), **about)
    return Parameter(option.parameter, Parameter.KEYWORD_ONLY, default=typed, annotation=kind)


def _request(command: str, parsed: Mapping[str, Any], outer: Mapping[str, Any]) -> Request:
    """The request that was parsed; `-i` and `--json` count before the command and after it."""
    given: dict[str, dict[str, Any]] = {"": {}, "options": {}, "limits": {}}
    for option in options_of(command):
        owner, _, name = option.field.rpartition(".")
        given[owner][name] = _value(option, parsed[option.parameter])
    options, plain = given["options"], given[""]
    if options.get("export") or options.get("catch_up"):
        options["source"] = options["source"] or "export"
    return Request(
        command,
        **{
            **plain,
            "json": plain["json"] or outer["json"],
            "interactive": plain.get("interactive", False) or outer["interactive"],
        },
        options=RunOptions(**options, beam_args=outer["beam_args"]),
        limits=Units(**given["limits"]),
    )


def _value(option: Option, parsed: Any) -> Any:
    if option.is_rate:
        return option.default if parsed is None else parsed
    if option.default != ():
        return parsed
    given = tuple(parsed or ())
    check_filled(option, given)
    return given if option.field != "tables" else tuple(dict.fromkeys(_table_names(given)))


def _table_names(given: Sequence[str]) -> list[str]:
    """`-t a,b` is `-t a -t b`: no table's name has a comma."""
    return [name.strip() for one in given for name in one.split(",") if name.strip()]


for _name in HELP:
    if _name.startswith("local "):
        _add_command(local, _name.removeprefix("local "), _name)
    elif _name == "local":
        app.add_typer(local, name="local")
    elif _name:
        _add_command(app, _name, _name)
for _alias, _name in ALIASES.items():
    _add_command(app, _alias, _name, hidden=True)
