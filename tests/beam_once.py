"""Caches the results that Beam computes again for every pipeline: the options of a command line, the state of a DoFn
class, the signatures and the source of functions. Pickles that stay in the process are not compressed, and type hints
do not record the stack of their creation.

A pipeline of a few items spends half of its CPU on these, and the tests run more than a thousand pipelines.
"""

from __future__ import annotations

import bz2
import copy
import threading
import types
import weakref
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms import core, ptransform, userstate, util
from apache_beam.typehints import decorators
from apache_beam.utils import interactive_utils

_BZ2 = b"BZh"


def remember() -> None:
    """Installs the caches in this process, once."""
    userstate.get_dofn_specs = _by_type(userstate.get_dofn_specs)
    PipelineOptions.__init__ = _by_flags(PipelineOptions.__init__)  # type: ignore[method-assign]
    PipelineOptions.get_all_options = _by_content(PipelineOptions.get_all_options)  # type: ignore[method-assign]
    signature = _by_function(decorators.get_signature)
    for module in (core, decorators, ptransform, util):
        module.get_signature = signature
    core._get_function_body_without_inners = _by_function(core._get_function_body_without_inners)
    decorators.IOTypeHints._make_origin = staticmethod(lambda *_, **__: [])
    interactive_utils.is_in_ipython = lambda: False
    cloudpickle_pickler.bz2 = types.SimpleNamespace(compress=_compressed, decompress=_decompressed)
    FnApiRunner.run_pipeline = _in_process(FnApiRunner.run_pipeline)  # type: ignore[method-assign]


_own = threading.local()  # `own.process`: whether the pickles of this thread stay in this process


def _in_process(run: Callable[..., Any]) -> Callable[..., Any]:
    def run_pipeline(self: FnApiRunner, pipeline: Any, options: PipelineOptions) -> Any:
        _own.process = options.view_as(DirectOptions).direct_running_mode == "in_memory"
        try:
            return run(self, pipeline, options)
        finally:
            _own.process = False

    return run_pipeline


def _compressed(data: bytes, **_: Any) -> bytes:
    return data if getattr(_own, "process", False) else bz2.compress(data, compresslevel=1)


def _decompressed(data: bytes) -> bytes:
    return bz2.decompress(data) if data.startswith(_BZ2) else data


def _by_type(specs: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The state of a DoFn's instances follows from the signatures of its class."""
    known: dict[type, Any] = {}

    def remembered(dofn: Any) -> Any:
        if type(dofn) not in known:
            known[type(dofn)] = specs(dofn)
        return known[type(dofn)]

    return remembered


def _by_function(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What follows from a function, or from a function as a method, is always the same."""
    plain: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
    bound: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def remembered(func: Any) -> Any:
        known, key = (bound, func.__func__) if isinstance(func, types.MethodType) else (plain, func)
        if not isinstance(key, types.FunctionType):
            return compute(func)
        if key not in known:
            known[key] = compute(func)
        return known[key]

    return remembered


def _by_flags(init: Callable[..., None]) -> Callable[..., None]:
    """Options without overrides depend only on their class and their flags."""
    known: dict[tuple[type, tuple[str, ...]], dict[str, Any]] = {}

    def remembered(self: PipelineOptions, flags: Sequence[str] | None = None, **overrides: Any) -> None:
        if flags is None or overrides:
            return init(self, flags, **overrides)
        key = (type(self), tuple(flags))
        if key not in known:
            init(self, flags)
            known[key] = copy.deepcopy({name: value for name, value in vars(self).items() if name != "_flags"})
        vars(self).update(_copied(known[key]), _flags=flags)
        return None

    return remembered


def _copied(value: Any) -> Any:
    """As `copy.deepcopy`, quick for options: texts, numbers, and lists and dicts of them."""
    if value is None or isinstance(value, str | int | float):
        return value
    if type(value) is dict:
        return {name: _copied(one) for name, one in value.items()}
    return Namespace(**_copied(vars(value))) if type(value) is Namespace else copy.deepcopy(value)


def _by_content(options: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """All options follow from the flags, from what was set since, and from the classes of options that there are."""
    known: dict[Any, dict[str, Any]] = {}

    def remembered(self: PipelineOptions, *words: Any, **named: Any) -> dict[str, Any]:
        there = len(PipelineOptions.__subclasses__())
        key = (type(self), tuple(self._flags), repr(self._all_options), words, tuple(sorted(named.items())), there)
        if key not in known:
            known[key] = options(self, *words, **named)
        return dict(known[key])

    return remembered
