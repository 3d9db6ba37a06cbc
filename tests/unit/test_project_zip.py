"""The zip that a job unpacks: equal for equal content, with a stage that has the same meaning in the job."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.config.stage import load_stage
from dynamodt.deploy import packages
from dynamodt.deploy.packages import project_zip, stage_file
from dynamodt.errors import UsageError
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.script.names import tables

STAGE = Stage(
    "prod",
    Connection("eu-west-1", endpoint_url="http://127.0.0.1:1", profile="mine", role_arn="arn:r"),
    StorageSpec("s3://bucket/prefix", "alias/key"),
    state_table="state",
    protected=True,
)


def project(folder: Path) -> Path:
    for name in ("users/v1_a.py", "users/countries.csv", "users/tests/test_v1_a.py", "orders/v1_b.py"):
        path = folder / "transforms" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "transforms/users/.hidden").touch()
    (folder / "transforms/users/__pycache__").mkdir()
    (folder / "transforms/users/__pycache__/v1_a.pyc").touch()
    (folder / "secret.env").touch()
    return folder


def test_which_files_are_packed(tmp_path: Path) -> None:
    with ZipFile(io.BytesIO(project_zip(project(tmp_path), STAGE))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "dynamodt.toml",
            "transforms/orders/v1_b.py",
            "transforms/users/countries.csv",
            "transforms/users/v1_a.py",
        ]
        assert archive.read("transforms/users/countries.csv") == b"users/countries.csv"


def test_the_files_of_every_planned_version_are_packed(tmp_path: Path) -> None:
    """Whatever a table's name, and wherever its folder; a link that leads back is followed once."""
    folder = project(tmp_path / "project")
    for place in ("project/transforms/tests", "project/transforms/.hidden", "elsewhere"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "v1_x.py").touch()
    (folder / "transforms/linked").symlink_to(tmp_path / "elsewhere")
    (folder / "transforms/again").symlink_to(tmp_path / "elsewhere")
    (folder / "transforms/users/around").symlink_to(folder / "transforms")
    with ZipFile(io.BytesIO(project_zip(folder, STAGE))) as archive:
        names = archive.namelist()
    packed = {name.split("/")[1] for name in names if name.endswith(".py")}
    assert packed == set(tables(folder / "transforms")) == {"tests", ".hidden", "linked", "again", "users", "orders"}
    assert not any("around" in name or "test_v1_a" in name for name in names)


def test_links_between_two_folders_are_followed_once(tmp_path: Path) -> None:
    """They form an endless path, and with two of them in each folder there are a million paths."""
    folder = project(tmp_path)
    for name in ("a", "b"):
        (folder / f"transforms/users/{name}").symlink_to(folder / "transforms/orders")
        (folder / f"transforms/orders/{name}").symlink_to(folder / "transforms/users")
    with ZipFile(io.BytesIO(project_zip(folder, STAGE))) as archive:
        names = set(archive.namelist())
    assert "transforms/users/a/v1_b.py" in names and not any("/a/a" in name or "/a/b" in name for name in names)


def test_which_files_beside_versions_are_packed(tmp_path: Path) -> None:
    folder = project(tmp_path)
    users = folder / "transforms/users"
    for name in (".DS_Store", ".env", "two words.csv", "naïve.csv"):
        (users / name).touch()
    (users / "empty").mkdir()
    (users / "gone.csv").symlink_to("nowhere")
    os.mkfifo(users / "pipe")
    with ZipFile(io.BytesIO(project_zip(folder, STAGE))) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist() if name.startswith("transforms/users/")}
    assert {"two words.csv", "naïve.csv"} < names and not names & {".DS_Store", ".env", "gone.csv", "pipe", ""}


def test_a_file_name_that_no_zip_can_contain_is_named(tmp_path: Path) -> None:
    folder = project(tmp_path)
    Path(os.fsdecode(os.fsencode(folder / "transforms/users") + b"/\xff.csv")).touch()
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        project_zip(folder, STAGE)
    assert "transforms/users" in caught.value.where and caught.value.where.isprintable()


def test_the_same_content_is_the_same_zip(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one"), project(tmp_path / "two")
    for path in two.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert project_zip(one, STAGE) == project_zip(two, STAGE)
    (two / "transforms/users/v1_a.py").write_text("other")
    assert project_zip(one, STAGE) != project_zip(two, STAGE)
    assert project_zip(one, STAGE) != project_zip(one, replace(STAGE, state_table="another"))


def test_the_stage_in_the_job_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    there = tmp_path_factory.mktemp("there")
    with ZipFile(io.BytesIO(project_zip(project(tmp_path), STAGE))) as archive:
        archive.extractall(there)
    stage = load_stage("prod", there)
    assert stage == replace(STAGE, connection=Connection("eu-west-1"))


@given(text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_any_text_is_unchanged_in_the_packed_settings(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    stage = Stage(f"x{text}", Connection("r"), StorageSpec("s3://b", f"k{text}k"), f"t{text}t")
    (folder / "dynamodt.toml").write_text(stage_file(stage), encoding="utf-8", newline="")
    assert load_stage(stage.name, folder) == stage


def test_a_project_that_is_too_large_is_refused_with_its_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path)
    (folder / "transforms/users/countries.csv").write_bytes(b"x" * (3 << 20))
    monkeypatch.setattr(packages, "MOST_BYTES", 2 << 20)
    with pytest.raises(UsageError, match=r"has 3 MB, and a job takes 2 MB") as caught:
        project_zip(folder, STAGE)
    assert "transforms/users/countries.csv (3 MB)" in caught.value.hint


def test_a_project_without_scripts_is_packed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no table"):
        project_zip(tmp_path, STAGE)
