"""Versions that are named in several files are the same, and private names of Beam are used in one module."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import apache_beam as beam
import pytest
from apache_beam.runners.portability.portable_runner import PortableRunner

from dynamodt.errors import UsageError
from dynamodt.pipeline.spark_context import POM
from dynamodt.pipeline.spark_runner import BEAM, check_beam
from tests import ROOT


def pom(name: str) -> str:
    found = ElementTree.parse(POM).getroot().find(f".//{{*}}properties/{{*}}{name}")
    assert found is not None and found.text
    return found.text


def required(package: str) -> str:
    """The one version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["optional-dependencies"]["spark"]
    (version,) = [text.removeprefix(f"{package}==") for text in requirements if text.startswith(f"{package}==")]
    return version


def locked(lock: str, package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements" / lock).read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def test_beam_on_both_sides_is_the_pair_that_was_checked() -> None:
    assert pom("beam.python.version") == required("apache-beam") == locked("base.lock", "apache-beam") == BEAM
    assert locked("job.lock", "apache-beam") == BEAM
    record = (ROOT / "docs" / "adr" / "009-beam-on-the-spark-of-glue.md").read_text(encoding="utf-8")
    assert f"Java {pom('beam.version')} with Python {pom('beam.python.version')}" in record


def test_spark_is_the_same_everywhere() -> None:
    assert (
        pom("spark.version") == required("pyspark") == locked("spark.in", "pyspark") == locked("spark.lock", "pyspark")
    )


def private_to_beam(path: Path) -> Iterator[str]:
    """The names with an underscore that a module takes from Beam, or from what it has imported of it."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text if "apache_beam" in text else "")
    of_beam = {
        (alias.asname or alias.name).partition(".")[0]: f"{getattr(node, 'module', None) or ''}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if f"{getattr(node, 'module', None) or alias.name}".partition(".")[0] == "apache_beam"
    }
    yield from (name for name in of_beam.values() if "._" in name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            named = ast.unparse(node.value)
            if named.partition(".")[0] in of_beam:
                yield f"{named}.{node.attr}"


def test_private_names_of_beam_are_used_in_one_module() -> None:
    package = ROOT / "pipelines" / "dynamodt"
    found = {(str(path.relative_to(package)), name) for path in package.rglob("*.py") for name in private_to_beam(path)}
    assert found == {("pipeline/spark_runner.py", "PortableRunner._optimize_pipeline")}
    if beam.__version__ == BEAM:  # not among the lowest versions
        assert list(inspect.signature(PortableRunner._optimize_pipeline).parameters) == ["proto_pipeline", "options"]


def test_another_beam_is_refused_with_the_line_that_installs_the_right_one() -> None:
    check_beam(BEAM)
    with pytest.raises(UsageError, match=r"Beam 2\.76\.0 is installed") as refused:
        check_beam("2.76.0")
    assert "[spark]" in refused.value.hint
