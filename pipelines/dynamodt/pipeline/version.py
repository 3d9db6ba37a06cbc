"""A job's script, loaded for the DoFns that apply it, with its prepared rows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from apache_beam.utils.shared import Shared

from dynamodt.model.runs import Job
from dynamodt.model.tables import Change, Image, Insert, Remove
from dynamodt.pipeline.author_output import begin
from dynamodt.pipeline.outcomes import except_left_dead_letters
from dynamodt.script.apply import Apply, ChangeOf
from dynamodt.script.diff import key_of
from dynamodt.script.functions import Transform
from dynamodt.state.prepared import load

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources


class _Rows:
    """Holds the prepared rows in an object to which a weak reference can point."""

    def __init__(self, rows: Mapping[Any, Any]) -> None:
        self.rows = rows


class Version:
    """The loaded script of a job, with the life cycle of the DoFn that holds it.

    `lazy` defers loading until the first item: a writer needs the script for conflicts only, which most runs do not
    have, and an author's `setup` may be slow.
    """

    def __init__(self, job: Job, resources: Resources, *, lazy: bool = False) -> None:
        self._job = job
        self._lazy = lazy
        self._output = resources.output
        self._storage = resources.storage
        self._shared = Shared()  # one copy of the prepared rows for all DoFns and threads of a worker process
        self._transform: Transform | None = None
        self._bound: ChangeOf | None = None

    def setup(self) -> None:
        if not self._lazy and not self._job.inserts_rows:
            self._load()

    def start_bundle(self) -> None:
        if self._transform is not None:
            self._transform.start_bundle()

    @property
    def change_of(self) -> ChangeOf:
        """The function from an image to its change."""
        if self._job.inserts_rows:
            return self._inserted_item
        if self._bound is None:
            self._bound = self._bind()
        return self._bound

    def finish_bundle(self) -> None:
        if self._transform is not None:
            self._transform.finish_bundle()

    def teardown(self) -> None:
        if self._transform is not None:
            self._transform.end()

    def _load(self) -> Transform:
        begin(self._job.script, self._job.base_run, self._output)
        self._transform = Transform(self._job.script, self._job.direction)
        self._transform.setup()
        return self._transform

    def _bind(self) -> ChangeOf:
        transform = self._transform
        if transform is None:
            transform = self._load()
            transform.start_bundle()
        job = self._job
        change_of = Apply(
            job.script,
            transform,
            job.table,
            run=job.base_run,
            prepared=self._prepared_rows(),
            target=job.target,
            snapshot=job.export is not None,
            final_scan=job.export is not None and job.export.final_scan,
        ).change_of
        return except_left_dead_letters(job, self._storage(), change_of) if job.untransformed else change_of

    def _prepared_rows(self) -> Mapping[Any, Any]:
        """The prepared rows, if any; each process reads and checks their file once. Raises Refused if the file differs
        from its manifest."""
        ref = self._job.prepared
        if ref is None:
            return MappingProxyType({})
        script, storage = self._job.script, self._storage
        self._held = self._shared.acquire(lambda: _Rows(load(storage(), script, ref)), tag=ref.sha256)
        rows: Mapping[Any, Any] = self._held.rows
        return rows

    def _inserted_item(self, image: Image) -> Change | None:
        """The change of a row of `items()`: `up` inserts it if it is absent, `down` deletes it if it is unchanged."""
        table = self._job.written_table
        if self._job.direction == "down":
            return Remove(key_of(table, image), image)
        return Insert(table.name, key_of(table, image), image)
