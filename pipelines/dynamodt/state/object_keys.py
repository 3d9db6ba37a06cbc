"""The names of a run's objects in the stage's storage, and which of them are committed.

Names sort by split, page, fencing token and part. A fenced worker may have stored objects for pages that the next owner
has processed again, and a dead worker may have stored objects for a page that it did not finish. The split's row
decides which objects are committed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from dynamodt.model.pages import Claim, JournalCount
from dynamodt.model.runs import Job, Script

if TYPE_CHECKING:
    from dynamodt.state.storage import Storage

_PART = ".json.zst"
_SLASH = ":table:"
_LINE_DIGEST, _DIGEST_BYTES = "digest", 16


# What a phase has stored: prefixes of names.
JOURNAL = "journal/"  # the parts of the journal
DEAD = "dead/"  # the parts of the dead letters
NOT_RESTORED = "not-restored/"  # the items that an undo has not restored, by page
SAMPLES = "samples/"
RETRIES = "retries/"  # the lists of retried dead letters, one for each retry of the phase
ACCEPTED = "accepted/"  # the lists of accepted dead letters of the whole run, one for each command that accepts some
# What a run has stored at its end: names of one object.
DEAD_LETTERS_FILE = "dead-letters.jsonl"
NOT_RESTORED_FILE = "not-restored.jsonl"


def object_key(table: str, run: str, part: str) -> str:
    """The name of an object of a run or, by a phase's id, of one phase: `object_key("users", run, DEAD)`."""
    return f"runs/{folder_of(table)}/{run}/{part}"


def folder_of(table: str) -> str:
    """A table's real name as a part of an object's name: an ARN without its slash."""
    return table.replace(":table/", _SLASH)


def table_of(folder: str) -> str:
    """The real name of a table; the inverse of `folder_of`."""
    return folder.replace(_SLASH, ":table/") if folder.startswith("arn:") else folder


def key_of_job(job: Job, part: str) -> str:
    """The name of an object of a job's phase, or of its run for the files that a whole run has."""
    return object_key(job.table.name, job.base_run if part in (DEAD_LETTERS_FILE, NOT_RESTORED_FILE) else job.run, part)


def journal_prefix(job: Job) -> str:
    """The prefix of the journal's parts; for an undo, of the parts of the run that it undoes."""
    return object_key(job.table.name, job.journaled_run, JOURNAL)


def accepted_file(attempt: int) -> str:
    """The list of the dead letters that an attempt of a run has accepted."""
    return f"{ACCEPTED}{attempt:04d}.json"


def retry_file(number: int) -> str:
    """The list of the dead letters that one retry of a phase replays."""
    return f"{RETRIES}{number:04d}.json"


def number_of_retry(name: str) -> int:
    """The number in a name of `retry_file`."""
    return int(name.rpartition("/")[2].partition(".")[0])


# ---------------------------------------------------------------- the owner of an object

_RUN = r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{6}"  # `runs.jobs.new_run`
_PHASES = (
    r"(?:/(?:items|earlier-rows|final-scan|(?:earlier|incremental|retry|undo)[0-9]+(?:\.[0-9]+)?))*"  # `state.runs`
)
_PAGE = r"[0-9]+-[0-9]+-[0-9]+-[a-z0-9-]+"
_OF_A_RUN = re.compile(
    rf"runs/([^/]+)/({_RUN}){_PHASES}/(?:journal/{_PAGE}\.json\.zst|(?:dead|not-restored)/{_PAGE}\.jsonl"
    r"|samples/[0-9]+-[0-9]+\.json|(?:retries|accepted)/[0-9]+\.json|(?:dead-letters|not-restored)\.jsonl)"
)
_OF_PREPARE = re.compile(r"prepared/([^/]+)/v[0-9]+\.(?:parquet|json)")
_OF_A_TABLE = re.compile(r"runs/([^/]+)/last-begun-[0-9a-f]{16}\.json")
_OF_A_TEXT = re.compile(r"scripts/([^/]+)/v[0-9]+-[0-9a-f]{16}\.py")
RUN_ID = re.compile(_RUN)


def begun_key(table: str, identity: str) -> str:
    """The object with the last run that has begun on a table (docs/adr/088). Tables of the same name, in other regions
    or created at other times, have objects of their own."""
    return f"runs/{folder_of(table)}/last-begun-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


def text_key(table: str, version: int, checksum: str) -> str:
    """The object with a version's exact text, by that text's checksum."""
    return f"scripts/{folder_of(table)}/v{version}-{checksum[:16]}.py"


def keep_text(storage: Storage, script: Script) -> str:
    """Stores a version's exact text, as it is applied or accepted (docs/adr/064), and returns the place of its object.
    Raises ServiceError."""
    name = text_key(script.table, script.sequence, script.text_checksum)
    storage.write(name, script.text.encode())
    return storage.place(name)


def table_and_run(name: str) -> tuple[str, str] | None:
    """The table and the run to which an object of this name belongs. The run is empty for objects of a whole table:
    prepared data and the texts of versions. None for any other name."""
    if found := _OF_A_RUN.fullmatch(name):
        return table_of(found[1]), found[2]
    found = _OF_PREPARE.fullmatch(name) or _OF_A_TEXT.fullmatch(name) or _OF_A_TABLE.fullmatch(name)
    return (table_of(found[1]), "") if found else None


# ---------------------------------------------------------------- lines that belong to their object


def line_with_digest(name: str, record: dict[str, Any]) -> bytes:
    """A line of an object that people read, with a digest of the line and of the object's name."""
    return orjson.dumps({**record, _LINE_DIGEST: _digest_of_line(name, record)}, option=orjson.OPT_APPEND_NEWLINE)


def stored_lines(storage: Storage, name: str) -> Iterator[dict[str, Any]]:
    """The parsed lines of an object, in order. A line that is truncated, changed or copied from another object is left
    out: it is lost, and the rows of the splits have the number of lines."""
    for line in (storage.read(name) or b"").splitlines():
        with suppress(orjson.JSONDecodeError, AttributeError):
            record = orjson.loads(line)
            if record.pop(_LINE_DIGEST, "") == _digest_of_line(name, record):
                yield record


def _digest_of_line(name: str, record: dict[str, Any]) -> str:
    return hashlib.blake2b(f"{name}\n".encode() + orjson.dumps(record), digest_size=_DIGEST_BYTES).hexdigest()


# ---------------------------------------------------------------- by split, page and fencing token


class PartName(NamedTuple):
    """The numbers in an object's name."""

    split: int
    page: int
    fencing_token: int


def part_name(prefix: str, split: int, page: int, fencing_token: int, part: int) -> str:
    """A part of the journal; sorts by split, page, fencing token and part."""
    return f"{page_prefix(prefix, split, page, fencing_token)}{part:04d}{_PART}"


def note_name(prefix: str, split: int, page: int, fencing_token: int) -> str:
    """The note of a page's owner; sorts after the parts of its page."""
    return f"{page_prefix(prefix, split, page, fencing_token)}note.json.zst"


def is_note(name: str) -> bool:
    """Whether a name is a note's, rather than a part's."""
    return name.endswith("-note.json.zst")


def split_prefix(prefix: str, split: int) -> str:
    """All objects of a split."""
    return f"{prefix}{split:06d}-"


def page_prefix(prefix: str, split: int, page: int, fencing_token: int) -> str:
    """All objects that one owner of a split has stored for a page."""
    return f"{split_prefix(prefix, split)}{page:08d}-{fencing_token:04d}-"


def parts_before(name: str) -> list[str]:
    """The parts of the journal that come before another one of the same page and owner."""
    start, _, number = name.removesuffix(_PART).rpartition("-")
    return [f"{start}-{before:04d}{_PART}" for before in range(int(number))]


def part_of(name: str) -> PartName:
    """Split, page and fencing token of a name that begins with `page_prefix`; each is -1 for any other name."""
    try:
        split, page, fencing_token = map(int, name.rpartition("/")[2].split(".")[0].split("-")[:3])
    except ValueError:
        return PartName(-1, -1, -1)
    return PartName(split, page, fencing_token)


Claims = dict[int, Claim]  # by split
_BEFORE_THE_INTENT = ("-unreadable.jsonl", "-transform.jsonl", "-retried-doubt.jsonl")


def committed_parts(names: Iterable[str], claims: Claims) -> list[str]:
    """The parts of a journal whose changes may have been written: the parts of each page's last owner, the parts in the
    intents that this owner found from earlier owners, and the parts in the intent of a page without a checkpoint."""
    return [name for name in names if (claim := _claim(name, claims)) and _part_counts(name, claim)]


def committed_notes(names: Iterable[str], claims: Claims) -> list[str]:
    """The committed dead letters, or other objects that a page stores before its checkpoint."""
    return [name for name in names if (claim := _claim(name, claims)) and _note_counts(name, claim)]


def is_committed(name: str, claim: Claim) -> bool:
    """Whether a part or a note of a split's journal is committed, by the split's row."""
    return _note_of_page_counts(name, claim) if is_note(name) else _part_counts(name, claim)


def committed_objects(names: Iterable[str], claims: Claims) -> Iterator[str]:
    """The committed parts and notes of a journal."""
    return (name for name in names if (claim := _claim(name, claims)) and is_committed(name, claim))


def expected_journal(claim: Claim) -> JournalCount:
    """The parts and records that a split's journal must contain: those that the row counts, and those of its intent."""
    intent = claim.intent
    if intent is None:
        return claim.journal
    return intent.before.journal.plus(JournalCount(len(intent.parts), intent.records))


def is_unknown(name: str, claims: Claims) -> bool:
    """Whether a journal object is newer than the splits' rows as they were read: its owner or its page is not in them.
    A page is journaled before its intent, and its intent may precede the checkpoint of the previous page."""
    part, claim = part_of(name), _claim(name, claims)
    if claim is None or part.fencing_token > claim.fencing_token:
        return part.split >= 0
    return part.page > 1 + max(claim.page, claim.intent.page if claim.intent is not None else 0)


def missing_parts(prefix: str, names: Iterable[str], claim: Claim) -> list[str]:
    """The parts that a split's journal of these `names` may lack: parts that the row names, parts before another part
    of the same page, and the first part of each page without parts. A page without changes has no parts either."""
    there = [name for name in names if not is_note(name) and _part_counts(name, claim)]
    named = {
        *(claim.intent.parts if claim.intent else ()),
        *(part for period in claim.periods for part in period.parts),
    }
    named |= {part for name in there for part in parts_before(name)}
    pages = {part_of(name).page for name in (*there, *named)}
    none = (page for page in range(1, _last_written_page(claim) + 1) if page not in pages and _owners(page, claim))
    named |= {part_name(prefix, claim.split, page, _owners(page, claim)[-1], 0) for page in none}
    return sorted(named - set(there))


def attempt_of(page: int, claim: Claim) -> int:
    """The run's attempt that has completed a page."""
    return next((period.attempt for period in reversed(claim.periods) if period.after < page), 0)


def _claim(name: str, claims: Claims) -> Claim | None:
    return claims.get(part_of(name).split)


def _part_counts(name: str, claim: Claim) -> bool:
    intent = claim.intent
    if any(name in period.parts for period in claim.periods) or (intent is not None and name in intent.parts):
        return True
    return part_of(name).page <= _last_written_page(claim) and _by_last_owner(name, claim)


def _note_of_page_counts(name: str, claim: Claim) -> bool:
    """Whether a note is committed. It is written right before its page's checkpoint."""
    return part_of(name).page <= _last_written_page(claim) and _by_last_owner(name, claim)


def _last_written_page(claim: Claim) -> int:
    """The last page whose writes have ended."""
    return claim.page if claim.intent is None else max(claim.page, claim.intent.page - 1)


def _note_counts(name: str, claim: Claim) -> bool:
    found = _by_last_owner(name, claim) or _of_intent_writer(name, claim)
    return found and part_of(name).page <= claim.page


def _by_last_owner(name: str, claim: Claim) -> bool:
    part = part_of(name)
    return _owners(part.page, claim)[-1:] == [part.fencing_token]


def _owners(page: int, claim: Claim) -> list[int]:
    """The fencing tokens of a page's owners, in their order."""
    return [period.fencing_token for period in claim.periods if period.after < page]


def comes_before_intent(name: str) -> bool:
    """Whether an object holds dead letters of items for which no write was sent."""
    return name.endswith(_BEFORE_THE_INTENT)


def _of_intent_writer(name: str, claim: Claim) -> bool:
    """Whether an object was stored by the first writer of its page's intent. The intent counts the items that could not
    be read or transformed; a later owner does not store them again, so the first writer's objects are committed."""
    part = part_of(name)
    intended = [period.parts[0] for period in claim.periods if period.parts and period.after == part.page - 1]
    return comes_before_intent(name) and any(part_of(first).fencing_token == part.fencing_token for first in intended)


def expected_parts(number: int, undone: Claim, names: Sequence[str]) -> int:
    """The number of a page's parts: those that its intent names, or one if it has no note. 0: the page's last note has
    the number; -1: unknown, since a note of the split is missing."""
    if undone.intent is not None and undone.intent.page == number:
        return len(undone.intent.parts)
    notes = [name for name in names if is_note(name) and is_committed(name, undone)]
    noted = any(part_of(name).page == number for name in notes)
    if noted:
        return 0
    return 1 if len(notes) == expected_journal(undone).notes else -1
