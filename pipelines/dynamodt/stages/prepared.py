"""PreparedData: what the script's `prepare` has stored, for every worker to look up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from dynamodt.aws.prepared import load
from dynamodt.aws.resources import Resources
from dynamodt.model import Job, PreparedRef

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class PreparedData(beam.PTransform[Any, Any]):
    """A side input of one value: which prepared file to read (or None).

    The reference travels, not the rows: a runner would carry them to each bundle anew, while `PreparedCache` reads
    the file once for each worker process, and checks it.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, begin: beam.pvalue.PBegin) -> Any:
        return beam.pvalue.AsSingleton(begin | "Reference" >> beam.Create([self._job.prepared]))


class _Rows:
    """Holds the mapping where a weak reference can point at it."""

    def __init__(self, rows: Mapping[Any, Any]) -> None:
        self.rows = rows


class PreparedCache:
    """The prepared rows, one copy in each worker process however many DoFns and threads ask."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._shared = Shared()

    def rows(self, ref: PreparedRef | None) -> Mapping[Any, Any]:
        """The rows of a reference; none for None. Raises Refused when the file is not what was prepared."""
        if ref is None:
            return NOTHING
        self._held = self._shared.acquire(lambda: self._load(ref), tag=ref.sha256)
        rows: Mapping[Any, Any] = self._held.rows
        return rows

    def _load(self, ref: PreparedRef) -> _Rows:
        return _Rows(load(self._resources.storage(), self._job.script, ref))
