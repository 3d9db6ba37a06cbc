"""The targets of the documents' links, anchors, cited files and decision records exist; a record has a status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

PACKAGE = ROOT / "pipelines" / "dynamodt"
RECORDS = ROOT / "docs" / "adr"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "infra" / "serverless" / "README.md"])
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
RECORD = re.compile(r"\b(?:docs/adr/|ADR )(\d{3})\b")
MODULE = re.compile(
    r"`([a-z_]+(?:/[\w.-]+)+\.(?:py|js|xml|yaml|md))`|`((?:tests|infra|docs|benchmarks)/[\w./-]+\.\w+)`"
)
STATUS = re.compile(r"^Status: ((?:accepted|superseded by \[?\d{3})[^#]*?)\.\n\n", re.MULTILINE)


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(prose(page)):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", names(PAGES))
def test_the_target_of_every_link_exists(page: str) -> None:
    assert list(dead_links(ROOT / page)) == []


@pytest.mark.parametrize("page", names(PAGES))
def test_every_file_that_a_page_cites_exists(page: str) -> None:
    """A module is cited by its path in the package, any other file by its path in the repository."""
    cited = [a or b for a, b in MODULE.findall(prose(ROOT / page))]
    assert [file for file in cited if not ((PACKAGE / file).exists() or (ROOT / file).exists())] == []


def test_every_decision_record_that_is_cited_exists() -> None:
    there = {record.name[:3] for record in RECORDS.glob("[0-9]*.md")}
    sources = [
        path for folder in ("pipelines", "tests", "infra", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    cited = {(path.name, number) for path in [*sources, *PAGES] for number in RECORD.findall(path.read_text("utf-8"))}
    assert {one for one in cited if one[1] not in there} == set()


def test_every_decision_record_is_listed_with_its_status() -> None:
    listed = (RECORDS / "README.md").read_text(encoding="utf-8")
    for record in RECORDS.glob("[0-9]*.md"):
        status = STATUS.search(record.read_text(encoding="utf-8"))
        assert status, f"{record.name} has no status"
        text = " ".join(re.sub(r"\[(\d{3})\]\([^)]*\)", r"\1", status[1]).split())
        assert re.search(rf"\]\({re.escape(record.name)}\) \| .* \| {re.escape(text)} \|\n", listed), (
            f"{record.name}: {text}"
        )


def test_two_decision_records_refer_to_each_other_in_their_statuses() -> None:
    listed = (RECORDS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d{3})\]\(.*\| (.*) \|$", listed, re.MULTILINE)
    references = {(number, other) for number, status in rows for other in re.findall(r"\b\d{3}\b", status)}
    assert len(references) > 50 and references == {(other, number) for number, other in references}


def test_the_readme_has_at_most_200_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
