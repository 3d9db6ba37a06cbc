"""The menu, driven by key presses through prompt_toolkit's own pipe."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from dynamodt.cli.questions import choose
from dynamodt.cli.request import Request
from dynamodt.model.pages import Units
from dynamodt.runs.options import CONTROL, RunOptions

ENTER, UP, DOWN, SPACE, CTRL_C, ERASE = "\r", "\x1b[A", "\x1b[B", " ", "\x03", "\x7f"


class Terminal(NamedTuple):
    keys: PipeInput
    shown: io.StringIO


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    shown = io.StringIO()
    output = Vt100_Output(shown, lambda: Size(rows=40, columns=100), enable_cpr=False)
    with create_pipe_input() as keys, create_app_session(input=keys, output=output):
        yield Terminal(keys, shown)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for table in ("orders", "users"):
        (tmp_path / "transforms" / table).mkdir(parents=True)
        for name in ("v1_first.py", "v2_second.py"):
            (tmp_path / "transforms" / table / name).write_text("")
    return tmp_path


def test_the_menu_asks_all_questions(terminal: Terminal, folder: Path) -> None:
    (folder / "dynamodt.toml").write_text('[stages.dev]\nregion = "eu-west-1"\nstorage = "s3://bucket/x"\n')
    up, dev, users = ENTER, DOWN + ENTER, DOWN + SPACE + ENTER
    version_1, no_dry_run, run_it = DOWN + ENTER, "n", "y"
    terminal.keys.send_text(up + dev + users + version_1 + no_dry_run + run_it)
    assert choose(Request("", interactive=True), folder) == Request("up", "dev", ("users",), 1)
    assert "dynamodt up --table users --to 1 --stage dev" in terminal.shown.getvalue()


def test_the_menu_does_not_ask_for_given_options(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text("y" + "y")  # a dry run, run it
    given = Request("down", tables=("users",), to=0, interactive=True)
    assert choose(given, folder) == Request("down", tables=("users",), to=0, options=RunOptions(dry_run=True))


def test_stamp_asks_for_the_last_applied_version(terminal: Terminal, folder: Path) -> None:
    users, version_1 = DOWN + ENTER, DOWN + ENTER
    terminal.keys.send_text(users + version_1 + "n" + "y")
    assert choose(Request("stamp", interactive=True), folder) == Request("stamp", tables=("users",), to=1)


@pytest.mark.parametrize("number", range(len(CONTROL)))
def test_control_commands_are_at_the_end_of_the_menu(terminal: Terminal, folder: Path, number: int) -> None:
    command = ("unlock", "abort", "throttle", "resume", "pause")[number]
    users, limits = DOWN + ENTER, "nan" + ERASE * 3 + "200" + ENTER + ENTER if command == "throttle" else ""
    terminal.keys.send_text(UP * (number + 2) + ENTER + users + limits + "y")
    expected = Request(command, tables=("users",), limits=Units(wcu=200.0) if limits else Units())
    assert choose(Request("", interactive=True), folder) == expected


def test_no_table_chosen_means_all_and_asks_for_no_version(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(ENTER + "n" + "y")
    assert choose(Request("up", interactive=True), folder) == Request("up")


def test_down_defaults_to_the_version_before(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(ENTER + ENTER + "n" + "y")
    assert choose(Request("down", interactive=True), folder) == Request("down", tables=("orders",))


def test_prepare_asks_for_the_version(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(DOWN + ENTER + DOWN + ENTER + "n" + "y")
    assert choose(Request("prepare", interactive=True), folder) == Request("prepare", tables=("users",), number=2)


def test_create_asks_for_the_name(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(DOWN + ENTER + "split name" + ENTER + "n" + "y")
    assert choose(Request("create", interactive=True), folder) == Request(
        "create", tables=("users",), name="split name"
    )


def test_init_without_transforms_takes_names(terminal: Terminal, tmp_path: Path) -> None:
    terminal.keys.send_text("users orders" + ENTER + "n" + "y")
    assert choose(Request("init", interactive=True), tmp_path) == Request("init", tables=("users", "orders"))
    terminal.keys.send_text("users" + ENTER + "id:S" + ENTER + "n" + "y")
    assert choose(Request("init", interactive=True), tmp_path) == Request("init", tables=("users",), key="id:S")


def test_a_dead_letter_is_accepted_with_a_reason(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text("2026013" + ENTER + "u1" + ENTER + "old data" + ENTER + "n" + "y")
    options = RunOptions(accept=("u1",), reason="old data")
    assert choose(Request("retry", interactive=True), folder) == Request("retry", run="2026013", options=options)


def test_a_no_at_the_end_runs_nothing(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(ENTER + "n")
    assert choose(Request("status", interactive=True), folder) is None
    assert "dynamodt status" in terminal.shown.getvalue()


def test_ctrl_c_is_an_interrupt(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(CTRL_C)
    with pytest.raises(KeyboardInterrupt):
        choose(Request("", interactive=True), folder)


def test_on_other_stages_a_dry_run_is_the_default(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(ENTER + ENTER)
    chosen = choose(Request("up", "prod", ("users", "orders"), interactive=True), folder)
    assert chosen is not None
    assert chosen.options.dry_run


def test_the_menu_entry_follow_is_status_follow(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text(3 * DOWN + ENTER + ENTER + "y")
    assert choose(Request("", interactive=True), folder) == Request("status", follow=True)
    assert "dynamodt status --follow" in terminal.shown.getvalue()


def test_an_undo_asks_for_the_run_and_for_no_table(terminal: Terminal, folder: Path) -> None:
    terminal.keys.send_text("2026013" + ENTER + "y" + "y")  # the run, a dry run, run it
    expected = Request("undo", run="2026013", options=RunOptions(dry_run=True))
    assert choose(Request("undo", interactive=True), folder) == expected
    assert "dynamodt undo --dry-run 2026013" in terminal.shown.getvalue()
