"""Which items of a page a pass is to transform: none that the run has inserted itself."""

from __future__ import annotations

from collections.abc import Callable

from dynamodt.aws.batch import Caller
from dynamodt.aws.lookups import inserted_items
from dynamodt.aws.resources import Resources
from dynamodt.core.diff import key_of
from dynamodt.core.keys import key_text
from dynamodt.model import Image, Job

Foreign = Callable[[list[Image]], list[Image]]  # the images that the run has not inserted itself


def all_of(images: list[Image]) -> list[Image]:
    """Where the run has inserted nothing."""
    return images


def foreign_of(wire: Caller, job: Job, resources: Resources) -> Foreign:
    """What of a page a job is to transform: no item that the run has inserted itself. A second pass over what it was
    made of would do harm, or, of rows of `items()`, a first one.

    Only what was there before the run, a scan that is no later pass, holds none of them.
    """
    everything = job.meets_insertions
    if not (everything or (job.script.has_items and job.later and job.target is None and not job.own_items)):
        return all_of
    inserted = inserted_items(wire, job, resources.sleep)

    def foreign(images: list[Image]) -> list[Image]:
        rows = inserted.of([key_of(job.table, image) for image in images])
        own = {text for text, row in rows.items() if everything or row.source is None}
        return [image for image in images if key_text(key_of(job.table, image)) not in own] if own else images

    return foreign
