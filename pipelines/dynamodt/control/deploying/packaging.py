"""What is deployed, on this machine: the template, and the five things that its jobs are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dynamodt
from dynamodt.control.deploying.project import PROJECT_FILE, project_zip
from dynamodt.control.deploying.wheel import wheel, wheel_name
from dynamodt.control.runner import spark_jar
from dynamodt.errors import UsageError

if TYPE_CHECKING:
    from dynamodt.aws.assets import Assets
    from dynamodt.model import Stage

_TEMPLATE = "infra/template.yaml"


class Part(NamedTuple):
    """An asset by its name: its content, or the file that holds it."""

    name: str
    content: bytes | Path


Parts = Mapping[str, Part]  # by the parameter of the template that takes its URL


def template() -> str:
    """The text of infra/template.yaml."""
    return shipped(_TEMPLATE).read_text(encoding="utf-8")


def parts(folder: Path, stage: Stage, note: Callable[[str], None]) -> Parts:
    """All of the jobs' parts; `note` is told of what takes a while. Raises UsageError or RunFailed when one cannot be
    made."""
    return {
        "Package": Part(wheel_name(), wheel()),
        "Jar": _file(spark_jar(note)),
        "MigrateScript": _file(shipped("glue_jobs/migrate.py")),
        "PrepareScript": _file(shipped("glue_jobs/prepare.py")),
        "Project": Part(PROJECT_FILE, project_zip(folder, stage)),
    }


def places(parts: Parts, assets: Assets) -> dict[str, str]:
    """Where the parts would be, by parameter."""
    return {parameter: assets.place(*part) for parameter, part in parts.items()}


def uploaded(parts: Parts, assets: Assets) -> dict[str, str]:
    """Where the parts are, by parameter, once they are there. Raises ServiceError."""
    return {parameter: _uploaded(part, assets) for parameter, part in parts.items()}


def _uploaded(part: Part, assets: Assets) -> str:
    return assets.put_file(part.content) if isinstance(part.content, Path) else assets.put(part.name, part.content)


def shipped(name: str) -> Path:
    """A file that comes with the package: beside it in a clone, within it where it was installed."""
    package = Path(dynamodt.__file__).parent
    found = next(filter(Path.is_file, (package / "deployment" / name, package.parents[1] / name)), None)
    if found is None:
        raise UsageError(f"{name} is missing in this installation", where=str(package), hint="install the package anew")
    return found


def _file(path: Path) -> Part:
    return Part(path.name, path)
