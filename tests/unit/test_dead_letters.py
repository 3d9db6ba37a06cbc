"""What a person is told at once of a run's dead letters."""

from __future__ import annotations

import json

import orjson

from dynamodt.control.running.dead_letters import first_of
from dynamodt.stages.deadletters import dead_letter

PATH = "transforms/users/v3_total.py"
TRACEBACK = f"""Traceback (most recent call last):
  File "/lib/dynamodt/stages/apply.py", line 74, in apply_page
  File "{PATH}", line 9, in transform_up
  File "{PATH}", line 4, in total
  File "/lib/decimal.py", line 12, in divide
"""


def letter(**more: object) -> bytes:
    key = {"id": {"S": "u1"}, "at": {"N": "7"}}
    record = {"key": key, "stage": "transform", "error": "KeyError: 'price'", "traceback": ""}
    return json.dumps({**record, **more}).encode() + b"\n"


def test_the_first_letter_with_its_key_its_error_and_the_authors_own_line() -> None:
    told = first_of(letter(traceback=TRACEBACK) + letter(error="another"), PATH)
    assert told == f"id = \"u1\", at = 7: KeyError: 'price' ({PATH}:4)"


def test_a_result_that_cannot_be_stored_names_the_script_alone() -> None:
    assert first_of(letter(), PATH) == f"id = \"u1\", at = 7: KeyError: 'price' ({PATH})"


def test_a_write_that_failed_is_not_laid_on_the_script() -> None:
    assert first_of(letter(stage="write"), PATH) == "id = \"u1\", at = 7: KeyError: 'price'"


def test_no_letter_is_no_sentence() -> None:
    assert first_of(b"", PATH) == ""


def test_a_message_that_no_utf_8_can_hold_is_spelt_out() -> None:
    kept = dead_letter({"id": {"S": "u1"}}, {"id": {"S": "u1"}}, "transform", ValueError("half a pair: \ud83d"))
    assert kept.error == "ValueError: half a pair: \\ud83d"
    assert orjson.loads(orjson.dumps(kept._asdict())) == kept._asdict()
