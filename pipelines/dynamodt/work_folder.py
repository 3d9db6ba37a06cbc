"""`.dynamodt`: what is kept in a project's folder, for its owner alone, and git never sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynamodt.errors import UsageError

WORK_FOLDER = ".dynamodt"


def make_work_folder(work: Path) -> None:
    """Make the folder, for the owner alone and with its `.gitignore`: data of tables is in it.

    Raises UsageError when it cannot be made.
    """
    ignore = work / ".gitignore"
    try:
        with for_the_owner_alone():
            work.mkdir(parents=True, exist_ok=True)
            if work.stat().st_mode & 0o077:  # of an earlier release
                work.chmod(0o700)
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        hint = "run dynamodt in a folder that you may write to, with space left on its disk"
        raise UsageError(f"the folder cannot be made: {error.strerror}", where=str(work), hint=hint) from error


@contextmanager
def for_the_owner_alone() -> Iterator[None]:
    """Files that are made within, and by a process that is started within, are 0600, and folders 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
