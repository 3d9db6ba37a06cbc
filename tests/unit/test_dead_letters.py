"""What a person is told at once of a run's dead letters."""

from __future__ import annotations

import json

from dynamodt.control.dead_letters import first_of

PATH = "transforms/users/v3_total.py"
TRACEBACK = f"""Traceback (most recent call last):
  File "/lib/dynamodt/stages/apply.py", line 74, in apply_page
  File "{PATH}", line 9, in transform_up
  File "{PATH}", line 4, in total
  File "/lib/decimal.py", line 12, in divide
"""


def letter(**more: object) -> bytes:
    record = {"key": {"id": {"S": "u1"}, "at": {"N": "7"}}, "error": "KeyError: 'price'", "traceback": ""}
    return json.dumps({**record, **more}).encode() + b"\n"


def test_the_first_letter_with_its_key_its_error_and_the_authors_own_line() -> None:
    told = first_of(letter(traceback=TRACEBACK) + letter(error="another"), PATH)
    assert told == f"id = \"u1\", at = 7: KeyError: 'price' ({PATH}:4)"


def test_an_error_outside_of_the_script_has_no_line() -> None:
    assert first_of(letter(), PATH) == "id = \"u1\", at = 7: KeyError: 'price'"


def test_no_letter_is_no_sentence() -> None:
    assert first_of(b"", PATH) == ""
