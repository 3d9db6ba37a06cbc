"""The text of reports: the summary, the diff of examples, the next steps, and the progress of a run."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dynamodt.cli import json_output, report, short_reports
from dynamodt.cli.json_output import without_duplicates
from dynamodt.cli.next_steps import NextStep, after_preparation, merged_steps, steps_of, with_retry_hint, written_steps
from dynamodt.cli.progress import BarDisplay, LineDisplay, display, timed_lines
from dynamodt.cli.request import Request, program, with_stage
from dynamodt.cli.run_reports import print_runs
from dynamodt.errors import DynamodtError, Refused, ServiceError, as_hint, suggest
from dynamodt.model.pages import Contention, Counts, Totals, Units
from dynamodt.model.reports import Cost, RunReport, TableReport, TableStatus, VersionStatus
from dynamodt.model.runs import Lease, PreparedRef, RunProgress, RunRecord, RunState, ScriptText
from dynamodt.model.tables import Connection, TableNames
from dynamodt.runs.display import DiffLine, clip, item_diff, key_line, printable, value_text
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from tests.fake_operations import AFTER, BEFORE, STAGE

RUN = RunReport(
    "users",
    "up",
    2,
    "split_name",
    "01RUN",
    "succeeded",
    Counts(1234, 1234),
    Units(65.0, 1234.0),
    2.0,
    samples=((BEFORE, AFTER),),
    key_names=("id",),
)
UP = Request("up", tables=("users",))


def shown(draw: Callable[[Console], object], width: int = 80, color: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None, markup=False
    )
    draw(console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def summary(*runs: RunReport, request: Request = UP, at: int = 2, latest: int = 4, width: int = 80, **more: Any) -> str:
    tables = [TableReport("users", "up", runs, at, latest=latest)]
    return shown(lambda console: report.print_migrations(console, request, STAGE, tables), width, **more)


# ---------------------------------------------------------------- the summary


def test_the_summary_has_all_figures() -> None:
    text = summary(RUN)
    for part in (
        "users v2 split_name  up  succeeded",
        "1,234 =   1,234 +         0 +          0 +        0 +    0",
        "65.0 read units, 1,234.0 write units",
        "2.00 s, 617 items/s",
        'id = "u1"',
        '- name         "Ada Lovelace"',
        '+ first_name   "Ada"',
        "table users of stage local, http://127.0.0.1:4566",
        ".dynamodt/local, of the embedded stage",
        "table dynamodt-state",
        "s3://dynamodt",
        "dynamodt up --table users",
        "versions 3 to 4",
        "dynamodt status",
        "dynamodt down --table users",
    ):
        assert part in text
    assert "36" not in text  # the age did not change


def test_a_stage_without_an_endpoint_shows_its_region() -> None:
    stage = replace(STAGE, connection=Connection("eu-west-1"), embedded=False)
    tables = [TableReport("users", "up", (RUN,), 2)]
    assert "region eu-west-1" in shown(lambda console: report.print_migrations(console, UP, stage, tables))


def test_nothing_to_do() -> None:
    assert "Nothing to do: users is at version 2\n" in summary(at=2, latest=2)
    assert "Nothing to do: users is at version 2 of 4\n" in summary(at=2, latest=4)


def test_the_summary_of_a_dry_run_has_the_write_units() -> None:
    request = replace(UP, options=RunOptions(dry_run=True))
    text = summary(replace(RUN, status="dry-run", rehearsal=True), request=request, at=1)
    assert "dry run: nothing was written" in text
    assert "it would take 1,234.0 write units" in text
    assert "dynamodt up --table users  " in text
    assert "consumed" not in text


def rehearsed(cost: Cost, width: int = 80) -> str:
    return summary(replace(RUN, status="dry-run", rehearsal=True, cost=cost), width=width)


def test_a_dry_run_shows_the_expected_cost() -> None:
    text = rehearsed(Cost(1234, 3702, 65, 12, 1, 3 << 29, (0.774, 2.316), "2026-09-11"), width=120)
    lines = text[text.index("it would take") :].splitlines()
    assert lines[0].startswith("it would take 1,234.0 write units; this rehearsal took 65.0 read units")
    besides = "65.0 read units, 12 PUT requests to S3, 1 GET request to S3, an export of 1.50 GB"
    assert lines[1].strip() == f"with the indexes at most 3,702.0 write units; it would also take {besides}"
    assert lines[2].strip() == "about $0.77 to $2.32, on demand at AWS's prices of 2026-09-11"


def test_without_a_price_only_the_units_are_shown() -> None:
    text = rehearsed(Cost(1234, 1234, 65))
    assert "also take 65.0 read units\n" in text and "$" not in text and "indexes" not in text and "S3" not in text
    assert "an export of less than 0.01 GB" in rehearsed(Cost(1, 1, 1, export_bytes=1))
    assert "$" not in summary(RUN) and "cost" not in str(
        json_output.tables_document([TableReport("users", "up", (RUN,))])
    )


@pytest.mark.parametrize(
    ("usd", "told"),
    [((0.0, 0.0), "less than $0.01"), ((0.001, 0.009), "less than $0.01"), ((0.001, 0.02), "at most $0.02,"),
     ((1.0, 1.001), "about $1.00,"), ((1234.5, 2000.0), "about $1,234.50 to $2,000.00")],
)  # fmt: skip
def test_money(usd: tuple[float, float], told: str) -> None:
    assert f" {told}" in rehearsed(Cost(1, 1, 1, usd=usd, as_of="2026-09-11"))


def test_the_consumers_of_the_writes_as_json() -> None:
    said = "table users: version 2 writes up to 9 items, and each write is a record of its stream; a move is two writes"
    (table,) = json_output.tables_document([TableReport("users", "up", (RUN,), notices=(said,))])["tables"]
    assert table["notices"] == [said]
    (table,) = json_output.tables_document([TableReport("users", "up", (RUN,))])["tables"]
    assert "notices" not in table


def test_the_cost_as_json() -> None:
    cost = Cost(1234, 3702, 65, 12, 1, 5, (0.77412345678, 2.3), "2026-09-11")
    document = json_output.tables_document([TableReport("users", "up", (replace(RUN, status="dry-run", cost=cost),))])
    assert document["tables"][0]["versions"][0]["cost"] == {
        "wcu": 1234,
        "wcu_most": 3702,
        "rcu": 65,
        "s3_requests": {"put": 12, "get": 1},
        "export_bytes": 5,
        "usd": {"low": 0.774123, "high": 2.3, "as_of": "2026-09-11"},
    }


def test_a_dry_run_suggests_no_command_that_would_be_refused() -> None:
    refusal = Refused("recovery is off", where="table users", hint="turn it on")
    dry = TableReport("users", "up", (replace(RUN, status="dry-run", rehearsal=True),), refusal=refusal)
    request = replace(UP, options=RunOptions(dry_run=True))
    text = shown(lambda console: report.print_migrations(console, request, STAGE, [dry]))
    assert "without --dry-run would be refused" in text and "users: recovery is off\n  turn it on" in text
    assert "write it" not in text and "next  dynamodt status" in text
    (document,) = json_output.tables_document([dry])["tables"]
    assert document["refusal"]["exit_code"] == 3 and "error" not in document


def test_the_counts_of_the_run_that_prevents_this_one_are_shown_as_its_own() -> None:
    assert f"users v2 split_name  up  is unfinished (run {RUN.run})" in summary(replace(RUN, status="refused"))


def test_a_failed_dry_run_is_shown_as_having_written_nothing() -> None:
    text = summary(replace(RUN, status="failed", rehearsal=True), request=replace(UP, options=RunOptions(dry_run=True)))
    assert "dry run, failed: nothing was written" in text and "consumed" not in text


def test_dead_letters_and_a_wrong_balance_are_shown() -> None:
    place = "/a/long/folder" * 8 + "/01RUN.jsonl"
    text = summary(replace(RUN, status="failed", counts=Counts(10, 4, 0, 1, 1, 3), dead_letters=place))
    assert f"dead letters: {place}\n" in text  # in one piece, to be copied
    assert "the balance does not hold: 1 of 10 items are not counted" in text
    assert "superseded: " in text
    assert "vanished: " in text
    assert "does not hold" not in summary(RUN)


def test_at_most_three_examples() -> None:
    many = replace(RUN, samples=tuple(({**BEFORE, "id": f"u{n}"}, AFTER) for n in range(5)))
    text = summary(many)
    assert 'id = "u2"' in text
    assert 'id = "u3"' not in text


def test_new_and_deleted_items_are_marked() -> None:
    text = summary(replace(RUN, samples=((BEFORE, None), ({}, AFTER))))
    assert 'id = "u1"  deleted' in text
    assert 'id = "u1"  new' in text
    assert "- id" not in text


def test_colour_marks_before_and_after() -> None:
    text = summary(RUN, color=True)
    assert '\x1b[31m    - name         "Ada Lovelace"\x1b[0m' in text
    assert '\x1b[32m    + first_name   "Ada"\x1b[0m' in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_an_example_is_wider_than_the_screen(width: int) -> None:
    before = {"id": "u1", "long_attribute_name_that_goes_on_and_on_for_quite_some_time": "x" * 500}
    text = summary(replace(RUN, samples=((before, {"id": "u1", "y": "z" * 500}),)), width=width)
    examples = text.split('id = "u1"')[1].split("\n\n")[0]
    assert max(map(len, examples.splitlines())) <= width


def test_markup_and_control_characters_in_data_have_no_effect() -> None:
    nasty = {"id": "u1", "[red]x[/red]": "[bold]\x1b[2Jgone\x9b\u202e\r\nnext"}
    text = summary(replace(RUN, samples=(({"id": "u1"}, nasty),)), width=120)
    assert "[bold]" in text
    assert "[red]x[/red]" in text
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(text)


# ---------------------------------------------------------------- the diff


def test_only_different_values_are_shown_with_their_path() -> None:
    assert item_diff(BEFORE, AFTER) == [
        DiffLine("-", "address.city", '"London"'),
        DiffLine("+", "address.city", '"Paris"'),
        DiffLine("+", "first_name", '"Ada"'),
        DiffLine("-", "name", '"Ada Lovelace"'),
    ]


def test_a_map_that_appears_is_one_line() -> None:
    assert item_diff({"a": Decimal(1)}, {"a": {"b": Decimal(2)}}) == [
        DiffLine("-", "a", "1"),
        DiffLine("+", "a", "{b: 2}"),
    ]


@pytest.mark.parametrize(
    ("old", "new"), [(True, Decimal(1)), ([True], [Decimal(1)]), ({"x": False}, {"x": Decimal(0)})]
)
def test_a_boolean_is_not_a_number(old: object, new: object) -> None:
    assert len(item_diff({"a": old}, {"a": new})) == 2


def test_long_values_are_cut_where_the_difference_shows() -> None:
    before, after = item_diff({"a": "x" * 300 + "old"}, {"a": "x" * 300 + "new"}, 40)
    assert before.value.endswith('old"')
    assert after.value.endswith('new"')
    assert max(len(before.value), len(after.value)) <= 40


def test_keys_are_shown_in_order() -> None:
    assert key_line({"b": Decimal(2), "a b": "x"}, ("b", "a b")) == 'b = 2, "a b" = "x"'


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.frozensets(st.text(), min_size=1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_ITEMS = st.dictionaries(st.text(max_size=5), _VALUES, max_size=4)


@given(_ITEMS)
def test_an_item_does_not_differ_from_itself(item: dict[str, Any]) -> None:
    assert item_diff(item, dict(item)) == []


@given(_ITEMS, _ITEMS, st.integers(20, 80))
def test_every_line_is_printable_and_short(before: dict[str, Any], after: dict[str, Any], width: int) -> None:
    for line in item_diff(before, after, width):
        assert line.value.isprintable()
        assert line.path.isprintable()
        assert len(line.value) <= width


@given(st.text())
def test_printable_keeps_what_is_printable(text: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in printable(text))
    assert printable(text) == text or not text.isprintable()


def test_values_as_text() -> None:
    item = {"n": None, "t": True, "l": [Decimal("1.50"), "a"], "s": {"b", "a"}, "b": b"\x00\xff"}
    assert value_text(item) == '{n: null, t: true, l: [1.50, "a"], s: {"a", "b"}, b: 2 bytes 00ff}'
    assert clip("abcdef", 4) == "abc…"


# ---------------------------------------------------------------- what to try next


def next_steps(request: Request, report: TableReport, environment: dict[str, str]) -> list[NextStep]:
    return written_steps(request, steps_of(request, report), environment)


def test_next_steps_when_all_is_done() -> None:
    steps = next_steps(UP, TableReport("users", "up", (RUN,), 4, latest=4), {})
    assert [step.command for step in steps] == ["dynamodt status", "dynamodt down --table users"]


def test_next_steps_have_the_stage() -> None:
    steps = next_steps(replace(UP, stage="dev", to=2), TableReport("users", "up", (RUN,), 2, latest=3), {})
    assert [step.command for step in steps] == [
        "dynamodt up --table users --stage dev",
        "dynamodt status --stage dev",
        "dynamodt down --table users --stage dev",
    ]


def test_next_steps_in_the_form_of_make() -> None:
    request = replace(UP, to=2, stage="dev", options=RunOptions(max_errors=3))
    steps = next_steps(request, TableReport("users", "up", (RUN,), 2, latest=4), {"DYNAMODT_MAKE": "1"})
    assert [step.command for step in steps] == [
        "make run TABLE=users STAGE=dev",
        ".venv/bin/dynamodt status --stage dev",
        "make run TABLE=users DIRECTION=down STAGE=dev",
    ]


@pytest.mark.parametrize("status", ["stopped", "gone"])
def test_the_next_steps_of_a_run_that_ended_early_continue_or_undo_it(status: str) -> None:
    stopped = replace(RUN, status=status, run="01RUN", journal=True)
    report = TableReport("users", "up", (stopped,), 1, DynamodtError("aborted"), 4)
    steps = next_steps(replace(UP, to=2, options=RunOptions(journal=True)), report, {})
    assert [step.command for step in steps[:2]] == [
        "dynamodt up --table users --to 2 --journal",
        "dynamodt undo --table users 01RUN",
    ]
    untouched = replace(report, versions=(replace(stopped, counts=Counts(10, 0, 10)),))
    assert not [step for step in next_steps(UP, untouched, {}) if " undo " in step.command]


def test_the_next_steps_of_a_refused_dry_run_write_nothing() -> None:
    tried = replace(UP, options=RunOptions(dry_run=True))
    report = TableReport("users", "up", (replace(RUN, status="failed"),), 1, DynamodtError("dead"), 4)
    refused = [replace(report, refusal=Refused("held")), TableReport("users", "up", (RUN,), 1, refusal=Refused("held"))]
    failed, succeeded = (written_steps(tried, merged_steps(tried, [one]), {}) for one in refused)
    assert [step.command for step in failed] == ["dynamodt up --table users --dry-run", "dynamodt status"]
    assert [step.command for step in succeeded] == ["dynamodt status"]


@pytest.mark.parametrize(("accept_all", "why"), [(False, "replay them"), (True, "accept them")])
def test_the_next_step_of_a_rehearsed_retry_says_what_it_does(accept_all: bool, why: str) -> None:
    options = RunOptions(dry_run=True, accept_all=accept_all, reason="known")
    (step,) = next_steps(replace(UP, command="retry", run="01RUN", options=options), TableReport("users", "up", ()), {})
    assert step.why == why and "--dry-run" not in step.command


def test_the_next_step_after_dead_letters_is_a_retry() -> None:
    failed = replace(RUN, status="failed", run="01RUN", dead_letters="s3://b/x")
    report = TableReport("users", "up", (failed,), 1, DynamodtError("dead"), 4)
    steps = next_steps(replace(UP, options=RunOptions(max_wcu=5.0)), report, {})
    assert [step.command for step in steps[:2]] == [
        "dynamodt show --table users 01RUN",
        "dynamodt retry --table users --max-wcu 5 01RUN",
    ]
    rehearsed = next_steps(replace(UP, options=RunOptions(dry_run=True)), report, {})
    assert [step.command for step in rehearsed] == ["dynamodt up --table users --dry-run", "dynamodt status"]


@pytest.mark.parametrize(
    ("journal", "expected"),
    [(True, ["dynamodt status", "dynamodt undo --table users 01RUN"]), (False, ["dynamodt status"])],
)
def test_the_next_step_back_of_a_version_without_transform_down_is_an_undo(journal: bool, expected: list[str]) -> None:
    run = replace(RUN, run="01RUN", journal=journal)
    steps = next_steps(UP, TableReport("users", "up", (run,), 4, latest=4, reversible=False), {})
    assert [step.command for step in steps] == expected


def test_no_undo_is_suggested_for_the_version_below_a_down() -> None:
    """Neither the journal of version 5's `down` nor that of version 4, which is no longer the last one, can revert
    version 4."""
    run = replace(RUN, run="01RUN", version=5, direction="down", journal=True)
    down = replace(UP, command="down")
    steps = next_steps(down, TableReport("users", "down", (run,), 4, latest=5, reversible=False), {})
    assert [step.command for step in steps] == ["dynamodt up --table users", "dynamodt status"]


def test_a_suggested_make_command_has_all_options() -> None:
    options = RunOptions(dry_run=True, max_wcu=50.0, share=25.0, alarms=("api",), source="export")
    steps = next_steps(replace(UP, options=options), TableReport("users", "up", (RUN,)), {"DYNAMODT_MAKE": "1"})
    assert steps[0].command == (
        "make run TABLE=users ARGS='--max-wcu 50 --share 25 --source export --pause-on-alarm api'"
    )


def test_a_hint_has_the_form_of_make_or_of_the_program() -> None:
    hint = "stop it (" + suggest("abort", table="users") + "), or wait"
    assert hint.written(program({"DYNAMODT_MAKE": "1"})) == "stop it (.venv/bin/dynamodt abort --table users), or wait"
    assert hint.written(program({})) == hint == "stop it (dynamodt abort --table users), or wait"


def test_a_hint_names_the_stage_of_the_command() -> None:
    hint = "stop it (" + suggest("abort", table="-users") + "), or " + suggest("retry", help=True)
    assert with_stage(hint, "local") == hint
    assert with_stage(hint, "my prod") == (
        "stop it (dynamodt abort --stage 'my prod' --table=-users), or dynamodt retry --help"
    )
    for same in (suggest("up", stage="prod"), suggest("local stop"), as_hint("say dynamodt up")):
        assert with_stage(same, "dev") == same


def test_after_a_failure_a_dry_run_comes_next() -> None:
    failed = TableReport("users", "up", (replace(RUN, status="failed"),), 1, latest=4)
    assert next_steps(replace(UP, to=2), failed, {})[0].command == "dynamodt up --table users --to 2 --dry-run"
    tried = replace(UP, options=RunOptions(dry_run=True))
    refused = replace(failed, error=Refused("needs prepared data"))
    assert [step.command for step in next_steps(tried, refused, {})] == ["dynamodt status"]
    made = next_steps(replace(UP, options=RunOptions(max_errors=3)), failed, {"DYNAMODT_MAKE": "1"})
    assert made[0].command == "make run TABLE=users DRY=1 ARGS='--max-errors 3'"


# ---------------------------------------------------------------- the other verbs


def test_history_lists_the_runs() -> None:
    run = RunRecord(
        "users", "01RUN", 2, "split_name", "up", "abcdef0123456789", "failed", "2025-06-01T10:00:00Z", by="ada@host"
    )
    text = shown(
        lambda console: short_reports.print_history(console, {"users": [replace(run, error="boom")], "empty": []})
    )
    for part in ("v2 split_name  up  failed", "2025-06-01T10:00:00Z", "ada@host", "abcdef012345", "boom", "no run yet"):
        assert part in text


EDITED = RunRecord(
    "users", "01RUN", 2, "b", "up", "cd" * 32, "succeeded", "2025-06-01T10:00:00Z", counts=Counts(31, 31),
    texts=(ScriptText("ab" * 32, 30),),
)  # fmt: skip


def test_history_keeps_every_text_of_a_script_that_was_edited_while_it_ran() -> None:
    text = shown(lambda console: short_reports.print_history(console, {"users": [EDITED]}))
    assert "30 items by the script's text abababababab" in text and "1 item by the script's text cdcdcdcdcdcd" in text
    assert "by the script's text" not in shown(
        lambda console: short_reports.print_history(console, {"users": [replace(EDITED, texts=())]})
    )
    (found,) = json_output.history_document({"users": [EDITED]})["tables"][0]["runs"]
    assert found["scripts"] == [{"checksum": "ab" * 32, "items": 30}, {"checksum": "cd" * 32, "items": 1}]


def test_history_and_status_report_a_table_created_after_its_last_run() -> None:
    for show in (
        lambda console: short_reports.print_history(console, {"users": [EDITED]}, "prod", {"users": "it is younger"}),
        lambda console: short_reports.print_status(
            console, [TableStatus("users", 1, (), younger="it is younger")], "prod"
        ),
    ):
        text = shown(show)
        assert "it is younger" in text and "dynamodt stamp --table users --stage prod --to N" in text
    history = json_output.history_document({"users": [EDITED], "b": []}, {"users": "it is younger"})["tables"]
    assert [table.get("younger_than_last_run") for table in history] == ["it is younger", None]
    (status,) = json_output.status_document([TableStatus("users", 1, (), younger="it is younger")])["tables"]
    assert status["younger_than_last_run"] == "it is younger"
    assert "younger_than_last_run" not in json_output.status_document([TableStatus("users", 1, ())])["tables"][0]


def test_status_counts_what_is_pending() -> None:
    versions = (VersionStatus(1, "a", "applied"), VersionStatus(2, "b", "pending"), VersionStatus(3, "c", "missing"))
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 1, versions)]))
    assert "users at version 1, 1 pending, 1 missing\n  v1   a  applied" in text
    assert "it has no file here" in text


@pytest.mark.parametrize("dead_letters", ["", "s3://b/dead.jsonl"])
def test_status_shows_why_a_run_has_failed_even_if_it_has_dead_letters(dead_letters: str) -> None:
    """They may be tolerated, and the reason another one, such as a storage that cannot be written."""
    error = "s3://b/dead.jsonl: PutObject was refused: AccessDenied"
    left = RunRecord("users", "01RUN", 2, "b", "up", "", "failed", "", dead_letters=dead_letters, error=error)
    version = VersionStatus(2, "b", "unfinished", "v2_b.py", run=left)
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 1, (version,))]))
    assert "PutObject was refused: AccessDenied" in text and text.count("s3://b/dead.jsonl") == 1


def test_status_shows_an_unfinished_run_and_the_next_commands() -> None:
    left = RunRecord("users", "01RUN", 2, "b", "up", "", "failed", "2025-06-01T10:00:00Z", dead_letters="s3://b/x")
    versions = (
        VersionStatus(1, "a", "applied"),
        VersionStatus(2, "b", "unfinished", "v2_b.py", run=left),
        VersionStatus(3, "c", "pending"),
    )
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 1, versions)]))
    assert "users at version 1, 1 unfinished, 1 pending\n" in text
    onward = (
        "run 01RUN failed\n       `dynamodt up --table users --to 2{}` continues it\n       dead letters: s3://b/x\n"
    )
    assert onward.format("") in text
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 1, versions)], "prod"))
    assert onward.format(" --stage prod") in text
    undone = replace(versions[1], run=replace(left, direction="down", status="gone"))
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 2, (undone,))]))
    assert "no live process\n       `dynamodt down --table users --to 1` continues it" in text


def test_every_command_of_status_and_history_works_in_a_service_without_dynamodt_toml(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the plugin, or with what it needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNAMODT_SERVICE", '{"stage": "dev", "storage": "s3://b/x", "tables": {"users": "users-dev"}}')
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    needs = "(this needs [stages.dev] in dynamodt.toml, with"
    left = RunRecord("users", "01RUN", 2, "b", "up", "", "failed", "2025-06-01T10:00:00Z")
    runs = [replace(left, status=status) for status in ("failed", "undoing", "partly-undone")]
    statuses = [
        TableStatus("users", 1, (VersionStatus(2, "b", "unfinished", "v2_b.py", run=run),), younger="new")
        for run in runs
    ]
    text = shown(lambda console: short_reports.print_status(console, statuses, "dev"))
    assert "`sls dynamodt up --table users --to 2 --stage dev` continues it\n" in text
    assert text.count(f"`dynamodt undo --stage dev 01RUN` continues it {needs}") == 2
    assert text.count(f"dynamodt stamp --table users --stage dev --to N {needs}") == 3
    text = shown(lambda console: short_reports.print_history(console, {"users": runs}, "dev", {"users": "new"}))
    assert text.count(f"dynamodt undo --stage dev 01RUN {needs}") == 2 and text.count(needs) == 3
    asked = Request("up", "dev", ("users",), options=RunOptions(max_wcu=5))
    hint = with_retry_hint(asked, ServiceError("lost", hint="wait")).hint  # type: ignore[union-attr, attr-defined]
    assert f"dynamodt up --table users --stage dev --max-wcu 5 {needs}" in hint


def test_files_of_one_name_are_distinguished() -> None:
    files = [Path("transforms") / table / "v1_initial.py" for table in ("users", "carts")]
    asked = Request("init", "dev", ("users", "carts"))
    for made, named in ((files[:1], "in v1_initial.py\n"), (files, "users/v1_initial.py, carts/v1_initial.py")):
        assert named in shown(lambda console, made=made: short_reports.print_files(console, asked, made))  # type: ignore[misc]


def test_status_shows_a_paused_run_and_one_paused_by_an_alarm() -> None:
    run = RunRecord("users", "01RUN", 2, "b", "up", "", "paused", "2025-06-01T10:00:00Z")
    paused = VersionStatus(2, "b", "running", run=run)
    held = replace(paused, run=replace(run, status="held"), held="the alarm slow is in ALARM")
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 1, (paused,))]))
    assert "users at version 1, 1 paused\n" in text and "b  paused    up, run 01RUN\n" in text
    text = shown(lambda console: short_reports.print_status(console, [TableStatus("users", 1, (held,))]))
    assert "users at version 1, 1 held\n" in text and "run 01RUN: the alarm slow is in ALARM\n" in text
    (found,) = json_output.status_document([TableStatus("users", 1, (held,))])["tables"][0]["versions"]
    assert (found["state"], found["run"]["status"], found["held"]) == ("running", "held", "the alarm slow is in ALARM")


def test_a_run_is_one_line_of_80_columns_at_most_whatever_its_figures() -> None:
    started = "2025-06-01T10:00:00+00:00"
    record = RunRecord("a_table_with_a_long_name", "20260131T101112.123456Z-abc123", 999, "x", "down", "", "", started)
    lease = Lease("users", 3, "01RUN", "ada", "laptop", 17, since=started)
    runs = [
        RunState(record, "succeeded", Counts(123_456_789_012, dead=123_456)),
        RunState(record, "running", Counts(1), lease),
    ]
    head, first, second, holder = shown(lambda console: print_runs(console, runs, 1_748_772_000.0 + 840)).splitlines()
    assert head.split() == ["run", "table", "version", "status", "started", "read", "dead"]
    assert first.split() == [record.run, "a_table_wi…", "v999", "down", "succeeded", "14m", "ago", "123G", "123k"]
    assert holder == f"  held by ada@laptop, process 17, since {started}"
    assert max(map(len, (head, first, second))) <= 80
    narrow = shown(lambda console: print_runs(console, runs[:1], 1_748_772_000.0 + 840), width=40).splitlines()
    assert narrow == [record.run, "  a_table_with_a_long_name v999 down  succeeded", "  14m ago, 123G read, 123k dead"]
    wide = shown(lambda console: print_runs(console, runs), width=120)
    assert "a_table_with_a_long_name" in wide and "123,456,789,012" in wide and "2025-06-01 10:00:00" in wide


def test_prepared_rows_are_pairs() -> None:
    prepared = PreparedRef("s3://bucket/x.parquet", 1249, "ab", "cd", "now")
    request = Request("prepare", tables=("users",), number=3)
    names = TableNames({"users": "shop-users"}, known={"users": "shop-users"})
    at = TableStatus("shop-users", 2, ())
    text = shown(lambda console: short_reports.print_prepared(console, request, prepared, names, at, 0))
    assert "users (shop-users) version 3: 1,249 rows" in text
    assert "dynamodt up --table users --to 3 --dry-run" in text
    assert "s3://bucket/x.parquet" in text
    rehearsal = replace(request, options=RunOptions(dry_run=True))
    one = replace(prepared, rows=1)
    text = shown(lambda console: short_reports.print_prepared(console, rehearsal, one, TableNames(), at, 0))
    assert "dry run: nothing was stored" in text and "users version 3: 1 row would be" in text


@pytest.mark.parametrize(
    ("status", "unprepared", "wanted"),
    [
        (TableStatus("users", 3, ()), 0, ["dynamodt status --table users"]),
        (TableStatus("users", 4, ()), 0, ["dynamodt status --table users"]),
        (TableStatus("users", 1, ()), 2, ["dynamodt prepare --table users --version 2"]),
        (
            TableStatus("users", 2, ()),
            4,
            ["dynamodt up --table users --to 3 --dry-run", "dynamodt up --table users --to 3"],
        ),
        (TableStatus("users", 2, (VersionStatus(1, "a", "edited"),)), 0, ["dynamodt status --table users"]),
    ],
)
def test_the_command_suggested_after_prepare_is_not_refused(
    status: TableStatus, unprepared: int, wanted: list[str]
) -> None:
    request = Request("prepare", tables=("users",), number=3)
    steps = written_steps(request, after_preparation(request, status, unprepared), {})
    assert [step.command for step in steps] == wanted


# ---------------------------------------------------------------- progress


ACTIVE = RunRecord("users", "01RUN", 2, "split_name", "up", "", "running", "2025-06-01T10:00:00Z")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def follow(recorder: ProgressRecorder, clock: Clock, seconds: int) -> None:
    recorder.run_started(ACTIVE, 10_000)
    for second in range(1, seconds + 1):
        clock.now = float(second)
        totals = Totals(Counts(second * 100, second * 100), Units(1.0, second * 100.0), second)
        recorder.progressed("users", RunProgress(totals, 100))


def test_without_a_terminal_there_is_a_line_every_five_seconds() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)
    recorder = LineDisplay(timed_lines(console), clock, now=lambda: 1780000000.0 + clock.now)
    follow(recorder, clock, 12)
    recorder.run_ended(RUN)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "2026-05-28T20:26:40Z users v2 split_name: started, about 10,000 items",
        "2026-05-28T20:26:45Z users v2 split_name: 5%, 500 items, 100 items/s, 100 WCU/s",
        "2026-05-28T20:26:50Z users v2 split_name: 10%, 1,000 items, 100 items/s, 100 WCU/s",
        "2026-05-28T20:26:52Z users v2 split_name: succeeded, 1,234 items in 2.0 s",
    ]


def test_a_paused_run_has_a_line_a_minute() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=80)
    recorder = LineDisplay(lambda line, text: console.print(text), clock)
    recorder.run_started(ACTIVE, 10_000)
    for second in range(1, 126):
        clock.now = float(second)
        recorder.progressed("users", RunProgress(Totals(), 100, idle="paused"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.endswith(", paused") for line in lines].count(True) == 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_the_bar_fits(width: int) -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    recorder = BarDisplay(console, clock)
    follow(recorder, clock, 12)
    recorder.run_ended(RUN)
    drawn = console.file.getvalue().split("\x1b[2K")  # type: ignore[attr-defined]
    bar, figures = drawn[-1].splitlines()[-2:]
    assert "100%" in bar and "succeeded" in bar
    assert "1,234 items" in figures
    assert "conflict" not in "".join(drawn) and "throttle" not in "".join(drawn) and "dead" not in "".join(drawn)
    assert all(len(line) <= width for frame in drawn for line in re.sub(r"\x1b\[[?\d]*\w", "", frame).splitlines())


def test_two_followed_runs_have_a_bar_each_and_ended_ones_stay_visible() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    recorder = BarDisplay(console, clock, watching=True)
    recorder.run_found(ACTIVE, 1000, 65.0)
    recorder.run_found(replace(ACTIVE, table="orders"), 1000, 5.0)
    met = Totals(Counts(400, 399, dead=1), Units(0.0, 400.0), 1, Contention(3, 2))
    recorder.progressed("users", RunProgress(met, 4, wcu=500.0, idle="held: write-latency"))
    clock.now = 1.0
    recorder.progressed("orders", RunProgress(Totals(Counts(100, 100)), 4))
    frame = console.file.getvalue().split("\x1b[2K")[-1]  # type: ignore[attr-defined]
    users, figures, orders, _ = frame.splitlines()
    assert "users v2 split_name" in users and "40%" in users and "0:01:06" in users and "held" in users
    assert "1 dead letter, 3 conflicts, 2 throttles" in figures
    assert "orders v2 split_name" in orders and "10%" in orders
    recorder.run_ended(RUN)
    recorder.close()
    whole = console.file.getvalue()  # type: ignore[attr-defined]
    assert "100%" in whole and "succeeded" in whole and "held: write-latency" in whole
    assert (
        "orders v2 split_name" in whole.rpartition("\x1b[?25h")[2]
    )  # the cursor is visible again, and the last output stays


def test_a_run_without_an_end_is_reported_as_stopped() -> None:
    clock = Clock()
    recorder = ProgressRecorder(clock)
    recorder.run_ended(replace(RUN, version=1))
    follow(recorder, clock, 3)
    (table,) = recorder.reports()
    assert [run.status for run in table.versions] == ["succeeded", "stopped"]
    assert table.versions[1].counts == Counts(300, 300)
    assert table.versions[1].seconds == 3.0


def test_the_display_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display(Console(file=io.StringIO(), force_terminal=True)), BarDisplay)
    assert isinstance(display(Console(file=io.StringIO())), LineDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display(Console(file=io.StringIO(), force_terminal=True)), LineDisplay)


@pytest.mark.parametrize(
    ("command", "pause_reason", "said"),
    [
        ("resume", "", "run r1 continues"),
        ("resume", "the alarm x is in ALARM", "run r1 stays paused (the alarm x is in ALARM)"),
        ("pause", "the alarm x is in ALARM", "run r1 pauses"),
    ],
)
def test_a_resume_while_an_alarm_is_on_reports_that(command: str, pause_reason: str, said: str) -> None:
    stream = io.StringIO()
    lease = Lease("users", 1, "r1", "me", "here", 7, pause_reason=pause_reason)
    short_reports.print_reported(Console(file=stream, width=200), Request(command, tables=("users",)), lease)
    text = " ".join(stream.getvalue().split())
    assert said in text and ("dynamodt abort --table users, then" in text) == ("stays paused" in said)
    assert json_output.reported_document(command, lease, Units())["pause_reason"] == pause_reason


def test_several_tables_have_one_block_of_next_steps_that_fits_40_columns() -> None:
    tables = [TableReport(name, "up", (replace(RUN, table=name),), 2, latest=4) for name in ("orders", "users")]
    text = shown(lambda console: report.print_migrations(console, Request("up"), STAGE, tables))
    assert text.count("next  ") == 1 and text.count("dynamodt status") == 1
    assert "dynamodt up --table orders --table users" in text
    narrow = shown(lambda console: report.print_migrations(console, Request("up"), STAGE, tables), width=40)
    block = narrow[narrow.index("next  ") :].splitlines()
    assert all(len(line) <= 40 or line.strip().startswith("dynamodt") for line in block[1:])
    assert block[block.index("      dynamodt status") + 1].strip() == "what is applied, what is pending"


def test_an_error_of_several_tables_is_printed_once() -> None:
    one, same = (DynamodtError("no such bucket", where="s3://b", hint="make it") for _ in range(2))
    other = DynamodtError("no such bucket", where="s3://c", hint="make it")
    assert without_duplicates([one, same, other, one]) == [one, other]
