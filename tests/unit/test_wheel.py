"""The package as a wheel: whole, the same every time, and as an installer wants it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import dynamodt
from dynamodt.deploy.packages import build, wheel, wheel_name


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
