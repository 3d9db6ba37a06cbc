"""The jar is found or built by its content, or an error names the missing part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamodt.errors import RunFailed, UsageError
from dynamodt.pipeline.spark_context import JAR_VARIABLE, jar

MAVEN = """#!/bin/sh
echo built >> "{log}"
mkdir -p target && cp pom.xml target/beam-spark.jar
"""
BROKEN = """#!/bin/sh
echo "[INFO] reading"
echo "[ERROR] Could not find artifact org.apache.beam:beam"
exit 1
"""


def program(folder: Path, name: str, text: str = "#!/bin/sh\n") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a `java`, and all that a shell script needs."""
    folder = tmp_path / "bin"
    program(folder, "java")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv(JAR_VARIABLE, raising=False)
    return folder


@pytest.fixture
def pom(tmp_path: Path) -> Path:
    found = tmp_path / "pom.xml"
    found.write_text("<project/>")
    return found


def test_the_jar_is_built_once_for_each_content(path: Path, pom: Path, tmp_path: Path) -> None:
    log, notes = tmp_path / "log", []
    program(path, "mvn", MAVEN.format(log=log))
    first = jar(notes.append, pom, tmp_path / "cache")
    assert jar(notes.append, pom, tmp_path / "cache") == first
    assert first.read_text() == "<project/>" and log.read_text() == "built\n" and len(notes) == 1
    pom.write_text("<project>another</project>")
    assert jar(notes.append, pom, tmp_path / "cache") != first
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".jar", ".jar"]


def test_maven_s_error_is_reported(path: Path, pom: Path, tmp_path: Path) -> None:
    program(path, "mvn", BROKEN)
    with pytest.raises(RunFailed, match="Could not find artifact") as failed:
        jar(lambda text: None, pom, tmp_path / "cache")
    assert "reading" not in failed.value.what
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(("there", "what"), [((), "java is not installed"), (("java",), "mvn is not installed")])
def test_a_missing_program_is_named(
    there: tuple[str, ...], what: str, pom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in there:
        program(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UsageError, match=what) as missing:
        jar(lambda text: None, pom, tmp_path / "cache")
    assert missing.value.hint.startswith("install")


def test_a_jar_can_be_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JAR_VARIABLE, str(tmp_path / "given.jar"))
    with pytest.raises(UsageError, match="there is no jar at"):
        jar()
    (tmp_path / "given.jar").write_text("")
    assert jar() == tmp_path / "given.jar"


def test_an_installation_without_the_sources_of_the_jar_has_a_hint(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nor what it is built from") as missing:
        jar(pom=tmp_path / "pom.xml")
    assert JAR_VARIABLE in missing.value.hint
