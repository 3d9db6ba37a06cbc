"""What Beam works out anew for every pipeline, kept: the options that a command line says, and what state a DoFn has.

A pipeline of a few items spends half of its CPU on these two, and the tests run more than a thousand of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate


def remember() -> None:
    """For as long as this process lives; once."""
    userstate.get_dofn_specs = _by_type(userstate.get_dofn_specs)
    PipelineOptions.__init__ = _by_flags(PipelineOptions.__init__)  # type: ignore[method-assign]


def _by_type(specs: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A class says by its signatures what state its instances have."""
    known: dict[type, Any] = {}

    def remembered(dofn: Any) -> Any:
        if type(dofn) not in known:
            known[type(dofn)] = specs(dofn)
        return known[type(dofn)]

    return remembered


def _by_flags(init: Callable[..., None]) -> Callable[..., None]:
    """Options without overrides are those of their class and their flags."""
    known: dict[tuple[type, tuple[str, ...]], dict[str, Any]] = {}

    def remembered(self: PipelineOptions, flags: Sequence[str] | None = None, **overrides: Any) -> None:
        if flags is None or overrides:
            return init(self, flags, **overrides)
        key = (type(self), tuple(flags))
        if key not in known:
            init(self, flags)
            known[key] = copy.deepcopy({name: value for name, value in vars(self).items() if name != "_flags"})
        vars(self).update(copy.deepcopy(known[key]), _flags=flags)
        return None

    return remembered
