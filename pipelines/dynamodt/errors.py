"""Every error that dynamodt raises on purpose, and the exit code that it ends a command with.

::

    DynamodtError                  1
    ├── UsageError                 2   a wrong flag, name or folder
    │   └── ScriptError            2   a version file that cannot be used
    ├── Refused                    3   right words, wrong moment: nothing was started
    │   └── Busy                   3   another run holds the table, or has just moved it
    └── RunFailed                  1   a run that did not end as it should
        ├── ServiceError           1   AWS said no, or could not be reached
        ├── Fenced                 1   another process has taken the run over
        ├── Aborted                1   somebody told the run to stop
        └── DeadLetters            1   items that could not be transformed or written

Each carries what went wrong, where, and what to do now, so that the command line needs no logic of its own to print it.
"""

from __future__ import annotations


class DynamodtError(Exception):
    """What went wrong (`what`), where (`where`: a file, table, key or attribute path), and the next step (`hint`)."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def hinted(self, hint: str) -> DynamodtError:
        """The same error with another hint."""
        told = type(self).__new__(type(self), *self.args)
        told.__dict__.update(self.__dict__, hint=hint)
        return told.with_traceback(self.__traceback__)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep `where` and `hint` when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.what, self.where, self.hint))

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def _rebuild(kind: type[DynamodtError], what: str, where: str, hint: str) -> DynamodtError:
    return kind(what, where=where, hint=hint)


class UsageError(DynamodtError):
    """The command cannot be understood, or names something that is not there."""

    exit_code = 2


class ScriptError(UsageError):
    """A version file is at fault: its name, its text, or what its functions do."""


class Refused(DynamodtError):
    """The command is sound, but running it now would break a guarantee; nothing was started. `run` is the id of the run
    that it would have gone on with, if one."""

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", hint: str = "", run: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.run = run


class Busy(Refused):
    """Another run holds `table`, or has moved it while this one was planned."""

    def __init__(self, what: str, *, where: str = "", hint: str = "", table: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.table = table


class RunFailed(DynamodtError):
    """A run ended without the version being applied."""


class ServiceError(RunFailed):
    """AWS (or the endpoint that stands for it) refused a call or could not be reached."""


class Fenced(RunFailed):
    """Another process has taken this run over: this one must not write any more, and nothing of it is recorded."""


class Aborted(RunFailed):
    """A person has told the run to stop; its checkpoints stand."""


class DeadLetters(RunFailed):
    """Some items could not be transformed or written; they are kept in the run's dead-letter file."""


class ItemError(DynamodtError):
    """One item cannot be transformed or written; `where` is the attribute path. It ends as a dead letter, no exit."""
