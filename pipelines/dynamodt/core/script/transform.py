"""One side of a script, up or down, behind one interface: a plain function, or a class like `beam.DoFn`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final

from dynamodt.core.script.loading import is_interrupt, load, script_failure
from dynamodt.core.script.results import Result, results_of
from dynamodt.core.script.rows import check_rows
from dynamodt.core.script.signature import line_of, parameters
from dynamodt.errors import DynamodtError, ScriptError
from dynamodt.model import Direction, Item, Script

Apply = Callable[[Item, Mapping[Any, Any]], list[Result]]

_NAMES: Final = {"up": ("transform_up", "TransformUp"), "down": ("transform_down", "TransformDown")}
_FORMS: Final = {1: "(item)", 2: "(item, prepared)"}
_MEND: Final = "Mend the line named above, or what it relies on; the same command goes on from there."
_METHOD_FORMS: Final = {1: "(self, item)", 2: "(self, item, prepared)"}


def check(script: Script) -> None:
    """Load the script and look at all its functions, so that a fault is found before anything is started.

    Raises ScriptError. DoFn classes are instantiated; their `setup` is not called.
    """
    module = load(script)
    for direction, present in (("up", script.has_up), ("down", script.has_down)):
        if present:
            Transform(script, direction, module)  # type: ignore[arg-type]
    check_rows(script, module)


class Transform:
    """The `direction` side of `script`, loaded (into a module of its own unless one is given).

    `apply(item, prepared)` returns the results of one item: at least one of dict (the item's new shape, at most one),
    Put, Delete. It raises ItemError for any other result; the author's own exceptions pass through unchanged.
    `setup`, `start_bundle`, `finish_bundle` and `teardown` call the class's methods of that name, where it has them,
    and raise ScriptError, with the author's line, for whatever those raise.
    Not picklable: make it where it is used. Raises ScriptError when the side is missing or cannot be called.
    """

    apply: Apply

    def __init__(self, script: Script, direction: Direction, module: ModuleType | None = None) -> None:
        self._script = script
        self._instance: Any = None
        self._name, target = _entry(script, module or load(script), direction)
        forms = _FORMS
        if isinstance(target, type):
            self._instance = _instance(script, self._name, target)
            label, target, forms = f"{self._name}.process", self._instance.process, _METHOD_FORMS
        else:
            label = self._name
        self.apply = _applier(target, parameters(script, label, target, forms), label)

    def setup(self) -> None:
        self._call("setup")

    def start_bundle(self) -> None:
        self._call("start_bundle")

    def finish_bundle(self) -> None:
        """Raises ScriptError when the author's finish_bundle yields: an output belongs to an item."""
        self._call("finish_bundle")

    def teardown(self) -> None:
        self._call("teardown")

    def _call(self, stage: str) -> None:
        hook = getattr(self._instance, stage, None)
        try:
            outputs = None if hook is None else hook()
            has_output = isinstance(outputs, Iterable) and any(True for _ in outputs)  # also runs a generator's body
        except BaseException as error:
            if isinstance(error, DynamodtError) or is_interrupt(error):
                raise
            raise script_failure(self._script, f"{self._name}.{stage} fails", error, _MEND) from error
        if has_output:
            raise ScriptError(
                f"{self._name}.{stage} yields an output",
                where=line_of(self._script, self._name),
                hint="An output belongs to an item: yield it from process.",
            )


def _entry(script: Script, module: ModuleType, direction: Direction) -> tuple[str, Any]:
    for name in _NAMES[direction]:
        if hasattr(module, name):
            return name, getattr(module, name)
    raise ScriptError(
        f"has no {_NAMES[direction][0]}", where=script.path, hint=f"Write def {_NAMES[direction][0]}(item)."
    )


def _instance(script: Script, name: str, kind: type) -> Any:
    if not hasattr(kind, "process"):
        raise ScriptError(
            f"the class {name} has no process",
            where=line_of(script, name),
            hint="Write def process(self, item, prepared), as in a beam.DoFn.",
        )
    try:
        return kind()
    except BaseException as error:
        if is_interrupt(error):
            raise
        failure = script_failure(script, f"{name}() fails", error)
        failure.where = line_of(script, name) if failure.where == script.path else failure.where
        raise failure from error


def _applier(function: Callable[..., Any], count: int, name: str) -> Apply:
    """The hot path: closures over what is known beforehand, and one test of the usual result's type."""

    def apply_item(item: Item, _prepared: Mapping[Any, Any]) -> list[Result]:
        result = function(item)
        return [result] if type(result) is dict else results_of(result, name)

    def apply_prepared(item: Item, prepared: Mapping[Any, Any]) -> list[Result]:
        result = function(item, prepared)
        return [result] if type(result) is dict else results_of(result, name)

    return apply_item if count == 1 else apply_prepared
