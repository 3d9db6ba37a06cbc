"""The message about a run's first dead letter, shown at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from dynamodt.errors import Refused
from dynamodt.model.pages import AppliedPage, Claim, Counts, DeadLetter, Page
from dynamodt.model.runs import Job, Script
from dynamodt.model.tables import Connection, Image, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.migrate import apply_page
from dynamodt.pipeline.outcomes import UNREADABLE, dead_letter, store_dead_letters
from dynamodt.runs.dead_letters import first_dead_letter, skipped_dead_letters
from dynamodt.runs.options import RunOptions
from dynamodt.runs.stored_dead_letters import Accepted
from dynamodt.state.storage import FolderStorage
from tests.unit.followed_runs import RECORD
from tests.unit.followed_runs import Stage as Stages


class Base(BaseException):
    """A base class of an author's exceptions."""


PATH = "transforms/users/v3_total.py"
TRACEBACK = f"""Traceback (most recent call last):
  File "/lib/dynamodt/stages/apply.py", line 74, in apply_page
  File "{PATH}", line 9, in transform_up
  File "{PATH}", line 4, in total
  File "/lib/decimal.py", line 12, in divide
"""


def stored(**more: object) -> bytes:
    key = {"id": {"S": "u1"}, "at": {"N": "7"}}
    record = {"key": key, "step": "transform", "error": "KeyError: 'price'", "traceback": ""}
    return json.dumps({**record, **more}).encode() + b"\n"


def test_the_first_dead_letter_is_reported_with_key_error_and_script_line() -> None:
    told = first_dead_letter(stored(traceback=TRACEBACK) + stored(error="another"), PATH)
    assert told == f"id = \"u1\", at = 7: KeyError: 'price' ({PATH}:4)"


def test_a_result_that_cannot_be_stored_names_the_script_alone() -> None:
    assert first_dead_letter(stored(), PATH) == f"id = \"u1\", at = 7: KeyError: 'price' ({PATH})"


def test_a_failed_write_does_not_name_the_script() -> None:
    assert first_dead_letter(stored(step="write"), PATH) == "id = \"u1\", at = 7: KeyError: 'price'"


def test_without_a_dead_letter_there_is_no_message() -> None:
    assert first_dead_letter(b"", PATH) == ""


TABLE = TableSpec("users", (KeyAttribute("id", "S"),))
STAGE = Stage("local", Connection("r"), StorageSpec("s"))
SCRIPT = Script("users", 1, "change", PATH, "", "")
JOB = Job("run", STAGE, TABLE, SCRIPT, "up", 1)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), SystemExit("x"), SystemExit(), GeneratorExit(), RecursionError(), MemoryError(), Base("x")],
)
def test_whatever_a_script_raises_is_a_dead_letter_of_its_item(error: BaseException) -> None:
    """`sys.exit()` would end the pipeline, and name neither the item nor the line."""
    applied, dead = applied_page(error)
    assert (applied.dead, applied.unchanged) == (1, 1)
    assert dead[0].key == {"id": {"S": "u1"}} and dead[0].error.startswith(type(error).__name__)


def test_ctrl_c_is_not_an_error_of_the_script() -> None:
    with pytest.raises(KeyboardInterrupt):
        applied_page(KeyboardInterrupt())


def test_a_keyboard_interrupt_raised_in_a_thread_is_an_error_of_the_script() -> None:
    """Signals reach the main thread alone; pipelines run in others."""
    with ThreadPoolExecutor(1) as pool:
        _, dead = pool.submit(applied_page, KeyboardInterrupt("mine")).result()
    assert dead[0].error == "KeyboardInterrupt: mine"


def applied_page(error: BaseException) -> tuple[AppliedPage, list[DeadLetter]]:
    """A page of two items; the function fails for the first one."""

    def change_of(image: Image) -> None:
        if image["id"]["S"] == "u1":
            raise error

    return apply_page(JOB, Page(Claim(0, 1), 1, [{"id": {"S": "u1"}}, {"id": {"S": "u2"}}]), change_of)


def test_a_message_that_utf_8_cannot_encode_is_escaped() -> None:
    kept = dead_letter({"id": {"S": "u1"}}, {"id": {"S": "u1"}}, "transform", ValueError("half a pair: \ud83d"))
    assert kept.error == "ValueError: half a pair: \\ud83d"
    assert orjson.loads(orjson.dumps(kept._asdict())) == kept._asdict()


# ---------------------------------------------------------------- what the other direction has left


@pytest.mark.parametrize("journal", [True, False])
def test_an_unreadable_line_that_was_tolerated_has_no_key_to_leave(tmp_path: Path, journal: bool) -> None:
    """Its item was not transformed and is unknown: an undo of it would damage it."""
    stages, storage = Stages(), FolderStorage(tmp_path)
    up = replace(RECORD, status="succeeded", splits=1, counts=Counts(100, 99, dead=1), tolerated=1, journal=journal)
    stages.write(up)
    stages.split(up.run, 0, 100)
    page = Page(Claim(0, 1), 1, [])
    bad = DeadLetter({}, {}, "read", "file 1, line 3: no item")
    store_dead_letters(storage, replace(JOB, run=up.run), page, UNREADABLE, [bad])
    context: Any = SimpleNamespace(state=stages.state, storage=storage, options=RunOptions(), accepted=Accepted({}))
    down = replace(up, run="02RUN", direction="down", status="running", counts=Counts())
    with pytest.raises(Refused, match=r"1 line of its export was unreadable to run 01RUN") as refused:
        skipped_dead_letters(context, down)
    assert ("undo 01RUN" in str(refused.value.hint)) == journal and "stamp" in str(refused.value.hint)
