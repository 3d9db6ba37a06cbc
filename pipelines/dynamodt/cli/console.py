"""What a shell is given: the two streams, the text of `--help`, and the completion of values.

Results are on stdout, all else (notes, progress, errors) on stderr; colour only on a terminal. A stream that is closed
or full, or whose reader has closed it, is reported without a traceback.

The text of `--help` is in `help.txt` beside this module. A section begins with `=== COMMAND`, in the order of `dynamodt
--help`. Those in capitals are parts of several commands, which a line `=> PART` takes in. A line `\\b` keeps the lines
of its paragraph as they are. Tables, stages and choices are completed by the files of the folder, and run ids by the
history.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer

from dynamodt.cli.request import Request, program
from dynamodt.errors import DynamodtError
from dynamodt.runs.display import InertStream, json_line, printable
from dynamodt.runs.options import GLUE, Option

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


_STANDARD = (0, 1, 2)
_was_closed: set[int] = set()  # of 1 and 2, when the command began


def prepare() -> None:
    """Called before anything is opened or printed: the next opened file would get a closed descriptor, and an
    unwritable stderr must not end a run."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            _was_closed.add(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    elif sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _LossyStream(sys.stderr)


def lenient() -> None:
    """Escapes characters that a stream cannot encode: they must not fail a run that has succeeded."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def on_terminal(request: Request) -> bool:
    """Whether a question can be answered."""
    return not request.json and sys.stdin.isatty() and sys.stdout.isatty()


def flush_results() -> DynamodtError | None:
    """The error if stdout could not be written. A pipe that its reader has closed is no error."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return not_written(error)
    if 1 in _was_closed:
        return not_written(OSError(errno.EBADF, "closed"))
    return None


def not_written(error: OSError) -> DynamodtError | None:
    """The reported error of a write to stdout; nothing more is written there."""
    drop_output()
    if isinstance(error, BrokenPipeError):
        return None
    reason = error.strerror or str(error)
    hint = "the messages on stderr report how the command has ended; write its result to a file (> FILE)"
    return DynamodtError(f"the result could not be written to stdout: {reason}", hint=hint)


def drop_output() -> None:
    """Discards what is written to stdout from now on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave(code: int) -> None:
    """Ends the process without waiting for running threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


class _LossyStream(io.TextIOWrapper):
    """stderr that drops a message it cannot write."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


DEBUG = "DYNAMODT_DEBUG"
_PIPE_WIDTH = 120  # a pipe has no width; rich would take 80


def output_console() -> Console:
    """The console of stdout, for results."""
    return _console(sys.stdout)


def message_console() -> Console:
    """The console of stderr, for everything else."""
    return _console(sys.stderr)


# A text that begins with one of these is about its place: `transforms/users/v2_x.py has no sequence`.
_PREDICATES = frozenset("is was has holds needs names must cannot differs imports uses lists fails".split())


def print_error(console: Console, error: BaseException) -> None:
    """`error: what`, where, `hint: next step`. The hint of an unexpected error names the variable for its traceback."""
    from rich.text import Text

    expected = isinstance(error, DynamodtError)
    what = error.what if isinstance(error, DynamodtError) else f"{type(error).__name__}: {error}"
    where = error.where if isinstance(error, DynamodtError) else ""
    if where and what.split(" ", 1)[0] in _PREDICATES:
        what, where = f"{where} {what}", ""
    unexpected = f"this error was not expected; {DEBUG}=1 shows the traceback"
    hint = error.hint.written(program()) if isinstance(error, DynamodtError) else unexpected
    console.print(Text.assemble(("error: ", "bold red"), printable(what)), soft_wrap=True)
    if where:
        console.print(Text(f"  {printable(where)}"), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "bold cyan"), printable(hint)), soft_wrap=True)
    if not expected and os.environ.get(DEBUG):
        from dynamodt.dynamodb.network import without_token

        trace = without_token("".join(traceback.format_exception(error)))
        console.print(Text(printable(trace)), soft_wrap=True)


def print_results(document: dict[str, Any] | None, render: Callable[[Console], None]) -> DynamodtError | None:
    """Prints the document as JSON, else what `render` draws; returns the error if it could not be written."""
    try:
        if document is None:
            _keep_quiet_when_broken(render)
        else:
            sys.stdout.write(json_line(document))
    except OSError as error:
        return not_written(error)
    return flush_results()


def _keep_quiet_when_broken(render: Callable[[Console], None]) -> None:
    # rich raises SystemExit(1) for a broken pipe, after it has redirected stdout
    with suppress(SystemExit):
        render(output_console())


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Redirects stdout to stderr, for the `print` of a script and of child processes too, so that stdout has only the
    JSON object that follows."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _console(stream: TextIO) -> Console:
    """A console that escapes control characters in all text: see `runs.display`."""
    from rich.console import Console

    class Escaping(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    inert = cast(TextIO, InertStream(stream))
    return Escaping(file=inert, width=width, highlight=False, markup=False, emoji=False)


# ---------------------------------------------------------------- the text of `--help`


def _sections() -> dict[str, str]:
    text = "\n" + Path(__file__).with_name("help.txt").read_text(encoding="utf-8").replace("\\b\n", "\b\n")
    heads_and_bodies = (section.split("\n\n", 1) for section in text.split("\n=== ")[1:])
    found = {head: body.strip("\n") + "\n" for head, body in heads_and_bodies}
    for part in [head for head in found if head.isupper()]:
        found.update({head: body.replace(f"=> {part}\n", found[part]) for head, body in found.items()})
    return found


_TEXTS = _sections()
EPILOG = _TEXTS["EXIT CODES"]
HELP = {"" if head == "dynamodt" else head: text for head, text in _TEXTS.items() if not head.isupper()}


# ---------------------------------------------------------------- completion

_SECONDS = 3.0  # for the history of a stage; without an answer nothing is completed


def completion_of(option: Option) -> Callable[[typer.Context, str], list[str]] | None:
    """The completion of an option's value in a shell; None if the option takes any value."""
    if not option.choices and option.field not in ("tables", "stage", "run", "options.runner"):
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [one for one in offered(option, ctx.params) if one.startswith(incomplete)]

    return complete


def offered(option: Option, parsed: Mapping[str, Any]) -> Sequence[str]:
    """The values of an option; `parsed` are those of the options before it."""
    if option.field == "options.runner":
        return "direct", "spark", GLUE
    known: dict[str, Callable[[], Sequence[str]]] = {
        "tables": _tables,
        "stage": _stages,
        "run": lambda: _runs(parsed.get("stage") or "local", parsed.get("tables") or ()),
    }
    return known[option.field]() if option.field in known else option.choices


def _tables() -> Sequence[str]:
    """The tables that have a folder here."""
    from dynamodt.script.names import tables

    return tables(Path("transforms"), needed=False)


def _stages() -> Sequence[str]:
    """The stages of dynamodt.toml here."""
    from dynamodt.config.settings import FILE_NAME, read_settings

    try:
        return sorted({"local", *read_settings(Path(FILE_NAME))})
    except (DynamodtError, OSError):
        return ["local"]


def _runs(stage: str, tables: str | Sequence[str]) -> Sequence[str]:
    """The ids of the stage's runs, the newest first. None from a stage that does not run or does not answer."""

    def give_up(*_: Any) -> None:
        raise TimeoutError

    with suppress(Exception):
        signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            return _history(stage, tables)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return []


def _history(stage_name: str, named: str | Sequence[str]) -> list[str]:
    from dynamodt.config.names import with_names
    from dynamodt.config.stage import load_stage
    from dynamodt.local import stage as local
    from dynamodt.runs.context import Project

    folder = Path.cwd()
    stage = load_stage(stage_name, folder)
    if stage.embedded and not local.status(folder).running:
        return []
    project = Project(with_names(local.open_stage(stage, folder), folder), folder)
    names = (named,) if isinstance(named, str) else named
    return sorted((run.run for table in project.tables(names) for run in project.state.runs(table)), reverse=True)
