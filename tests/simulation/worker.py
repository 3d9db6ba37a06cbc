"""A worker in simulated time: the real stages, one after the other, page after page, as a Beam runner fuses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import apache_beam as beam
from apache_beam.pipeline import PipelineVisitor
from apache_beam.runners.runner import PipelineRunner

from dynamodt.model.pages import Page
from dynamodt.model.runs import Job
from dynamodt.pipeline.migrate import migrate
from dynamodt.pipeline.ownership import SplitGroup
from tests.simulation.loop import Loop, Pool, Process
from tests.simulation.store import Bucket, Connections, State, Things

_ITEM_SECONDS = 80e-6  # of CPU


@dataclass(eq=False)
class Services:
    """The resources that the workers of a run share, as `pipeline.resources.Resources` has it. Pickled, it is a name
    for itself."""

    loop: Loop
    things: Things
    rows: State
    bucket: Bucket
    output: None = None  # the lines of a script go nowhere

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        _services[id(self)] = self
        return _found, (id(self),)

    def wire(self, connections: int) -> Connections:
        return Connections(self.things, Pool(self.loop, connections))

    def state(self) -> State:
        return self.rows

    def storage(self) -> Bucket:
        return self.bucket

    def objects(self, bucket: str) -> Any:
        raise NotImplementedError("no run of a fleet reads an export")

    def clock(self) -> float:
        return self.loop.now

    def sleep(self, seconds: float) -> None:
        self.loop.sleep(seconds)


_services: WeakValueDictionary[int, Services] = WeakValueDictionary()


def _found(name: int) -> Services:
    return _services[name]


class ComposedJob:
    """The transforms of a job, as `migrate` composes them, composed for each worker again."""

    def __init__(self, job: Job, services: Services) -> None:
        pipeline, fused = beam.Pipeline(runner=PipelineRunner()), _Fused()
        migrate(pipeline, job, services)  # type: ignore[arg-type]
        pipeline.visit(fused)
        self._stages = fused.stages

    def stages(self) -> list[beam.DoFn]:
        """A copy, as a worker unpickles it."""
        return deepcopy(self._stages)


class _Fused(PipelineVisitor):  # type: ignore[misc]
    """Collects the DoFns that come after the last shuffle: they run in one worker."""

    def __init__(self) -> None:
        self.stages: list[beam.DoFn] = []

    def visit_transform(self, node: Any) -> None:
        if isinstance(node.transform, beam.ParDo):
            self.stages.append(node.transform.fn)

    def leave_composite_transform(self, node: Any) -> None:
        if isinstance(node.transform, beam.Reshuffle):
            self.stages.clear()


class Worker:
    """One process with one split group at a time; `next_group` returns the next group, if there is one."""

    def __init__(
        self,
        loop: Loop,
        composed: ComposedJob,
        name: str,
        split_group: SplitGroup,
        next_group: Callable[[], SplitGroup | None],
    ) -> None:
        self.process = Process(name)
        self.split_group: SplitGroup | None = split_group
        self.ended = False
        self.begun_at = self.paged_at = self.ended_at = -1.0  # when it began, recorded its first page, ended
        self._loop = loop
        self._composed = composed
        self._next_group = next_group

    @property
    def rate(self) -> float:
        """The worker's limit in write units a second."""
        contexts = self.process.kept.get("_contexts", {}).values()
        limiters = [context.rate_limiter for context in contexts if context.rate_limiter is not None]
        return float(sum(one.writes.within(1.0, 1.0) * one.writes._price for one in limiters))

    def work(self) -> None:
        """Runs the transforms as a runner does, from their set-up to the end of the last bundle."""
        self.begun_at = self._loop.now
        stages = self._composed.stages()
        for stage in stages:
            stage.setup()
        while self.split_group is not None:
            for stage in stages:
                stage.start_bundle()
            self._push(stages, self.split_group)
            for number, stage in enumerate(stages):
                for result in stage.finish_bundle() or ():
                    self._push(stages[number + 1 :], result.value)
            self.split_group = self._next_group()
        self.ended, self.ended_at = True, self._loop.now

    def _push(self, stages: Sequence[beam.DoFn], element: Any) -> None:
        """Passes an element, and the results made from it, through all transforms."""
        if not stages:
            return
        for result in stages[0].process(element) or ():
            if isinstance(result, Page):
                self._loop.sleep(_ITEM_SECONDS * len(result.images))
            self._push(stages[1:], result)
        if len(stages) == 1 and self.paged_at < 0:
            self.paged_at = self._loop.now
