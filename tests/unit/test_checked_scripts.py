"""`check` on version files as people write them: it catches each wrong one, and reports no fault of a right one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamodt.checks.other_process import OtherProcess, VersionInputs
from dynamodt.checks.version import VersionTrial
from dynamodt.model.reports import VersionCheck
from dynamodt.pipeline.process import mute_beam
from dynamodt.script.functions import frozen
from dynamodt.script.read import read_script
from tests.unit.checked.items import SHOP, TARGET, USERS, documents, orders, users
from tests.unit.checked.right import RIGHT
from tests.unit.checked.wrong import WRONG

pytestmark = [pytest.mark.unit, pytest.mark.slow]

EXAMPLES = 10
SECONDS = 0.4
ON = {"users": (USERS, users()), "orders": (SHOP, orders()), "documents": (USERS, documents())}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[OtherProcess]:
    with OtherProcess() as process:
        yield process


def checked(folder: Path, text: str, on: str, prepared: object, elsewhere: OtherProcess) -> VersionCheck:
    path = folder / "transforms" / "users" / "v1_change.py"
    path.parent.mkdir(parents=True)
    path.write_text(f"sequence = 1\n{text}", encoding="utf-8")
    script = read_script(path, folder)
    table, images = ON[on]
    asked = VersionInputs(
        script,
        table,
        target=TARGET if script.target_table else None,
        prepared=frozen(prepared or {}),
        examples=EXAMPLES,
        seconds=SECONDS if "while" in text else 30.0,
    )
    with mute_beam():
        return VersionTrial(asked, elsewhere).check(images)[0]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_version_has_the_expected_fault(name: str, tmp_path: Path, elsewhere: OtherProcess) -> None:
    wrong = WRONG[name]
    found = checked(tmp_path, wrong.text, wrong.on, wrong.prepared, elsewhere)
    assert wrong.finds in {fault.name for fault in found.faults}, found.findings


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_version_has_no_fault(name: str, tmp_path: Path, elsewhere: OtherProcess) -> None:
    right = RIGHT[name]
    found = checked(tmp_path, right.text, right.on, right.prepared, elsewhere)
    assert not found.faults
    assert found.deterministic is not False and (found.items == 0 or found.bound != 1.0)


def test_there_are_thirty_different_right_and_wrong_versions() -> None:
    assert min(len(WRONG), len(RIGHT)) >= 30
    texts = [wrong.text for wrong in WRONG.values()] + [right.text for right in RIGHT.values()]
    assert len(set(texts)) == len(texts)
