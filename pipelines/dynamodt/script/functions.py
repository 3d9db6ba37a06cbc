"""The functions of a script, checked and called: `transform_up` and `transform_down`, `prepare` and `items`.

`Transform` is one direction, up or down, a plain function or a class like `beam.DoFn`. `results_of` normalizes its
results. `frozen` makes prepared data read-only, since all items of a worker share it: a frozen dict is a dict and a
frozen list is a list, so that they are compared, unpacked, nested in an item and stored like plain ones. A copy
(`copy.deepcopy`, `.copy()`, `{**value}`, `[*value]`) is plain, and may be changed.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from types import GeneratorType, ModuleType
from typing import Any, Final, NoReturn, TypeAlias

from dynamodt.errors import DynamodtError, ItemError, ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Delete, Direction, Item, OneResult, Put
from dynamodt.script.load import end_forked_process, forked_by, is_interrupt, line_of, load, script_failure

Result: TypeAlias = OneResult
_SEQUENCES: Final = frozenset({list, tuple, GeneratorType})  # the usual types: a check against the ABC is slow
_SINGLE: Final = (dict, Put, Delete)
_NO_SEQUENCE: Final = (str, bytes, bytearray, Mapping)
_HINT: Final = "Return the item (changed or not), Put(item), Delete(), or a list of them."


def results_of(value: object, name: str) -> list[Result]:
    """Normalizes the return value of the function `name`; a dict is the item's new shape. Raises ItemError.

    An iterator is consumed here; the author's exceptions propagate.
    """
    if type(value) in _SEQUENCES:
        return _several(list(value), value, name)  # type: ignore[call-overload]
    if isinstance(value, _SINGLE):
        return [_check_result(value, f"{name} returned")]
    if value is None:
        raise ItemError(f"{name} returned None (forgot to return?)", hint=_HINT)
    if isinstance(value, Iterable) and not isinstance(value, _NO_SEQUENCE):
        return _several(list(value), value, name)
    raise ItemError(f"{name} returned {_kind_text(value)}", hint=_HINT)


def _several(found: list[Any], value: object, name: str) -> list[Result]:
    if len(found) == 1 and type(found[0]) is dict:  # the usual result of a DoFn
        return found
    results = [_check_result(one, f"{name} returned {_a(value)} that holds") for one in found]
    _check_together(results, name)
    return results


def _check_result(one: object, returned: str) -> Result:
    if type(one) is dict or isinstance(one, Delete):
        return one
    if isinstance(one, dict):  # such as an OrderedDict: a plain dict from here on
        return dict(one)
    if isinstance(one, Put):
        if not isinstance(one.item, dict):
            raise ItemError(f"{returned} Put({_kind_text(one.item)})", hint="Write Put(item), with a dict.")
        return one
    raise ItemError(f"{returned} {_kind_text(one)}", hint=_HINT)


def _check_together(results: list[Result], name: str) -> None:
    shapes = sum(isinstance(one, dict) for one in results)
    deletes = sum(isinstance(one, Delete) for one in results)
    if not results:
        raise ItemError(f"{name} gave nothing", hint="Return Delete() to delete the item, or return it unchanged.")
    if shapes > 1:
        raise ItemError(f"{name} gave {shapes} dicts", hint="One dict is the item's new shape; others are Put(item).")
    if deletes > 1 or (shapes and deletes):
        raise ItemError(
            f"{name} gave Delete() beside another result for the same item",
            hint="One dict keeps the item in its new shape, one Delete() deletes it: choose one.",
        )


def _kind_text(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__} (forgot the parentheses?)"
    return _a(value)


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


Apply = Callable[[Item, Mapping[Any, Any]], list[Result]]

_NAMES: Final = {"up": ("transform_up", "TransformUp"), "down": ("transform_down", "TransformDown")}
_FORMS: Final = {1: "(item)", 2: "(item, prepared)"}
_MEND: Final = "Correct the line named above, or what it relies on; the same command continues from there."
_ROW_FORMS: Final = {"prepare": {1: "(context)"}, "items": {0: "()"}}
_HOOKS: Final = ("setup", "start_bundle", "finish_bundle", "teardown")
_METHOD_FORMS: Final = {1: "(self, item)", 2: "(self, item, prepared)"}


def check(script: Script) -> None:
    """Loads the script and checks all its functions, so that a fault is found before anything is started.

    Raises ScriptError. DoFn classes are instantiated; their `setup` is not called.
    """
    for error in function_errors(script):
        raise error


def function_errors(script: Script) -> Iterator[ScriptError]:
    """Loads a script and yields all errors of its functions; `check` raises the first of them."""
    try:
        module = load(script)
    except ScriptError as error:
        yield error
        return
    checks: list[Callable[[], object]] = []
    if script.has_up:
        checks.append(partial(Transform, script, "up", module))
    if script.has_down:
        checks.append(partial(Transform, script, "down", module))
    for name, given in (("prepare", script.has_prepare), ("items", script.has_items)):
        checks += [partial(row_function, script, module, name)] if given else []
    for each in checks:
        try:
            each()
        except ScriptError as error:
            yield error


def row_function(script: Script, module: ModuleType, name: str) -> Callable[..., Any]:
    """The script's `prepare` or `items`. Raises ScriptError when it is missing or has another signature."""
    forms = _ROW_FORMS[name]
    if not hasattr(module, name):
        raise ScriptError(f"has no {name}", where=script.path, hint=f"Write def {name}{''.join(forms.values())}.")
    function: Callable[..., Any] = getattr(module, name)
    parameters(script, name, function, forms)
    return function


class Transform:
    """The functions of `script` for one direction, loaded into a module of their own unless one is given.

    `apply(item, prepared)` returns the results of one item: at least one of dict (the item's new shape, at most one),
    Put, Delete. It raises ItemError for any other result; the author's own exceptions propagate unchanged. `setup`,
    `start_bundle`, `finish_bundle` and `teardown` call the class's methods of these names, if any, and raise
    ScriptError, with the author's line, for any exception. Not picklable: create it where it is used. Raises
    ScriptError when the direction is missing or cannot be called.
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
        count = parameters(script, label, target, forms)
        _check_plain(script, label, target)
        for hook in _HOOKS:
            _check_plain(script, f"{self._name}.{hook}", getattr(self._instance, hook, None))
        keeps_default = not script.has_prepare and _has_own_default(target)
        self.apply = _applier(target, 1 if keeps_default else count, label)

    def setup(self) -> None:
        self._call("setup")

    def start_bundle(self) -> None:
        self._call("start_bundle")

    def finish_bundle(self) -> None:
        """Raises ScriptError when the author's finish_bundle yields: an output belongs to an item."""
        self._call("finish_bundle")

    def teardown(self) -> None:
        self._call("teardown")

    def end(self) -> None:
        """Ends the life cycle. An error of `teardown` is reported as a line of the script's output, since a runner may
        ignore it, or end the worker; the result does not depend on it."""
        try:
            self.teardown()
        except ScriptError as error:
            logging.getLogger("dynamodt").warning("%s; the items are not affected", error)

    def _call(self, stage: str) -> None:
        hook = getattr(self._instance, stage, None)
        try:
            outputs = None if hook is None else hook()
            has_output = isinstance(outputs, Iterable) and any(True for _ in outputs)  # also runs a generator's body
        except BaseException as error:
            if isinstance(error, DynamodtError) or is_interrupt(error):
                raise
            raise script_failure(self._script, f"{self._name}.{stage} fails", error, _MEND) from error
        finally:
            end_forked_process()
        if has_output:
            raise ScriptError(
                f"{self._name}.{stage} yields an output",
                where=line_of(self._script, self._name),
                hint="An output belongs to an item: yield it from process.",
            )


def _entry(script: Script, module: ModuleType, direction: Direction) -> tuple[str, Any]:
    function, kind = _NAMES[direction]
    for name in (function, kind):
        if hasattr(module, name):
            found = getattr(module, name)
            if name == kind and not isinstance(found, type):
                hint = f"Write def {function}(item); or class {kind}, with def process(self, item)."
                raise ScriptError(f"{kind} is not a class", where=line_of(script, kind), hint=hint)
            return name, found
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
    finally:
        end_forked_process()


def _applier(function: Callable[..., Any], count: int, name: str) -> Apply:
    """The hot path: a closure for each signature, and one test for the usual type of result."""

    def apply_item(item: Item, _prepared: Mapping[Any, Any]) -> list[Result]:
        try:
            result = function(item)
            return [result] if type(result) is dict else results_of(result, name)
        finally:
            if forked_by:
                end_forked_process()

    def apply_prepared(item: Item, prepared: Mapping[Any, Any]) -> list[Result]:
        try:
            result = function(item, prepared)
            return [result] if type(result) is dict else results_of(result, name)
        finally:
            if forked_by:
                end_forked_process()

    return apply_item if count == 1 else apply_prepared


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters(script: Script, name: str, function: object, forms: Mapping[int, str]) -> int:
    """The number of positional parameters of `function`, one of `forms` (number -> signature, for the hint).

    Raises ScriptError at the function's line when it is not a function, or has another signature.
    """
    written = " or ".join(f"def {name.rpartition('.')[2]}{form}" for form in forms.values())
    if not callable(function):
        raise ScriptError(f"{name} is not a function", where=line_of(script, name), hint=f"Write {written}.")
    found = _positional(function)
    if found not in forms:
        raise ScriptError(
            f"{name} has parameters other than {' or '.join(forms.values())}",
            where=line_of(script, name),
            hint=f"Write {written}. A decorator must keep the signature (functools.wraps).",
        )
    return found


def _positional(function: Callable[..., Any]) -> int:
    """The number of parameters; -1 when some are not positional or the signature is unknown."""
    try:
        found = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return -1
    return len(found) if all(parameter.kind in _POSITIONAL for parameter in found) else -1


def _check_plain(script: Script, name: str, function: Any) -> None:
    """Raises ScriptError for a function that is async, whose body would not be executed, and for a parameter that only
    Beam itself gives, such as `beam.DoFn.TimestampParam`."""
    what, hint = "", f"Write: def {name.rpartition('.')[2]}, without async."
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        what = f"{name} is async"
    elif beams := [one.name for one in _parameters(function) if _is_beams(one.default)]:
        what = f"{name} has the parameter {beams[0]} of Beam, which has no value for an item of a table"
        hint = "Leave the parameter out."
    if what:
        raise ScriptError(what, where=line_of(script, name), hint=hint)


def _is_beams(default: object) -> bool:
    return type(default).__module__.startswith("apache_beam.")


def _has_own_default(function: Callable[..., Any]) -> bool:
    """Whether the last parameter has a default of the author's, which empty prepared data would replace."""
    last = list(_parameters(function))[-1]
    return last.name != "prepared" and last.default is not None and last.default is not inspect.Parameter.empty


def _parameters(function: Any) -> Iterable[inspect.Parameter]:
    """The parameters; none if they are not known."""
    try:
        return inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return ()


_FROZEN_HINT = (
    "prepared data is read-only, since all items share it: change a copy of it (copy.deepcopy, or {**value, ...})"
)


def frozen(value: Any) -> Any:
    """The value, with all dicts, lists and sets in it read-only."""
    if isinstance(value, dict):
        return FrozenDict((name, frozen(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    return frozenset(value) if isinstance(value, set) else value


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(_FROZEN_HINT)


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed."""

    __setitem__ = __delitem__ = __ior__ = update = setdefault = _refuse
    pop = popitem = clear = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {name: deepcopy(value, memo) for name, value in self.items()}

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    copy = __copy__

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = extend = _refuse
    insert = pop = remove = clear = sort = reverse = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [deepcopy(value, memo) for value in self]

    def __copy__(self) -> list[Any]:
        return list(self)

    copy = __copy__

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (list(self),)
