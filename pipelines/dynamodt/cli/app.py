"""The command line: words to a Request, errors to exit codes. What the verbs do is in `verbs`.

Only the parser is imported at the top: `--help` must not wait for what it does not need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamodt.cli import console as streams
from dynamodt.cli import help_text as manual
from dynamodt.errors import DynamodtError, UsageError
from dynamodt.model.pages import Units
from dynamodt.runs.options import DEFAULT_SHARE, GLUE, PROGRAM, Request, RunOptions

if TYPE_CHECKING:
    from dynamodt.cli.commands import CommandResult
    from dynamodt.runs.pace import ProgressRecorder


Hear = Callable[["CommandResult"], None]


def main(arguments: Sequence[str] | None = None, hear: Hear | None = None) -> int:
    """Runs one command and returns its exit code; `arguments` are `sys.argv[1:]` by default. `hear` is handed the
    answer before it is shown."""
    streams.prepare()
    words, beam_args = _split(list(sys.argv[1:] if arguments is None else arguments))
    try:
        request = app(words, prog_name=PROGRAM, standalone_mode=False, obj={"beam_args": beam_args})
    except (typer.TyperException, typer.Abort) as error:
        return _misused("--json" in words, error, hear)
    except OSError as error:  # the parser itself writes nothing but help
        return _told_unwritten(streams.not_written(error))
    if isinstance(request, Request):
        return _run(request, hear)
    unwritten = _told_unwritten(streams.flush_results())
    return (request if isinstance(request, int) else 0) or unwritten  # --help and --version end the parser with a code


def _told_unwritten(error: DynamodtError | None) -> int:
    """The exit code of a result that may not have arrived."""
    if error is None:
        return 0
    from dynamodt.cli import console

    console.print_error(console.message_console(), error)
    return error.exit_code


def _split(words: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Our words and Beam's, which follow the first `--`."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], tuple(words[end + 1 :])


# ---------------------------------------------------------------- running a request


def _run(request: Request, hear: Hear | None) -> int:
    from dynamodt.pipeline.process import collect_less
    from dynamodt.runs.interrupts import signals_raise

    collect_less()
    streams.lenient()
    recorder = _recorder(request)
    with signals_raise(recorder.stopping) as signals:
        code = _carried_out(request, recorder, hear)
    if signals.count > 1:
        streams.leave(code)
    return code


def _recorder(request: Request) -> ProgressRecorder:
    """What shows a run's progress: beside the results, but for `--follow`, which is asked for nothing else."""
    from dynamodt.cli import console
    from dynamodt.cli.progress import display

    if not request.follow:
        recorder = display(console.message_console(), watching=request.options.runner == GLUE)
        recorder.asks = not request.json and sys.stdin.isatty() and sys.stdout.isatty()
        return recorder
    if not request.json:
        return display(console.output_console(), watching=True)
    from dynamodt.cli.json_output import JsonLines, print_line

    return JsonLines(print_line, console.message_console().print)


def _carried_out(request: Request, recorder: ProgressRecorder, hear: Hear | None) -> int:
    asked = request
    try:
        chosen = _chosen(request)
        if chosen is None:
            return 0
        asked = chosen
        return _show(asked, _answer(asked, recorder), hear)
    except (Exception, KeyboardInterrupt) as error:
        from dynamodt.cli.commands import ended_early

        recorder.close()
        return _show(asked, ended_early(asked, recorder, error), hear)


def _chosen(request: Request) -> Request | None:
    """What the menu says, where it was asked for; None: the person thought better of it."""
    if not request.interactive:
        return request
    if request.json:
        raise UsageError("--json and -i exclude each other", hint="leave one of them out")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the menu needs a terminal", hint=f"name the command: {PROGRAM} --help")
    from dynamodt.cli.menu import choose

    return choose(request, Path.cwd())


def _answer(request: Request, recorder: ProgressRecorder) -> CommandResult:
    from contextlib import nullcontext

    from dynamodt.cli.commands import execute
    from dynamodt.cli.console import stdout_kept_clean

    with stdout_kept_clean() if request.json and not request.follow else nullcontext():
        answer = execute(request, Path.cwd(), recorder)
    recorder.close()
    return answer


def _show(request: Request, answer: CommandResult, hear: Hear | None) -> int:
    """Results to stdout, errors to stderr. A reader who has left (`| head`) changes no exit code; a stdout that cannot
    take the result, full or closed, makes a failure of a success."""
    from dynamodt.cli import console

    if hear is not None:
        hear(answer)
    unwritten = console.print_results(answer.document if request.json else None, answer.render)
    messages = console.message_console()
    for error in answer.errors:
        console.print_error(messages, error)
    return answer.exit_code or _told_unwritten(unwritten)


def _misused(json: bool, error: Exception, hear: Hear | None) -> int:
    """The parser's own complaint, in the form of ours."""
    from dynamodt.cli.commands import ended_early

    text = error.format_message() if isinstance(error, typer.TyperException) else "aborted"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else PROGRAM
    told = UsageError(text.rstrip("."), hint=f"{command} --help")
    request = Request("", json=json)
    return _show(request, ended_early(request, None, told), hear)


# ---------------------------------------------------------------- the words

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# plain help: rendering it with rich takes longer than all the rest of --help
app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
    help=manual.ROOT,
    epilog=manual.EPILOG,
)
local = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings=_SETTINGS,
    help=manual.LOCAL,
    epilog=manual.EPILOG,
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        except PackageNotFoundError:
            typer.echo(f"{PROGRAM} (run from source)")
        raise typer.Exit


Tables = Annotated[
    list[str] | None, typer.Option("--table", "-t", metavar="T", help="A table; may be given more than once.")
]
Table = Annotated[str, typer.Option("--table", "-t", metavar="T", show_default=False, help="The table.")]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="What the version does, in_words.")]
Run = Annotated[str, typer.Argument(metavar="RUN", show_default=False, help="A run's id, or how it begins.")]
Doubtful = Annotated[
    str, typer.Option("--doubtful", metavar="WHAT", show_default=False, help="again, or done: of doubtful writes.")
]
Number = Annotated[int | None, typer.Option("--tNumber", metavar="N", min=1, help="The version to prepare for.")]
UpTo = Annotated[int | None, typer.Option("--to", metavar="N", min=0, help="Stop after this version.")]
DownTo = Annotated[int | None, typer.Option("--to", metavar="N", min=0, help="The version to end at; 0: none.")]
StampTo = Annotated[int | None, typer.Option("--to", metavar="N", min=0, help="The last version that stands; 0: none.")]
Stage = Annotated[str, typer.Option("--stage", metavar="NAME", help="local, or a stage of dynamodt.toml.")]
Runner = Annotated[str, typer.Option("--runner", metavar="NAME", help="direct, spark, or one of Beam's own.")]
SparkMaster = Annotated[
    str, typer.Option("--spark-master", metavar="URL", show_default=False, help="Of a local Spark; all cores here.")
]
MaxErrors = Annotated[int, typer.Option("--max-errors", metavar="N", min=0, help="Tolerate so many dead letters.")]
MaxWcu = Annotated[
    float, typer.Option("--max-wcu", metavar="N", min=0, show_default=False, help="Write units a second, at most.")
]
MaxRcu = Annotated[
    float, typer.Option("--max-rcu", metavar="N", min=0, show_default=False, help="Read units a second, at most.")
]
Share = Annotated[
    float, typer.Option("--share", metavar="PERCENT", min=1, max=100, help="Of what the table has provisioned.")
]
Wcu = Annotated[float, typer.Option("--wcu", metavar="N", min=0, show_default=False, help="Write units a second.")]
Rcu = Annotated[float, typer.Option("--rcu", metavar="N", min=0, show_default=False, help="Read units a second.")]
Source = Annotated[
    str, typer.Option("--source", metavar="WHAT", show_default=False, help="scan, or export; as the script says.")
]
Export = Annotated[
    str, typer.Option("--export", metavar="WHICH", show_default=False, help="new, an export's ARN, or s3://...")
]
CatchUp = Annotated[
    str, typer.Option("--catch-up", metavar="HOW", show_default=False, help="After it: windows, scan, or none.")
]
Partial = Annotated[bool, typer.Option("--partial", help="Restore what a journal that is not whole still has.")]
PartlyRestored = Annotated[
    bool, typer.Option("--accept-partly-restored", help="Transform items that an undo has restored in part, too.")
]
NoPitr = Annotated[bool, typer.Option("--no-pitr", help="Write to a protected stage without point-in-time recovery.")]
Journal = Annotated[
    bool | None,
    typer.Option("--journal/--no-journal", show_default=False, help="For undo; the default: unless IDEMPOTENT."),
]
WaitLock = Annotated[
    str, typer.Option("--wait-lock", metavar="TIME", show_default=False, help="Wait so long for another run: 90s, 10m.")
]
Alarms = Annotated[
    list[str] | None,
    typer.Option("--pause-on-alarm", metavar="NAME", help="Rest while this CloudWatch alarm is on; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "--dry", help="Write nothing; show what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Watch what is at work, until it ends.")]
Menu = Annotated[bool, typer.Option("-i", "--interactive", help="Choose from a menu.")]
Purge = Annotated[bool, typer.Option("--purge", help="The bucket, the state table and the key, too.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]


@app.callback(invoke_without_command=True)
def root(context: typer.Context, interactive: Menu = False, json: AsJson = False, version: Version = False) -> object:
    if context.invoked_subcommand is None and not interactive:
        typer.echo(context.get_help())
        return None
    context.obj.update(interactive=interactive, json=json)
    return Request("", json=json, interactive=True) if context.invoked_subcommand is None else None


@app.command(help=manual.INIT, epilog=manual.EPILOG)
def init(
    context: typer.Context,
    table: Tables = None,
    stage: Stage = "local",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("init", context)


@app.command(help=manual.CREATE, epilog=manual.EPILOG)
def create(
    context: typer.Context,
    name: Name = "",
    table: Table = "",
    stage: Stage = "local",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("create", context)


@app.command(help=manual.PREPARE, epilog=manual.EPILOG)
def prepare(
    context: typer.Context,
    table: Table = "",
    number: Number = None,
    stage: Stage = "local",
    runner: Runner = "direct",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("prepare", context)


@app.command(help=manual.UP, epilog=manual.EPILOG, options_metavar="[OPTIONS] [-- BEAM OPTIONS]")
def up(
    context: typer.Context,
    table: Tables = None,
    to: UpTo = None,
    stage: Stage = "local",
    runner: Runner = "direct",
    spark_master: SparkMaster = "",
    max_errors: MaxErrors = 0,
    max_wcu: MaxWcu = 0.0,
    max_rcu: MaxRcu = 0.0,
    share: Share = DEFAULT_SHARE,
    accept_partly_restored: PartlyRestored = False,
    no_pitr: NoPitr = False,
    journal: Journal = None,
    source: Source = "",
    export: Export = "",
    catch_up: CatchUp = "",
    wait_lock: WaitLock = "",
    pause_on_alarm: Alarms = None,
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("up", context)


@app.command(help=manual.DOWN, epilog=manual.EPILOG, options_metavar="[OPTIONS] [-- BEAM OPTIONS]")
def down(
    context: typer.Context,
    table: Table = "",
    to: DownTo = None,
    stage: Stage = "local",
    runner: Runner = "direct",
    spark_master: SparkMaster = "",
    max_errors: MaxErrors = 0,
    max_wcu: MaxWcu = 0.0,
    max_rcu: MaxRcu = 0.0,
    share: Share = DEFAULT_SHARE,
    accept_partly_restored: PartlyRestored = False,
    no_pitr: NoPitr = False,
    journal: Journal = None,
    source: Source = "",
    export: Export = "",
    catch_up: CatchUp = "",
    wait_lock: WaitLock = "",
    pause_on_alarm: Alarms = None,
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("down", context)


@app.command(help=manual.HISTORY, epilog=manual.EPILOG)
def history(
    context: typer.Context,
    table: Tables = None,
    stage: Stage = "local",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("history", context)


@app.command(help=manual.STATUS, epilog=manual.EPILOG)
def status(
    context: typer.Context,
    table: Tables = None,
    follow: Follow = False,
    stage: Stage = "local",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("status", context)


@app.command(help=manual.STAMP, epilog=manual.EPILOG)
def stamp(
    context: typer.Context,
    table: Table = "",
    to: StampTo = None,
    stage: Stage = "local",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("stamp", context)


@app.command(help=manual.ADOPT, epilog=manual.EPILOG)
def adopt(
    context: typer.Context,
    table: Table = "",
    stage: Stage = "local",
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("adopt", context)


@app.command(help=manual.RUNS, epilog=manual.EPILOG)
def runs(context: typer.Context, table: Tables = None, stage: Stage = "local", json: AsJson = False) -> Request:
    return _request("runs", context)


@app.command(help=manual.UNDO, epilog=manual.EPILOG, options_metavar="[OPTIONS] [-- BEAM OPTIONS]")
def undo(
    context: typer.Context,
    run: Run = "",
    table: Table = "",
    stage: Stage = "local",
    runner: Runner = "direct",
    spark_master: SparkMaster = "",
    max_errors: MaxErrors = 0,
    max_wcu: MaxWcu = 0.0,
    max_rcu: MaxRcu = 0.0,
    share: Share = DEFAULT_SHARE,
    partial: Partial = False,
    no_pitr: NoPitr = False,
    wait_lock: WaitLock = "",
    pause_on_alarm: Alarms = None,
    dry_run: DryRun = False,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("undo", context)


@app.command(help=manual.RETRY, epilog=manual.EPILOG, options_metavar="[OPTIONS] [-- BEAM OPTIONS]")
def retry(
    context: typer.Context,
    run: Run = "",
    table: Table = "",
    doubtful: Doubtful = "",
    stage: Stage = "local",
    runner: Runner = "direct",
    spark_master: SparkMaster = "",
    max_errors: MaxErrors = 0,
    max_wcu: MaxWcu = 0.0,
    max_rcu: MaxRcu = 0.0,
    share: Share = DEFAULT_SHARE,
    no_pitr: NoPitr = False,
    wait_lock: WaitLock = "",
    pause_on_alarm: Alarms = None,
    json: AsJson = False,
    interactive: Menu = False,
) -> Request:
    return _request("retry", context)


def _told(command: str) -> Callable[..., Request]:
    def told(context: typer.Context, table: Table = "", stage: Stage = "local", json: AsJson = False) -> Request:
        return _request(command, context)

    return told


for _command, _help in manual.TOLD.items():
    app.command(_command, help=_help, epilog=manual.EPILOG)(_told(_command))


@app.command(help=manual.THROTTLE, epilog=manual.EPILOG)
def throttle(
    context: typer.Context,
    table: Table = "",
    wcu: Wcu = 0.0,
    rcu: Rcu = 0.0,
    stage: Stage = "local",
    json: AsJson = False,
) -> Request:
    return _request("throttle", context)


@app.command(help=manual.DEPLOY, epilog=manual.EPILOG)
def deploy(context: typer.Context, stage: Stage = "local", dry_run: DryRun = False, json: AsJson = False) -> Request:
    return _request("deploy", context)


@app.command(help=manual.DESTROY, epilog=manual.EPILOG)
def destroy(
    context: typer.Context,
    stage: Stage = "local",
    purge: Purge = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> Request:
    return _request("destroy", context)


app.add_typer(local, name="local")


@local.callback()
def local_root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@local.command("status", help=manual.LOCAL_STATUS, epilog=manual.EPILOG)
def local_status(context: typer.Context, json: AsJson = False) -> Request:
    return _request("local status", context)


@local.command("stop", help=manual.LOCAL_STOP, epilog=manual.EPILOG)
def local_stop(context: typer.Context, json: AsJson = False) -> Request:
    return _request("local stop", context)


@local.command("reset", help=manual.LOCAL_RESET, epilog=manual.EPILOG)
def local_reset(context: typer.Context, json: AsJson = False) -> Request:
    return _request("local reset", context)


def _request(command: str, context: typer.Context) -> Request:
    """The parsed words; `-i` and `--json` count before the command and after it."""
    given, outer = context.params, context.obj
    table = given.get("table")
    return Request(
        command,
        stage=given.get("stage", "local"),
        tables=tuple(table or ()) if isinstance(table, list | None) else (table,) if table else (),
        to=given.get("to"),
        number=given.get("number"),
        name=given.get("name", ""),
        run=given.get("run", ""),
        json=given["json"] or outer["json"],
        interactive=given.get("interactive", False) or outer["interactive"],
        options=_options(given, outer["beam_args"]),
        limits=Units(rcu=given.get("rcu", 0.0), wcu=given.get("wcu", 0.0)),
        follow=given.get("follow", False),
        purge=given.get("purge", False),
        yes=given.get("yes", False),
    )


def _options(given: dict[str, Any], beam_args: tuple[str, ...]) -> RunOptions:
    return RunOptions(
        dry_run=bool(given.get("dry_run")),
        max_errors=int(str(given.get("max_errors", 0))),
        max_wcu=float(str(given.get("max_wcu", 0.0))),
        max_rcu=float(str(given.get("max_rcu", 0.0))),
        share=float(str(given.get("share", DEFAULT_SHARE))),
        runner=str(given.get("runner", "direct")),
        spark_master=str(given.get("spark_master", "")),
        beam_args=beam_args,
        no_pitr=bool(given.get("no_pitr")),
        partial=bool(given.get("partial")),
        accept_partly_restored=bool(given.get("accept_partly_restored")),
        journal=given.get("journal"),
        alarms=tuple(given.get("pause_on_alarm") or ()),
        doubtful=str(given.get("doubtful", "")),
        source=str(given.get("source", "")) or ("export" if given.get("export") or given.get("catch_up") else ""),
        export=str(given.get("export", "")),
        catch_up=str(given.get("catch_up", "")),
        wait_lock=str(given.get("wait_lock", "")),
    )
