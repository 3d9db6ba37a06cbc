"""A tag is compared with the tree before it is published."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests import ROOT

differences = runpy.run_path(str(ROOT / ".ci" / "release-check"))["differences"]


@pytest.mark.parametrize(
    ("tag", "package", "plugin", "changes", "wrong"),
    [
        ("v1.2.3", "1.2.3", "1.2.3", "1.2.3", []),
        ("v1.2.3rc1", "1.2.3rc1", "1.2.3-rc.1", "1.2.3rc1", []),
        ("1.2.3", "1.2.3", "1.2.3", "1.2.3", ["the tag"]),
        ("v1.2.3", "1.2.3.dev0", "1.2.3", "1.2.3", ["pipelines/dynamodt/__init__.py has version 1.2.3.dev0"]),
        ("v1.2.3", "1.2.3", "1.2.2", "Unreleased", ["infra/serverless/package.json has version 1.2.2", "CHANGELOG.md"]),
    ],
)
def test_a_tag_and_the_versions(
    tmp_path: Path, tag: str, package: str, plugin: str, changes: str, wrong: list[str]
) -> None:
    for name, text in (
        ("pipelines/dynamodt/__init__.py", f'"""What it is."""\n__version__ = "{package}"\n'),
        ("infra/serverless/package.json", f'{{"version": "{plugin}"}}'),
        ("CHANGELOG.md", f"# Changelog\n\n## [{changes}] - 2026-01-31\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = list(differences(tmp_path, tag))
    assert len(found) == len(wrong) and all(map(str.startswith, found, wrong)), found
