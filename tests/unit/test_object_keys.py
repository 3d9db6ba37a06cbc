"""The committed objects of a run, after deaths and take-overs."""

from __future__ import annotations

import pytest

from dynamodt.model.pages import Claim, Counts, Intent, JournalCount, OwnershipPeriod, Totals
from dynamodt.state.object_keys import (
    DEAD_LETTERS_FILE,
    attempt_of,
    begun_key,
    committed_notes,
    committed_parts,
    expected_journal,
    folder_of,
    is_unknown,
    note_name,
    object_key,
    page_prefix,
    part_name,
    part_of,
    table_and_run,
    table_of,
)


def part(page: int, fencing_token: int, number: int = 0) -> str:
    return part_name("journal/", 0, page, fencing_token, number)


def dead_letter(page: int, fencing_token: int, stage: str = "transform") -> str:
    return f"{page_prefix('dead/', 0, page, fencing_token)}{stage}.jsonl"


def intent(*parts: str) -> Intent:
    return Intent(parts, None, False, Counts(), 0.0, part_of(parts[0]).page)


# The first owner got to page 2, and left the intent of page 3; the second found that, and got to page 5.
TAKEN_OVER = Claim(0, 2, page=5, periods=(OwnershipPeriod(1, 0), OwnershipPeriod(2, 2, (part(3, 1),))))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (part(2, 1), True),
        (part(3, 1), True),  # found in an intent
        (part(3, 1, 1), False),  # stored, and of no intent
        (part(3, 2), True),
        (part(4, 1), False),  # by the first one, after it was fenced
        (part(4, 2), True),
        (part(6, 2), False),  # of a page without a checkpoint, of no intent
        (part(2, 2), False),
    ],
)
def test_the_committed_parts_of_a_journal(name: str, counts: bool) -> None:
    assert committed_parts([name], {0: TAKEN_OVER}) == [name] * counts


def test_a_page_without_a_checkpoint_has_only_the_parts_of_its_intent() -> None:
    claim = TAKEN_OVER._replace(intent=intent(part(6, 2), part(6, 2, 1)))
    names = [part(6, 2), part(6, 2, 1), part(6, 2, 2), part(7, 2)]
    assert committed_parts(names, {0: claim}) == names[:2]


def test_the_parts_of_a_found_intent_count_although_their_page_is_read_again() -> None:
    """An idempotent script recovers no page: its next owner continues from the checkpoint, and dies before that
    page."""
    claim = Claim(
        0, 2, page=2, periods=(OwnershipPeriod(1, 0), OwnershipPeriod(2, 2, (part(3, 1),))), intent=intent(part(3, 2))
    )
    assert committed_parts([part(3, 1), part(3, 2), part(4, 2)], {0: claim}) == [part(3, 1), part(3, 2)]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (dead_letter(2, 1), True),
        (dead_letter(3, 1), True),  # counted by the intent that the second one took over, and stored only once
        (dead_letter(3, 1, "unreadable"), True),
        (dead_letter(3, 1, "write"), False),  # the second one has completed the page
        (dead_letter(3, 2, "write"), True),
        (dead_letter(4, 1), False),
        (dead_letter(5, 2, "doubt"), True),
        (dead_letter(6, 2), False),  # not counted yet: the page will be read again
    ],
)
def test_the_committed_dead_letters(name: str, counts: bool) -> None:
    assert committed_notes([name], {0: TAKEN_OVER}) == [name] * counts


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        (part(6, 2), False),  # without an intent yet
        (part(7, 2), True),
        (part(9, 1), True),
        (part(6, 3), True),
        (part_name("journal/", 1, 1, 1, 0), True),
        ("journal/foreign", False),
    ],
)
def test_parts_that_the_rows_do_not_cover_yet(name: str, unknown: bool) -> None:
    assert is_unknown(name, {0: TAKEN_OVER}) is unknown


def test_an_intent_is_known_before_the_checkpoint_of_the_page_before_it() -> None:
    """There is also a part of the page after it, which was never intended."""
    ahead = TAKEN_OVER._replace(intent=intent(part(7, 2)))
    assert [is_unknown(part(page, 2), {0: ahead}) for page in (7, 8, 9)] == [False, False, True]


def test_a_split_that_has_not_begun_has_no_committed_part() -> None:
    assert committed_parts([part(1, 1)], {}) == committed_notes([dead_letter(1, 1)], {}) == []


def test_the_objects_of_a_table_named_by_its_arn_are_in_one_folder() -> None:
    arn, run = "arn:aws:dynamodb:eu-west-1:123456789012:table/users", "20260131T101112.123456Z-0a1b2c"
    name = object_key(arn, run, DEAD_LETTERS_FILE)
    assert name.count("/") == 3 and table_and_run(name) == (arn, run)
    assert table_of(folder_of(arn)) == arn and folder_of("users") == table_of("users") == "users"


def test_tables_of_one_name_have_separate_last_runs() -> None:
    names = {begun_key("users", identity) for identity in ("here", "in another region")}
    assert len(names) == 2 and {table_and_run(name) for name in names} == {("users", "")}


def test_names_contain_split_page_and_fencing_token() -> None:
    for name in (part_name("a/b-1/", 17, 5, 3, 2), note_name("a/", 17, 5, 3)):
        assert part_of(name) == (17, 5, 3)


def test_the_expected_journal_is_the_count_before_the_page_plus_its_intent() -> None:
    """The checkpoint of the page before may arrive late: until then its row counts less."""
    assert expected_journal(Claim(0, 1, page=3, journal=JournalCount(3, 30, 1))) == JournalCount(3, 30, 1)
    before = Totals(journal=JournalCount(4, 40, 1))
    intended = intent(part(5, 1))._replace(before=before, records=7)
    assert expected_journal(Claim(0, 1, page=3, journal=JournalCount(3, 30, 1), intent=intended)) == JournalCount(
        5, 47, 1
    )


def test_a_page_belongs_to_the_attempt_that_completed_it() -> None:
    claim = Claim(
        0, 3, page=9, periods=(OwnershipPeriod(1, 0, (), 1), OwnershipPeriod(2, 3, (), 1), OwnershipPeriod(3, 5, (), 4))
    )
    assert [attempt_of(page, claim) for page in (1, 4, 5, 6, 9)] == [1, 1, 1, 4, 4]
