"""The accepted dead letters, and those that a retry replays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamodt.errors import Refused, UsageError
from dynamodt.model.pages import Acceptance
from dynamodt.model.runs import RunRecord
from dynamodt.runs.stored_dead_letters import (
    Replayed,
    SelectedPart,
    StoredDeadLetter,
    accepted_of,
    chosen_dead_letters,
    dead_letters_of,
)
from dynamodt.script.codec import key_text
from dynamodt.state.object_keys import line_with_digest
from dynamodt.state.storage import FolderStorage

RECORD = RunRecord("users", "01RUN", 2, "total", "up", "ef" * 32, "failed", "2026-01-31T10:15:00+00:00")


def key(name: str) -> dict[str, Any]:
    return {"id": {"S": name}}


def dead_letters(*parts: str, accepted: str = "") -> list[StoredDeadLetter]:
    """Dead letters by part: `"abc"` is a part of three dead letters, and its name is the letters of their keys."""
    return [
        StoredDeadLetter(SelectedPart(part), {"key": key(name)}, name in accepted) for part in parts for name in part
    ]


def taken(found: list[StoredDeadLetter], *keys: str) -> Any:
    chosen = chosen_dead_letters(found, keys, RECORD)
    listed = json.loads(chosen.content)["parts"]
    return {part: keys and [one["id"]["S"] for one in keys] for part, keys in listed.items()}, chosen.items


@pytest.mark.parametrize(
    ("found", "keys", "parts", "items"),
    [
        (dead_letters("abc", "d"), (), {"abc": None, "d": None}, 4),
        (dead_letters("abc", "d"), ("b",), {"abc": ["b"]}, 1),
        (dead_letters("abc", "d"), ("d", "a", "a"), {"abc": ["a"], "d": None}, 2),
        (dead_letters("ab", "ac"), ("a",), {"ab": ["a"], "ac": ["a"]}, 2),  # it died in two phases
        (dead_letters("abc", accepted="b"), (), {"abc": ["a", "c"]}, 2),
        (dead_letters("abc", accepted="b"), ("a", "b"), {"abc": ["a"]}, 1),  # b is accepted already
        (
            [StoredDeadLetter(SelectedPart("abc", frozenset({key_text(key("b"))})), {"key": key("b")})],
            (),
            {"abc": ["b"]},
            1,
        ),
    ],
)
def test_whole_parts_or_keys_of_them_are_listed(
    found: list[StoredDeadLetter], keys: tuple[str, ...], parts: dict[str, Any], items: int
) -> None:
    assert taken(found, *keys) == (parts, items)


def test_an_unknown_key_is_named_with_some_that_are_known() -> None:
    with pytest.raises(UsageError, match="2 keys have no dead letter in run 01RUN: x, y") as caught:
        taken(dead_letters("abcdef", accepted="a"), "b", "x", "y")
    assert "c, d, e;" in caught.value.hint and "dynamodt show --keys 01RUN" in caught.value.hint


@pytest.mark.parametrize("keys", [(), ("a",)])
def test_an_accepted_dead_letter_cannot_be_accepted_again(keys: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        taken(dead_letters("ab", accepted="ab"), *keys)


RUN = "runs/users/01RUN/"
P, Q, R, S = (f"{RUN}{name}" for name in "pqrs")  # parts


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path)


def accepting(storage: FolderStorage, *lists: dict[str, Any]) -> RunRecord:
    names = [f"{RUN}accepted/{number}.json" for number in range(len(lists))]
    for name, parts in zip(names, lists, strict=True):
        storage.write(name, json.dumps({"parts": parts}).encode())
    found = tuple(Acceptance(1, "ann", "now", "why", name) for name in names)
    return RunRecord("users", "01RUN", 2, "total", "up", "", "failed", "", accepted=found)


def test_lists_of_acceptances_are_merged_and_a_whole_part_stays_whole(storage: FolderStorage) -> None:
    lists = ({P: [key("a")], Q: None}, {P: [key("b")], Q: [key("a")], R: [key("a")]}, {R: None})
    accepted = accepted_of(storage, accepting(storage, *lists))
    assert accepted.some_of(P) == {key_text(key("a")), key_text(key("b"))} and accepted.items == 3
    assert accepted.all_of(Q) and accepted.all_of(R) and not accepted.all_of(P)
    assert accepted.has(Q, "any") and not accepted.has(P, key_text(key("c"))) and not accepted.has(S, "any")
    assert [pair[0] for pair in accepted.pairs([P, Q])] == [P, P]


def test_a_lost_list_of_acceptances_does_not_count_as_empty(storage: FolderStorage) -> None:
    record = accepting(storage, {P: None})
    next((Path(storage.place(f"{RUN}accepted"))).iterdir()).unlink()
    with pytest.raises(Refused, match="accepted by ann is gone"):
        accepted_of(storage, record)


def test_a_dead_letter_left_out_of_a_retry_stays_outstanding(storage: FolderStorage) -> None:
    left = [(P, key_text(key("a")))]
    storage.write(f"{RUN}retries/0001.json", json.dumps({"dead_letters": [P, Q], "left_out": left}).encode())
    replayed = Replayed(storage, "users", "01RUN")
    (first, second) = replayed.outstanding([P, Q, R])
    assert (first.name, second) == (P, SelectedPart(R))
    storage.write(P, b"".join(line_with_digest(P, {"key": key(name)}) for name in "abc"))
    accepted = accepted_of(storage, accepting(storage, {P: [key("a")]}))
    assert [(one.key, one.accepted) for one in dead_letters_of(storage, first, accepted)] == [(key("a"), True)]
