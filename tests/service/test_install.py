"""The emulator's environment: made by pip from a folder of wheels, with a stand-in for ministack."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dynamodt.errors import ServiceError
from dynamodt.local import install

FORMATS = "STATE_FORMAT_VERSION = 2\nSERVICE_STATE_FORMAT_VERSIONS = {'kms': 3}\n"
METADATA = "Metadata-Version: 2.1\nName: ministack\nVersion: 1.5.0\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
RECORD = "ministack/core/persistence.py,,\nministack-1.5.0.dist-info/RECORD,,\n"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels in place of an index, and a virtual environment that is a temporary folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    return folder


def locked(wheels: Path) -> Path:
    """A lock of the stand-in, whose wheel is in the folder."""
    wheel = wheels / "ministack-1.5.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("ministack/core/persistence.py", FORMATS)
        for name, text in (("METADATA", METADATA), ("WHEEL", WHEEL), ("RECORD", RECORD)):
            archive.writestr(f"ministack-1.5.0.dist-info/{name}", text)
    lock = wheels / "ministack.lock"
    lock.write_text(f"ministack==1.5.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return lock


@pytest.mark.chaos
def test_the_environment_is_made_once_from_a_folder_of_wheels(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, notes = locked(wheels), list[str]()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))  # of the project: it would come before the emulator's
    monkeypatch.setenv("PIP_USER", "1")

    def made(_: int) -> install.Environment:
        return install.environment(tmp_path / "work", notes.append, lock)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(made, range(2))
    assert first == second == made(0)
    assert first.folder == tmp_path / "venv" / "ministack" / install.release_of(lock)
    assert first.release.startswith("1.5.0-") and first.python.is_file()
    assert dict(first.formats) == {"": 2, "kms": 3}
    assert [note.partition(",")[0] for note in notes] == ["installing the embedded emulator"]
    lock.write_text("# another one\n" + lock.read_text())
    assert install.release_of(lock) != first.release


@pytest.mark.chaos
def test_without_an_index_the_error_says_what_to_do(wheels: Path, tmp_path: Path) -> None:
    lock = locked(wheels)
    next(wheels.glob("*.whl")).unlink()
    with pytest.raises(ServiceError, match="could not be installed") as caught:
        install.environment(tmp_path / "work", print, lock)
    assert str(lock) in caught.value.hint and "PIP_NO_INDEX=1 PIP_FIND_LINKS=" in caught.value.hint
    assert "ministack" in caught.value.what
    assert [path.name for path in (tmp_path / "venv" / "ministack").iterdir()] == ["lock"]


def test_the_environment_is_in_the_first_writable_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def build(place: Path, release: str, lock: Path) -> None:
        made.append(place)
        (place / release).mkdir()
        (place / release / "installed.json").write_text("{}")

    monkeypatch.setattr(install, "_build", build)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # no virtual environment
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install.environment(tmp_path / "work", print)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home folder")))
    install.environment(tmp_path / "work", print)
    assert made == [tmp_path / "cache" / "dynamodt" / "ministack", tmp_path / "work" / "ministack"]
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "file"))  # nothing can be made there
    assert install.environment(tmp_path / "work", print).folder.parent == tmp_path / "work" / "ministack"
