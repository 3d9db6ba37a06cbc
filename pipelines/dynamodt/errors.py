"""Every error that dynamodt raises on purpose, and its exit code.

::

    DynamodtError                  1
    ├── UsageError                 2   a wrong flag, name or folder
    │   └── ScriptError            2   a version file is at fault
    ├── Refused                    3   a valid command at the wrong time: nothing was started
    │   └── Busy                   3   another run holds the table, or has just changed it
    └── RunFailed                  1   a run ended early
        ├── ServiceError           1   AWS refused a call, or could not be reached
        ├── Fenced                 1   another process has taken the run over
        ├── Aborted                1   an operator stopped the run
        │   └── CostReached        1   the run has cost as much as it may
        └── DeadLetters            1   items that could not be transformed or written

Each has what went wrong, where, and the next step. The command line prints these as they are, except the commands in
a `Hint`, which it writes for the stage and the program of the command that failed.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shlex import join

PROGRAM = "dynamodt"
AGAIN = "run the same command again"  # in hints; a connector has other words for it
CONTINUES = f"{AGAIN}: it continues"


class Hint(str):
    """The next step: prose, and commands as the words after the program's name.

    ``"undo it first: " + suggest("undo", run)`` keeps the two apart in `parts`, so that the command line can add the
    stage; as a text, the command is `dynamodt undo RUN`. An f-string would keep the text alone.
    """

    parts: tuple[str | tuple[str, ...], ...]

    def __new__(cls, *parts: str | tuple[str, ...]) -> Hint:
        hint = super().__new__(cls, _text(parts, PROGRAM))
        hint.parts = parts
        return hint

    def __getnewargs__(self) -> tuple[str | tuple[str, ...], ...]:  # type: ignore[override]
        return self.parts

    def __add__(self, text: str) -> Hint:
        return Hint(*self.parts, *as_hint(text).parts)

    def __radd__(self, text: str) -> Hint:
        return Hint(text, *self.parts)

    def written(self, program: str) -> str:
        """The text with another name of the program, such as `.venv/bin/dynamodt`."""
        return _text(self.parts, program)


def as_hint(text: str) -> Hint:
    """The text unchanged if it is a hint; otherwise a hint of prose without a command."""
    return text if isinstance(text, Hint) else Hint(text)


def suggest(command: str, *arguments: str, **options: str | float | bool) -> Hint:
    """A command in a hint: `suggest("create", "NAME", table="users")` is `dynamodt create --table users NAME`."""
    named = [word for name, value in options.items() for word in option_words(f"--{name.replace('_', '-')}", value)]
    return Hint((*command.split(), *named, *arguments))


def option_words(flag: str, value: str | float | bool) -> list[str]:
    """An option with its value in the form of a command line: `--table users`, `--table=-users`; for True, the flag
    alone. A number has all of its digits."""
    if value is True:
        return [flag]
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _text(parts: tuple[str | tuple[str, ...], ...], program: str) -> str:
    return "".join(part if isinstance(part, str) else f"{program} {join(part)}" for part in parts)


class DynamodtError(Exception):
    """An error: its description (`what`), its place (`where`: a file, table, key or attribute path), and the next step
    (`hint`)."""

    exit_code = 1
    subject: tuple[str, int, str] = ("", 0, "")  # the table, version and run that a command's error is about, if known

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = as_hint(hint)

    def hinted(self, hint: str, where: str = "", what: str = "") -> DynamodtError:
        """The same error with another hint, and maybe another place or text."""
        hinted = type(self).__new__(type(self), *self.args)
        hinted.__dict__.update(self.__dict__, hint=as_hint(hint), where=where or self.where, what=what or self.what)
        return hinted.with_traceback(self.__traceback__)

    def __reduce__(self) -> tuple[object, ...]:
        """Keeps `where` and `hint` when the error is pickled."""
        return partial(type(self), self.what, where=self.where, hint=self.hint), ()

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class UsageError(DynamodtError):
    """The command is malformed, or names something that does not exist."""

    exit_code = 2


class ScriptError(UsageError):
    """A version file is at fault: its name, its text, or the behaviour of its functions."""


class Refused(DynamodtError):
    """The command is valid, but running it now would break a guarantee; nothing was started. `run` is the id of the run
    that it would have continued, if any."""

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", hint: str = "", run: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.run = run


class Busy(Refused):
    """Another run holds `table`, or has changed its version while this one was planned. `goal` is the version that that
    run applies (`Lease.goal`); `covered`: it covers everything that this one would apply."""

    covered = False

    def __init__(self, what: str, *, where: str = "", hint: str = "", table: str = "", goal: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.table = table
        self.goal = goal


class RunFailed(DynamodtError):
    """A run ended without the version being applied."""


class ServiceError(RunFailed):
    """AWS (or an emulator) refused a call or could not be reached."""


class Fenced(RunFailed):
    """Another process has taken this run over: this one stops writing, and records nothing."""


class Aborted(RunFailed):
    """An operator stopped the run; its checkpoints remain."""


class CostReached(Aborted):
    """The runs of a command have cost as much as `--max-usd` allows; the pages in progress were completed. `higher` is
    a limit that continues them; 0: twice the given one."""

    higher = 0.0


class DeadLetters(RunFailed):
    """Some items could not be transformed or written; they are in the run's dead-letter file."""


class ItemError(DynamodtError):
    """One item cannot be transformed or written; `where` is the attribute path. It becomes a dead letter."""


class WrittenOrNot(ItemError):
    """An item may or may not be the run's own result."""


# ---------------------------------------------------------------- of the installation


def require(module: str, extra: str, where: str, way_around: str = "") -> None:
    """Raises UsageError, with the line that installs it, if a package of one of dynamodt's extras is not installed.
    Imports nothing."""
    if find_spec(module) is None:
        what = f"{module.replace('_', '-')} is not installed, and this needs it"
        raise UsageError(what, where=where, hint=f"{installing(extra)}{way_around}")


def installing(extra: str) -> str:
    """The command that adds an extra to this installation, from its origin: an index, a wheel, a folder."""
    import json
    import sys
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution(PROGRAM).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # run from its folder
        origin = {}
    url, version = origin.get("url", ""), origin.get("vcs_info", {})
    if version:
        url = f"{version['vcs']}+{url}@{version['commit_id']}"
    wanted = f"{PROGRAM}[{extra}]" + (f" @ {url}" if url else "")
    editable = origin.get("dir_info", {}).get("editable", False)
    words = ["-e", f"{url.removeprefix('file://')}[{extra}]"] if editable else [wanted]
    return join([sys.executable, "-m", "pip", "install", *words])


# ---------------------------------------------------------------- of the file system


NO_SPACE = "free some space on its disk, then run the same command again"
_NO_ACCESS = "give the user that runs this access"
_OF_ANY_FILE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ELSEWHERE = ", or name another folder (DYNAMODT_STORAGE)"
_FILE_HINTS = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), then run the same command again",
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EROFS: _NO_ACCESS,
    errno.ENOTDIR: "a file is where a folder should be: move it, or name another folder as the storage",
    errno.EEXIST: "a file is where a folder should be: move it, or name another folder as the storage",
    errno.EISDIR: "a folder is where a file should be: move it, then run the same command again",
    errno.EIO: "check the disk",
}


@contextmanager
def file_explained(what: str, path: Path) -> Iterator[None]:
    """Turns file system errors of the code within into ServiceError, as `explained` does for S3. `what` is "read" or
    "written"."""
    try:
        yield
    except OSError as error:
        found = file_error(what, str(path), error)
        raise (found.hinted(found.hint + _ELSEWHERE) if found.hint == _NO_ACCESS else found) from error


def file_error(what: str, place: str, error: OSError) -> DynamodtError:
    """The error of a file that cannot be read or written (`what`), with its place and the next step."""
    reason = error.strerror or str(error)
    hint = _FILE_HINTS.get(error.errno or 0, "check the folder, then run the same command again")
    return ServiceError(f"the file cannot be {what}: {reason}", where=place, hint=hint)


def is_of_the_disk(error: OSError) -> bool:
    """Whether an error is the file system's: it is full or read-only, or the error names a file."""
    return error.errno in _FILE_HINTS and (error.errno in _OF_ANY_FILE or error.filename is not None)


def error_text(error: BaseException) -> str:
    """An error in one sentence. The author's own class may compute the text, and may fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as failure:
        return f"{type(error).__name__}, whose text cannot be shown ({type(failure).__name__})"


def say(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")


def exit_code_of(act: Callable[[], object]) -> int:
    """Runs a build step and returns its exit code; an error is written to stderr."""
    try:
        act()
    except DynamodtError as error:
        say(f"error: {error}\nhint: {error.hint}")
        return error.exit_code
    return 0
