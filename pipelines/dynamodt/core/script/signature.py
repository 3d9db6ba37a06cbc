"""How an author's function wants to be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dynamodt.core.script.reading import parse
from dynamodt.core.script.settings import bindings
from dynamodt.errors import ScriptError
from dynamodt.model import Script

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def line_of(script: Script, name: str) -> str:
    """`file:line` of the top-level statement that binds `name`."""
    statement = bindings(parse(script.text, script.path)).get(name.partition(".")[0])
    return f"{script.path}:{statement.lineno}" if statement else script.path


def parameters(script: Script, name: str, function: object, forms: Mapping[int, str]) -> int:
    """How many positional parameters `function` takes, one of `forms`: a number -> how that signature is written.

    Raises ScriptError at the function's line when it is no function, or has none of the forms.
    """
    written = " or ".join(f"def {name.rpartition('.')[2]}{form}" for form in forms.values())
    if not callable(function):
        raise ScriptError(f"{name} is no function", where=line_of(script, name), hint=f"Write {written}.")
    found = _positional(function)
    if found not in forms:
        raise ScriptError(
            f"{name} has parameters other than {' or '.join(forms.values())}",
            where=line_of(script, name),
            hint=f"Write {written}. A decorator must keep the signature (functools.wraps).",
        )
    return found


def _positional(function: Callable[..., Any]) -> int:
    """The number of parameters, or -1 when some are not positional or the function does not tell."""
    try:
        found = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return -1
    return len(found) if all(parameter.kind in _POSITIONAL for parameter in found) else -1
