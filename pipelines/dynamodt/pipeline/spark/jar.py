"""The Java side as one jar: built by Maven from `infra/beam-spark/pom.xml`, once for each content of that file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dynamodt.errors import DynamodtError, RunFailed, UsageError

GIVEN = "DYNAMODT_SPARK_JAR"

_PACKAGE = Path(__file__).parents[2]
POM = _PACKAGE / "deployment" / "infra" / "beam-spark" / "pom.xml"
_TAIL_LINES = 5


def user_cache() -> Path:
    """The user's cache folder, outside the installed package, which may be read-only and is removed with its
    environment. Raises RuntimeError for a user without a home folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dynamodt"


def _cache() -> Path:
    """The folder of the jars: in a clone, where `deployment/infra` is a link, a folder of the clone; else in the user's
    cache."""
    in_clone = POM.parents[1].is_symlink()
    return _PACKAGE.parents[1] / ".cache" / "jars" if in_clone else user_cache() / "jars"


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


def jar(notify: Callable[[str], None] = say, pom: Path = POM, cache: Path | None = None) -> Path:
    """The jar, built first if it does not exist (about a minute, and half a gigabyte in Maven's own cache).

    Raises UsageError when Java or Maven is missing, or the jar that DYNAMODT_SPARK_JAR names; RunFailed, with the end
    of the log, when Maven fails.
    """
    given = os.environ.get(GIVEN)
    path = Path(given).absolute() if given else cached(pom, cache)
    if path.is_file():
        return path
    if given:
        raise UsageError(f"there is no jar at {path}", where=GIVEN, hint=f"unset {GIVEN}: the jar is built then")
    check_java()  # Maven is Java
    notify("building Beam's Spark runner with Maven (once; a minute or two)")
    _build(pom, path)
    return path


def cached(pom: Path = POM, cache: Path | None = None) -> Path:
    """The path of the jar of this pom, existing or not; its name depends on the pom's content. Raises UsageError if
    there is no pom, as in a job, which is given the jar."""
    if not pom.is_file():
        hint = f"build it in a clone of the project (make jar), and name it: {GIVEN}=/path/to/beam-spark.jar"
        raise UsageError("the jar of Beam's Spark runner is not here, nor what it is built from", hint=hint)
    return (cache or _cache()) / f"beam-spark-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}.jar"


def missing() -> str:
    """The reason why the jar cannot be built or used here; empty if it can."""
    if not _java():
        return "a local Spark needs Java 17, and java is not installed"
    if shutil.which("mvn") is None and not cached().is_file():
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


def _build(pom: Path, path: Path) -> None:
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
            raise _failed(done.stdout + done.stderr)
        os.replace(Path(folder) / "target" / "beam-spark.jar", path)


def _failed(log: str) -> RunFailed:
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
