"""The Spark that executes pipelines: the one of this process, as in Glue, or one that is started here, with the jar of
Beam's runner, which Maven builds from `infra/beam-spark/pom.xml`, once for each content of that file.

A Spark that is started here writes to `.dynamodt/spark`: its log, the output of Python, and its executors' folders.
`local-cluster` puts the folders of its executors, each with a copy of the jar, into `$SPARK_HOME/work`, inside the
installed pyspark. No setting changes this (SPARK_WORKER_DIR is for workers that are started by hand), so SPARK_HOME is
a folder of links. Each process has its own, since two that start in the same second have the same application id.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from dynamodt.errors import Refused, RunFailed, UsageError, exit_code_of, require, say
from dynamodt.model.tables import WORK_FOLDER
from dynamodt.script.load import folder_of_process, remove_left
from dynamodt.state.storage import make_work_folder, user_cache

FOLDER = Path(WORK_FOLDER) / "spark"
LOG = FOLDER / "spark.log"
PYTHON_LOG = FOLDER / "python.log"  # the stderr of the harnesses

_HOMES = "executors-"
_WORK = "work"
_LINKED = ("bin", "conf", "jars", "python")

_mine: tuple[Path, IO[bytes]] | None = None  # this process's folder, and its lock


def begin() -> None:
    """Make the folder, remove the folders of processes that have ended, and empty the logs."""
    make_work_folder(FOLDER.parent)
    FOLDER.mkdir(exist_ok=True)
    remove_left(FOLDER, _HOMES)
    PYTHON_LOG.write_bytes(b"")


@contextmanager
def spark_home() -> Iterator[None]:
    """Sets SPARK_HOME to a folder of this process for the start of a JVM, which uses it until it ends."""
    before = os.environ.get("SPARK_HOME")
    os.environ["SPARK_HOME"] = str(_linked())
    try:
        yield
    finally:
        os.environ.pop("SPARK_HOME")
        if before is not None:
            os.environ["SPARK_HOME"] = before


def discard_jars() -> None:
    """Remove the executors' copies of the jar; their output is kept until the next Spark starts."""
    for copy in _mine[0].glob(f"{_WORK}/*/*/*.jar") if _mine else ():
        copy.unlink(missing_ok=True)


def _linked() -> Path:
    """A new folder of this process, with links to Spark's."""
    global _mine
    from pyspark.find_spark_home import _find_spark_home

    home, _ = _mine = folder_of_process(FOLDER.absolute(), _HOMES)
    given = Path(_find_spark_home()).absolute()
    for name in _LINKED:
        if (given / name).exists():
            (home / name).symlink_to(given / name)
    return home


LOCAL = "local[*,4]"  # all cores; a task may fail three times, as on a cluster
_NO_REASON = ("at ", "... ", "Driver stacktrace:", "INFO:", "WARNING:")
RUNNER_CLASS = "org.apache.beam.runners.spark.SparkPipelineRunner"

_TASKS_PER_CORE = 4
_LOCAL = re.compile(r"local\[(?P<cores>\d+|\*)(?:,\s*\d+)?\]|local")
_CLUSTER = re.compile(r"local-cluster\[\s*(?P<executors>\d+)\s*,\s*(?P<cores>\d+)\s*,\s*\d+\s*\]")

_started: tuple[str, Any] | None = None  # the master and the context that this process has started


def spark_context(master: str, notify: Callable[[str], None]) -> Any:
    """The active SparkContext, or one that is started on `master` (empty: this machine's cores) and lasts until the
    process ends or another master is requested. A Spark that was not started here is never stopped.

    Raises UsageError if pyspark, Java or Maven are missing, Refused for a given Spark that cannot be used, and
    RunFailed when it does not start.
    """
    kind = _spark_context_class()
    active = kind._active_spark_context
    if active is not None and (_started is None or active is not _started[1]):
        check(active)
        return active
    wanted = master or LOCAL
    if _started is None or active is None or _started[0] != wanted:
        stop()
        _start(kind, wanted, notify)
    assert _started is not None
    return _started[1]


def _spark_context_class() -> Any:
    require("pyspark", "spark", "--runner spark", " (in a clone, `make run RUNNER=spark` does it)")
    from pyspark import SparkContext

    return SparkContext


def stop() -> None:
    """Stop the Spark that was started here, if one was."""
    global _started
    if _started is not None:
        _, context = _started
        _started = None
        context.stop()
        discard_jars()


def _start(kind: Any, master: str, notify: Callable[[str], None]) -> None:
    global _started
    check_java()
    path = jar(notify)
    notify(f"starting Spark on {master}")
    try:
        context = _launched(kind, settings(master, path))
    except Exception as error:  # any error of Spark and its JVM
        raise RunFailed(
            f"Spark did not start on {master}: {last_line(str(error))}", where="--runner spark", hint=log_hint()
        ) from error
    if _started is None:
        atexit.register(stop)
    _started = (master, context)


def _launched(kind: Any, values: dict[str, str]) -> Any:
    """A context whose JVM writes to the log instead of the screen; an existing JVM is used again."""
    from pyspark import SparkConf
    from pyspark.java_gateway import launch_gateway

    conf = SparkConf().setAll(list(values.items()))
    if kind._gateway is not None:
        return kind(conf=conf)
    begin()
    home = spark_home() if _CLUSTER.fullmatch(values["spark.master"]) else nullcontext()
    with _ended_when_interrupted():
        with home, LOG.open("wb") as log:
            gateway = launch_gateway(conf, {"stdout": log, "stderr": log})
        return kind(conf=conf, gateway=gateway)


@contextmanager
def _ended_when_interrupted() -> Iterator[None]:
    """Kills a JVM whose start is interrupted: it would wait forever for a call from Python."""
    from pyspark import java_gateway

    start, started = java_gateway.Popen, []

    def noted(*words: Any, **options: Any) -> Any:
        started.append(start(*words, **options))
        return started[-1]

    java_gateway.Popen = noted
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for jvm in started:
            jvm.kill()
            jvm.wait()
        raise
    finally:
        java_gateway.Popen = start


def settings(master: str, path: Path) -> dict[str, str]:
    """The settings of a Spark that is started here, without speculation: two tasks on one split group would take the
    splits over from each other."""
    values = {
        "spark.master": master,
        "spark.app.name": "dynamodt",
        "spark.jars": str(path),
        "spark.driver.extraClassPath": str(path),
        "spark.speculation": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if cores := local_cores(master):
        values |= {
            "spark.default.parallelism": str(_TASKS_PER_CORE * cores),
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
        }
    return values


def local_cores(master: str) -> int:
    """The cores of a Spark on this machine; 0 for a Spark elsewhere."""
    if found := _LOCAL.fullmatch(master):
        cores = found["cores"] or "1"
        return os.cpu_count() or 1 if cores == "*" else int(cores)
    if found := _CLUSTER.fullmatch(master):
        return int(found["executors"]) * int(found["cores"])
    return 0


def executor_cores(context: Any) -> int:
    """The cores of one executor, each of which has its own harness."""
    if found := _CLUSTER.fullmatch(context.master):
        return int(found["cores"])
    return local_cores(context.master) or int(context.getConf().get("spark.executor.cores", "1"))


def workers(context: Any) -> int:
    """The number of harnesses that work at once when Spark has its maximum of executors."""
    conf = context.getConf()
    executors = conf.get("spark.dynamicAllocation.maxExecutors") or conf.get("spark.executor.instances") or "0"
    asked = int(executors) * executor_cores(context) if executors.isdigit() else 0
    return local_cores(context.master) or max(asked, int(context.defaultParallelism))


def check(context: Any) -> None:
    """Raises Refused for a given Spark that cannot be used."""
    if context.getConf().get("spark.speculation", "false") == "true":
        hint = "start it with spark.speculation=false: two tasks would take splits over from each other"
        raise Refused("this Spark runs tasks twice by speculation", where="spark.speculation", hint=hint)
    try:
        java_class(context, RUNNER_CLASS)
    except Exception as error:  # py4j's, which holds Java's ClassNotFoundException
        hint = "give it the jar when it starts: spark.jars, or --extra-jars of Glue (make jar builds it)"
        raise Refused("this Spark does not have Beam's runner", where=RUNNER_CLASS, hint=hint) from error


def java_class(context: Any, name: str) -> Any:
    """A class of the driver's JVM, by the loader that has Spark's jars, too."""
    java = context._jvm.java.lang
    return java.Class.forName(name, True, java.Thread.currentThread().getContextClassLoader())


def log_hint() -> str:
    """The hint that names the log."""
    return f"Spark's own log has more: {LOG}" if LOG.exists() else "the driver's log has more"


def last_line(text: str) -> str:
    """The reason in a traceback: the last line of Python's, or the last line of Java's that is not a frame."""
    lines = [line.strip() for line in text.splitlines()]
    saying = [line for line in lines if line and not line.startswith(_NO_REASON)]
    return saying[-1] if saying else text


# ---------------------------------------------------------------- the jar

JAR_VARIABLE = "DYNAMODT_SPARK_JAR"

_PACKAGE = Path(__file__).parents[1]
POM = _PACKAGE / "deployment" / "infra" / "beam-spark" / "pom.xml"
_TAIL_LINES = 5


def _jar_cache() -> Path:
    """The folder of the jars: in a clone, where `deployment/infra` is a link, a folder of the clone; else in the user's
    cache."""
    in_clone = POM.parents[1].is_symlink()
    return _PACKAGE.parents[1] / ".cache" / "jars" if in_clone else user_cache() / "jars"


def jar(notify: Callable[[str], None] = say, pom: Path = POM, cache: Path | None = None) -> Path:
    """The jar, built first if it does not exist (about a minute, and half a gigabyte in Maven's own cache).

    Raises UsageError when Java or Maven is missing, or the jar that DYNAMODT_SPARK_JAR names; RunFailed, with the end
    of the log, when Maven fails.
    """
    given = os.environ.get(JAR_VARIABLE)
    path = Path(given).absolute() if given else cached_jar(pom, cache)
    if path.is_file():
        return path
    if given:
        raise UsageError(
            f"there is no jar at {path}", where=JAR_VARIABLE, hint=f"unset {JAR_VARIABLE}: the jar is built then"
        )
    check_java()  # Maven is Java
    notify("building Beam's Spark runner with Maven (once; a minute or two)")
    _build_jar(pom, path)
    return path


def cached_jar(pom: Path = POM, cache: Path | None = None) -> Path:
    """The path of the jar of this pom, existing or not; its name depends on the pom's content. Raises UsageError if
    there is no pom, as in a job, which is given the jar."""
    if not pom.is_file():
        hint = f"build it in a clone of the project (make jar), and name it: {JAR_VARIABLE}=/path/to/beam-spark.jar"
        raise UsageError("the jar of Beam's Spark runner is not here, nor what it is built from", hint=hint)
    return (cache or _jar_cache()) / f"beam-spark-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}.jar"


def missing_for_jar() -> str:
    """The reason why the jar cannot be built or used here; empty if it can."""
    if not _java():
        return "a local Spark needs Java 17, and java is not installed"
    if shutil.which("mvn") is None and not cached_jar().is_file():
        return "the jar of Beam's Spark runner is built by Maven, and mvn is not installed"
    return ""


def check_java() -> None:
    """Raises UsageError if there is no Java."""
    if not _java():
        hint = "install Java 17, so that `java` is on the PATH or below JAVA_HOME"
        raise UsageError("Beam's Spark runner needs Java 17, and java is not installed", hint=hint)


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")


def _build_jar(pom: Path, path: Path) -> None:
    """Build the jar beside the path, then move it, so that no other process finds an incomplete jar."""
    maven = shutil.which("mvn")
    if maven is None:
        hint = "install Maven (mvn), then run the same command again"
        raise UsageError("the jar of Beam's Spark runner is built by Maven, and mvn is not installed", hint=hint)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as folder:
        shutil.copyfile(pom, Path(folder) / "pom.xml")
        words = [maven, "--quiet", "--batch-mode", "-Dstyle.color=never", "package"]
        done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise _maven_failed(done.stdout + done.stderr)
        os.replace(Path(folder) / "target" / "beam-spark.jar", path)


def _maven_failed(log: str) -> RunFailed:
    reasons = [line for line in log.splitlines() if "ERROR" in line][:_TAIL_LINES] or log.splitlines()[-_TAIL_LINES:]
    return RunFailed(
        "Maven could not build the jar of Beam's Spark runner:\n  " + "\n  ".join(reasons),
        where=str(POM),
        hint="it needs the network, once; `make jar` tries again",
    )


def main() -> int:
    """`make jar`: prints the path of the jar; returns the exit code."""
    return exit_code_of(lambda: sys.stdout.write(f"{jar()}\n"))


if __name__ == "__main__":
    sys.exit(main())
