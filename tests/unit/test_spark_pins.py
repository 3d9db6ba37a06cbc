"""The versions that were checked together stand in four files, and must say the same."""

from __future__ import annotations

import re
import tomllib
from xml.etree import ElementTree

from dynamodt.pipeline.spark.jar import POM
from tests import ROOT


def pom(name: str) -> str:
    found = ElementTree.parse(POM).getroot().find(f".//{{*}}properties/{{*}}{name}")
    assert found is not None and found.text
    return found.text


def required(package: str) -> str:
    """The one version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["spark"]]
    (version,) = [text.removeprefix(f"{package}==") for text in requirements if text.startswith(f"{package}==")]
    return version


def locked(lock: str, package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements" / lock).read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def test_beam_on_both_sides_is_the_pair_that_was_checked() -> None:
    assert pom("beam.python.version") == required("apache-beam") == locked("base.lock", "apache-beam")
    record = (ROOT / "docs" / "adr" / "009-beam-on-the-spark-of-glue.md").read_text(encoding="utf-8")
    assert f"Java {pom('beam.version')} with Python {pom('beam.python.version')}" in record


def test_spark_is_the_same_everywhere() -> None:
    assert (
        pom("spark.version") == required("pyspark") == locked("spark.in", "pyspark") == locked("spark.lock", "pyspark")
    )
