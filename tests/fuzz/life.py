"""A fuzzed life of a table: a seed draws versions, commands, deaths, faults, and acts of an application between and
during the commands. After each command, the tables are compared with the history (`tests.fuzz.history`).

`src` names an item for ever; the application's writes go to `note`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamodt import api
from dynamodt.errors import DynamodtError, Refused, RunFailed, UsageError
from dynamodt.model.reports import UndoReport
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Connection, Item, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs import liveness
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.script.codec import decode, encode, key_text
from dynamodt.state.runs import unfinished
from dynamodt.state.state import State
from tests.fuzz.history import History
from tests.fuzz.service import NEVER, STATE, Killed, Service
from tests.fuzz.versions import APART, OTHERS, TABLE, At, Version

_ACTS = ("note", "note", "create", "delete", "cure", "control", "replace", "block")
_STEPS = (
    *("up", "up", "up", "down", "undo", "undo", "retry", "accept", "rehearse", "prepare", "stamp"),
    *("mend", "edit", "act", "control", "write_version", "recreate"),
)
_WHOLE = RunOptions(max_errors=99)
Call = Callable[[Any], Any]  # of a command, with its observer


@dataclass
class Life:
    """One table's life under a seed. `found` are the breaches, `trace` what was done."""

    seed: int
    folder: Path
    found: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    over: bool = False  # the conditions do not cover what follows
    notes: dict[str, str] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)  # by the application, and where
    just_removed: set[str] = field(default_factory=set)  # during this command
    blocked: bool = False  # an item is at the key of another one's result
    gone: set[str] = field(default_factory=set)  # the runs of a former table
    to_stamp: int | None = None  # what is applied in a table that was created again, until its next run
    former: set[str] = field(default_factory=set)  # all runs until then
    acting: float = 0.0  # how often the application acts before a write of this command
    controlling: bool = False
    versions: list[Version] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = dice = random.Random(self.seed)
        spec = TableSpec(TABLE, (KeyAttribute("id", "N"),))
        self.service = Service(spec, page=dice.choice([1, 3, 9]), dice=dice, acts=self._act)
        self.service.keys = {OTHERS: spec.key_names}
        connection = Connection("eu-west-1", f"http://seed-{self.seed}", access_key="a", secret_key="b")
        self.stage = Stage("test", connection, StorageSpec("s3://bucket/store"), STATE, local=True)
        self.state = State(connection, STATE)
        self.often, self.faulty = dice.choice([0.0, 0.0, 0.15, 0.3]), dice.choice([0.0, 0.05, 0.15, 0.4])
        self.deadly, self.usurps, self.recreates = (dice.choice([0.0, 0.4, 0.8]) for _ in range(3))
        self.history = History(self)
        for _ in range(2):
            self._write_version()
        for _ in range(dice.choice([2, 4, 7])):
            self._create()
        self.history.fresh.clear()

    # ------------------------------------------------------------ the application

    def items(self) -> list[Item]:
        """The items of both tables."""
        others = [{**item, "id": item["id"] + APART} for item in map(decode, self.service.table(OTHERS).values())]
        return [*map(decode, self.service.items.values()), *others]

    def _create(self, key: int = 0) -> None:
        number = len(self.history.born) + 1
        src, key = f"i{number}", key or number
        self.notes[src] = "old"
        self.history.begins(src, number, At(key, ()))
        poison = {"poison": True} if self.dice.random() < 0.05 else {}
        self.service.put({"id": key, "k": number, "src": src, "log": [], "note": "old", **poison})

    def _act(self) -> None:
        if self.dice.random() < self.acting:
            self.act()

    def act(self) -> None:
        what, items = self.dice.choice(_ACTS), list(map(decode, self.service.items.values()))
        if what == "control":
            return self.control()
        if what == "create" or not items:
            return self._create()
        item = self.dice.choice(items)
        src, key = str(item["src"]), int(item["id"])
        if sum(one["src"] == src for one in items) > 1:  # see `History._twice`
            return None
        self.trace.append(f"  application: {what} {src} at {key}")
        if what == "note":
            self.notes[src] = f"note {len(self.trace)}"
            self.service.put({**item, "note": self.notes[src]})
        elif what == "cure":
            self.service.put({name: value for name, value in item.items() if name != "poison"})
        elif what == "block":
            self._block(key + self.dice.choice(self.versions).step + self.dice.choice([0, 500]))
        else:
            self._delete(src, key)
            if what == "replace":
                self._create(key)
        return None

    def _block(self, key: int) -> None:
        """Creates an item at the key of another one's result."""
        if key_text(encode({"id": key})) not in self.service.items:
            self.blocked = True
            self._create(key)

    def _delete(self, src: str, key: int) -> None:
        self.removed[src] = key
        self.just_removed.add(src)
        self.service.delete({"id": key})

    def control(self) -> None:
        """A command of another process that controls the run; after `unlock`, it may take the run over, while this one
        is suspended before a request."""
        if self.controlling:
            return
        self.controlling, acting, self.acting = True, self.acting, 0.0
        what = self.dice.choice(["abort", "unlock", "unlock", "pause", "pause"])
        self.trace.append(f"  {what}")
        with suppress(DynamodtError):
            api.control_run(self.stage, TABLE, what)
            if what == "pause":
                self.service.soon = 40, self._resume
            elif what == "unlock" and acting and self.dice.random() < self.usurps:
                self.trace.append("  another up")
                api.up(self.stage, self.folder, [TABLE], None, RunOptions(max_errors=99), ProgressRecorder())
        self.controlling, self.acting = False, acting

    def _resume(self) -> None:
        with suppress(DynamodtError):
            api.control_run(self.stage, TABLE, "resume")

    # ------------------------------------------------------------ the folder

    def _write_version(self) -> None:
        if len(self.versions) < 4:
            self.versions.append(Version.drawn(len(self.versions) + 1, self.dice))
            self._save(self.versions[-1])

    def _save(self, version: Version) -> None:
        path = self.folder / "transforms" / TABLE / f"v{version.number}_change.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(version.text)

    def _pending(self) -> list[Version]:
        return [version for version in self.versions if version.number not in self.state.applied(TABLE)]

    def _mend(self) -> None:
        """Edits pending versions so that they fail for no item."""
        for version in self._pending():
            if version.bad:
                version.bad = ()
                self.trace.append(f"mend v{version.number}")
                self._save(version)

    def _edit(self) -> None:
        for version in self._pending()[:1]:
            version.edits += 1
            self.trace.append(f"edit v{version.number}")
            self._save(version)

    # ------------------------------------------------------------ commands

    def run(self) -> None:
        for _ in range(self.dice.choice([4, 8, 12])):
            what = self.dice.choice(_STEPS if self.dice.random() < 0.4 else self._useful())
            getattr(self, what if what in ("act", "control") else f"_{what}")()
            if self.found or self.over:
                return
        self._finish()

    def _useful(self) -> tuple[str, ...]:
        if any(unfinished(run.status) for run in self.runs()):
            return ("up", "up", "undo", "undo", "down", "retry")
        return ("up",) if self._pending() else ("down", "undo", "write_version")

    def runs(self) -> list[RunRecord]:
        return self.state.runs(TABLE)

    def _up(self) -> None:
        to = self.dice.choice([None, None, self.dice.randint(1, len(self.versions))])
        options = RunOptions(max_errors=self.dice.choice([0, 0, 2]), journal=self.dice.choice([None, True]))
        self._command(f"up to {to}, {options.max_errors} errors", self._migration("up", to, options))

    def _down(self) -> None:
        self._command("down", self._migration("down", self.dice.choice([None, None, 0]), RunOptions()))

    def _migration(self, direction: str, to: int | None, options: RunOptions) -> Call:
        return lambda seen: getattr(api, direction)(self.stage, self.folder, [TABLE], to, options, seen)

    def _undo(self) -> None:
        self._of_run("undo", RunOptions())

    def _retry(self) -> None:
        self._of_run("retry", RunOptions())

    def _accept(self) -> None:
        self._of_run("retry", RunOptions(accept_all=True, reason="so be it"))

    def _of_run(self, what: str, options: RunOptions) -> None:
        if runs := self.runs():
            run = self.dice.choice([runs[-1], runs[-1], self.dice.choice(runs)])
            if what == "retry" and not options.accept_all:
                options = RunOptions(in_doubt=self.history.in_doubt(run))
            call = getattr(api, what)
            self._command(
                f"{what} {run.run}, v{run.version} {run.direction}",
                lambda seen: call(self.stage, self.folder, [TABLE], run.run, options, seen),
            )

    def _prepare(self, calm: bool = False) -> None:
        for number in [version.number for version in self.versions if version.prepares]:
            prepare = lambda seen, at=number: api.prepare(self.stage, self.folder, TABLE, at, seen)  # noqa: E731
            self._command(f"prepare v{number}", prepare, calm)

    def _stamp(self, calm: bool = False) -> None:
        """Versions are recorded as applied; their transformations, and their rows, are not there."""
        to = self.to_stamp
        if to is None:
            to = self.dice.randint(max(self.state.applied(TABLE), default=0), len(self.versions))
        stamp = lambda seen: api.stamp(self.stage, self.folder, TABLE, to, seen, RunOptions())  # noqa: E731
        self._command(f"stamp to {to}", stamp, calm)

    def _recreate(self) -> None:
        """The table is deleted and created again, empty or from a backup."""
        runs = self.runs()
        if self.dice.random() < self.recreates and not any(run.target and unfinished(run.status) for run in runs):
            restored = self.dice.random() < 0.5 and not any(unfinished(run.status) for run in runs)
            self.trace.append(f"the table is created again{', from a backup' if restored else ''}")
            self.gone = {run.run for run in runs if not run.target}
            self.service.identities[TABLE] = f"identity {len(self.trace)}"
            self.to_stamp = max(self.state.applied(TABLE), default=0) if restored else 0
            self.former = {run.run for run in runs}
            if not restored:
                self.service.items.clear()
                self.history.empty()
                self._create()

    def _rehearse(self) -> None:
        """A dry run. If no run is unfinished, its command follows, and agrees with it."""
        direction, calm = self.dice.choice(["up", "up", "down"]), self.dice.random() < 0.6
        dry = self._command(
            f"dry run of {direction}",
            self._migration(direction, None, RunOptions(dry_run=True, max_errors=99)),
            calm,
            True,
        )
        if not calm or any(unfinished(run.status) for run in self.runs()):
            return
        real = self._command(direction, self._migration(direction, None, RunOptions(max_errors=99)), calm=True)
        refused = dry[1] or dry[0][0].refusal
        counts = [
            [(one.counts.changed, one.counts.dead) for one in found[0].versions] for found, _ in (dry, real) if found
        ]
        if bool(refused) != bool(real[1]) or (not refused and not self.blocked and counts[0] != counts[1]):
            self.breach(f"the dry run does not agree: {refused} and {real[1]}, {counts}")

    def _finish(self) -> None:
        """Without faults, the table reaches its last version."""
        self._mend()
        self._prepare(calm=True)
        if self.to_stamp is not None:
            self._stamp(calm=True)
        error = self._last_up()
        for run in [run for run in self.runs() if unfinished(run.status) and run.run not in self.gone]:
            call = self._migration("down", run.version - 1, _WHOLE)
            if run.direction == "up" or run.status == "undoing":
                call = lambda seen, run=run: api.undo(self.stage, self.folder, [TABLE], run.run, _WHOLE, seen)  # noqa: E731
            self._command(f"the end of {run.run}", call, calm=True)
            error = self._last_up()
        if error is not None and "another run may transform" not in str(error) and not self.blocked:
            self.breach(f"stuck: {error}; {getattr(error, 'hint', '')}")

    def _last_up(self) -> BaseException | None:
        accepts = RunOptions(reason="a typing error")
        self._command("repair", lambda seen: api.repair(self.stage, self.folder, TABLE, None, seen, accepts), calm=True)
        return self._command("the last up", self._migration("up", None, _WHOLE), calm=True)[1]

    # ------------------------------------------------------------ one command

    def _command(
        self, name: str, call: Call, calm: bool = False, dry: bool = False
    ) -> tuple[Any, BaseException | None]:
        """A command to its end, or to its death; then the conditions. Returns its result and its error."""
        service, before = self.service, self._contents()
        self.just_removed.clear()
        self.trace.append(name + ("" if calm else self._disturb()))
        result, error = None, None
        try:
            result = call(ProgressRecorder())
            reports = [result] if isinstance(result, UndoReport) else result if isinstance(result, list) else []
            error = next((one.error for one in reports if one.error is not None), None)
        except (Exception, Killed, KeyboardInterrupt) as raised:
            error = raised
        error = Killed() if service.left < 0 else error
        liveness._kept.clear()
        acted = self.acting
        self._calm()
        service.network.flush()
        self.trace.append(f"  {type(error).__name__}: {error}" if error else "  done")
        if not isinstance(error, DynamodtError | Killed | KeyboardInterrupt | None) or _is_broken(error):
            self.breach(f"an unexpected error: {error!r}, {error.__cause__!r}")
        if (dry or isinstance(error, Refused | UsageError)) and not acted and self._contents() != before:
            self.breach("a dry run, or a refused command, has written")
        self.history.check()
        if any(run.run not in self.former for run in self.runs()):
            self.to_stamp = None
        return result, error

    def _calm(self) -> None:
        service, self.acting = self.service, 0.0
        service.left = service.left_writes = service.interrupt = NEVER
        service.outage, service.often = (NEVER, ""), 0.0

    def _contents(self) -> list[dict[str, Any]]:
        return [dict(self.service.items), dict(self.service.table(OTHERS))]

    def _disturb(self) -> str:
        """Draws what happens during a command."""
        dice, service = self.dice, self.service
        self._calm()
        service.often, self.acting = self.faulty, self.often
        if dice.random() < self.deadly:
            service.left = dice.choice([NEVER, NEVER, dice.randint(1, dice.choice([15, 60, 150]))])
            service.left_writes = dice.randint(0, 4) if service.left == NEVER else NEVER
        if dice.random() < 0.15:
            service.outage = dice.randint(1, 120), dice.choice([STATE, TABLE, OTHERS, ""])
        if dice.random() < 0.1:
            service.interrupt = dice.randint(1, 120)
        planned = {"killed": service.left, "at write": service.left_writes, "Ctrl-C": service.interrupt}
        planned[f"outage of {service.outage[1] or 'the storage'}"] = service.outage[0]
        return "".join(f", {what} after {number}" for what, number in planned.items() if number < NEVER)

    def breach(self, what: str) -> None:
        self.found.append("\n    ".join([what, *self.trace]))


def _is_broken(error: BaseException | None) -> bool:
    return isinstance(error, RunFailed) and ("the pipeline failed" in str(error) or "the balance" in str(error))
