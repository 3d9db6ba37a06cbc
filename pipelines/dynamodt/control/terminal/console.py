"""The two streams: results on stdout, all else (notes, progress, errors) on stderr; colour only for a person."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from dynamodt.control.terminal import streams
from dynamodt.control.terminal.escaping import InertStream, json_line, printable
from dynamodt.control.terminal.next_steps import with_typed_commands
from dynamodt.errors import DynamodtError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

DEBUG = "DYNAMODT_DEBUG"
_PIPE_WIDTH = 120  # a pipe has no width; rich would take 80


def output_console() -> Console:
    """Where results go."""
    return _console(sys.stdout)


def message_console() -> Console:
    """Where everything else goes."""
    return _console(sys.stderr)


def print_error(console: Console, error: BaseException) -> None:
    """`error: what`, where, `hint: next step`. An error that nobody expected says how to see its traceback."""
    from rich.text import Text

    expected = isinstance(error, DynamodtError)
    what = error.what if isinstance(error, DynamodtError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, DynamodtError) else f"this was not expected; {DEBUG}=1 shows the traceback"
    console.print(Text.assemble(("error: ", "bold red"), printable(what)), soft_wrap=True)
    if isinstance(error, DynamodtError) and error.where:
        console.print(Text(f"  {printable(error.where)}"), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "bold cyan"), with_typed_commands(printable(hint))), soft_wrap=True)
    if not expected and os.environ.get(DEBUG):
        console.print(Text(printable("".join(traceback.format_exception(error)))), soft_wrap=True)


def print_results(document: dict[str, Any] | None, render: Callable[[Console], None]) -> DynamodtError | None:
    """One JSON object where there is a document, else what `render` draws; then, if it could not be written, why."""
    try:
        if document is None:
            _keep_quiet_when_broken(render)
        else:
            sys.stdout.write(json_line(document))
    except OSError as error:
        return streams.not_written(error)
    return streams.flush_results()


def _keep_quiet_when_broken(render: Callable[[Console], None]) -> None:
    # rich answers a broken pipe with SystemExit(1), after it has pointed stdout to nowhere
    with suppress(SystemExit):
        render(output_console())


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Whatever is printed within goes to stderr, an author's `print` and a child process's output included, so that
    stdout carries nothing but the JSON object that follows."""
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
    """One that shows all text, wherever it comes from, but obeys none: see `escaping`."""
    from rich.console import Console

    class Escaping(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    inert = cast(TextIO, InertStream(stream))
    return Escaping(file=inert, width=width, highlight=False, markup=False, emoji=False)
