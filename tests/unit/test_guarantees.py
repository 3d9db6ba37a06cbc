"""`docs/guarantees.md` defines each cited guarantee, and the tests that it names exist."""

from __future__ import annotations

import re

from tests import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
CITED = re.compile(r"\bG\d+\b")


def test_every_cited_guarantee_is_defined() -> None:
    defined = set(re.findall(r"^## (G\d+):", PAGE.read_text(), re.MULTILINE))
    sources = [*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("*.py")]
    for path in [*sources, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        cited = set(CITED.findall(path.read_text(encoding="utf-8")))
        assert cited <= defined, f"{path.relative_to(ROOT)} cites {cited - defined}, which docs/guarantees.md lacks"


def test_the_tests_that_prove_a_guarantee_exist() -> None:
    """A file name without a folder is in the folder of the file before it."""
    folder = ""
    for name in re.findall(r"`((?:tests/\w+/)?test_\w+\.py)`", PAGE.read_text()):
        folder = name.rpartition("/")[0] or folder
        assert (ROOT / folder / name.rpartition("/")[2]).exists(), f"docs/guarantees.md names {name}"


def test_the_links_of_the_guarantees_exist() -> None:
    for link in re.findall(r"\]\((adr/[^)]+)\)", PAGE.read_text()):
        assert (PAGE.parent / link).exists(), link
