"""The package as a wheel: complete, reproducible, and valid for an installer."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dynamodt
from dynamodt.config.settings import DeploySettings
from dynamodt.deploy import packages
from dynamodt.deploy.packages import (
    Assets,
    build,
    job_locks,
    job_pins,
    parts,
    stage_file,
    urls_of,
    wheel,
    wheel_name,
    zip_of_wheels,
)
from dynamodt.errors import RunFailed, UsageError
from dynamodt.model.tables import Connection, Stage, StorageSpec
from tests import ROOT

pytestmark = pytest.mark.slow


def test_the_same_package_is_the_same_wheel() -> None:
    assert wheel() == wheel()


def test_the_wheel_has_every_module_and_the_files_beside_them_and_nothing_else() -> None:
    package = Path(dynamodt.__file__).parent
    with ZipFile(io.BytesIO(wheel())) as archive:
        named = {name for name in archive.namelist() if name.startswith("dynamodt/")}
    here = {f"dynamodt/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    beside = {f"dynamodt/{name}" for name in declared["dynamodt"] if not name.startswith("deployment/")}
    assert named == here | beside and len(beside) > 2


def test_the_wheel_has_the_entry_of_a_job_and_reads_its_stage(tmp_path: Path) -> None:
    with ZipFile(io.BytesIO(wheel())) as archive:
        archive.extractall(tmp_path)
    stage = Stage("prod", Connection("eu-west-1"), StorageSpec("s3://bucket/prefix"))
    (tmp_path / "dynamodt.toml").write_text(stage_file(stage), encoding="utf-8")
    program = "import dynamodt.cli.job as job; print(job.load_stage('prod').storage.url)"
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "s3://bucket/prefix"


def test_the_wheel_s_record_has_the_right_hashes() -> None:
    with ZipFile(io.BytesIO(wheel())) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = list(csv.reader(archive.read(record).decode().splitlines()))
        assert {name for name, _, _ in rows} == set(archive.namelist())
        for name, digest, size in rows:
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert name == record or (digest, int(size)) == (f"sha256={expected}", len(content))


def test_the_wheel_s_metadata_names_its_requirements(tmp_path: Path) -> None:
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
    """A changed line gives another build, although the version is the same."""
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
    """Every package that another one requires is among them: pip chooses no version."""
    pins = dict(pin.split("==") for pin in job_pins(job_locks()))
    base = (ROOT / "requirements" / "base.lock").read_text(encoding="utf-8")
    assert all(f"\n{name}=={version} " in base for name, version in pins.items())
    found = {canonicalize_name(one.name): one.version for one in importlib.metadata.distributions()}
    if found.items() & pins.items() != pins.items():
        pytest.skip("needs the metadata of the versions in base.lock, and others are installed")
    environment = {"python_version": "3.11", "sys_platform": "linux", "platform_system": "Linux"}
    for name in ("dynamodt", *pins):
        environment["extra"] = "beam" if name == "dynamodt" else ""
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
def test_the_pins_of_a_lock_file(tmp_path: Path, text: str, pins: list[str]) -> None:
    (tmp_path / "some.lock").write_text(text)
    assert job_pins([tmp_path / "some.lock"]) == pins


@pytest.mark.parametrize("text", ["a>=1,<2\n", "a\n", "a==1\nA==2\n", "a @ https://x/a.whl\n"])
def test_a_package_without_one_version_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.lock").write_text(text)
    with pytest.raises(UsageError) as caught:
        job_pins([tmp_path / "some.lock"])
    assert caught.value.where == str(tmp_path / "some.lock") and caught.value.hint


def test_a_zip_of_all_wheels_is_built_once_and_installs_without_an_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "some.lock").write_text("small==1.0\n")
    notes: list[str] = []

    def download(lock: Path, folder: Path) -> None:
        (folder / "small-1.0-py3-none-any.whl").write_bytes(b"small")

    monkeypatch.setattr(packages, "_download", download)
    built = zip_of_wheels(notes.append, [tmp_path / "some.lock"], tmp_path / "cache")
    assert built == zip_of_wheels(notes.append, [tmp_path / "some.lock"], tmp_path / "cache") and len(notes) == 1
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
    assert zip_of_wheels(notes.append, [tmp_path / "some.lock"], tmp_path / "cache") != built and len(notes) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_package_that_pip_does_not_find_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text("no-such-package==1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RunFailed, match="no-such-package") as caught:
        zip_of_wheels(lambda text: None, [tmp_path / "some.lock"], tmp_path / "cache")
    assert 'packages = "index"' in caught.value.hint and list((tmp_path / "cache").iterdir()) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "transforms" / "users" / "v1_a.py"
    path.parent.mkdir(parents=True)
    path.write_text("sequence = 1\ndef transform_up(item): ...\n")
    return tmp_path


@pytest.fixture
def jar_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "jar", lambda note: Path(__file__))


@pytest.mark.usefixtures("jar_is_there")
@pytest.mark.parametrize("how", ["index", "wheels"])
def test_what_scripts_import_is_installed_with_the_jobs_packages(
    monkeypatch: pytest.MonkeyPatch, project: Path, how: str
) -> None:
    (project / "needs.txt").write_text("phonenumbers==8.13.50 --hash=sha256:00\n")
    monkeypatch.setattr(packages, "_download", lambda lock, folder: (folder / f"{lock.stem}.whl").write_bytes(b""))
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
    stage = Stage("dev", Connection("r"), StorageSpec(str(project / "storage")))
    made = parts(project, stage, lambda text: None, DeploySettings(packages=how, requirements="needs.txt"))
    url = urls_of(made, Assets(stage).place)["Package"]
    if how == "index":
        assert url.split(",")[1:] == [*job_pins(job_locks()), "phonenumbers==8.13.50"]
    else:
        with ZipFile(str(made["Package"].content)) as archive:
            assert {"wheels/needs.whl", "wheels/job.whl"} <= set(archive.namelist())
            assert "phonenumbers==8.13.50" in archive.read("wheels/requirements.txt").decode().split()
        assert url.endswith(".gluewheels.zip")


@pytest.mark.usefixtures("jar_is_there")
def test_a_lock_of_scripts_that_is_missing_or_contradicts_is_named(project: Path) -> None:
    stage = Stage("dev", Connection("r"), StorageSpec(str(project / "storage")))
    for text, what, hint in (
        (None, "no such file", "pip-compile"),
        ("boto3==1.0\n", "boto3 is pinned", "--constraint"),
    ):
        if text is not None:
            (project / "needs.txt").write_text(text)
        with pytest.raises(UsageError, match=what) as caught:
            parts(project, stage, lambda text: None, DeploySettings(requirements="needs.txt"))
        assert "needs.txt" in caught.value.where and hint in caught.value.hint
