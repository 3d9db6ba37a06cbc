"""One fuzzed case: a seed draws a version, a table, faults, deaths and acts of an application; a run, and its undo.

Each transformation adds one to `times`; few scripts are idempotent instead, and keep a journal. The conditions are in
`invariants`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from dynamodt.model.runs import INSERTED_ROWS, Job, JournalSource, RowsSource
from dynamodt.pipeline.migrate import migrate, undo
from dynamodt.pipeline.outcomes import waiting_keys
from dynamodt.runs.jobs import retry_job
from dynamodt.runs.undo import next_pass
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.object_keys import DEAD, NOT_RESTORED, committed_notes, key_of_job
from dynamodt.state.runs import retry_run, undo_run
from tests.fake_objects import FakeObjects
from tests.fakes import FakeState
from tests.fuzz.application import ACTS_BESIDE, Application
from tests.fuzz.faults import (
    ANSWERED,
    LATE,
    TWICE,
    Died,
    FuzzedDynamoDB,
    FuzzedRows,
    FuzzedStorage,
    Life,
    SteadyResources,
    World,
)
from tests.inline import run_inline
from tests.pipeline.conftest import NUMBERED, Bench
from tests.pipeline.exporter import Exporter

HUNDREDS = {"move": 100, "beside": 200, "alone": 300, "left": 400, "right": 500}
INSERTING = ("move", "fan", "split", "freed", "lone")
IN_PLACE = ("update", "delete", "same")
REPEATABLE = ("move", "fan", "lone", *IN_PLACE)
_BEGIN = """
from dynamodt import Delete, Put

KINDS = {kinds!r}

def items():
    for number in {rows}:
        yield {{"id": number, "src": f"{{number}}.own/row", "times": 0, "note": "old"}}

def transform_up(item):
    number = int(item["id"])
    new = {{**item, "times": item["times"] + 1}}
    put = lambda step, name: Put({{**new, "id": number + step, "src": f"{{item['src']}}/{{name}}"}})
"""
SCRIPT = (
    _BEGIN
    + """    ways = {{
        "update": lambda: new,
        "delete": lambda: Delete(),
        "same": lambda: item,
        "move": lambda: {{**new, "id": number + 100}},
        "freed": lambda: {{**new, "id": number - 1}},
        "fan": lambda: [new, put(200, "beside")],
        "lone": lambda: [item, put(300, "alone")],
        "split": lambda: [put(400, "left"), put(500, "right"), Delete()],
    }}
    return ways[KINDS[number % len(KINDS)] if number < 100 else "update"]()
"""
)
TARGET = "others"
INTO_TARGET = ("copy", "copy", "shift", "lone", "clash")
TARGET_SCRIPT = (
    'TARGET_TABLE = "others"\n'
    + _BEGIN
    + """    return {{
        "copy": lambda: new,
        "shift": lambda: {{**new, "id": number + 100}},
        "lone": lambda: [put(300, "alone")],
        "clash": lambda: {{**new, "id": 600 + number // 2}},
    }}[KINDS[number % len(KINDS)]]()
"""
)
OWN_ROWS = (900, 901, 902)
MOST_ATTEMPTS = 9


@dataclass(frozen=True)
class Draw:
    """The choices of a seed."""

    kinds: tuple[str, ...]
    export: bool
    items: int
    head: str  # the script's constants
    page_items: int
    scan_page: int
    split_groups: int
    acts: float
    faults: float
    late: bool
    deaths: tuple[int, ...]  # requests of each attempt
    undo_deaths: tuple[int, ...]
    rows: bool  # of the version's own
    window: bool  # the changes since the export
    acts_in_undo: bool
    row_faults: float
    target: bool
    idempotent: bool = False
    slow: bool = False  # a request may be repeated when its phase has ended; more phases follow


def drawn(seed: int) -> Draw:
    dice = random.Random(seed)
    export = dice.random() < 0.6
    kinds = (*INSERTING, *IN_PLACE) if export else (*IN_PLACE, "update")
    draw = Draw(
        kinds=tuple(dice.choice(kinds) for _ in range(dice.choice([1, 2, 4]))),
        export=export,
        items=dice.choice([2, 3, 6, 9]),
        head=dice.choice(["", "", 'STAMP = "_by"\n']) + dice.choice(["", "", 'GUARD = "changed"\n']),
        page_items=dice.choice([1, 2, 5]),
        scan_page=dice.choice([1, 3, 9]),
        split_groups=dice.choice([1, 2]),
        acts=dice.choice([0.0, 0.0, 0.15, 0.4]),
        faults=dice.choice([0.0, 0.2, 0.4]),
        late=dice.random() < 0.5,
        deaths=tuple(dice.choice([3, 8, 15, 25, 40]) for _ in range(dice.choice([0, 1, 2, 3]))),
        undo_deaths=tuple(dice.choice([3, 8, 15, 25]) for _ in range(dice.choice([0, 1, 2]))),
        rows=dice.random() < 0.3,
        window=export and dice.random() < 0.3,
        acts_in_undo=dice.random() < 0.3,
        row_faults=dice.choice([0.0, 0.0, 0.1, 0.3]),
        target=dice.random() < 0.25,
    )
    draw = replace(draw, slow=dice.random() < 0.5)
    if not draw.target:
        chain = draw.export and dice.random() < 0.2  # each item waits for the key of another, of any split
        if chain:
            return replace(draw, kinds=("freed", dice.choice(["freed", "delete", "fan"])), items=9)
        if draw.export and dice.random() < 0.15:
            kinds = tuple(dice.choice(REPEATABLE) for _ in draw.kinds)
            return replace(draw, kinds=kinds, rows=False, head=draw.head + "IDEMPOTENT = True\n", idempotent=True)
        return draw
    return replace(draw, kinds=tuple(dice.choice(INTO_TARGET) for _ in draw.kinds))


@dataclass
class Case:
    """A seed's world, run by `run`. `found` are the breaches."""

    seed: int
    folder: Path
    draw: Draw = field(init=False)
    found: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = draw = self._drawn()
        dice = random.Random(self.seed + 1)
        kinds = (*ANSWERED, LATE, TWICE) if draw.late else ANSWERED
        self.world = World(dice, draw.faults, kinds, draw.row_faults, slow=draw.slow)
        self.dynamodb = FuzzedDynamoDB(NUMBERED, page=draw.scan_page, world=self.world)
        self.dynamodb.keys = {TARGET: NUMBERED.key_names}
        self.state = FakeState()
        self.state.rows = FuzzedRows(self.world)
        self.state.leases = LeaseRows(self.state.rows)  # type: ignore[arg-type]
        self.storage, objects = FuzzedStorage(self.world), FakeObjects()
        name = uuid4().hex
        SteadyResources.made[name] = (self.dynamodb, self.state, self.storage, objects)
        resources = SteadyResources(name)
        self.bench = Bench(self.folder, self.dynamodb, self.state, self.storage, resources, objects)  # type: ignore[arg-type]
        self.exporter = Exporter(self.bench)
        self.done: list[Job] = []
        self.undone: list[Job] = []
        self.attempt = 0
        self.replayed: set[str] = set()  # parts of dead letters
        keys = range(1, draw.items + 1)
        free = (key + step for key in keys for step in (0, -1, *HUNDREDS.values()) if key + step > 0)
        self.application = Application(self.dynamodb, dice, (*free, *OWN_ROWS), draw.acts)
        if draw.target:
            self.application.target, self.application.acts = TARGET, ACTS_BESIDE
        self._put(keys)
        self.before = self.application.items()
        self.world.acts = self.application.act

    def _drawn(self) -> Draw:
        return drawn(self.seed)

    def _put(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.application.put(key)

    def _text(self) -> str:
        draw = self.draw
        text = draw.head + (TARGET_SCRIPT if draw.target else SCRIPT).format(kinds=draw.kinds, rows=OWN_ROWS)
        return text.replace('item["times"] + 1', "1") if draw.idempotent else text

    def jobs(self) -> Iterator[Job]:
        """The phases of the run; each is computed when those before it are complete."""
        draw = self.draw
        text = self._text()
        export = self.exporter.export() if draw.export else None
        shown = export
        job = self.exporter.job(export, text) if export else self.bench.job(text)
        job = replace(
            job, run=f"run{self.seed}", max_errors=99, page_items=draw.page_items, split_groups=draw.split_groups
        )
        job = replace(
            job, read_ahead=2, journal=draw.idempotent, target=replace(NUMBERED, name=TARGET) if draw.target else None
        )
        yield job
        if draw.rows:
            yield replace(job, run=job.run + INSERTED_ROWS, splits=1, source=RowsSource())
        for number in range(1, 1 + (draw.window and 1 + draw.slow)):
            shown = self.exporter.export(shown)
            yield self._later(self.exporter.window(job, number, shown))
            if draw.slow:
                yield from self._retries(number)
        if not (draw.window and draw.slow):
            yield from self._retries(1)

    def _retries(self, number: int) -> Iterator[Job]:
        for before in list(self.done):
            if "/retry" in before.run:
                continue
            phases = [one for one in self.done if one.run in (before.run, retry_run(before.run, number - 1))]
            left = [part for one in phases for part in self.dead_letters_of(one) if part not in self.replayed]
            if left:
                self.replayed.update(left)
                yield self._later(retry_job(before, number, tuple(left)))

    def _later(self, job: Job) -> Job:
        """A phase that may read the dead letters of those before it."""
        return replace(job, earlier=tuple(one.run for one in self.done if not one.inserts_rows))

    def dead_letters_of(self, job: Job) -> tuple[str, ...]:
        """The parts of its dead letters that `retry` replays."""
        claims = {claim.split: claim for claim in self.state.splits(job.run).all(job.splits)}
        names = committed_notes(self.storage.names(key_of_job(job, DEAD)), claims)
        return tuple(name for name in names if not name.endswith("-doubt.jsonl"))

    def finish(self, rate_queue: Callable[..., None], job: Job, deaths: tuple[int, ...]) -> Job:
        """Start the run again until it is complete; returns the job of the last attempt."""
        lives = [*deaths, *[Life().left] * (MOST_ATTEMPTS - len(deaths))]
        for attempt, left in enumerate(lives, job.attempt):
            job = replace(job, attempt=attempt)
            self.world.life = Life()
            self.state.lease(job)
            self.world.life = Life(left)
            try:
                run_inline(rate_queue, job, self.bench.resources)
                break
            except Died:
                self.dynamodb.faults.clear()
        self.world.life = Life()
        return job

    def run(self) -> None:
        """The run, and all that is late of it."""
        deaths = list(self.draw.deaths)
        for job in self.jobs():
            some, deaths = deaths[:2], deaths[2:]
            attempt = self.done[-1].attempt if self.done else 1
            self.done.append(self.finish(migrate, replace(job, attempt=attempt), tuple(some)))
        self.settle()

    def undo(self) -> None:
        """Each phase, the last one first, with passes over the items that wait for a key of another split; then passes
        over the items that wait for a key of another phase."""
        self.application.quiet = not self.draw.acts_in_undo
        self.attempt = self.done[-1].attempt
        last: list[Job] = []
        for job in reversed(self.done):
            last += self._freed([self._undone(replace(job, run=undo_run(job.run, 1), source=JournalSource(job.run)))])
        self._freed(last)
        self.settle()

    def _freed(self, last: list[Job]) -> list[Job]:
        before = 0
        while waiting := sum(map(len, map(self.waiting, last))):
            if before and waiting >= before:
                break
            before, last = waiting, [self._undone(next_pass(job, 1)) for job in last]
        return last

    def _undone(self, job: Job) -> Job:
        job = self.finish(undo, replace(job, attempt=self.attempt + 1), self.draw.undo_deaths)
        self.attempt = job.attempt
        self.undone.append(job)
        return job

    def waiting(self, job: Job) -> dict[tuple[int, int], set[str]]:
        """The keys that a phase of the undo has left waiting."""
        claims = {claim.split: claim for claim in self.state.splits(job.run).all(job.splits)}
        names = self.storage.names(key_of_job(job, NOT_RESTORED))
        return waiting_keys(self.storage, committed_notes(names, claims))

    def settle(self) -> None:
        self.dynamodb.faults.clear()
        self.world.network.flush()
