"""Where a Spark of our own writes: `.dynamodt/spark`, with its log, what Python says, and its executors' folders.

`local-cluster` puts the folders of its executors, and with them a copy of the jar for each, into `$SPARK_HOME/work`,
which is inside the installed pyspark. No setting says otherwise (SPARK_WORKER_DIR is for a worker that one starts
oneself), so that SPARK_HOME is a folder of links, one for each process: two that start in the same second have the same
application's id.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dynamodt.work_folder import WORK_FOLDER, make_work_folder

FOLDER = Path(WORK_FOLDER) / "spark"
LOG = FOLDER / "spark.log"
PYTHON_LOG = FOLDER / "python.log"  # what the harnesses wrote to stderr

_HOMES = "executors-"
_WORK = "work"
_LINKED = ("bin", "conf", "jars", "python")
_LOCK = "lock"

_mine: tuple[Path, IO[bytes]] | None = None  # this process's folder, and what shows others that it is in use


def begin() -> None:
    """The folder is there, what processes left that are gone is not, and the logs are empty."""
    make_work_folder(FOLDER.parent)
    FOLDER.mkdir(exist_ok=True)
    for home in FOLDER.glob(f"{_HOMES}*"):
        lock = _locked(home)
        if lock is not None:
            shutil.rmtree(home, ignore_errors=True)
            lock.close()
    PYTHON_LOG.write_bytes(b"")


@contextmanager
def spark_home() -> Iterator[None]:
    """SPARK_HOME is a folder of this process: for the start of a JVM, which goes by it as long as it lives."""
    before = os.environ.get("SPARK_HOME")
    os.environ["SPARK_HOME"] = str(_linked())
    try:
        yield
    finally:
        os.environ.pop("SPARK_HOME")
        if before is not None:
            os.environ["SPARK_HOME"] = before


def discard_jars() -> None:
    """What executors have said is kept until the next Spark starts; their copies of the jar are not."""
    for copy in _mine[0].glob(f"{_WORK}/*/*/*.jar") if _mine else ():
        copy.unlink(missing_ok=True)


def _linked() -> Path:
    """A new folder, which is this process's own until it ends, with Spark's in it."""
    global _mine
    from pyspark.find_spark_home import _find_spark_home

    home = Path(tempfile.mkdtemp(prefix=_HOMES, dir=FOLDER.absolute()))
    lock = _locked(home)
    assert lock is not None
    _mine = home, lock
    given = Path(_find_spark_home()).absolute()
    for name in _LINKED:
        if (given / name).exists():
            (home / name).symlink_to(given / name)
    return home


def _locked(home: Path) -> IO[bytes] | None:
    """The folder's lock, which goes with its process however that ends; None: another process has it."""
    file = (home / _LOCK).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
