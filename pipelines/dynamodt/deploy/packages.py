"""The five uploads for the jobs of a stage: the wheel, Beam's Spark runner, two scripts, and the project.

Each is stored under the hash of its content, and is sent only if it is not stored yet. None is ever replaced, so that a
running job keeps its files. The wheel and the project are zips with fixed dates and no compression: the same content
gives the same bytes on every machine. The wheel (PEP 427) is built from the files of the running package, and needs
neither a source tree nor a build tool.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import dynamodt
from dynamodt.config.settings import FILE_NAME, DeploySettings
from dynamodt.deploy.buckets import ASSETS
from dynamodt.errors import RunFailed, UsageError, suggest
from dynamodt.model.tables import Stage
from dynamodt.pipeline.spark_context import jar
from dynamodt.script.names import files_below, tables
from dynamodt.state.storage import Storage, open_storage, user_cache, with_owner

PROJECT_FILE = "project.zip"
MOST_BYTES = 256 << 20  # of a project, which a job's driver holds in memory
_TEMPLATE = "infra/template.yaml"
_SCRIPTS = "transforms"
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can store
_READABLE = 0o644 << 16
_SUFFIXES = (".py", ".typed", ".json", ".txt", ".yaml")  # modules, and the files beside them that they read
_TAG = "Wheel-Version: 1.0\nGenerator: dynamodt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


# ---------------------------------------------------------------- the five parts


class JobPart(NamedTuple):
    """An asset by its name: its content, or the file that holds it. `pins` are packages that are installed with it."""

    name: str
    content: bytes | Path
    pins: tuple[str, ...] = ()


Parts = Mapping[str, JobPart]  # by the parameter of the template that takes the URL


def template() -> str:
    """The text of infra/template.yaml."""
    return shipped_file(_TEMPLATE).read_text(encoding="utf-8")


def parts(
    folder: Path, stage: Stage, notify: Callable[[str], None], settings: DeploySettings = DeploySettings()
) -> Parts:
    """All parts of the jobs. `notify` reports steps that take long. Raises UsageError or RunFailed for a part that
    cannot be built."""
    locks = job_locks(folder / settings.requirements if settings.requirements else None)
    pins = tuple(job_pins(locks))
    return {
        "Package": JobPart(wheel_name(), wheel(), pins)
        if settings.packages == "index"
        else _file(zip_of_wheels(notify, locks)),
        "Jar": _file(jar(notify)),
        "MigrateScript": _file(shipped_file("glue_jobs/migrate.py")),
        "PrepareScript": _file(shipped_file("glue_jobs/prepare.py")),
        "Project": JobPart(PROJECT_FILE, project_zip(folder, with_owner(stage))),
    }


def urls_of(parts: Parts, url: Callable[[str, bytes | Path], str]) -> dict[str, str]:
    """The values of the parameters that name the parts; `url` is `Assets.put`, which uploads them, or `Assets.place`.
    The packages are the wheel with each pinned package that it needs, or the zip that holds all of them."""
    return {parameter: ",".join([url(part.name, part.content), *part.pins]) for parameter, part in parts.items()}


def shipped_file(name: str) -> Path:
    """A file that comes with the package, in `deployment/` (in a clone, by links)."""
    found = Path(dynamodt.__file__).parent / "deployment" / name
    if not found.is_file():
        raise UsageError(f"{name} is missing in this installation", where=str(found), hint="reinstall the package")
    return found


def _file(path: Path) -> JobPart:
    return JobPart(path.name, path)


class Assets:
    """The assets in a stage's storage."""

    def __init__(self, stage: Stage, storage: Storage | None = None) -> None:
        self._storage = storage or open_storage(stage.connection, stage.storage)

    def put(self, name: str, content: bytes | Path) -> str:
        """Stores a content, or the content of a file, unless it is stored already; returns its URL,
        `.../assets/SHA256/NAME`. Raises ServiceError."""
        asset = _asset(name, content)
        if asset not in self._storage.names(asset):
            if isinstance(content, Path):
                self._storage.upload(asset, content)
            else:
                self._storage.write(asset, content)
        return self._storage.place(asset)

    def place(self, name: str, content: bytes | Path) -> str:
        """The URL that `put` would return; sends no request."""
        return self._storage.place(_asset(name, content))


def _asset(name: str, content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return f"{ASSETS}{hashlib.sha256(content).hexdigest()}/{name}"
    with content.open("rb") as file:
        return f"{ASSETS}{hashlib.file_digest(file, 'sha256').hexdigest()}/{name}"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip without dates and without compression: compressed bytes differ between versions of zlib."""
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_STORED) as archive:
        for name, content in files.items():
            entry = ZipInfo(name, _FIRST_TIME)
            entry.create_system = 3  # Unix, on Windows too
            entry.external_attr = _READABLE
            archive.writestr(entry, content)
    return target.getvalue()


# ---------------------------------------------------------------- the project


def project_zip(folder: Path, stage: Stage) -> bytes:
    """`dynamodt.toml` with only this stage, and `transforms/` with everything but tests.

    Profile, role and endpoint are left out: a job reaches AWS by its own role. Raises UsageError if `transforms/` is
    missing or empty, or has more than MOST_BYTES.
    """
    root = folder / _SCRIPTS
    planned = tables(root) if root.is_dir() else ()
    files = {f"{_SCRIPTS}/{name}": path for name, path in sorted(files_below(root, planned))}
    if not files:
        raise UsageError("transforms/ holds no table", where=str(folder), hint=suggest("init", table="TABLE"))
    for name in files:
        _check_name(folder, name)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: (sizes[name], name))
        what = f"transforms/ has {sum(sizes.values()) >> 20:,} MB, and a job takes {MOST_BYTES >> 20} MB"
        hint = f"the largest file is {largest} ({sizes[largest] >> 20:,} MB): let prepare read it from S3 or a table"
        raise UsageError(what, where=str(root), hint=hint)
    return _zipped({FILE_NAME: stage_file(stage).encode(), **{name: path.read_bytes() for name, path in files.items()}})


def _check_name(folder: Path, name: str) -> None:
    """Raises UsageError for a name that is not UTF-8, which a zip cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = ascii(str(folder / name))
        raise UsageError("the file's name is not UTF-8", where=shown, hint="rename it, or move it away") from error


def stage_file(stage: Stage) -> str:
    """The text of a `dynamodt.toml` that defines this stage independently of the environment."""
    values: dict[str, str | bool | None] = {
        "region": stage.connection.region,
        "storage": stage.storage.url,
        "storage_owner": stage.storage.owner,
        "kms_key": stage.storage.kms_key,
        "state_table": stage.state_table,
        "protected": stage.protected,
        "single_region_writers": stage.single_region_writers,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    path = f"stages.{_toml(stage.name)}"
    return "\n".join([f"[{path}]", *lines, *_table_names(stage, path), ""])


def _table_names(stage: Stage, path: str) -> list[str]:
    """The tables' real names, so that a job needs no lookup, and no permission for one."""
    if not stage.names.mapped:
        return []
    names = {**stage.names.sources, **stage.names.known}
    lines = [f"{_toml(logical)} = {_name_and_role(stage, logical, names[logical])}" for logical in sorted(names)]
    return [f"table_name = {_toml(stage.names.pattern)}", f"[{path}.tables]", *lines]


def _name_and_role(stage: Stage, logical: str, name: str) -> str:
    role = stage.names.roles.get(logical)
    return f"{{ name = {_toml(name)}, role_arn = {_toml(role)} }}" if role else _toml(name)


def _toml(value: str | bool) -> str:
    """A basic string of TOML is a string of JSON, except for DEL and for surrogate pairs."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# ---------------------------------------------------------------- the packages that the jobs need
# A worker that auto-scaling adds later installs the packages anew: with ranges it could get other versions than the
# driver. So all of them are pinned, as they are tested together (requirements/job.lock), down to those that no other
# package names. (AWS Glue Developer Guide, "Using Python libraries with AWS Glue": a list of pinned modules, or a zip
# of wheels with --no-index, which needs no access to an index.)

_LOCK = "requirements/job.lock"
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)")
_PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")  # of Glue 5, with Python 3.11
_TAIL_LINES = 5


def job_locks(scripts: Path | None = None) -> list[Path]:
    """The lock files, in pip's format, of all packages that a job installs: dynamodt's file, and the one for the
    packages that `scripts` import. Raises UsageError for one that is missing."""
    if scripts is not None and not scripts.is_file():
        hint = f"write it: pip-compile --generate-hashes --output-file {scripts.name} NEEDS.in"
        raise UsageError("there is no such file", where=f"requirements = {scripts}", hint=hint)
    return [shipped_file(_LOCK), *([scripts] if scripts is not None else [])]


def job_pins(locks: Sequence[Path]) -> list[str]:
    """`NAME==VERSION` of each package of the lock files. Raises UsageError for one that has no exact version, and for
    two versions of one package."""
    found: dict[str, str] = {}
    for lock in locks:
        for name, version in _pins(lock):
            if found.setdefault(name, version) != version:
                what = f"{name} is pinned to {version}, and to {found[name]} by another lock file of the jobs"
                hint = f"pin the same version in both: pip-compile --constraint {locks[0]}"
                raise UsageError(what, where=str(lock), hint=hint)
    return [f"{name}=={version}" for name, version in found.items()]


def _pins(lock: Path) -> Iterator[tuple[str, str]]:
    for line in lock.read_text(encoding="utf-8").splitlines():
        requirement = re.split(r"\s#|\s--|;|\\", f" {line}")[0].strip()
        if not requirement or requirement.startswith(("#", "-")):
            continue
        pin = _PIN.fullmatch(requirement)
        if pin is None:
            hint = "a lock file has NAME==VERSION for each package: make it with pip-compile, or pip freeze"
            raise UsageError(f"{requirement!r} has no exact version", where=str(lock), hint=hint)
        yield re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2]


def zip_of_wheels(notify: Callable[[str], None], locks: Sequence[Path], cache: Path | None = None) -> Path:
    """A zip of all wheels that a job needs, as Glue takes it, built once for each content of the lock files and of the
    package. Raises RunFailed, with the end of its output, when pip cannot download one."""
    content = [wheel(), *(lock.read_bytes() for lock in locks)]
    path = (cache or user_cache() / "wheels") / f"{hashlib.sha256(b''.join(content)).hexdigest()[:16]}.gluewheels.zip"
    if not path.is_file():
        notify("downloading the wheels of the jobs' packages (once; about 150 MB)")
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as folder:
            wheels = Path(folder)
            for lock in locks:
                _download(lock, wheels)
            (wheels / wheel_name()).write_bytes(wheel())
            pins = "\n".join([f"dynamodt=={_installed().version}", *job_pins(locks), ""])
            files = {f"wheels/{one.name}": one.read_bytes() for one in sorted(wheels.iterdir())}
            (wheels / "zip").write_bytes(_zipped({"wheels/requirements.txt": pins.encode(), **files}))
            (wheels / "zip").replace(path)
    return path


def _download(lock: Path, folder: Path) -> None:
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    words += [f"--platform={platform}" for platform in _PLATFORMS]
    done = subprocess.run([*words, "--dest", str(folder), "--requirement", str(lock)], capture_output=True, text=True)
    if done.returncode:
        said = "\n  ".join(done.stderr.strip().splitlines()[-_TAIL_LINES:])
        hint = 'each package needs a wheel for Linux and Python 3.11; or set packages = "index" in dynamodt.toml'
        raise RunFailed(f"pip could not download the wheels:\n  {said}", where=str(lock), hint=hint)


# ---------------------------------------------------------------- the wheel


def wheel_name() -> str:
    """The file's name, which contains the version. Raises UsageError if the package is not installed."""
    return f"dynamodt-{_installed().version}-py3-none-any.whl"


def wheel() -> bytes:
    """The wheel. Raises UsageError if the package is not installed, but run from its folder."""
    installed = _installed()
    info = f"dynamodt-{installed.version}.dist-info"
    files = {**_files(Path(dynamodt.__file__).parent), **_metadata(installed, info)}
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    return _zipped({**files, f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,", ""]).encode()})


@cache
def build() -> str:
    """The hash of the package's files: the same in this process and in an installation of the wheel."""
    files = _files(Path(dynamodt.__file__).parent)
    lines = [f"{name} {_digest(content)}" for name, content in files.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _installed() -> Distribution:
    try:
        return distribution("dynamodt")
    except PackageNotFoundError as error:
        hint = "pip install dynamodt, or, in a clone of it, make install"
        raise UsageError("the package is not installed, and cannot be packaged for the jobs", hint=hint) from error


def _files(package: Path) -> dict[str, bytes]:
    """The package without `deployment/`, which a job does not need."""
    found = (path for path in package.rglob("*") if path.suffix in _SUFFIXES)
    paths = sorted(path for path in found if package / "deployment" not in path.parents)
    return {f"dynamodt/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}


def _metadata(installed: Distribution, info: str) -> dict[str, bytes]:
    """The package's metadata without its README, which would change the hash with each edit."""
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""  # an .egg-info has the second
    head = text.partition("\n\n")[0]
    return {
        f"{info}/METADATA": f"{head}\n".encode(),
        f"{info}/WHEEL": _TAG.encode(),
        f"{info}/entry_points.txt": (installed.read_text("entry_points.txt") or "").encode(),
    }


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
