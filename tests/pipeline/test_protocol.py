"""The protocol of guarantee G3, explored exhaustively: the real claim, journal, intent, settle, checkpoint and
take-over code, over fake stores, in single steps.

Two owners (the first may stall at any step and wake at any later one, or never), an application, lost answers; pages
of one and of two items, whose statements are carried out one by one; a script that is not idempotent. In every state
in which the second owner has finished, the invariants hold, whether or not the first ever moves again.

A fault that begins with `orphaned` is a third owner before these two, who has died for good: when he had claimed the
unit, when he had announced its page, or between its two statements.

The application `add`s to what the script changes, `note`s something else, `delete`s, or writes the `same` value as the
script would. Whether that last one came before a write in doubt cannot be told from the item: it must be where nothing
was in doubt. A `STAMP` (`stamped`) shows it where it is there; where it is missing, an item that is not as before is a
dead letter: an application may put an item back without the stamp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import pytest
from greenlet import greenlet

from dynamodt.aws.batch import Writes
from dynamodt.aws.journal import Journal
from dynamodt.aws.lookups import Lookups
from dynamodt.aws.reads import Reads
from dynamodt.aws.sealed import checked
from dynamodt.aws.unit_rows import UnitRows
from dynamodt.core.apply import Apply
from dynamodt.core.codec import decode, encode
from dynamodt.core.counted import counts, due
from dynamodt.core.places import is_note
from dynamodt.core.script import Transform, read_script
from dynamodt.core.statements import Statements
from dynamodt.model import (
    AppliedPage,
    Claim,
    Connection,
    Image,
    Job,
    JournalCount,
    KeyAttribute,
    Stage,
    StorageSpec,
    TableSpec,
    WrittenPage,
)
from dynamodt.stages.apply import apply_page
from dynamodt.stages.ledger import Running
from dynamodt.stages.progress import Recorder
from dynamodt.stages.read import scan_pages
from dynamodt.stages.resting import Resting, Writing
from dynamodt.stages.settle import Settlement
from dynamodt.stages.write import writing_page
from tests.explorer import Actor, explore, saw, step
from tests.fakes import FakeDynamoDB, FakeState

SPEC = TableSpec("things", (KeyAttribute("id", "N"),))
SCRIPT = """
sequence = 1

def transform_up(item):
    return item if item.get("done") else {**item, "n": item["n"] + 1000}
"""

STAMP = 'STAMP = "_by"\n'
ORPHANED = {"orphaned": 3, "orphaned-announced": 6, "orphaned-between": 7}  # after how many steps
STATEMENTS = Statements(SPEC)


@lru_cache
def change_of(script):  # type: ignore[no-untyped-def]
    """The loaded script: without state of its own, so that all schedules may share it."""
    return Apply(script, Transform(script, "up"), SPEC, run="run", prepared=MappingProxyType({})).change_of


class SteppedDynamoDB(FakeDynamoDB):
    def call(self, operation, body):  # type: ignore[no-untyped-def]
        step()
        try:
            answer = super().call(operation, body)
        except Exception as error:
            saw(error)
            raise
        saw(answer)
        return answer

    def _answered(self, statement, fault, index):  # type: ignore[no-untyped-def]
        """A batch is no transaction: others come between its statements."""
        if index:
            step()
        return super()._answered(statement, fault, index)


class SteppedStorage:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def write(self, name: str, data: bytes) -> None:
        step()
        self.objects[name] = data

    def read(self, name: str) -> bytes | None:
        step()
        saw(name)
        return self.objects.get(name)

    def place(self, name: str) -> str:
        return name


class SteppedRows:
    """The fake rows, a step at a time."""

    def __init__(self, rows) -> None:  # type: ignore[no-untyped-def]
        self.inner = rows
        self.table = rows.table

    def get(self, key):  # type: ignore[no-untyped-def]
        step()
        answer = self.inner.get(key)
        saw(answer)
        return answer

    def update(self, key, row, condition, **values):  # type: ignore[no-untyped-def]
        step()
        try:
            return self.inner.update(key, row, condition, **values)
        except Exception as error:
            saw(error)
            raise

    def get_all(self, keys):  # type: ignore[no-untyped-def]
        return self.inner.get_all(keys)


class AtOnce:
    """An executor that does everything in the caller's thread."""

    def submit(self, function, *args):  # type: ignore[no-untyped-def]
        value = function(*args)

        class Done:
            def result(self):  # type: ignore[no-untyped-def]
                return value

        return Done()

    def map(self, function, values):  # type: ignore[no-untyped-def]
        return [function(value) for value in values]


class Suspended:
    """Whose unit may be taken over right after each look at it, so that no look is of use."""

    def __init__(self, units: UnitRows) -> None:
        self.intend = units.intend

    def assure(self) -> None:
        pass


class World:
    """One table, one unit, two owners and an application."""

    def __init__(self, script, items: int, page: int, application: str, faults: list[str]) -> None:  # type: ignore[no-untyped-def]
        self.dynamodb = SteppedDynamoDB(SPEC, page=page)
        self.dynamodb.put(*({"id": n, "n": 1, "note": "old"} for n in range(items)))
        self.dynamodb.put(*({"id": n, "n": 1001, "note": "old", "done": True} for n in range(items - 1) if items == 3))
        self.dynamodb.faults = deque(fault for fault in faults if fault not in ORPHANED)
        self.state = FakeState()
        self.state.rows = SteppedRows(self.state.rows)  # type: ignore[assignment]
        self.storage = SteppedStorage()
        self.change_of = change_of(script)
        self.script = script
        self.items = items
        self.page = page
        self.application = application
        self.acted = False
        self.before = False  # the application acted before the script's write of the item
        self.finished: set[int] = set()  # the attempts that have come to their end
        self.doubtful = bool(
            self.dynamodb.faults
        )  # or the first owner was taken over from: what it has sent may be written or not
        stage = Stage("test", Connection("us-east-1"), StorageSpec(""), local=True)
        self.job = Job("run", stage, SPEC, script, "up", units=1, page_items=page, read_ahead=1)
        self.dead = [self._orphan(ORPHANED[fault]) for fault in faults if fault in ORPHANED]

    def _orphan(self, steps: int) -> Actor:
        """An owner who dies after so many steps."""
        owner = Actor("dead", greenlet(lambda: self._own(0)))
        owner.task.actor = owner
        for _ in range(steps):
            owner.task.switch()
        assert not owner.task.dead
        return owner

    def actors(self) -> dict[str, Callable[[], None]]:
        owners = {"A": lambda: self._own(1), "B": lambda: self._own(2)}
        return {**owners, "app": self._act} if self.application else owners

    def ready(self, name: str, alive: frozenset[str], started: frozenset[str]) -> bool:
        """The second owner takes over from a first one; nobody else waits for anybody."""
        return name != "B" or "A" in started

    # ------------------------------------------------------------ the actors

    def _act(self) -> None:
        step()
        self.acted = True
        item = {"id": 0}
        now = self.dynamodb.get(item)
        if self.application == "delete":
            self.dynamodb.delete(item)
        elif now is not None:
            live = decode(now)
            self.before = live["n"] < 1000
            live.update(self._live(live))
            self.dynamodb.items[self.dynamodb._text(encode(live))] = encode(live)

    def _live(self, item):  # type: ignore[no-untyped-def]
        if self.application == "add":
            return {"n": item["n"] + 1}
        return {"note": "live"} if self.application == "note" else {"n": 1001}

    def _own(self, attempt: int) -> None:
        """The data plane of one attempt, from the claim to the last checkpoint."""
        job = replace(self.job, attempt=attempt)
        self.doubtful |= attempt == 2 and 1 not in self.finished
        units = self.state.units(job.run)
        reads = Reads(self.dynamodb, SPEC, sleep=lambda seconds: None)
        settlement = Settlement(
            Writes(self.dynamodb, "things"),
            Lookups(reads),
            STATEMENTS,
            self.change_of,
            1,
            stamp=self.script.stamp,
            sleep=lambda seconds: None,
        )
        journal = Journal(self.storage, SPEC, "journal/")  # type: ignore[arg-type]
        running, recorder = Running(), Recorder(job, units, self.state.leases, self.storage, clock=lambda: 0.0)  # type: ignore[arg-type]
        resting = Resting(clock=lambda: 0.0, sleep=lambda seconds: None, heed=lambda: None)

        def writing(applied: AppliedPage) -> Writing:
            before = running.before(applied.page)
            return (yield from writing_page(applied, before, settlement, journal, Suspended(units)))

        def record(pages: Iterator[WrittenPage]) -> None:
            for written in pages:
                running.add(written)
                recorder.add(written)

        claim = units.claim(0, attempt)
        claims: Iterator = iter([] if claim.done else [claim])
        for page in scan_pages(job, claims, reads, AtOnce()):  # type: ignore[arg-type]
            applied, dead = apply_page(job, page, self.change_of)
            assert not dead
            record(resting.write(page, writing(applied)))
        record(resting.finish())
        recorder.flush()
        self.finished.add(attempt)

    # ------------------------------------------------------------ what must hold

    def snapshot(self) -> object:
        rows = self.state.rows.inner.rows  # type: ignore[attr-defined]
        items, objects = sorted(self.dynamodb.items.items()), sorted(self.storage.objects)
        told = (self.acted, self.before, self.doubtful)
        return repr((items, sorted(rows.items()), objects, self.dynamodb.faults, told))

    def check(self, ended: frozenset[str]) -> None:
        for image in self.dynamodb.items.values():
            self._check_item(image)
        for claim in self.state.units("run").all(1):
            assert claim.intent is None or claim.intent.page > claim.page, "what is recorded is still announced"
            self._check_journal(claim)
        if (1 in self.finished and not self.doubtful) or (self.script.stamp and "B" in ended):
            self._check_same(sum(claim.counts.dead for claim in self.state.units("run").all(1)))
        if "B" in ended:
            self._check_end()

    def _check_journal(self, claim: Claim) -> None:
        """At any moment an undo may ask whether the journal is whole: the row counts just what is there and counts."""
        there = JournalCount()
        for name in filter(lambda name: name.startswith("journal/") and counts(name, claim), self.storage.objects):
            records = checked(name, self.storage.objects[name]).records
            there = there.plus(JournalCount(notes=1) if is_note(name) else JournalCount(1, records))
        assert there == due(claim), "the row counts another journal than there is"

    def _overwritten(self, item) -> bool:  # type: ignore[no-untyped-def]
        """The application has written the value that the script's first patch would have, before it was written."""
        return item["id"] == 0 and self.before and self.application == "same"

    def _check_item(self, image: Image) -> None:
        item = decode(image)
        mine = item["id"] == 0 and self.acted
        assert item["n"] // 1000 <= 1 + self._overwritten(item), f"transformed twice: {item}"
        assert item["n"] % 1000 == 1 + (mine and self.application == "add"), f"a live write is lost: {item}"
        expected = "live" if mine and self.application == "note" else "old"
        assert item["note"] == expected, f"a live write is lost: {item}"

    def _check_same(self, dead: int) -> None:
        """The application's value was transformed, although it is the one that the script had made of another; or it is
        a dead letter, where a write was in doubt: a stamp that is missing shows nothing."""
        allowed = dead if self.doubtful else 0
        for item in map(decode, self.dynamodb.items.values()):
            assert item["n"] == 2001 or not self._overwritten(item) or allowed, f"not transformed, unsaid: {item}"

    def _check_end(self) -> None:
        (claim,) = self.state.units("run").all(1)
        assert claim.done, "the second owner has not finished"
        assert claim.counts.balanced, claim.counts
        least = self.items - (self.application == "delete")
        assert least <= claim.counts.read <= self.items, f"not all that was read is counted: {claim.counts}"
        survivors = self.items - (self.acted and self.application == "delete")
        assert len(self.dynamodb.items) == survivors, "a deleted item is back, or one is lost"
        undone = sum(decode(image)["n"] < 1000 for image in self.dynamodb.items.values())
        assert undone <= claim.counts.dead, f"not transformed, and nobody says so: {claim.counts}"
        if self.application != "add" and not (self.application == "same" and self.script.stamp):
            assert claim.counts.dead == 0, "a dead letter without need"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The script, and one that marks what it changes."""
    return [_script(tmp_path_factory.mktemp("transforms"), head) for head in ("", STAMP)]


def _script(folder: Path, head: str):  # type: ignore[no-untyped-def]
    path = folder / "things" / "v1_add.py"
    path.parent.mkdir()
    path.write_text(head + SCRIPT)
    return read_script(path, folder)


ONE, PAGE_OF_TWO, TWO_PAGES = (1, 1), (2, 2), (2, 1)
AFTER_TWO_WITHOUT_WRITES = (3, 1)  # pages that are not recorded at once
APPLICATIONS = ("", "note", "add", "delete", "same", "same-stamped")
QUICK = [
    *((ONE, [], application) for application in APPLICATIONS),
    *((ONE, [fault], "") for fault in ("reset", "lost", "orphaned", "orphaned-announced")),
    (PAGE_OF_TWO, ["orphaned-between"], ""),
    (PAGE_OF_TWO, [], ""),
    (TWO_PAGES, [], ""),
    (AFTER_TWO_WITHOUT_WRITES, [], ""),
]
THOROUGH = [
    *((ONE, [fault], application) for fault in ("reset", "lost") for application in APPLICATIONS[1:]),
    *((PAGE_OF_TWO, faults, "note") for faults in ([], ["reset"])),
    (PAGE_OF_TWO, [], "delete"),
    (TWO_PAGES, [], "add"),
]


def _world(case) -> str:  # type: ignore[no-untyped-def]
    (items, page), faults, application = case
    return f"{items}-items-pages-of-{page}-{'-'.join(faults) or 'sound'}-{application or 'quiet'}"


@pytest.mark.parametrize("case", [*QUICK, *(pytest.param(c, marks=pytest.mark.chaos) for c in THOROUGH)], ids=_world)
def test_every_interleaving(scripts, case) -> None:  # type: ignore[no-untyped-def]
    (items, page), faults, application = case
    application, _, stamped = application.partition("-")
    script = scripts[bool(stamped)]
    explored = explore(lambda: World(script, items, page, application, faults))
    print(f"{explored.interleavings:,} interleavings, {explored.states:,} states, {explored.ends:,} ends")
    assert explored.interleavings > 100
