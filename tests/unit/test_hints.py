"""Every command that dynamodt suggests exists, with every option that is suggested with it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from dynamodt.cli.app import app
from dynamodt.cli.console import HELP
from dynamodt.cli.next_steps import printed_error, steps_of, written_steps
from dynamodt.cli.request import Request, as_typed, check, plugin_command, with_plugin, with_stage
from dynamodt.config.stage import load_stage
from dynamodt.errors import Refused, RunFailed, UsageError, suggest
from dynamodt.model.pages import Counts
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.tables import TableNames
from dynamodt.runs.options import GLUE, Command, RunOptions
from tests import ROOT

COMMAND = re.compile(r"(?<![\w./-])(?:dynamodt|ddt) ((?:local )?[a-z]+)([^;,()`\n]*)")
OPTION = re.compile(r"(?<!\S)--?[a-zA-Z][\w-]*")
# Words that follow the program's name in plain sentences, and in a list of packages.
PROSE = {"finds", "grpc", "import", "in", "reports", "sends", "shows", "sorts", "to"}
UNKNOWN = "X"  # stands for a value that is known at run time only
TYPED: Any = typer.main.get_command(app)


def texts(path: Path) -> Iterator[str]:
    """Every string of a module except docstrings; adjacent pieces are one string."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(piece, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def piece(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.FormattedValue)
    return "dynamodt" if isinstance(value.value, ast.Name) and value.value.id == "PROGRAM" else UNKNOWN


@cache
def suggested_commands() -> list[tuple[str, str, str]]:
    """Of each command in a text: its place, its name, and the words after it."""
    modules = sorted((ROOT / "pipelines").rglob("*.py"))
    found = [(path.name, text) for path in modules for text in texts(path)]
    found += [("help.txt", text) for text in HELP.values()]
    return [(name, match[1], match[2]) for name, text in found for match in COMMAND.finditer(text)]


def typed_command(command: str) -> Any:
    found = TYPED
    for word in command.split():
        found = getattr(found, "commands", {}).get(word)
    return found


def options(command: str) -> set[str]:
    named = (
        name for parameter in typed_command(command).params for name in (*parameter.opts, *parameter.secondary_opts)
    )
    return {"--help", *named}


def test_every_suggested_command_exists() -> None:
    commands = {command for _, command, _ in suggested_commands()} - PROSE
    assert {"up", "prepare", "unlock", "undo", "local reset"} <= commands  # they are found at all
    assert [command for command in sorted(commands) if typed_command(command) is None] == []


def test_every_option_of_a_suggested_command_exists() -> None:
    typed = [
        (name, command, rest.partition(" -- ")[0])
        for name, command, rest in suggested_commands()
        if command not in PROSE
    ]
    wrong = [
        (name, command, word)
        for name, command, rest in typed
        for word in OPTION.findall(rest)
        if word not in options(command)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
)
def test_every_command_in_the_documents_exists(page: str) -> None:
    found = COMMAND.findall((ROOT / page).read_text(encoding="utf-8"))
    typed = [(command, rest.partition(" -- ")[0]) for command, rest in found if typed_command(command) is not None]
    assert [
        (command, word) for command, rest in typed for word in OPTION.findall(rest) if word not in options(command)
    ] == []


SERVICE = json.dumps(
    {"stage": "dev", "serverless": "d", "storage": "s3://b/x", "tables": {"users": "cfn:shop-d.Users"}}
)
IN_A_SERVICE = {"DYNAMODT_SERVICE": SERVICE, "AWS_REGION": "eu-west-1"}


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["up", "--table", "users", "--stage", "dev", "--dry-run"], "sls dynamodt up --table users --stage d --dry"),
        (["prepare", "--table=users", "--version", "3"], "sls dynamodt prepare --table users --tNumber 3"),
        (["history", "--stage", "other"], "sls dynamodt history --stage other"),
        (["down", "--yes", "--table", "users"], "sls dynamodt down --yes --table users"),
        (["up", "--max-errors", "3"], ""),
        (["undo", "--stage", "dev", "RUN"], ""),
        (["down", "RUN"], ""),
    ],
)
def test_in_a_service_a_suggested_command_is_the_plugin_s(words: list[str], typed: str) -> None:
    assert plugin_command(words, IN_A_SERVICE) == typed
    assert plugin_command(words, {}) == ""


def test_in_a_service_a_hint_has_the_environment_of_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hint = with_stage("undo it: " + suggest("undo", "RUN") + ", then " + suggest("up", table="users"), "dev")
    assert with_plugin(hint, "dev", {}) == hint
    assert str(with_plugin(hint, "dev", IN_A_SERVICE)) == (
        "undo it: dynamodt undo --stage dev RUN, then sls dynamodt up --stage d --table users; `undo`: this needs "
        '[stages.dev] in dynamodt.toml, with region = "eu-west-1", storage = "s3://b/x", tables = { users = '
        '"cfn:shop-d.Users" }'
    )
    (tmp_path / "dynamodt.toml").write_text('[stages.dev]\nregion = "eu-west-1"\n', encoding="utf-8")
    assert str(with_plugin(hint, "dev", IN_A_SERVICE)).endswith("sls dynamodt up --stage d --table users")


@pytest.mark.parametrize(("runner", "job"), [(GLUE, False), ("spark", True), ("direct", True)])
def test_after_a_command_of_a_job_a_suggested_command_runs_in_the_job(
    monkeypatch: pytest.MonkeyPatch, runner: str, job: bool
) -> None:
    monkeypatch.setattr("dynamodt.cli.request._in_job", job)
    commands = suggest("retry", "RUN", accept_all=True) + "; " + suggest("prepare", version=2)
    hint = commands + "; " + suggest("show", "RUN") + "; " + suggest("up", help=True)
    request = Request("up", "dev", options=RunOptions(runner=runner))
    printed = printed_error(request, Refused("x", hint=hint), TableNames())
    assert isinstance(printed, Refused) and printed.hint == (
        "dynamodt retry --stage dev --runner glue --accept-all RUN; "
        "dynamodt prepare --stage dev --runner glue --version 2; dynamodt show --stage dev RUN; dynamodt up --help"
    )
    assert as_typed(request) == "dynamodt up --stage dev --runner glue"


@pytest.mark.parametrize("needed", [True, False])
def test_without_a_terminal_a_suggested_command_on_a_protected_stage_is_confirmed(
    monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    monkeypatch.setattr("dynamodt.cli.request._needs_yes", needed)
    yes = "--yes " * needed
    hint = suggest("undo", "RUN") + "; " + suggest("retry", "RUN") + "; " + suggest("unlock", table="t")
    printed = printed_error(Request("up", "dev"), Refused("x", hint=hint), TableNames())
    assert isinstance(printed, Refused) and printed.hint == (
        f"dynamodt undo --stage dev {yes}RUN; dynamodt retry --stage dev RUN; "
        f"dynamodt unlock --stage dev {yes}--table t"
    )
    assert as_typed(Command("down", "dev", ("t",))).endswith(" --yes") == needed
    assert "--yes" not in as_typed(Command("down", "dev", ("t",), options=RunOptions(dry_run=True)))


@pytest.mark.parametrize("runner", ["direct", "spark"])
def test_without_a_job_a_suggested_command_has_no_runner(runner: str) -> None:
    request = Request("up", options=RunOptions(runner=runner))
    printed = printed_error(request, Refused("x", hint=suggest("retry", "RUN")), TableNames())
    assert isinstance(printed, Refused) and printed.hint == "dynamodt retry RUN"


def test_in_a_service_the_next_steps_are_the_plugin_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunReport("users", "up", 1, "x", "01RUN", "stopped", Counts(2, 2), journal=True)
    report = TableReport("users", "up", (run,), 1, RunFailed("no"), 1)
    request = Request("up", "dev", ("users",))
    steps = written_steps(request, steps_of(request, report), IN_A_SERVICE)
    assert steps[0].command == "sls dynamodt up --table users --stage d"
    undo = next(step for step in steps if " undo " in step.command)
    assert "this needs [stages.dev] in dynamodt.toml" in undo.why


def test_a_stage_that_only_the_framework_knows(tmp_path: Path) -> None:
    (tmp_path / "serverless.yml").write_text("service: shop", encoding="utf-8")
    with pytest.raises(UsageError, match="there is no stage 'dev'") as caught:
        load_stage("dev", tmp_path)
    assert "known to `sls dynamodt up`" in caught.value.hint


@pytest.mark.parametrize("folders", [(), ("orders",)])
def test_an_example_names_a_table_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in folders:
        (tmp_path / "transforms" / folder).mkdir(parents=True)
        (tmp_path / "transforms" / folder / "v1_x.py").write_text("")
    with pytest.raises(UsageError) as caught:
        check(Request("down"))
    assert caught.value.hint == f"dynamodt down --table {(*folders, 'users')[0]}"


def test_a_number_in_a_command_has_all_of_its_digits() -> None:
    assert suggest("up", max_usd=1234567.25, max_wcu=50.0) == "dynamodt up --max-usd 1234567.25 --max-wcu 50"
    request = Request("up", options=RunOptions(max_usd=1234567.25))
    assert as_typed(request, {}) == "dynamodt up --max-usd 1234567.25"
