"""Reading a table's folder, and planning: laws that hold for any history, and every refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.cli.next_steps import not_applied
from dynamodt.errors import DynamodtError, Refused, ScriptError, UsageError
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableStatus, VersionStatus
from dynamodt.model.runs import AppliedVersion, RunRecord, Script
from dynamodt.model.tables import Direction
from dynamodt.script.names import tables
from dynamodt.script.read import read_versions
from dynamodt.script.versions import newer_versions, plan, statuses

pytestmark = pytest.mark.unit

UP = "def transform_up(item): return item\n"


def write(folder: Path, table: str, *file_names: str) -> Path:
    for name in file_names:
        path = folder / "transforms" / table / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = "".join(filter(str.isdigit, name.partition("_")[0])) or "0"
        path.write_text(f"sequence = {number}\n{UP}")
    return folder / "transforms"


def fault(folder: Path, *file_names: str) -> DynamodtError:
    with pytest.raises(ScriptError) as caught:
        read_versions(write(folder, "users", *file_names), "users")
    return caught.value


# ---------------------------------------------------------------- the folder


def test_versions_are_ordered_by_number(tmp_path: Path) -> None:
    folder = write(tmp_path, "users", *(f"v{n}_x{n}.py" for n in range(1, 12)))
    found = read_versions(folder, "users")
    assert [script.sequence for script in found] == list(range(1, 12))
    assert found[9].path == "transforms/users/v10_x10.py"
    assert {script.table for script in found} == {"users"}


def test_which_files_are_ignored(tmp_path: Path) -> None:
    others = ("_shared.py", "test_v1_a.py", "v1_a_test.py", "conftest.py", ".v1_a.py", "countries.csv", "v9_a.py.orig")
    folder = write(tmp_path, "users", "v1_a.py", *others, "tests/v7_x.py")
    (folder / "users" / "v8_folder.py").mkdir()
    assert [script.name for script in read_versions(folder, "users")] == ["a"]


def test_the_tables_of_a_project(tmp_path: Path) -> None:
    folder = write(tmp_path, "users", "v1_a.py")
    write(tmp_path, "Orders-2.x", "v1_a.py")
    write(tmp_path, "tests", "test_all.py", "conftest.py")
    write(tmp_path, "_shared", "lookup.py")
    write(tmp_path, "__pycache__", "v1_a.pyc")
    write(tmp_path, ".git", "hooks.py")
    write(tmp_path, "x y", "v1_a.md")
    (folder / "empty").mkdir()
    assert tables(folder) == ("Orders-2.x", "users")
    assert not {"_shared", "__pycache__", ".git", "x y"} & set(tables(folder))
    with pytest.raises(UsageError, match="no folder") as caught:
        tables(tmp_path / "nowhere")
    assert "dynamodt init" in caught.value.hint


@pytest.mark.parametrize("name", ["_users", "__users", ".users", "_.-", "x y", "ab"])
@pytest.mark.parametrize("file", ["v1_a.py", "V1_a.py", "1_a.py", "v01-a.py"])
def test_a_folder_with_a_version_is_never_ignored(tmp_path: Path, name: str, file: str) -> None:
    """DynamoDB allows the name `_users`: a deploy that ignored the folder would succeed without transforming its items.
    A fault in the name of a folder or file is reported when it is read."""
    assert tables(write(tmp_path, name, file)) == (name,)


def test_a_table_without_a_folder_and_an_invalid_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder") as caught:
        read_versions(tmp_path, "users")
    assert "dynamodt init --table users" in caught.value.hint
    with pytest.raises(UsageError, match="not the name of a DynamoDB table"):
        read_versions(tmp_path, "../users")


def test_a_gap_names_both_files(tmp_path: Path) -> None:
    error = fault(tmp_path, "v1_a.py", "v3_c.py")
    assert error.what == "version 2 is missing between v1_a.py and v3_c.py"
    assert "users/v1_a.py" in error.where and "users/v3_c.py" in error.where
    assert "v2_c.py, with sequence = 2" in error.hint


def test_two_files_with_one_number_are_both_named(tmp_path: Path) -> None:
    error = fault(tmp_path, "v1_a.py", "v2_b.py", "v2_c.py", "v3_d.py")
    assert error.what == "v2_b.py and v2_c.py are both version 2"
    assert "users/v2_b.py" in error.where and "users/v2_c.py" in error.where
    assert "two branches" in error.hint and "v4_c.py, with sequence = 4" in error.hint


def test_a_sequence_that_is_anothers_names_both_files(tmp_path: Path) -> None:
    folder = write(tmp_path, "users", "v1_a.py", "v2_b.py")
    (folder / "users" / "v2_b.py").write_text(f"sequence = 1\n{UP}")
    with pytest.raises(ScriptError, match=r"v2_b\.py:1.*v1_a\.py") as caught:
        read_versions(folder, "users")
    assert "sequence = 2" in caught.value.hint


def test_versions_count_from_one(tmp_path: Path) -> None:
    error = fault(tmp_path, "v2_b.py", "v3_c.py")
    assert error.where.endswith("users/v2_b.py")
    assert "v1_b.py, with sequence = 1" in error.hint


@pytest.mark.parametrize("name", ["V2-foo.py", "v02_x.py", "v2.py", "split.py", "v2_x.PY"])
def test_a_python_file_is_never_ignored(tmp_path: Path, name: str) -> None:
    error = fault(tmp_path, "v1_a.py", name)
    assert error.where.endswith(f"users/{name}")
    assert "Rename it to" in error.hint


# ---------------------------------------------------------------- laws of planning


def make(number: int, *, down: bool = True, up: bool = True, items: bool = False, name: str = "") -> Script:
    name = name or f"n{number}"
    path = f"transforms/users/v{number}_{name}.py"
    return Script("users", number, name, path, "", f"sum{number}", has_up=up, has_down=down, has_items=items)


def record(script: Script) -> AppliedVersion:
    return AppliedVersion("users", script.sequence, script.name, script.checksum, "run-1", "2026-01-01T00:00:00Z", "me")


def history(scripts: list[Script], at: int) -> dict[int, AppliedVersion]:
    return {script.sequence: record(script) for script in scripts[:at]}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Script], int, int]:
    """Some versions, the version that the table is at, and the version to go to."""
    scripts = [make(number) for number in range(1, draw(st.integers(0, 8)) + 1)]
    places = st.integers(0, len(scripts))
    return scripts, draw(places), draw(places)


def run(applied: dict[int, AppliedVersion], steps: tuple[Script, ...], direction: str) -> dict[int, AppliedVersion]:
    done = dict(applied)
    for step in steps:
        if direction == "up":
            assert step.sequence == max(done, default=0) + 1  # each step stands on the one below
            done[step.sequence] = record(step)
        else:
            assert step.sequence == max(done)  # only the topmost is ever taken away
            del done[step.sequence]
    return done


@given(worlds())
def test_a_plan_leads_to_its_goal_step_by_step(world: tuple[list[Script], int, int]) -> None:
    scripts, at, to = world
    direction: Direction = "up" if to >= at else "down"
    steps = plan(scripts, history(scripts, at), direction, to)
    assert len(steps) == abs(to - at)
    assert run(history(scripts, at), steps, direction) == history(scripts, to)


@given(worlds())
def test_up_and_down_lead_back_to_the_start(world: tuple[list[Script], int, int]) -> None:
    scripts, at, _ = world
    start = history(scripts, at)
    steps = plan(scripts, start, "up")
    top = run(start, steps, "up")
    assert top == history(scripts, len(scripts))
    back = plan(scripts, top, "down", at)
    assert back == steps[::-1]
    assert run(top, back, "down") == start


@given(worlds())
def test_a_plan_that_ran_leaves_nothing_to_do(world: tuple[list[Script], int, int]) -> None:
    scripts, at, to = world
    direction: Direction = "up" if to >= at else "down"
    start = history(scripts, at)
    after = run(start, plan(scripts, start, direction, to), direction)
    assert plan(scripts, after, direction, to) == ()


@given(worlds())
def test_a_plan_in_two_steps_equals_one_plan(world: tuple[list[Script], int, int]) -> None:
    scripts, at, to = world
    low, high = min(at, to), max(at, to)
    first = plan(scripts, {}, "up", low)
    second = plan(scripts, history(scripts, low), "up", high)
    assert first + second == plan(scripts, {}, "up", high)


@given(worlds(), st.data())
def test_an_edited_applied_version_stops_every_up(world: tuple[list[Script], int, int], data: st.DataObject) -> None:
    scripts, at, _ = world
    applied = history(scripts, at)
    if applied:
        number = data.draw(st.sampled_from(sorted(applied)))
        applied[number] = AppliedVersion("users", number, scripts[number - 1].name, "other", "r", "t", "me")
        with pytest.raises(Refused, match="was edited") as caught:
            plan(scripts, applied, "up")
        assert caught.value.where == scripts[number - 1].path
        assert statuses(scripts, applied)[number - 1].state == "edited"


@given(worlds())
def test_down_reverts_only_the_latest_version(world: tuple[list[Script], int, int]) -> None:
    scripts, at, _ = world
    assert plan(scripts, history(scripts, at), "down") == tuple(scripts[max(at - 1, 0) : at])


def test_an_edit_of_a_version_with_dead_letters_may_be_for_its_retry() -> None:
    one = AppliedVersion("users", 1, "n1", "old", "run-1", "t", "me")
    for dead in (0, 3):
        with pytest.raises(Refused) as caught:
            plan([make(1)], {1: replace(one, counts=Counts(dead=dead))}, "up")
        assert ("dynamodt retry run-1" in caught.value.hint) == bool(dead)
        assert "dynamodt repair" in caught.value.hint


# ---------------------------------------------------------------- refusals

THREE = [make(1), make(2), make(3)]


def refusal(
    scripts: list[Script], applied: dict[int, AppliedVersion], direction: str, to: int | None = None
) -> Refused:
    with pytest.raises(Refused) as caught:
        plan(scripts, applied, direction, to)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    return caught.value


def test_up_to_a_lower_version_than_the_applied_one_is_refused() -> None:
    error = refusal(THREE, history(THREE, 3), "up", 1)
    assert "users is at version 3 already, above 1" in error.what
    assert "dynamodt down --table users --to 1" in error.hint and "DIRECTION=down" in error.hint


@pytest.mark.parametrize(("direction", "to"), [("up", 4), ("down", 4), ("up", -1), ("down", -1)])
def test_a_version_without_a_file_is_refused(direction: str, to: int) -> None:
    with pytest.raises(UsageError) as caught:
        plan(THREE, history(THREE, 2), direction, to)  # type: ignore[arg-type]
    assert str(to) in caught.value.what
    assert caught.value.hint


def test_up_of_a_folder_without_versions_is_refused() -> None:
    assert plan([], {}, "up") == ()
    with pytest.raises(UsageError, match="no version 1") as caught:
        plan([], {}, "up", 1)
    assert caught.value.hint == "Write it first: dynamodt create --help"


def test_the_hint_to_write_a_version_names_the_table() -> None:
    with pytest.raises(UsageError) as caught:
        plan(THREE, {}, "up", 9)
    assert caught.value.hint == "Choose one up to 3, or write it: dynamodt create --table users NAME"


def test_down_to_a_higher_version_than_the_applied_one_is_refused() -> None:
    error = refusal(THREE, history(THREE, 1), "down", 2)
    assert "dynamodt up --table users --to 2" in error.hint


def test_down_without_an_applied_version_has_nothing_to_do() -> None:
    assert plan(THREE, {}, "down") == plan(THREE, {}, "down", 0) == plan(THREE, {}, "down", 3) == ()


def test_a_late_merge_names_the_file_and_its_next_number() -> None:
    applied = {1: record(THREE[0]), 3: record(THREE[2])}
    error = refusal(THREE, applied, "up")
    assert error.where == "transforms/users/v2_n2.py"
    assert "merged late" in error.what
    assert "v4_n2.py, with sequence = 4" in error.hint
    assert plan(THREE, applied, "down", 0) == (THREE[2], THREE[0])


@given(worlds(), st.data())
def test_an_older_release_has_nothing_to_do(world: tuple[list[Script], int, int], data: st.DataObject) -> None:
    """It lacks the files of the versions that a newer one has applied."""
    scripts, at, _ = world
    older, applied = scripts[: data.draw(st.integers(0, at))], history(scripts, at)
    assert plan(older, applied, "up") == plan(older, applied, "up", at) == ()
    assert newer_versions(older, applied) == [record(script) for script in scripts[len(older) : at]]
    with pytest.raises(UsageError, match=f"no version {at + 1}"):
        plan(older, applied, "up", at + 1)


def test_a_version_without_a_file_is_not_rolled_back() -> None:
    error = refusal(THREE[:2], history(THREE, 3), "down")
    assert error.where == "v3_n3.py"
    assert "missing" in error.what
    assert "Bring v3_n3.py back" in error.hint


def test_a_file_of_an_older_release_that_was_never_applied_is_merged_late() -> None:
    """The number that it may take is above those of the newer release."""
    error = refusal(THREE[:2], {1: record(THREE[0]), 3: record(THREE[2])}, "up")
    assert error.where == "transforms/users/v2_n2.py" and "v4_n2.py, with sequence = 4" in error.hint


def test_an_edited_script_is_refused_by_up_and_down() -> None:
    edited = [*THREE[:2], make(3, down=False)]
    applied = history(THREE, 2) | {3: AppliedVersion("users", 3, "n3", "old", "r", "t", "me")}
    for direction in ("up", "down"):
        error = refusal(edited, applied, direction)
        assert error.where == "transforms/users/v3_n3.py"
        assert "edited" in error.what
        assert "Revert" in error.hint and "dynamodt create --table users" in error.hint


def test_down_does_not_check_versions_that_stay() -> None:
    applied = history(THREE, 3) | {1: AppliedVersion("users", 1, "n1", "old", "r", "t", "me")}
    assert plan(THREE, applied, "down") == (THREE[2],)


def test_another_script_under_an_applied_number_names_both_files() -> None:
    applied = {1: AppliedVersion("users", 1, "first", "old", "r", "t", "me")}
    error = refusal(THREE, applied, "up")
    assert "v1_first.py" in error.what and error.where == "transforms/users/v1_n1.py"


def test_a_script_that_was_only_renamed_is_the_same() -> None:
    applied = {1: AppliedVersion("users", 1, "first", "sum1", "r", "t", "me")}
    assert plan(THREE, applied, "up") == tuple(THREE[1:])


def test_an_irreversible_step_is_refused_before_any_is_run() -> None:
    scripts = [make(1), make(2, down=False), make(3)]
    error = refusal(scripts, history(scripts, 3), "down", 0)
    assert error.where == "transforms/users/v2_n2.py"
    assert "irreversible" in error.what and "transform_down" in error.what
    assert "Nothing was started" in error.hint
    assert error.hint.endswith(f"dynamodt undo {history(scripts, 3)[2].run}")
    assert plan(scripts, history(scripts, 3), "down", 2) == (scripts[2],)


def test_the_check_of_a_status_suggests_only_what_is_possible() -> None:
    """`repair` accepts no other script, and `up` finds no missing file."""

    def hint(*versions: VersionStatus) -> str:
        error = not_applied(TableStatus("users", 2, versions))
        assert error is not None
        return str(error.hint)

    edited = AppliedVersion("users", 2, "n2", "old", "r", "2026-02-02T00:00:00Z", "me")
    assert "dynamodt repair --table users" in hint(*statuses(THREE[:2], history(THREE, 1) | {2: edited}))
    other = statuses(THREE[:2], history(THREE, 1) | {2: replace(edited, name="names")})
    assert "repair" not in hint(*other) and "bring v2_names.py back under its number" in hint(*other)
    run = RunRecord("users", "r", 3, "n3", "up", "", "failed", "")
    unfinished = VersionStatus(3, "n3", "unfinished", run=run)
    assert hint(unfinished) == "bring v3_n3.py back, and finish it: dynamodt up --table users --to 3"
    assert hint(replace(unfinished, path="transforms/users/v3_n3.py")) == "apply them: dynamodt up --table users"


def test_rows_of_items_are_deleted_without_transform_down() -> None:
    rows = [make(1, up=False, down=False, items=True)]
    assert plan(rows, history(rows, 1), "down") == tuple(rows)
    both = [make(1, down=False, items=True)]
    refusal(both, history(both, 1), "down")


def test_the_states_of_the_versions() -> None:
    applied = history(THREE, 1) | {
        2: AppliedVersion("users", 2, "n2", "old", "r", "2026-02-02T00:00:00Z", "me"),
        4: AppliedVersion("users", 4, "gone", "x", "r", "2026-04-04T00:00:00Z", "me"),
    }
    assert statuses(THREE, applied) == (
        VersionStatus(1, "n1", "applied", "transforms/users/v1_n1.py", "2026-01-01T00:00:00Z"),
        VersionStatus(2, "n2", "edited", "transforms/users/v2_n2.py", "2026-02-02T00:00:00Z"),
        VersionStatus(3, "n3", "pending", "transforms/users/v3_n3.py"),
        VersionStatus(4, "gone", "missing", "", "2026-04-04T00:00:00Z"),
    )
