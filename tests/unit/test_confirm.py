"""A command that reverts or deletes is confirmed: by an answer on a terminal, by `--yes` on a protected stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import questionary
from prompt_toolkit.input import PipeInput

from dynamodt.cli import commands, questions
from dynamodt.cli.questions import confirm_change, confirm_reset
from dynamodt.cli.request import Request, as_typed
from dynamodt.errors import Refused
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.runs.context import Project
from dynamodt.runs.options import CONFIRMED, RunOptions
from dynamodt.runs.pace import ProgressRecorder

STAGE = Stage("prod", Connection("eu-west-1"), StorageSpec("s3://bucket"), protected=True)
EFFECT = "table users of stage prod, about 5 items: v2 split is rolled back, to version 1"
HERE = Path()
DOWN = Request("down", "prod", ("users",))


@pytest.fixture(autouse=True)
def effects(monkeypatch: pytest.MonkeyPatch) -> list[questions.CommandEffect]:
    """The command's effects."""
    found = [questions.CommandEffect(EFFECT, "v2 split", 1)]
    monkeypatch.setattr(questions, "effects", lambda project, request: found)
    return found


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questionary, "confirm", lambda *_, **__: pytest.fail("it is asked"))


@pytest.mark.parametrize("command", [command for command in CONFIRMED if command != "local reset"])
@pytest.mark.parametrize(("typed", "done"), [("y", True), ("n", False), ("\r", False), ("\x03", False)])
def test_on_a_terminal_the_command_asks_and_shows_its_effects(
    keys: PipeInput, monkeypatch: pytest.MonkeyPatch, command: str, typed: str, done: bool
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(questionary, "print", lambda text: shown.append(text))
    keys.send_text(typed)
    request = replace(DOWN, command=command, stage="local")
    if done:
        confirm_change(request, replace(STAGE, protected=False), HERE)
    else:
        with pytest.raises(Refused, match="nothing was changed") as caught:
            confirm_change(request, replace(STAGE, protected=False), HERE)
        assert caught.value.exit_code == 3 and f"dynamodt {command}" in str(caught.value.hint)
    assert shown == [f"  {EFFECT}"]


def test_the_confirmed_command_does_what_was_shown(
    keys: PipeInput, monkeypatch: pytest.MonkeyPatch, effects: list[questions.CommandEffect]
) -> None:
    """A `down` goes to the version that was shown, and not below, although another terminal has acted since."""
    keys.send_text("yyy")
    assert confirm_change(DOWN, STAGE, HERE) == replace(DOWN, to=1)
    looks = iter([effects, [questions.CommandEffect(EFFECT.replace("5 items", "6 items"), "v2 split", 1)]])
    monkeypatch.setattr(questions, "effects", lambda *_: next(looks))
    assert confirm_change(DOWN, STAGE, HERE).to == 1  # the application writes
    looks = iter([effects, [questions.CommandEffect(EFFECT, "v1 initial", 0)]])
    with pytest.raises(Refused, match="before the answer; nothing was done"):
        confirm_change(DOWN, STAGE, HERE)


@pytest.mark.usefixtures("keys", "unasked")
@pytest.mark.parametrize(
    "request_",
    [replace(DOWN, yes=True), replace(DOWN, options=RunOptions(dry_run=True)), replace(DOWN, command="up")],
)
def test_no_question_with_yes_or_without_an_effect(request_: Request) -> None:
    confirm_change(request_, STAGE, HERE)


@pytest.mark.usefixtures("keys", "unasked")
def test_no_question_for_a_command_that_is_refused_or_has_nothing_to_do(effects: list[questions.CommandEffect]) -> None:
    effects.clear()
    confirm_change(DOWN, STAGE, HERE)


def test_a_down_that_waits_for_a_run_shows_its_effects_after_that_run(
    keys: PipeInput, monkeypatch: pytest.MonkeyPatch, effects: list[questions.CommandEffect]
) -> None:
    """Nothing could be rolled back when the command was typed. The confirmed command does not wait again."""
    after, waited = list(effects), list[str]()
    effects.clear()

    def wait(project: Project, tables: Sequence[str]) -> None:
        waited.extend(f"{table} {project.options.wait_lock}" for table in tables)
        effects.extend(after)

    monkeypatch.setattr(questions, "wait_until_free", wait)
    keys.send_text("y")
    done = confirm_change(replace(DOWN, options=RunOptions(wait_lock="10m")), STAGE, HERE)
    assert (done, waited) == (replace(DOWN, to=1), ["users 10m"])


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("given", [DOWN, replace(DOWN, command="undo", run="01RUN"), replace(DOWN, command="unlock")])
def test_without_a_terminal_a_protected_stage_needs_yes(given: Request) -> None:
    with pytest.raises(Refused) as caught:
        confirm_change(given, STAGE, HERE)
    assert caught.value.exit_code == 3 and caught.value.where == "stage prod"
    assert "--yes" in str(caught.value.hint) and given.command in str(caught.value.hint)
    confirm_change(replace(given, yes=True), STAGE, HERE)
    confirm_change(replace(given, options=RunOptions(dry_run=True)), STAGE, HERE)
    confirm_change(given, replace(STAGE, protected=False), HERE)


@pytest.mark.parametrize("protected", [True, False])
def test_without_a_terminal_the_commands_that_are_suggested_on_a_protected_stage_have_yes(
    monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    """`up` suggests `down`, which would be refused without it."""
    monkeypatch.setattr("dynamodt.cli.request._needs_yes", not protected)
    api = SimpleNamespace(open_stage=lambda *_: replace(STAGE, protected=protected))
    commands._open(api, Request("up", "prod"), HERE, ProgressRecorder())
    assert as_typed(DOWN) == "dynamodt down --table users --stage prod" + " --yes" * protected


@pytest.mark.usefixtures("keys")
def test_no_question_with_json() -> None:
    with pytest.raises(Refused, match="no terminal"):
        confirm_change(replace(DOWN, json=True), STAGE, HERE)


def test_with_make_the_hint_is_a_make_command() -> None:
    typed = as_typed(replace(DOWN, yes=True), {"DYNAMODT_MAKE": "1"})
    assert typed == "make run TABLE=users DIRECTION=down STAGE=prod ARGS=--yes"


@pytest.mark.parametrize(("typed", "done"), [("y", True), ("n", False)])
def test_a_reset_is_confirmed_on_a_terminal_if_there_is_data(
    keys: PipeInput, tmp_path: Path, typed: str, done: bool
) -> None:
    reset = Request("local reset")
    confirm_reset(reset, STAGE, tmp_path)
    (tmp_path / ".dynamodt" / "local").mkdir(parents=True)
    keys.send_text(typed)
    if done:
        confirm_reset(reset, STAGE, tmp_path)
    else:
        with pytest.raises(Refused, match="nothing was changed"):
            confirm_reset(reset, STAGE, tmp_path)
    confirm_reset(replace(reset, yes=True), STAGE, tmp_path)


def test_a_reset_without_a_terminal_is_refused_only_on_a_protected_stage(tmp_path: Path) -> None:
    reset, local = Request("local reset"), replace(STAGE, name="local")
    confirm_reset(reset, local, tmp_path)  # there is nothing to delete
    (tmp_path / ".dynamodt" / "local").mkdir(parents=True)
    confirm_reset(reset, replace(local, protected=False), tmp_path)
    confirm_reset(replace(reset, yes=True), local, tmp_path)
    for asked in (reset, replace(reset, json=True)):
        with pytest.raises(Refused, match="no terminal") as caught:
            confirm_reset(asked, local, tmp_path)
        assert "dynamodt local reset --yes" in str(caught.value.hint) and caught.value.exit_code == 3
