"""Every command that dynamodt tells a person to type exists, with every option that it is told with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dynamodt.cli.app import app
from tests import ROOT

COMMAND = re.compile(r"(?<![\w./-])(?:dynamodt|ddt) ((?:local )?[a-z]+)([^;,()`\n]*)")
OPTION = re.compile(r"(?<!\S)--?[a-zA-Z][\w-]*")
# Words that follow the program's name in plain sentences, and in a list of packages.
PROSE = {"finds", "grpc", "import", "in", "reports", "sends", "shows", "sorts"}
UNKNOWN = "X"  # what is filled in when the text is told
TYPED: Any = typer.main.get_command(app)


def texts(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings, whole: pieces that stand one after the other are one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(piece, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.replace("{0}", "status")  # of a help text that is filled in three times


def piece(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.FormattedValue)
    return "dynamodt" if isinstance(value.value, ast.Name) and value.value.id == "PROGRAM" else UNKNOWN


def told() -> list[tuple[str, str, str]]:
    """Of each command in a text: where, its verb, and what follows."""
    modules = sorted((ROOT / "pipelines").rglob("*.py"))
    found = [(path.name, text) for path in modules for text in texts(path)]
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


def test_every_command_that_is_told_exists() -> None:
    commands = {command for _, command, _ in told()} - PROSE
    assert {"up", "prepare", "unlock", "undo", "local reset"} <= commands  # they are found at all
    assert [command for command in sorted(commands) if typed_command(command) is None] == []


def test_every_option_that_a_command_is_told_with_is_its_own() -> None:
    typed = [(name, command, rest.partition(" -- ")[0]) for name, command, rest in told() if command not in PROSE]
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
def test_so_it_is_in_what_is_written_of_it(page: str) -> None:
    found = COMMAND.findall((ROOT / page).read_text(encoding="utf-8"))
    typed = [(command, rest.partition(" -- ")[0]) for command, rest in found if typed_command(command) is not None]
    assert [
        (command, word) for command, rest in typed for word in OPTION.findall(rest) if word not in options(command)
    ] == []
