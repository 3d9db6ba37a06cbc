"""Where a run keeps its objects in the stage's storage."""

from __future__ import annotations

from typing import NamedTuple

from dynamodt.model import Job

_PART = ".json.zst"


def run_prefix(job: Job) -> str:
    """All objects of one pass of a run."""
    return f"runs/{job.table.name}/{job.run}/"


def journal_prefix(job: Job) -> str:
    """The parts of the journal: for an undo, of the run that it takes back."""
    return journal_of_run(job.table.name, job.undoes or job.run)


def journal_of_run(table: str, run: str) -> str:
    """The same, by the pass's id."""
    return f"runs/{table}/{run}/journal/"


def dead_prefix(job: Job) -> str:
    """The parts of the dead letters."""
    return dead_of_run(job.table.name, job.run)


def dead_of_run(table: str, run: str) -> str:
    """The same, by the pass's id."""
    return f"runs/{table}/{run}/dead/"


def left_prefix(job: Job) -> str:
    """What a page of an undo leaves as it is."""
    return f"{run_prefix(job)}left/"


def left_name(job: Job) -> str:
    """The one file that holds all that an undo leaves as it is."""
    return left_of(job.table.name, job.base_run)


def left_of(table: str, run: str) -> str:
    """The same, by the run's id."""
    return f"runs/{table}/{run}/undo-left.jsonl"


def samples_prefix(job: Job) -> str:
    """The samples."""
    return samples_of(job.table.name, job.run)


def samples_of(table: str, run: str) -> str:
    """The samples of one pass, by its id."""
    return f"runs/{table}/{run}/samples/"


def dead_letters_name(job: Job) -> str:
    """The one file that holds all dead letters of a version's run, once it has ended."""
    return dead_letters_of(job.table.name, job.base_run)


def dead_letters_of(table: str, run: str) -> str:
    """The same, by the run's id."""
    return f"runs/{table}/{run}/dead-letters.jsonl"


def retries_prefix(job: Job) -> str:
    """The lists of dead letters that were taken up again, one for each retry of a pass."""
    return f"{run_prefix(job)}retries/"


def retry_name(job: Job, number: int) -> str:
    """The list of one retry."""
    return f"{retries_prefix(job)}{number:04d}.json"


def retry_of_run(table: str, run: str, number: int) -> str:
    """The same, by the pass's id."""
    return f"runs/{table}/{run}/retries/{number:04d}.json"


# ---------------------------------------------------------------- by unit, page and epoch


class Part(NamedTuple):
    """What an object's name says of it."""

    unit: int
    page: int
    epoch: int


def part_name(prefix: str, unit: int, page: int, epoch: int, part: int) -> str:
    """A part of the journal; sorts by unit, page, epoch and part."""
    return f"{page_prefix(prefix, unit, page, epoch)}{part:04d}{_PART}"


def note_name(prefix: str, unit: int, page: int, epoch: int) -> str:
    """What an owner notes at a page's end; sorts after the parts of its page."""
    return f"{page_prefix(prefix, unit, page, epoch)}note.json.zst"


def is_note(name: str) -> bool:
    """Whether `note_name` has made a name, not `part_name`."""
    return name.endswith("-note.json.zst")


def unit_prefix(prefix: str, unit: int) -> str:
    """All objects of a unit."""
    return f"{prefix}{unit:06d}-"


def page_prefix(prefix: str, unit: int, page: int, epoch: int) -> str:
    """All objects that one owner of a unit has stored for a page."""
    return f"{unit_prefix(prefix, unit)}{page:08d}-{epoch:04d}-"


def parts_before(name: str) -> list[str]:
    """The parts of the journal that come before another one of the same page and owner."""
    start, _, number = name.removesuffix(_PART).rpartition("-")
    return [f"{start}-{before:04d}{_PART}" for before in range(int(number))]


def part_of(name: str) -> Part:
    """Unit, page and epoch of a name that begins with `page_prefix`; of any other object, which somebody else has put
    there, none that there is."""
    try:
        unit, page, epoch = map(int, name.rpartition("/")[2].split(".")[0].split("-")[:3])
    except ValueError:
        return Part(-1, -1, -1)
    return Part(unit, page, epoch)
