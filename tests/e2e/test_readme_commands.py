"""The README's commands work as typed: its two commands, and every command of its page, with the output that it
shows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.e2e.project import ROOT, Project
from tests.emulators import in_chaos

README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = "make run TABLE=users VERSION=2 RUNNER=direct"


class Typed(NamedTuple):
    """A command of the README, and the output that the README shows for it."""

    command: str
    output: tuple[str, ...]


def _typed() -> Iterator[Typed]:
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            yield Typed(command, tuple(line for line in output if line not in ("", "...")))


def _plain(line: str) -> str:
    """A line without the parts that differ between runs: numbers, values, padding."""
    return " ".join(re.sub(r'"[^"]*"', '"..."', re.sub(r"\d[\d,.:T+-]*", "0", line)).split())


def test_the_two_commands_are_the_first_that_the_readme_asks_for() -> None:
    first = next(block for block in README.split("\n\n") if block.startswith("    "))
    assert [line.strip() for line in first.splitlines()] == [RUN, "make test"]


def test_the_first_command_works_and_repeated_has_nothing_to_do(project: Project) -> None:
    """The cost of the repeated command is counted in imported modules, of which Beam has the most."""
    first, again = _imported(project, RUN), _imported(project, RUN)
    assert "users v2 split_name  up  succeeded" in first.stdout
    assert "apache_beam" in first.modules  # the count itself works
    assert "Nothing to do: users is at version 2 of 4" in again.stdout
    assert again.stdout.count("next  ") == 1
    assert not {"apache_beam", "pyarrow", "questionary"} & again.modules
    assert len(again.modules) <= 800  # 680 today; Beam alone has as many again
    _check_output(Typed(RUN, next(_typed()).output), first.stdout)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("make run TABLE=users VERSION=1", 3, "To roll back: .venv/bin/dynamodt down --table users --to 1"),
        ("make run TABLE=users", 3, "hint: .venv/bin/dynamodt prepare --table users --version 3"),
        ("make run TABLE=users RUNNER=abacus", 2, "there is no runner 'abacus'"),
        ("make run DIRECTION=sideways", 2, "DIRECTION is up or down"),
        ("make prepare TABLE=users", 2, "usage: make prepare TABLE=users VERSION=3"),
        *in_chaos(
            ("make run TABLE=users VERSION=9", 2, "there is no version 9; the last one is 4"),
            ("make run TABLE=nobody", 2, "transforms/nobody"),
            ("make run TABLE=users STAGE=prod", 2, "there is no stage 'prod'"),
            ("make run DIRECTION=down", 2, "`down` needs --table"),
        ),
    ],
)
def test_a_wrong_value_is_refused_with_a_hint(project: Project, line: str, code: int, said: str) -> None:
    """On the table as the first command leaves it."""
    done = project.sh(line)
    assert done.returncode == 2  # make's own
    assert said in done.stderr
    assert re.search(rf"make: \*\*\* .* Error {code}$", done.stderr, re.MULTILINE)
    assert done.stdout == ""


@pytest.mark.chaos
def test_every_further_command_of_the_readme_does_what_it_shows(project: Project) -> None:
    first, *typed = _typed()
    assert first.command == RUN
    assert len(typed) > 6
    assert project.sh(first.command).returncode == 0
    for one in typed:
        done = project.sh(f". .venv/bin/activate && {one.command}")
        assert done.returncode == 0, (one.command, done.stderr)
        _check_output(one, done.stdout)


def _check_output(typed: Typed, stdout: str) -> None:
    shown = set(map(_plain, stdout.splitlines()))
    missing = [line for line in typed.output if _plain(line) not in shown]
    assert not missing, (typed.command, missing, stdout)


class Measured(NamedTuple):
    stdout: str
    modules: set[str]


def _imported(project: Project, line: str) -> Measured:
    """The command's output, and the modules that it and its processes import."""
    done = project.sh(line, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return Measured(done.stdout, {line.rsplit("|", 1)[1].strip() for line in lines})


def test_every_variable_reaches_the_command(project: Project) -> None:
    given = "TABLE=users VERSION=1 DIRECTION=down STAGE=dev RUNNER=spark SOURCE=export DRY=1 ARGS='--json -t x'"
    planned = project.sh(f"make --dry-run run {given}").stdout
    words = "dynamodt down --stage dev --table users --to 1 --runner spark --source export --dry-run --json -t x"
    assert planned.count(words) == 2  # shown, and run
    assert "--dry-run" not in project.sh("make --dry-run run DRY=0").stdout


def test_make_alone_lists_the_targets(project: Project) -> None:
    listed = project.sh("make").stdout
    assert listed == project.sh("make help").stdout
    for target in "run prepare install test test-unit test-pipeline test-service test-e2e lint format clean".split():
        assert f"  make {target} " in listed


def test_make_test_runs_every_folder_of_tests(project: Project) -> None:
    planned = project.sh("make --dry-run test").stdout
    for folder in ("unit", "pipeline", "service", "e2e"):
        assert f"tests/{folder}" in planned


def test_make_test_chaos_passes_its_amounts_on_and_prints_how_to_repeat_it(project: Project) -> None:
    planned = project.sh("make --dry-run test-chaos KILLS=16 FAULTS=200 SEEDS=0-99 SEED=20260131 MINUTES=35").stdout
    assert "make test-chaos KILLS=16 FAULTS=200 SEEDS=0-99 SEED=20260131" in planned
    for given in ("KILLS=16", "FAULTS=200", "SEED=20,20260131", "SEEDS=0-99,20260131000-20260131499", "MINUTES=35"):
        assert f" DYNAMODT_{given} " in f" {' '.join(planned.split())} ", given
    assert "SEEDS=0-1999 " in project.sh("make --dry-run test-chaos").stdout


def test_files_that_commands_write_are_ignored_by_git(project: Project) -> None:
    """The commands' files are not offered for a commit."""
    clean = ["git", "status", "--porcelain", "--ignored=no", "--", ".venv", ".dynamodt"]
    assert subprocess.run(clean, cwd=project.folder, capture_output=True, text=True, check=True).stdout == ""
