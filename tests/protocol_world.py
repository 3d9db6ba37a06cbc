"""The world that `tests/explorer.py` explores: the real flow of a run, and its undo, on stores that advance one step at
a time.

Owners: `A` begins; `B` resumes later and takes the split over. A may stall at any step, and continue at any later one
or never. The conditions are checked in every state in which B has finished, so that a crash of A at any step is
covered. An owner before them may have died (`dead`: after this number of steps). `app` is the application; `net`
applies a fault to the next message; `wire` delivers late messages. `U` undoes the run when the owners have stopped, and
`V` continues the undo after U has died at any step. With a fault in an undo's messages, A runs alone, and U's messages
have arrived when V begins.

If the run has two splits, `A` and `A2` process one each, at the same time, and B takes both over; the undo has a pass
over items that wait in one split for a key that the other one frees.

If a phase follows (`then`), A runs alone; `R` replays its dead letters or reads an incremental export once A has ended;
and U undoes both. The application takes the key that A needs, so that A is refused, and frees it again (`takes`).
Before an incremental export it also deletes the item, and creates it again unchanged (`again`).

A message to the table may be `lost` (never carried out), `late` (carried out later), `reset` (carried out, and its
answer lost), `twice` (carried out, and once more later) or `repeated` (carried out twice, and the second answer
is returned). A message to the state table is repeated at once if its answer is lost (`reset`), or arrives once more
(`late`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import orjson
from greenlet import greenlet

from dynamodt.dynamodb.wire import InDoubt
from dynamodt.errors import Fenced
from dynamodt.model.runs import ExportSource, Job, JournalSource, Lease, RowsSource, ScanSource, Script
from dynamodt.model.tables import Connection, Image, Item, Stage, StorageSpec
from dynamodt.pipeline.migrate import migrate, undo
from dynamodt.pipeline.ownership import split_groups
from dynamodt.runs.jobs import retry_job
from dynamodt.runs.undo import next_pass
from dynamodt.script.codec import decode, encode, key_text
from dynamodt.script.read import read_script
from dynamodt.state.object_keys import DEAD, key_of_job
from dynamodt.state.row_codec import RowKey
from tests.explorer import Actor, acting, observed, step
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB, FakeResources, FakeRows, FakeState
from tests.fuzz.faults import READS
from tests.inline import run_inline
from tests.protocol_checks import check
from tests.protocol_exports import SPEC, window_of

SCRIPT = """
from dynamodt import Delete, Put

sequence = 1
KINDS = {kinds!r}
CORRECTED = {corrected}

def transform_up(item):
    number = int(item["id"])
    new = {{**item, "n": item["n"] + 1000}}
    beside = lambda step: Put({{"id": number + step, "n": 7, "of": item["note"]}})
    return {{
        "update": lambda: new,
        "picky": lambda: new if item["n"] % 1000 == 1 else 1 / 0,
        "same": lambda: item,
        "delete": lambda: Delete(),
        "outdated": lambda: item if item["note"] == "live" else Delete(),
        "once": lambda: item if item["n"] >= 1000 else new,
        "sees": lambda: {{**new, "seen": item["note"]}},
        "move": lambda: {{**new, "id": number + 10 + CORRECTED}},
        "freed": lambda: {{**new, "id": number - 1}},
        "meets": lambda: {{**new, "id": number + 9}},
        "alike": lambda: {{**item, "id": number - 1, "note": "old 0"}},  # equal to the item before it
        "alikes": lambda: [{{**item, "id": number - 1, "note": "old 0"}}, beside(30)],
        "extra": lambda: {{**new, "extra": item.get("extra", 1)}},
        "fan": lambda: [new, beside(20 + CORRECTED)],
        "pair": lambda: [{{**new, "id": number + 10}}, beside(20)],
        "spread": lambda: [{{**new, "extra": item.get("extra", 1)}}, beside(20)],
        "lone": lambda: [item, beside(30)],
    }}[KINDS[number % len(KINDS)]]()
"""
ROWS = """
sequence = 1
KINDS = {kinds!r}

def items():
    for number, kind in enumerate(KINDS):
        yield {{"id": 40 if kind == "clash" else 40 + number, "n": 7, "of": f"old {{number}}"}}
"""
TARGET = """
TARGET_TABLE = "others"
sequence = 1

def transform_up(item):
    return {"id": item["id"], "n": item["n"] + 1000, "note": item["note"]}
"""
STAMP = 'STAMP = "_by"\n'
CHANGED = 'GUARD = "changed"\n'
IDEMPOTENT = """
IDEMPOTENT = True
once = transform_up

def transform_up(item):
    return item if item["n"] >= 1000 else once(item)
"""
_WRITES: dict[str, Callable[[Item], Item]] = {  # the attributes that the application writes
    "note": lambda item: {"note": "live"},
    "add": lambda item: {"n": item["n"] + 1},
    "same": lambda item: {"n": 1001},
    "done": lambda item: {"n": 1001, "note": "live"},
    "extra": lambda item: {"extra": 5},
}


@dataclass(frozen=True)
class Scene:
    """One case. `kinds` are the kinds of the items, in turn; `act` is what the application does to item 0; `fault`
    applies to one message to the table, `rows` to one to the state table; `dead`: an earlier owner has died after this
    number of steps."""

    kinds: tuple[str, ...]
    page: int = 1
    act: str = ""
    fault: str = ""
    rows: bool = False
    stamp: bool = False
    dead: int = 0
    gone: bool = False  # A is, once B has begun: it stalls no longer than that
    undo: str = ""  # "once"; "crash": it dies anywhere, and another goes on
    then: str = ""  # "retry" (of doubts, too), "replay" (without them) or "window": a later phase of the run
    corrected: bool = False  # the script of that phase, which writes under another key
    export: bool = True
    idempotent: bool = False  # the script is, and its writes are journaled for an undo
    guard: bool = False  # GUARD = "changed"
    splits: int = 1  # of two, the item at the key 0 is in the one that A takes, that at 1 in the other one

    @property
    def meets_faults_in_undo(self) -> bool:
        return bool(self.fault and self.undo and not self.then)

    def __str__(self) -> str:
        fault = f"{'row-' * self.rows}{self.fault}"
        words = ["+".join(self.kinds), f"page-{self.page}", self.act, fault, "stamped" * self.stamp]
        words += [
            f"dead-{self.dead}" * bool(self.dead),
            "gone" * self.gone,
            self.then,
            "corrected" * self.corrected,
            f"undo-{self.undo}" * bool(self.undo),
            "scan" * (not self.export),
            "idempotent" * self.idempotent,
            "guard-changed" * self.guard,
            "two-splits" * (self.splits > 1),
        ]
        return "-".join(word for word in words if word)


@lru_cache
def script_of(folder: Path, scene: Scene) -> Script:
    """The script of a scene, or with `corrected` the one of its later phase."""
    text = {"target": TARGET, "row": ROWS}.get(scene.kinds[0], SCRIPT)
    if text is not TARGET:
        text = text.format(kinds=scene.kinds, corrected=int(scene.corrected))
    text = CHANGED * scene.guard + STAMP * scene.stamp + text + IDEMPOTENT * scene.idempotent
    flags = ("stamped", scene.stamp), ("corrected", scene.corrected), ("idempotent", scene.idempotent)
    name = "-".join((*scene.kinds, *(word for word, flag in (*flags, ("changed", scene.guard)) if flag)))
    path = folder / name / "things" / "v1_add.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read_script(path, folder)


class SteppedDynamoDB(FakeDynamoDB):
    world: World

    def call(self, operation: str, body: Any) -> dict[str, Any]:
        if not acting():
            return super().call(operation, body)
        step()
        fault = self.world.taken(rows=False) if operation not in READS else ""
        try:
            answer = self._with(fault, operation, body)
        except Exception as error:
            observed(error)
            raise
        observed(answer)
        return answer

    def _with(self, fault: str, operation: str, body: Any) -> dict[str, Any]:
        if fault in ("late", "twice"):
            self.world.late.append((_told(body), lambda: self.again(operation, body)))
        if fault == "late":
            raise InDoubt("late")
        if fault in ("lost", "reset", "repeated"):
            self.faults.append(fault)
        return super().call(operation, body)

    def again(self, operation: str, body: Any) -> None:
        """Carries the request out late, without an answer."""
        try:
            super().call(operation, body)
        except Exception:
            return

    def _answered(self, statement: Any, fault: str, index: int) -> dict[str, Any]:
        """A batch is not a transaction: other actors act between its statements."""
        if index:
            step()
        return super()._answered(statement, fault, index)


def _told(body: Any) -> str:
    """A request as a part of the state: without the token by which a repeated request is recognized."""
    request = orjson.loads(body if isinstance(body, bytes) else orjson.dumps(body))
    return repr({name: value for name, value in request.items() if name != "ClientRequestToken"})


class SteppedRows(FakeRows):
    """The rows of the state table. A write whose answer is lost is sent again at once; the first may come late."""

    world: World

    def get(self, key: RowKey) -> Item | None:
        step()
        answer = super().get(key)
        observed(answer)
        return answer

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        step()
        fault = self.world.taken(rows=True)
        try:
            if fault == "reset":
                super().update(key, row, condition, **values)
                step()
            answer = super().update(key, row, condition, **values)
        except Exception as error:
            observed(error)
            raise
        if fault == "late":
            late = f"update {key} {sorted(row.items())} {condition} {sorted(values.items())}"
            self.world.late.append((late, lambda: self._again(key, row, condition, values)))
        return answer

    def _again(self, key: RowKey, row: Item, condition: str, values: Item) -> None:
        try:
            super().update(key, row, condition, **values)
        except Exception:
            return


@dataclass
class SteppedStorage:
    """Of the stage's objects only the journal's are part of the state: no other object decides anything."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, data: bytes) -> None:
        if "/journal/" in name:
            step()
        self.objects[name] = data

    def read(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.objects if name.startswith(prefix))

    def place(self, name: str) -> str:
        return name


@dataclass
class OwnLease:
    """A lease that always shows its reader as the holder: the run may be taken over right after each poll."""

    token: int

    def read(self, table: str, replica: int = 0) -> Lease:
        return Lease(table, self.token, "run")

    def begin_read(self, table: str, replica: int = 0) -> Callable[[], Lease]:
        return lambda: self.read(table)

    def tell(self, table: str, token: int, **what: Any) -> None: ...


@dataclass(frozen=True)
class SteppedResources(FakeResources):
    """An actor's own, so that they need no name."""

    world: Any = None
    token: int = 0

    def wire(self, connections: int) -> Any:
        return self.world.dynamodb

    def state(self) -> Any:
        state = FakeState()
        state.rows, state.leases = self.world.rows, OwnLease(self.token)  # type: ignore[assignment]
        return state

    def storage(self) -> Any:
        return self.world.storage

    def objects(self, source: Any) -> Any:
        return self.world.objects

    def clock(self) -> float:
        """A clock that only waiting moves."""
        return float(self.world.slept.get(acting(), 0.0))

    def sleep(self, seconds: float) -> None:
        self.world.slept[acting()] = self.clock() + seconds


class World:
    """One table, and the actors of a scene. The conditions are in `check`."""

    def __init__(self, scene: Scene, folder: Path, objects: FakeObjects | None, source: ExportSource | None) -> None:
        self.scene, script = scene, script_of(folder, replace(scene, corrected=False))
        self.corrected = script_of(folder, scene)
        self.dynamodb = SteppedDynamoDB(SPEC, page=scene.page, keys={"others": SPEC.key_names})
        self.rows, self.storage = SteppedRows(), SteppedStorage()
        self.dynamodb.world = self.rows.world = self
        self.objects = objects
        self.dynamodb.put(*items_of(scene))
        self.late: list[tuple[str, Callable[[], None]]] = []
        self.armed = ""
        self.acted = ""  # the item's state at the application's act; empty: none yet
        self.made: set[tuple[bool, int]] = set()  # the keys that there were then, of the target's items with True
        self.undo_begun = self.undoing = False
        self.shown = ""  # what the windows show of item 0: its deletion once A has ended, then its creation
        self.slept: dict[str, float] = {}  # by each actor
        self.finished: set[str] = set()
        stage = Stage("test", Connection("us-east-1"), StorageSpec(""), local=True)
        self.job = Job(
            "run", stage, SPEC, script, "up", scene.splits, page_items=scene.page, read_ahead=1, max_errors=9
        )
        target = replace(SPEC, name="others") if script.target_table else None
        source = RowsSource() if script.has_items else source or ScanSource()
        self.job = replace(self.job, source=source, target=target, journal=scene.idempotent)
        self.later: Job | None = None
        self.gone: list[Actor] = []
        if scene.dead:
            self._die(scene.dead)

    def _die(self, steps: int) -> None:
        """An owner that dies after this number of steps."""
        owner = Actor("dead", greenlet(lambda: self._run(migrate, self.job, 0)))
        owner.task.actor = owner
        for _ in range(steps):
            owner.task.switch()
        self.gone.append(owner)

    # ------------------------------------------------------------ the actors

    def actors(self) -> dict[str, Callable[[], None]]:
        actors: dict[str, Callable[[], None]] = {"A": lambda: self._own("A", migrate, self.job, 1)}
        if self.scene.splits > 1:
            actors |= {name: partial(self._own_group, name, number) for number, name in enumerate(("A2", "A"))}
        if self.scene.then:
            actors["R"] = self._follow
        elif not self.scene.meets_faults_in_undo:
            actors["B"] = lambda: self._own("B", migrate, self.job, 2)
        if self.scene.act:
            actors["app"] = self._edit if self.scene.act == "edit" else self._act
        if self.scene.fault:
            actors |= {"net": self._arm, "wire": self._deliver}
        if self.scene.undo:
            actors["U"] = lambda: self._take_back("U", 3)
        if self.scene.undo == "crash":
            actors["V"] = lambda: self._take_back("V", 4)
        return actors

    def ready(self, name: str, alive: frozenset[str], started: frozenset[str]) -> bool:
        """B takes over from A; an undo begins when nothing of the run moves, or is on its way, any more."""
        if name == "wire":
            return bool(self.late)
        if "U" in started:
            begins = name == "V" and "U" in alive and not self.late
            return name in ("V" if "V" in started else "U", "app", "net") or begins
        if name == "U":
            before = {"R"} if self.scene.then else {"A", "B"}
            return bool(before & self.finished) and not self.late and not self.armed
        if name == "app" and self.scene.act == "again" and self.acted:
            return "A" in self.finished  # with a dead letter: an item that vanished is not looked up (G3)
        if name == "R":
            return "A" in self.finished and (self.scene.then != "window" or self.shown == "created")
        if name in ("A", "A2") and self.scene.gone:
            return "B" not in started
        if name == "B":
            return bool({"A", "A2"} & started)
        return {"V": False, "net": not self.scene.meets_faults_in_undo}.get(name, True)

    def _follow(self) -> None:
        """The phase after A's: a replay of the dead letters, or an incremental export that shows all items as
        created."""
        if self.scene.then != "window":
            parts = self.storage.names(key_of_job(self.job, DEAD))
            doubts = "-doubt.jsonl" if self.scene.then == "replay" else "none"
            self.later = retry_job(self.job, 1, tuple(name for name in parts if not name.endswith(doubts)))
        else:
            observed(sorted(self.dynamodb.items.items()))
            objects, source = window_of(self.dynamodb.items)
            self.objects = objects
            self.later = replace(self.job, run="run/incremental1", source=source)
        self.later = replace(self.later, earlier=("run",), script=self.corrected)
        self._own("R", migrate, self.later, 2)

    def _take_back(self, name: str, token: int) -> None:
        """Undoes all phases, the last one first. Of two splits the try 2 begins with the one whose key the other one
        frees."""
        self.undoing = self.undo_begun = True
        for job in (self.later, self.job):
            if job is not None:
                back = replace(job, run=f"{job.run}/undo2", source=JournalSource(job.run))
                self._own(name, undo, back, token)
                if job.splits > 1:
                    self._own(name, undo, next_pass(back, 2), token)
        self.undoing = False

    def _own_group(self, name: str, number: int) -> None:
        """One of the two splits, by a worker of the first attempt."""
        job = replace(self.job, split_groups=2)
        only = split_groups(job).index((number,))
        with self._ends(name):
            run_inline(migrate, replace(job, attempt=1), SteppedResources("", world=self, token=1), only=only)

    def _own(self, name: str, rate_queue: Callable[..., None], job: Job, token: int) -> None:
        with self._ends(name):
            self._run(rate_queue, job, token)

    @contextmanager
    def _ends(self, name: str) -> Iterator[None]:
        """An owner finishes, or a later one has claimed a split. None comes after B, R and V."""
        try:
            yield
            self.finished.add(name)
        except Fenced as fenced:
            later = {"U": "V", "A": "B", "A2": "B"}.get(name)
            claimed = {row.get("claimant") for row in self.rows.rows.values()}
            assert later in claimed, f"fenced by none: {fenced}"

    def _run(self, rate_queue: Callable[..., None], job: Job, token: int) -> None:
        run_inline(rate_queue, replace(job, attempt=token), SteppedResources("", world=self, token=token))

    def _arm(self) -> None:
        step()
        self.armed = self.scene.fault

    def taken(self, rows: bool) -> str:
        """The fault of the message at hand."""
        if not self.armed or rows != self.scene.rows:
            return ""
        fault, self.armed = self.armed, ""
        return fault

    def _deliver(self) -> None:
        step()
        _, request = self.late.pop()
        request()

    def _act(self) -> None:
        step()
        now = self.dynamodb.get({"id": 0})
        act, live = self.scene.act, decode(now) if now is not None else None
        moved_here = live is not None and live["note"] == "old 1"
        live = None if moved_here else live
        tables = (self.dynamodb.items, self.dynamodb.others.get("others", {}))
        self.made = {(bool(there), int(decode(one)["id"])) for there, of in enumerate(tables) for one in of.values()}
        self.acted = "gone" if live is None else "after" if live["n"] >= 1000 else "before"
        if moved_here:
            return
        if act == "delete":
            self.dynamodb.delete({"id": 0})
        elif act == "create" and live is None:
            self.dynamodb.put({"id": 0, "n": 1, "note": "new"})
        elif act in ("drop", "touch"):  # deletes or changes what was inserted
            self._change_inserted()
        elif act in STEPS:
            STEPS[act](self)
        elif act == "taken":  # the key that the item is to be moved to, or another put under
            self._take()
        elif live is not None and act != "create":
            self.dynamodb.put(self._live(act, live))

    def _place(self) -> Item:
        """The key of what is inserted for item 0."""
        return {
            "id": {"move": 10, "pair": 10, "fan": 20, "spread": 20, "lone": 30, "row": 40}.get(self.scene.kinds[0], 0)
        }

    def _change_inserted(self) -> None:
        """An undo may have restored an item already when the application drops what it was moved to."""
        there, key, dropped = self._written(), key_text(encode(self._place())), self.scene.act == "drop"
        self.acted = ""
        if key not in there or (dropped and self.undo_begun):
            return
        self.acted = "dropped" if dropped else "touched"
        image = there.pop(key)
        if not dropped:
            there[key] = encode({**decode(image), "n": 8})

    def _written(self) -> dict[str, Image]:
        """The items of the table that receives insertions."""
        target = self.job.target
        return self.dynamodb.items if target is None else self.dynamodb.others.setdefault(target.name, {})

    def _edit(self) -> None:
        """Changes item 0 at its key, or at the one that it was moved to."""
        step()
        for key in ({"id": 0}, self._place()):
            now = self.dynamodb.get(key)
            item = decode(now) if now is not None else {}
            if item.get("note") == "old 0":
                self.acted = "after" if item["n"] >= 1000 else "before"
                self.dynamodb.put({**item, "note": "live"})

    def _take(self) -> None:
        there, key = self._written(), key_text(encode(self._place()))
        if key not in there:
            self.acted = "taken"
            there[key] = encode({**self._place(), "n": 5, "note": "app"})

    def _take_and_free(self, again: bool = False) -> None:
        """Each of its acts is a step."""
        key = key_text(encode(self._place()))
        if key in self.dynamodb.items:
            return
        self._take()
        step()
        if again and self.dynamodb.get({"id": 0}) == encode(items_of(self.scene)[0]):
            self._delete_and_create()
            step()
        if self.dynamodb.items.get(key) == encode({**self._place(), "n": 5, "note": "app"}):
            del self.dynamodb.items[key]
        self.acted = ""

    def _take_free_and_add(self) -> None:
        self._take_and_free()
        step()
        now = self.dynamodb.get({"id": 0})
        if now is not None:
            self.dynamodb.put(self._live("add", decode(now)))
            self.acted = "added"

    def _add_and_subtract(self) -> None:
        """The item is as before again."""
        self.acted = ""
        for step_of in (1, -1):
            now = self.dynamodb.get({"id": 0})
            live = decode(now) if now is not None else None
            if live is None or live["n"] >= 1000:
                return
            self.dynamodb.put({**live, "n": live["n"] + step_of})
            self.acted = "before" if step_of > 0 else ""
            step()

    def _delete_and_create(self) -> None:
        self.dynamodb.delete({"id": 0})
        self.shown = "deleted"
        step()
        self.dynamodb.put(items_of(self.scene)[0])
        self.shown = "created"

    def _live(self, act: str, live: Item) -> Item:
        if act == "unstamp":
            return {name: value for name, value in live.items() if name != "_by"}
        if act == "replace":
            return {"id": live["id"], "n": 1, "note": "new"}
        return {**live, **_WRITES[act](live)}

    # ------------------------------------------------------------ what tells two states apart

    def snapshot(self) -> str:
        others = getattr(self.dynamodb, "others", {})
        journal = [name for name in self.storage.objects if "/journal/" in name or "/dead/" in name]
        told = (
            self.acted,
            sorted(self.made),
            self.shown,
            self.armed,
            [name for name, _ in self.late],
            sorted(self.finished),
            sorted(journal),
        )
        tables = [sorted(self.dynamodb.items.items()), sorted((name, sorted(t.items())) for name, t in others.items())]
        return repr((tables, sorted(self.rows.rows.items()), told))

    def check(self, ended: frozenset[str]) -> None:
        check(self)


STEPS: dict[str, Callable[[World], None]] = {  # acts of several steps
    "takes": World._take_and_free,
    "flips": World._add_and_subtract,
    "takes-adds": World._take_free_and_add,
    "again": partial(World._take_and_free, again=True),
    "returns": World._delete_and_create,
}


def items_of(scene: Scene) -> list[Item]:
    return [{"id": number, "n": 1, "note": f"old {number}"} for number in range(len(scene.kinds))]
