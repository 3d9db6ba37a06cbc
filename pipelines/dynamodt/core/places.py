"""Where a run keeps its objects in the stage's storage."""

from __future__ import annotations

from dynamodt.model import Job


def run_prefix(job: Job) -> str:
    """All objects of one pass of a run."""
    return f"runs/{job.table.name}/{job.run}/"


def journal_prefix(job: Job) -> str:
    """The parts of the journal."""
    return f"{run_prefix(job)}journal/"


def dead_prefix(job: Job) -> str:
    """The parts of the dead letters."""
    return f"{run_prefix(job)}dead/"


def samples_prefix(job: Job) -> str:
    """The samples."""
    return f"{run_prefix(job)}samples/"


def dead_letters_name(job: Job) -> str:
    """The one file that holds all dead letters of a version's run, once it has ended."""
    return f"runs/{job.table.name}/{job.base_run}/dead-letters.jsonl"


def retries_prefix(job: Job) -> str:
    """The lists of dead letters that were taken up again, one for each retry of a pass."""
    return f"{run_prefix(job)}retries/"


def retry_name(job: Job, number: int) -> str:
    """The list of one retry."""
    return f"{retries_prefix(job)}{number:04d}.json"
