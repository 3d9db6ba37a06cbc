"""Text from outside is displayed so that neither a terminal nor a CI system executes it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from dynamodt.cli import console
from dynamodt.cli.json_output import print_line
from dynamodt.cli.progress import BarDisplay, LineDisplay, timed_lines
from dynamodt.errors import RunFailed
from dynamodt.model.reports import RunReport
from dynamodt.model.runs import RunRecord
from dynamodt.runs.display import inert, json_line, printable

TITLE, CLEAR, BLINK = "\x1b]0;owned\x07", "\x1b[2J", "\x1b[5m"
EVIL = f"a{TITLE}{CLEAR}{BLINK}\x9b2J\x7f\b\r::add-mask::x\u202e\u2066\u2028\x85[bold red]markup[/]\ud800 \U000e0001"
COMMANDS = "one\n::error::two\n  ::add-mask::three\n\t::x::\n##[error]four\nfive ##vso[task.x]six\n##[group]seven"


class Obeyed:
    """Whether GitHub's or Azure's runner would execute one of the lines as a command."""

    @staticmethod
    def by(shown: str) -> list[str]:
        lines = shown.replace("\r", "\n").splitlines()
        return [line for line in lines if line.strip().startswith("::") or "##[" in line or "##vso[" in line]


Tell = Callable[[str], None]


def tell_error(text: str) -> None:
    console.print_error(console.message_console(), RunFailed(text, where=text, hint=text))


def tell_unexpected(text: str) -> None:
    console.print_error(console.message_console(), ValueError(text))


def tell_note(text: str) -> None:
    LineDisplay(timed_lines(console.message_console())).notify(text)


def tell_results(text: str) -> None:
    console.print_results(None, lambda shown: shown.print(Text.assemble((text, "bold red"), text), soft_wrap=True))


def tell_plain(text: str) -> None:
    console.print_results(None, lambda shown: shown.print(text))


def tell_bars(text: str) -> None:
    display = BarDisplay(console.message_console())
    display.run_started(RunRecord(text, "run", 1, text, "up", "", "running", ""), 5)
    display.notify(text)
    display.run_ended(RunReport(text, "up", 1, text, "run", "failed"))


@pytest.fixture(params=[tell_error, tell_unexpected, tell_note, tell_results, tell_plain, tell_bars])
def tell(request: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Prints a text in one of the possible ways; returns the output on both streams."""
    monkeypatch.setenv(console.DEBUG, "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "2000")

    def telling(text: str) -> str:
        stream = io.StringIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            patched.setattr(sys, "stderr", stream)
            request.param(text)
        return stream.getvalue()

    return telling


def test_control_characters_of_foreign_text_do_not_reach_the_terminal(tell: Callable[[str], str]) -> None:
    shown = tell(EVIL)
    assert not [one for one in (TITLE, CLEAR, BLINK) if one in shown]
    assert not set(shown) & set("\x07\x08\x7f\x85\x9b\u2028\u202e\u2066\ud800\U000e0001")
    assert "[bold red]markup[/]" in shown and "\\x1b" in shown


def test_no_line_is_a_command_of_the_ci_system(tell: Callable[[str], str]) -> None:
    shown = tell(COMMANDS)
    assert not Obeyed.by(shown), shown
    assert all(word in shown for word in ("error", "two", "three", "four", "five", "six", "seven"))


@pytest.mark.parametrize("emit", [print_line, lambda document: console.print_results(document, print)])
def test_json_output_is_valid_and_no_ci_command(
    emit: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"what": EVIL + COMMANDS, COMMANDS: ["##[x]", "#", "##"]}
    emit(document)
    shown = capsys.readouterr().out
    assert json.loads(shown) == document and shown.isascii() and len(shown.splitlines()) == 1
    assert not Obeyed.by(shown)


@given(st.text())
def test_any_text_is_printed_inert(text: str) -> None:
    shown = inert(printable(text))
    assert not Obeyed.by(shown)
    assert shown.replace("\n", "").isprintable()
    assert json.loads(json_line({"text": text})) == {"text": text}


@pytest.mark.parametrize("text", ["a::b", "std::vector", "# heading", "## two", "##x", "", "Grüße 日本 🎉"])
def test_harmless_text_is_unchanged(text: str) -> None:
    assert inert(printable(text)) == text


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("has no sequence", "error: v2_x.py has no sequence\nhint: add it\n"),
        ("the script fails", "error: the script fails\n  v2_x.py\nhint: add it\n"),
    ],
)
def test_an_error_about_its_place_is_one_sentence(capsys: pytest.CaptureFixture[str], what: str, shown: str) -> None:
    console.print_error(console.message_console(), RunFailed(what, where="v2_x.py", hint="add it"))
    assert capsys.readouterr().err == shown
