"""Which of a run's objects count. A worker that was fenced may have left some for pages that its successor has done
again, and one that died some for a page that nobody has come to the end of."""

from __future__ import annotations

from collections.abc import Iterable

from dynamodt.core.places import is_note, part_name, part_of, parts_before
from dynamodt.model import Claim, JournalCount

Claims = dict[int, Claim]  # by unit
_BEFORE_THE_INTENT = ("-unreadable.jsonl", "-transform.jsonl", "-retried-doubt.jsonl")


def counted_parts(names: Iterable[str], claims: Claims) -> list[str]:
    """The parts of a journal whose changes may have been written: those of each page's last owner, those that he has
    found announced by the owners before, and of a page without a checkpoint those that its intent names."""
    return [name for name in names if (claim := _claim(name, claims)) and _part_counts(name, claim)]


def counted_notes(names: Iterable[str], claims: Claims, recovers: bool) -> list[str]:
    """The dead letters (or whatever else is stored by page before the checkpoint counts it) that were counted.
    `recovers`: an announced page is settled by who finds it; of an idempotent script it is read again instead."""
    return [name for name in names if (claim := _claim(name, claims)) and _note_counts(name, claim, recovers)]


def counts(name: str, claim: Claim) -> bool:
    """Whether a part or a note of a split's journal is one of those that its row counts."""
    return _note_of_page_counts(name, claim) if is_note(name) else _part_counts(name, claim)


def due(claim: Claim) -> JournalCount:
    """What the journal of a split must contain: what its row counts, and the parts of the page that it announces."""
    intent = claim.intent
    if intent is None:
        return claim.journal
    return intent.before.journal.plus(JournalCount(len(intent.parts), intent.records))


def missing_parts(prefix: str, names: Iterable[str], claim: Claim) -> list[str]:
    """The parts that a split's journal may lack, of which these `names` are there: those that its row names, those
    before another one of their page, and the first of each page that has none, as has one that changes nothing."""
    there = [name for name in names if not is_note(name) and _part_counts(name, claim)]
    named = {*(claim.intent.parts if claim.intent else ()), *(part for era in claim.eras for part in era.parts)}
    named |= {part for name in there for part in parts_before(name)}
    pages = {part_of(name).page for name in (*there, *named)}
    none = (page for page in range(1, _reached(claim) + 1) if page not in pages and _owners(page, claim))
    named |= {part_name(prefix, claim.unit, page, _owners(page, claim)[-1], 0) for page in none}
    return sorted(named - set(there))


def attempt_of(page: int, claim: Claim) -> int:
    """The run's attempt that has brought a page to its end."""
    return next((era.attempt for era in reversed(claim.eras) if era.after < page), 0)


def _claim(name: str, claims: Claims) -> Claim | None:
    return claims.get(part_of(name).unit)


def _part_counts(name: str, claim: Claim) -> bool:
    intent = claim.intent
    if any(name in era.parts for era in claim.eras) or (intent is not None and name in intent.parts):
        return True
    return part_of(name).page <= _reached(claim) and _by_last_owner(name, claim)


def _note_of_page_counts(name: str, claim: Claim) -> bool:
    """A note is written right before its page is counted."""
    return part_of(name).page <= _reached(claim) and _by_last_owner(name, claim)


def _reached(claim: Claim) -> int:
    """The last page whose writes are over."""
    return claim.page if claim.intent is None else max(claim.page, claim.intent.page - 1)


def _note_counts(name: str, claim: Claim, recovers: bool) -> bool:
    found = _by_last_owner(name, claim) or (recovers and _of_announcer(name, claim))
    return found and part_of(name).page <= claim.page


def _by_last_owner(name: str, claim: Claim) -> bool:
    part = part_of(name)
    return _owners(part.page, claim)[-1:] == [part.epoch]


def _owners(page: int, claim: Claim) -> list[int]:
    """The epochs of those who have come to a page, the last one last."""
    return [era.epoch for era in claim.eras if era.after < page]


def _of_announcer(name: str, claim: Claim) -> bool:
    """Items that could not be read or transformed are counted by the intent: whoever takes such a page over stores
    them no more, and those of the owner who announced it first stand."""
    part = part_of(name)
    announced = [era.parts[0] for era in claim.eras if era.parts and era.after == part.page - 1]
    return name.endswith(_BEFORE_THE_INTENT) and any(part_of(first).epoch == part.epoch for first in announced)
