"""Runs the flow of a job in the caller's thread, without a Beam runner: the same steps in the same order each time.

The real transforms are composed as Beam composes them. Each split group is a bundle; each element passes all steps
before the next one is made, as in a fused bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.utils.windowed_value import WindowedValue

from dynamodt.pipeline import read


class Chain:
    """Stands for a pipeline and for each of its collections: `Create`, then `ParDo`s one after the other."""

    def __init__(self, only: int | None = None) -> None:
        """`only`: the number of the only element that is processed."""
        self._only = only
        self._elements: list[Any] = []
        self._steps: list[beam.DoFn] = []

    def __or__(self, labelled: Any) -> Chain:
        transform = getattr(labelled, "transform", labelled)
        if isinstance(transform, beam.Create):
            made = list(transform.values)
            self._elements = made if self._only is None else [made[self._only]]
        elif isinstance(transform, beam.ParDo):
            self._steps.append(transform.fn)
        elif not isinstance(transform, beam.Reshuffle):
            expanded: Chain = transform.expand(self)
            return expanded
        return self

    def run(self) -> None:
        """Every element through every step. Raises what a step raises; the steps are torn down in any case."""
        ready: list[beam.DoFn] = []
        try:
            for step in self._steps:
                step.setup()
                ready.append(step)
            for element in self._elements:
                self._bundle(element)
        finally:
            for step in ready:
                step.teardown()

    def _bundle(self, element: Any) -> None:
        for step in self._steps:
            step.start_bundle()
        self._push(element, 0)
        for number, step in enumerate(self._steps):
            for made in step.finish_bundle() or ():
                self._push(made.value if isinstance(made, WindowedValue) else made, number + 1)

    def _push(self, element: Any, number: int) -> None:
        if number < len(self._steps):
            for made in self._steps[number].process(element) or ():
                self._push(made, number + 1)


def run_inline(rate_queue: Callable[..., None], *arguments: Any, only: int | None = None) -> None:
    """Run a flow that takes the pipeline first: `run_inline(migrate, job, resources)`."""
    chain = Chain(only)
    rate_queue(chain, *arguments)
    chain.run()


class Applied:
    """Replaces a `ParDo`. Beam's own inspects the signature of each method of its function, which is most of the cost
    of a short flow."""

    def __init__(self, fn: beam.DoFn) -> None:
        self.fn = fn

    def with_output_types(self, *types: Any) -> Applied:
        return self

    def __rrshift__(self, label: str) -> Applied:
        return self


class InlineExecutor:
    """A pool without threads: submitted work is done at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done

    def shutdown(self, **options: Any) -> None:
        pass


def without_threads(patch: pytest.MonkeyPatch) -> None:
    """Reads pages when they are requested, so that a seed determines all events."""
    for module in (read, read):
        patch.setattr(module, "ThreadPoolExecutor", InlineExecutor)


def without_signatures(patch: pytest.MonkeyPatch) -> None:
    """Composes flows without inspecting their steps' signatures."""
    patch.setattr(beam, "ParDo", Applied)
