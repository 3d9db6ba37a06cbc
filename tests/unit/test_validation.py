"""`validate`: every error of every file of every table, once, without a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamodt.errors import UsageError
from dynamodt.pipeline.author_output import Line, captured
from dynamodt.runs.validation import Validation, validate
from tests import ROOT

pytestmark = pytest.mark.unit

UP = "def transform_up(item):\n    return item\n"


def written(folder: Path, **files: str) -> Validation:
    """The validation of these files, by `table__file`."""
    for name, text in files.items():
        path = folder / "transforms" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return validate(folder)


def places(found: Validation) -> list[str]:
    return [f"{error.where.removeprefix('transforms/')}: {error.what}" for error in found.all_errors]


def test_the_versions_of_this_repository_are_valid() -> None:
    found = validate(ROOT)
    assert found.all_errors == () and "users" in [table.table for table in found.tables]
    assert all(len(table.files) == len(table.versions) > 0 for table in found.tables)


def test_every_error_of_a_file_is_listed(tmp_path: Path) -> None:
    text = (
        'sequence = 2\nGUARD = "all"\nIDEMPOTENT = 3\ndef transform_dwn(item): ...\nasync def prepare(context): ...\n'
    )
    found = places(written(tmp_path, users__v1_a=text))
    for error in ("sequence is 2", "GUARD is 'all'", "IDEMPOTENT is 3", "transform_dwn is not", "prepare is async"):
        assert sum(error in one for one in found) == 1, (error, found)
    assert any("has neither transform_up nor items" in one for one in found) and len(found) == 6


def test_all_gaps_and_duplicate_numbers_are_listed(tmp_path: Path) -> None:
    names = ("v2_a", "v3_b", "v3_c", "v6_d")
    texts = {f"users__{name}": f"sequence = {name[1]}\n{UP}" for name in names}
    found = places(written(tmp_path, **texts, users__V7_x=f"sequence = 7\n{UP}"))
    assert [one.partition(": ")[2] for one in found] == [
        "is version 2, but there is no version 1",
        "v3_b.py and v3_c.py are both version 3",
        "version 4 is missing between v3_c.py and v6_d.py",
        "is not named as a version, v<N>_<name>.py",
    ]


def test_what_a_file_prints_and_logs_has_its_table_and_version(tmp_path: Path) -> None:
    lines: list[Line] = []
    rows = "import logging\nprint('at load')\ndef items():\n    logging.warning('a row')\n    yield {'id': '1'}\n"
    with captured(lines.append):
        written(tmp_path, users__v1_a=f"sequence = 1\n{rows}")
    assert {line.text for line in lines} == {"at load", "WARNING root: a row"}
    assert {(line.table, line.version) for line in lines} == {("users", 1)}


def test_all_functions_of_a_file_are_checked(tmp_path: Path) -> None:
    text = "sequence = 1\ndef transform_up(): ...\ndef transform_down(a, b, c): ...\ndef prepare(): ...\n"
    found = places(written(tmp_path, users__v1_a=text))
    assert len(found) == 3 and {one.partition(" has ")[0].rpartition(" ")[2] for one in found} == {
        "transform_up",
        "transform_down",
        "prepare",
    }


def test_an_error_in_a_module_of_several_files_is_listed_once(tmp_path: Path) -> None:
    text = "sequence = {}\nfrom shared import names\n" + UP
    found = written(
        tmp_path, shared__names="def x(:", users__v1_a=text.format(1), orders__v1_a=text.format(1), fine__v1_a=UP
    )
    assert [one.partition(":")[0] for one in places(found)] == ["fine/v1_a.py", "shared/names.py"]
    assert [len(table.errors) for table in found.tables] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('SOURCE = "export"\nGUARD = "changed"\n', 'GUARD = "changed" cannot be used with an export'),
        ('KEY = {"pk": "S"}\nSTAMP = "pk"\n', 'STAMP names "pk", which is a key'),
        ("import nothing_has_this_name\n", "fails when it is loaded: ModuleNotFoundError"),
        ('KEY = {"id": "S"}\ndef items():\n    yield from ({"id": "a"}, {"id": "a"})\n', "items() gives two rows"),
        ('KEY = {"id": "S"}\ndef items():\n    yield {"id": 1}\n', "items()"),
        ("def items():\n    yield 1\n", "items gave, as row 1, int"),
    ],
)
def test_validate_finds_faults_that_up_refuses(tmp_path: Path, text: str, error: str) -> None:
    (found,) = written(tmp_path, users__v1_a=f"sequence = 1\n{text}{UP}").all_errors
    assert error in str(found)


def test_the_key_of_dynamodt_toml_counts_and_an_error_of_it_hides_no_other(tmp_path: Path) -> None:
    settings = tmp_path / "dynamodt.toml"
    settings.write_text('[stages.local.tables]\nusers = { id = "N" }\n')
    script = f'sequence = 1\nKEY = {{"id": "S"}}\n{UP}'
    (found,) = written(tmp_path, users__v1_a=script).all_errors
    assert "was written for the key" in found.what
    settings.write_text("[stages.local.tables]\nusers = 3\n")
    both = written(tmp_path, users__v1_a=script.replace("sequence = 1", "sequence = 2"))
    assert [error.exit_code for error in both.all_errors] == [2, 2] and both.errors


def test_a_table_without_a_folder_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, users__v1_a=f"sequence = 1\n{UP}")
    with pytest.raises(UsageError, match=r"no folder .*transforms/orders"):
        validate(tmp_path, ["orders"])
