"""What the script's `prepare` has stored, for every worker to look up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from apache_beam.utils.shared import Shared

from dynamodt.aws.prepared import load
from dynamodt.aws.resources import Resources
from dynamodt.model import Job, PreparedRef

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class _Rows:
    """Holds the mapping where a weak reference can point at it."""

    def __init__(self, rows: Mapping[Any, Any]) -> None:
        self.rows = rows


class PreparedCache:
    """The prepared rows, one copy in each worker process however many DoFns and threads ask.

    The reference travels with the job, not the rows: the file is read once for each process, and checked.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._shared = Shared()

    def rows(self) -> Mapping[Any, Any]:
        """The job's rows; none where it has none. Raises Refused when the file is not what was prepared."""
        ref = self._job.prepared
        if ref is None:
            return NOTHING
        self._held = self._shared.acquire(lambda: self._load(ref), tag=ref.sha256)
        rows: Mapping[Any, Any] = self._held.rows
        return rows

    def _load(self, ref: PreparedRef) -> _Rows:
        return _Rows(load(self._resources.storage(), self._job.script, ref))
