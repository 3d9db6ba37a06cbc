"""Commands as they are typed in a service of the Serverless Framework, whose plugin has started this program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join

from dynamodt.errors import Hint

_BY_PLUGIN = "DYNAMODT_SERVICE"  # what the plugin gives the stage: see `config.stage`
_ANY = {"--table": "--table", "--stage": "--stage", "--dry-run": "--dry"}
_RUNS = {**_ANY, "--to": "--to", "--runner": "--runner", "--wait-lock": "--wait-lock"}
_OF_PLUGIN = {
    **dict.fromkeys(("init", "history", "status"), _ANY),
    "up": _RUNS,
    "down": {**_RUNS, "--yes": "--yes"},
    "prepare": {**_ANY, "--version": "--tNumber"},
}


def in_service(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the plugin of the Serverless Framework has started this program."""
    return bool(environment.get(_BY_PLUGIN))


def plugin_command(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """The Serverless Framework's form of a command, if its plugin has started this program; empty if it has not, or if
    the plugin lacks the command or an option."""
    given, flags = environment.get(_BY_PLUGIN), _OF_PLUGIN.get(words[0]) if words else None
    if not given or flags is None:
        return ""
    typed, rest = ["sls", "dynamodt", words[0]], list(words[1:])
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in flags:
            return ""
        named = [] if flag in ("--dry-run", "--yes") else [value if equals else rest.pop(0)]
        typed += [flags[flag], *(_stage_of(given, named[0]) if flag == "--stage" else named)]
    return join(typed)


def _stage_of(given: str, stage: str) -> list[str]:
    """The framework's own name of a stage, as its options take it."""
    of = json.loads(given)
    return [of.get("serverless", stage) if of.get("stage") == stage else stage]


def with_plugin(hint: Hint, stage: str, environment: Mapping[str, str] = os.environ) -> Hint:
    """A hint for a service: with the plugin's commands, and for any other command with the missing entry of
    `dynamodt.toml`."""
    if not environment.get(_BY_PLUGIN):
        return hint
    typed = [part if isinstance(part, str) else (plugin_command(part, environment) or part) for part in hint.parts]
    others = list(dict.fromkeys(part[0] for part in typed if not isinstance(part, str) and "--stage" in part))
    needs = needs_entry(stage, environment) if others else ""
    return Hint(*typed, *([f"; {', '.join(f'`{name}`' for name in others)}: {needs}"] if needs else []))


def with_needs(typed: str, words: Sequence[str], stage: str, environment: Mapping[str, str] = os.environ) -> str:
    """A command as it is typed; if the plugin lacks the command, with the entry that it needs."""
    needs = "" if plugin_command(words, environment) else needs_entry(stage, environment)
    return f"{typed} ({needs})" if needs else typed


def needs_entry(stage: str, environment: Mapping[str, str] = os.environ) -> str:
    """The entry in `dynamodt.toml` that a command without a form of the plugin needs; empty if the file has the
    stage."""
    from dynamodt.config.settings import FILE_NAME, read_settings

    of = json.loads(environment.get(_BY_PLUGIN) or "{}")
    if of.get("stage") != stage or stage in read_settings(Path(FILE_NAME)):
        return ""
    given = {"region": environment.get("AWS_REGION"), "storage": of.get("storage")}
    keys = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items() if value)
    tables = ", ".join(f"{name} = {json.dumps(source)}" for name, source in of.get("tables", {}).items())
    return f"this needs [stages.{stage}] in {FILE_NAME}, with {keys}, tables = {{ {tables} }}"
