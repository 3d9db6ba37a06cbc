"""The package as a wheel: whole, the same every time, and as an installer wants it."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dynamodt
from dynamodt.deploy import packages
from dynamodt.deploy.packages import build, job_pins, wheel, wheel_name, zip_of_wheels
from dynamodt.errors import RunFailed, UsageError
from tests import ROOT


def test_the_same_package_is_the_same_wheel() -> None:
    assert wheel() == wheel()


def test_every_module_and_nothing_else() -> None:
    package = Path(dynamodt.__file__).parent
    with ZipFile(io.BytesIO(wheel())) as archive:
        named = {name for name in archive.namelist() if name.startswith("dynamodt/")}
    here = {f"dynamodt/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert named == here | {"dynamodt/py.typed"}


def test_the_record_holds() -> None:
    with ZipFile(io.BytesIO(wheel())) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = list(csv.reader(archive.read(record).decode().splitlines()))
        assert {name for name, _, _ in rows} == set(archive.namelist())
        for name, digest, size in rows:
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert name == record or (digest, int(size)) == (f"sha256={expected}", len(content))


def test_it_names_what_it_needs(tmp_path: Path) -> None:
    """importlib reads it as it reads an installed one: a wheel on the path is a package."""
    file = tmp_path / wheel_name()
    file.write_bytes(wheel())
    program = (
        "from importlib.metadata import distribution\n"
        "found = distribution('dynamodt')\n"
        "import dynamodt\n"
        "print(found.version, dynamodt.__file__, len(found.requires), list(found.entry_points)[0].value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(file)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    version, place, needs, start = done.stdout.split()
    assert version == wheel_name().split("-")[1] and place.startswith(str(file))
    assert int(needs) > 5 and start == "dynamodt.cli.app:main"


def test_the_build_is_the_same_where_the_wheel_was_installed(tmp_path: Path) -> None:
    """And another one where a line of it is another, though the version is the same."""
    with ZipFile(io.BytesIO(wheel())) as archive:
        archive.extractall(tmp_path)
    program = "from dynamodt.deploy.packages import build; print(build())"

    def built() -> str:
        environment = {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert built() == build()
    file = tmp_path / "dynamodt" / "errors.py"
    file.write_text(file.read_text() + "\n")
    assert built() != build()


# ---------------------------------------------------------------- what the wheel needs, in a job


def test_a_job_installs_the_versions_that_are_tested_together() -> None:
    """Every package that another one of them needs is among them: pip has nothing left to choose."""
    pins = dict(pin.split("==") for pin in job_pins())
    base = (ROOT / "requirements" / "base.lock").read_text(encoding="utf-8")
    assert all(f"\n{name}=={version} " in base for name, version in pins.items())
    environment = {"extra": "", "python_version": "3.11", "sys_platform": "linux", "platform_system": "Linux"}
    for name in ("dynamodt", *pins):
        for text in importlib.metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate(environment):
                assert canonicalize_name(needed.name) in pins, f"{name} needs {needed}"
                assert needed.specifier.contains(pins[canonicalize_name(needed.name)], prereleases=True)


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("a==1\nB_c==2.0.post1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n", ["a==1", "b-c==2.0.post1"]),
        ("# all\n\n--index-url https://x\na==1  # via b\nb==2; python_version < '4'\n", ["a==1", "b==2"]),
        ("a==1\na==1\n", ["a==1"]),
    ],
)
def test_the_pins_of_a_lock_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, pins: list[str]) -> None:
    (tmp_path / "some.lock").write_text(text)
    monkeypatch.setattr(packages, "job_locks", lambda: [tmp_path / "some.lock"])
    assert job_pins() == pins


@pytest.mark.parametrize("text", ["a>=1,<2\n", "a\n", "a==1\nA==2\n", "a @ https://x/a.whl\n"])
def test_a_package_without_one_version_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "some.lock").write_text(text)
    monkeypatch.setattr(packages, "job_locks", lambda: [tmp_path / "some.lock"])
    with pytest.raises(UsageError) as caught:
        job_pins()
    assert caught.value.where == str(tmp_path / "some.lock") and caught.value.hint


def test_a_zip_of_all_wheels_is_built_once_and_installs_without_an_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "some.lock").write_text("small==1.0\n")
    monkeypatch.setattr(packages, "job_locks", lambda: [tmp_path / "some.lock"])
    notes: list[str] = []

    def download(lock: Path, folder: Path) -> None:
        (folder / "small-1.0-py3-none-any.whl").write_bytes(b"small")

    monkeypatch.setattr(packages, "_download", download)
    built = zip_of_wheels(notes.append, tmp_path / "cache")
    assert built == zip_of_wheels(notes.append, tmp_path / "cache") and len(notes) == 1
    assert built.name.endswith(".gluewheels.zip")
    with ZipFile(built) as archive:
        assert sorted(archive.namelist()) == [
            f"wheels/{wheel_name()}",
            "wheels/requirements.txt",
            "wheels/small-1.0-py3-none-any.whl",
        ]
        assert archive.read(f"wheels/{wheel_name()}") == wheel()
        assert archive.read("wheels/requirements.txt").decode().split()[1:] == ["small==1.0"]
    (tmp_path / "some.lock").write_text("small==2.0\n")
    assert zip_of_wheels(notes.append, tmp_path / "cache") != built and len(notes) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_package_that_pip_does_not_find_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text("no-such-package==1.0\n")
    monkeypatch.setattr(packages, "job_locks", lambda: [tmp_path / "some.lock"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RunFailed, match="no-such-package") as caught:
        zip_of_wheels(lambda text: None, tmp_path / "cache")
    assert 'packages = "index"' in caught.value.hint and list((tmp_path / "cache").iterdir()) == []
