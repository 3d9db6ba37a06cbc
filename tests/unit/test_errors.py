"""Errors keep their text across processes, and end a command with their exit code."""

from __future__ import annotations

import copy
import json
import pickle
from importlib import metadata
from typing import Any

import pytest

from dynamodt import errors
from dynamodt.errors import DynamodtError, suggest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DynamodtError)]
EXIT_CODES = {
    "DynamodtError": 1, "UsageError": 2, "ScriptError": 2, "Refused": 3, "Busy": 3, "RunFailed": 1, "ServiceError": 1,
    "DeadLetters": 1, "ItemError": 1, "WrittenOrNot": 1, "Fenced": 1, "Aborted": 1, "CostReached": 1,
}  # fmt: skip


def test_every_kind_has_its_exit_code() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS} == EXIT_CODES


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_unchanged_by_pickling(kind: type[DynamodtError]) -> None:
    error = kind("what", where="users.name", hint="do this: " + suggest("undo", "R", partial=True))
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(copied) is kind
        assert (copied.what, copied.where, copied.hint) == ("what", "users.name", "do this: dynamodt undo --partial R")
        assert copied.hint.parts == ("do this: ", ("undo", "--partial", "R"))
        assert str(copied) == str(error) and copied.args == error.args


def test_the_text_of_an_error_begins_with_the_place() -> None:
    assert str(DynamodtError("what")) == "what"
    assert str(DynamodtError("what", where="here", hint="unsaid")) == "here: what"


def test_the_documented_hierarchy_of_errors_is_the_real_one() -> None:
    drawn = {line.strip("│├└─ ").split(" ")[0]: line.split() for line in (errors.__doc__ or "").splitlines() if line}
    for kind in KINDS:
        if not issubclass(kind, errors.ItemError):  # no command ends with it
            assert str(kind.exit_code) in drawn[kind.__name__]


# ---------------------------------------------------------------- the line that installs an extra


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({}, "'dynamodt[beam]'"),
        ({"url": "file:///a/b.whl", "archive_info": {}}, "'dynamodt[beam] @ file:///a/b.whl'"),
        ({"url": "file:///a/clone", "dir_info": {}}, "'dynamodt[beam] @ file:///a/clone'"),
        ({"url": "file:///a/clone", "dir_info": {"editable": True}}, "-e '/a/clone[beam]'"),
        (
            {"url": "https://git.example/d", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}},
            "'dynamodt[beam] @ git+https://git.example/d@0a1b'",
        ),
    ],
)
def test_the_command_for_an_extra_uses_the_source_of_the_installation(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any], line: str
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            return json.dumps(origin) if origin and name == "direct_url.json" else None

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    with pytest.raises(errors.UsageError, match="no-such-package is not installed") as refused:
        errors.require("no_such_package", "beam", "--runner direct")
    assert refused.value.hint.endswith(f" -m pip install {line}")
    errors.require("json", "beam", "--runner direct")
