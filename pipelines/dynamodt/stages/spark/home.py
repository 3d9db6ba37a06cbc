"""Where a Spark of our own writes: `.dynamodt/spark`, with its log, what Python says, and its executors' folders.

`local-cluster` puts the folders of its executors, and with them a copy of the jar for each, into `$SPARK_HOME/work`,
which is inside the installed pyspark. No setting says otherwise (SPARK_WORKER_DIR is for a worker that one starts
oneself), so that SPARK_HOME is a folder of links, one for each process: two that start in the same second have the same
application's id.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(".dynamodt") / "spark"
LOG = FOLDER / "spark.log"
PYTHON_LOG = FOLDER / "python.log"  # what the harnesses wrote to stderr

_HOMES = "executors-"
_WORK = "work"
_LINKED = ("bin", "conf", "jars", "python")


def begin() -> None:
    """The folder is there, what processes left that are gone is not, and the logs are empty."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for home in FOLDER.glob(f"{_HOMES}*"):
        if not _at_work(home.name.removeprefix(_HOMES)):
            shutil.rmtree(home, ignore_errors=True)
    PYTHON_LOG.write_bytes(b"")


@contextmanager
def spark_home() -> Iterator[None]:
    """SPARK_HOME is a folder of this process: for the start of a JVM, which goes by it as long as it lives."""
    before = os.environ.get("SPARK_HOME")
    os.environ["SPARK_HOME"] = str(_linked(_home().absolute()))
    try:
        yield
    finally:
        os.environ.pop("SPARK_HOME")
        if before is not None:
            os.environ["SPARK_HOME"] = before


def discard_jars() -> None:
    """What executors have said is kept until the next Spark starts; their copies of the jar are not."""
    for copy in _home().glob(f"{_WORK}/*/*/*.jar"):
        copy.unlink(missing_ok=True)


def _home() -> Path:
    return FOLDER / f"{_HOMES}{os.getpid()}"


def _linked(home: Path) -> Path:
    from pyspark.find_spark_home import _find_spark_home

    home.mkdir(parents=True)
    given = Path(_find_spark_home()).absolute()
    for name in _LINKED:
        if (given / name).exists():
            (home / name).symlink_to(given / name)
    return home


def _at_work(process: str) -> bool:
    """Whether another process of that id is there; one with our own id was before us."""
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
