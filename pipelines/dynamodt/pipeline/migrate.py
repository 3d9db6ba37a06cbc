"""The flow of one version's run: read this file first.

::

    lanes ── Reshuffle ── ReadItems ── ApplyVersion ── WritePatches ── RecordProgress
                               Page       AppliedPage     WrittenPage

A lane is a handful of scan segments; the element between the stages is a page of items. The only shuffle comes before
the reading: from there on a page stays in one worker, so that recording it means that it was written. For the same
reason there is no side input: a portable runner begins a stage of its own at each transform that has one, and keeps all
that the stage before has read (docs/adr/010).
"""

from __future__ import annotations

import apache_beam as beam

from dynamodt.model.runs import Job
from dynamodt.pipeline import record as coders  # noqa: F401  (registers the coder of pages)
from dynamodt.pipeline.read import ReadItems, split_groups
from dynamodt.pipeline.record import RecordProgress
from dynamodt.pipeline.resources import Resources
from dynamodt.pipeline.transform import ApplyVersion
from dynamodt.pipeline.write import WritePatches


def migrate(pipeline: beam.Pipeline, job: Job, resources: Resources) -> None:
    """Add the run of one version to a pipeline."""
    (
        pipeline
        | "Lanes" >> beam.Create(split_groups(job), reshuffle=False)
        | "Spread lanes" >> beam.Reshuffle()
        | "Read items" >> ReadItems(job, resources)
        | "Apply version" >> ApplyVersion(job, resources)
        | "Write patches" >> WritePatches(job, resources)
        | "Record progress" >> RecordProgress(job, resources)
    )
