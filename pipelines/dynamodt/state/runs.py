"""A run's phases and statuses, derived from its record, and the facts that are recorded at its start.

`TRANSITIONS` lists every transition between statuses. This table alone decides whether a run may continue and whether a
new one may begin. `run_progress` combines the recorded status with the table's lease.

Facts are recorded by name and compared when the run is continued. Each fact decides what the run writes, where, or how
its own writes are recognized. A run that continued with other facts would write a part of the table under one set of
facts and the rest under another. A script's text is recorded separately, since the script may be edited between two
attempts: the record counts the items that each text has transformed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from dynamodt.errors import Hint, Refused, suggest
from dynamodt.model.pages import Counts
from dynamodt.model.reports import LEFT_EARLY, VersionStatus
from dynamodt.model.runs import (
    FINAL_SCAN,
    INCREMENTAL,
    INSERTED_ROWS,
    Lease,
    PreparedRef,
    RunRecord,
    Script,
    ScriptText,
)
from dynamodt.model.tables import KeyAttribute, TableSpec


class Phase(NamedTuple):
    """One phase of a run: over the table's segments (or its export's files), over inserted rows, over an incremental
    export, or over dead letters. `run` is the phase's id, `splits` its number of splits."""

    run: str
    splits: int


def phases(record: RunRecord) -> tuple[Phase, ...]:
    """All phases that a run may have. A phase that did not take place has no split rows and adds nothing to the counts;
    the record's `planned` is the actual number of splits."""
    incremental_exports = (
        Phase(incremental_run(record.run, number), splits)
        for number, splits in enumerate(record.incremental_exports, 1)
    )
    final_scan = (Phase(record.run + FINAL_SCAN, record.final_scan),) if record.final_scan else ()
    main = (Phase(record.run, record.splits), Phase(record.run + INSERTED_ROWS, 1), *incremental_exports, *final_scan)
    again = (Phase(retry_run(each.run, number), 1) for number in range(1, record.retries + 1) for each in main)
    return (*main, *again)


class WritePeriod(NamedTuple):
    """A phase, or a part of it: the writes of the attempts from `since` up to, but not including, `until` (0: no end),
    without a write of another phase in between. `number` counts the write periods of the phase, from 1."""

    run: str
    splits: int
    since: int = 0
    until: int = 0
    number: int = 1


def order_with_phase(record: RunRecord, run: str, attempt: int) -> tuple[str, ...]:
    """The record's order after an attempt begins or continues a phase. A new write period is added only if another
    phase was written since."""
    suffix = run.removeprefix(record.run)
    last = record.order[-1].rpartition("@")[0] if record.order else None
    return record.order if last == suffix else (*record.order, f"{suffix}@{attempt}")


def write_periods(record: RunRecord) -> tuple[WritePeriod, ...]:
    """The write periods of a run in the order of their writes; phases without a place in that order come first."""
    splits = {each.run: each.splits for each in phases(record)}
    parsed = (one.rpartition("@") for one in record.order)
    begun = [(record.run + suffix, int(attempt)) for suffix, _, attempt in parsed]
    ordered: list[WritePeriod] = []
    for place, (run, attempt) in enumerate(begun):
        number = 1 + sum(one.run == run for one in ordered)
        until = next((later for other, later in begun[place + 1 :] if other == run), 0)
        ordered.append(WritePeriod(run, splits.get(run, 0), attempt if number > 1 else 0, until, number))
    known = {run for run, _ in begun}
    return (*(WritePeriod(each.run, each.splits) for each in phases(record) if each.run not in known), *ordered)


def undo_phases(record: RunRecord, number: int) -> tuple[Phase, ...]:
    """The phases that undo a run, the last written phase first. `number` is the try of the undo, from 1; another
    try follows one that leaves dead letters."""
    periods = reversed(write_periods(record))
    return tuple(Phase(undo_run(each.run, number, each.number), each.splits) for each in periods)


def incremental_run(run: str, number: int) -> str:
    """The id of the phase over an incremental export; the first is 1."""
    return f"{run}{INCREMENTAL}{number}"


def retry_run(run: str, number: int) -> str:
    """The id of the phase over another phase's dead letters."""
    return f"{run}/retry{number}"


def undo_run(run: str, number: int, period: int = 1) -> str:
    """The id of the phase that undoes another phase, or one write period of it."""
    return f"{run}/undo{number}" + (f".{period}" if period > 1 else "")


class Transition(NamedTuple):
    """`event` takes a run from `status` to `to`; `meaning` is one sentence about it."""

    status: str
    event: str
    to: str
    meaning: str


TRANSITIONS: Final = (
    Transition("", "begin", "running", "A run begins: its splits are planned, and nothing is written yet."),
    Transition(
        "running",
        "succeed",
        "succeeded",
        "Everything was read, the counts balance, and no dead letter remains that is neither accepted nor tolerated.",
    ),
    Transition(
        "succeeded",
        "reopen",
        "running",
        "Dead letters that it has left are replayed; its version is as before the run until that ends.",
    ),
    Transition("running", "fail", "failed", "An error or a dead letter ended it; its checkpoints remain."),
    Transition("running", "stop", "stopped", "An operator stopped it after a page; its checkpoints remain."),
    Transition("running", "pause", "paused", "It has cost as much as it may; a higher limit continues it."),
    Transition("running", "continue", "running", "Its process died; the next one continues from the checkpoints."),
    Transition("failed", "continue", "running", "The cause was removed, and the same run continues."),
    Transition("stopped", "continue", "running", "The same run continues."),
    Transition("paused", "continue", "running", "The same run continues, with a higher limit."),
    Transition("", "stamp", "stamped", "Nothing ran here: an operator recorded which versions are applied."),
    Transition("", "adopt", "adopted", "It ran elsewhere, according to the record of the tool that ran it."),
    Transition("", "repair", "repaired", "Nothing ran here: an operator accepted an edit of an applied version."),
    Transition(
        "succeeded", "undo", "undoing", "It is undone by its journal; its version stays applied until the undo ends."
    ),
    Transition("failed", "undo", "undoing", "What it has written is undone, instead of continued."),
    Transition("stopped", "undo", "undoing", "What it has written is undone, instead of continued."),
    Transition("paused", "undo", "undoing", "What it has written is undone, instead of continued."),
    Transition("running", "undo", "undoing", "Its process died; what it has written is undone."),
    Transition("undoing", "undo", "undoing", "The undo was stopped, or died: it continues from its checkpoints."),
    *(
        Transition(
            status,
            "replace",
            "replaced",
            "It has no effect: none of its writes remains, or an operator has recorded which versions are applied.",
        )
        for status in ("running", "failed", "stopped", "paused", "undoing", "partly-undone")
    ),
    Transition("undoing", "undone", "undone", "Every item that is still as the run wrote it is as before the run."),
    Transition("undoing", "lack", "partly-undone", "What its journal still holds is restored; the version stays."),
    Transition("partly-undone", "undo", "undoing", "Missing parts of its journal may be back: the undo starts over."),
    Transition(
        "partly-undone",
        "stamp",
        "closed",
        "An operator has repaired the items, and recorded which versions are applied.",
    ),
)

_TO: Final = {(transition.status, transition.event): transition.to for transition in TRANSITIONS}
REPLACED: Final = frozenset({"replaced", "closed"})  # without effect; recorded with the run or stamp that follows
TAKEN_OVER: Final = frozenset({"adopted", "repaired"})  # recorded by a command: nothing ran here
ENDED: Final = frozenset({"succeeded", "stamped", "adopted", "repaired", "undone", "replaced", "closed"})


def next_status(status: str, event: str) -> str:
    """The status that an event leads to. Raises Refused when the status does not allow the event."""
    if (status, event) not in _TO:
        raise Refused(f"a run that is {status or 'not begun'} cannot {event}", hint=suggest("history"))
    return _TO[status, event]


def or_undo(record: RunRecord) -> Hint:
    """The alternative to undo a run, as the end of a hint; empty for a run without a journal."""
    return "; or undo it: " + suggest("undo", record.run) if record.journal else Hint("")


def unfinished(status: str) -> bool:
    """Whether a run in this status holds its table: it must end before another one may begin."""
    return status not in ENDED


def written_order(record: RunRecord) -> tuple[int, bool, int, str, str]:
    """The sort key of a table's runs by the lease under which each was last recorded: ids and times come from the
    clocks of several machines, or from one that was set back. Runs under one lease belong to one command: first those
    that it has replaced, the others by version. Imported runs precede all others, by the times of their ends."""
    version = record.version if record.direction == "up" else -record.version
    ended = "" if unfinished(record.status) else record.ended
    token = 0 if record.status == "adopted" else record.token
    return token, record.status not in REPLACED, version if token else 0, ended, record.run


UNDOING = "undoing"
ACTIVE = ("running", UNDOING)
PARTLY_UNDONE = "partly-undone"


def run_progress(record: RunRecord, lease: Lease, alive: bool) -> str:
    """A run's current status. `alive`: the lease's holder seems to be alive. A run whose recorded status is in
    `ACTIVE` is "gone" if its holder is not alive."""
    if record.status not in ACTIVE:
        return record.status
    if not alive or lease.run != record.run:
        return "gone"
    if lease.stop:
        return "stopping"
    return "paused" if lease.paused else "held" if lease.pause_reason else record.status


def with_runs(
    versions: Sequence[VersionStatus],
    records: Iterable[RunRecord],
    lease: Lease,
    alive: bool,
    written: Collection[str] = (),
) -> tuple[VersionStatus, ...]:
    """The versions of a table, with the run of each version whose run is in progress or unfinished. A version without a
    file is added if its run is in progress or may have changed items, since a part of the table may be at this version.
    `written`: the runs that may have changed items although they have counted none."""
    open_runs = {record.version: record for record in records if _is_open(record, written)}
    known = {version.version for version in versions}
    others = [
        VersionStatus(number, record.name, "pending")
        for number, record in open_runs.items()
        if number not in known and _may_have_changed(record, written)
    ]
    found = sorted((*versions, *others), key=lambda version: version.version)
    return tuple(_with_run(version, open_runs.get(version.version), lease, alive) for version in found)


def _is_open(record: RunRecord, written: Collection[str]) -> bool:
    """Whether `status` shows the run. A `down` that ended before it changed an item is left out."""
    return unfinished(record.status) and (record.direction == "up" or _may_have_changed(record, written))


def _may_have_changed(record: RunRecord, written: Collection[str]) -> bool:
    return record.status in ACTIVE or bool(record.counts.changed) or record.run in written


def _with_run(version: VersionStatus, run: RunRecord | None, lease: Lease, alive: bool) -> VersionStatus:
    if run is None:
        return version
    status = run_progress(run, lease, alive)
    if run.status in ACTIVE and status != "gone":
        held = lease.pause_reason if status == "held" else ""
        return replace(version, state="running", run=replace(run, status=status), held=held)
    by_undo = run.status in (UNDOING, PARTLY_UNDONE)  # only an undo continues such a run
    unfinished_run = run if by_undo else replace(run, status=status)
    return replace(
        version, state="unfinished" if version.state in ("pending", "applied") else version.state, run=unfinished_run
    )


def versions_with_unfinished_down(records: Iterable[RunRecord]) -> frozenset[int]:
    """The versions whose `down` is unfinished: their scripts may be edited."""
    return frozenset(
        record.version for record in records if record.direction == "down" and record.status in ("running", *LEFT_EARLY)
    )


TABLE, TARGET, ITEMS = "table", "target", "items"
WRITERS = "region of all writers"  # given by the caller, for global tables only
_SENTENCES: Final = {  # for facts whose values are identifiers or checksums
    TABLE: "the table was deleted and created again",
    TARGET: "the target table was deleted and created again",
    "prepared": "the prepared data has other rows",
    ITEMS: "items() gives other rows, or gives them in another order",
}
_REPEATABLE: Final = frozenset({"STAMP", "GUARD", "KEY", "storage", "prepared"})
_KEPT: Final = frozenset({"STAMP", "IDEMPOTENT"})
_CHANGEABLE: Final = frozenset({"GUARD"})  # the run's own writes are recognized under either guard


class Difference(NamedTuple):
    """A fact that has changed: its name, and both values in a `sentence`. `effect` is the effect on a continued run;
    empty: the run is refused."""

    name: str
    sentence: str
    effect: str = ""


def facts_at_start(
    table: TableSpec,
    script: Script,
    storage: str,
    prepared: PreparedRef | None = None,
    target: TableSpec | None = None,
    rows: str | None = "",
) -> dict[str, str]:
    """The facts by name; the value of an absent or unknown fact is empty. `rows` is the checksum of the rows of
    `items()`, None where it is unknown."""
    facts = {
        TABLE: table.identity,
        "key": declared_key(table.key),
        "TARGET_TABLE": script.target_table or "",
        TARGET: target.identity if target else "",
        "key of TARGET_TABLE": declared_key(target.key) if target else "",
        "STAMP": script.stamp or "",
        "GUARD": script.guard,
        "IDEMPOTENT": str(script.idempotent),
        "KEY": declared_key(script.key or table.key),
        "storage": storage.rstrip("/"),
        "prepared": (prepared.content or prepared.sha256) if prepared else "",
    }
    return facts if rows is None else {**facts, ITEMS: rows}


def differences(began: Mapping[str, str], now: Mapping[str, str]) -> tuple[Difference, ...]:
    """The facts that both sides have and whose values differ."""
    both = [name for name in now if name in began and began[name] != now[name]]
    if "TARGET_TABLE" in both:  # the others follow from it
        both = [name for name in both if name not in (TARGET, "key of TARGET_TABLE")]
    unknown = {name for name in (TABLE, TARGET) if not (began.get(name) and now.get(name))}
    return tuple(_difference(name, began[name], now[name]) for name in both if name not in unknown)


def _difference(name: str, was: str, now: str) -> Difference:
    """The difference and its effect. A change of STAMP or IDEMPOTENT has no effect on a run in progress; but if the run
    began as idempotent, its own writes cannot be recognized, and it is refused."""
    effect = "it applies to the rest of the run" if name in _CHANGEABLE else ""
    if name in _KEPT and (name, was) != ("IDEMPOTENT", str(True)):
        effect = "the run continues as it began"
    return Difference(name, _SENTENCES.get(name) or f"{name} was {was or 'not set'} and is {now or 'not set'}", effect)


def with_initial_settings(script: Script, began: Mapping[str, str]) -> Script:
    """The script with the STAMP and IDEMPOTENT of its run's start, by which the run recognizes its own writes."""
    return replace(
        script,
        stamp=(began["STAMP"] or None) if "STAMP" in began else script.stamp,
        idempotent=began.get("IDEMPOTENT", str(script.idempotent)) == str(True),
    )


def initial_settings(began: Mapping[str, str]) -> dict[str, str]:
    """The facts that a continued run keeps, whatever the script has now."""
    return {name: value for name, value in began.items() if name in _KEPT}


def updated_facts(now: Mapping[str, str]) -> dict[str, str]:
    """The facts that a run takes over when it is continued."""
    return {name: value for name, value in now.items() if name in _CHANGEABLE}


def may_be_repeated(found: tuple[Difference, ...]) -> bool:
    """Whether a second run from the beginning overwrites everything that an idempotent first run has written."""
    return all(one.name in _REPEATABLE for one in found)


def declared_key(key: tuple[KeyAttribute, ...]) -> str:
    """A key in the form of a script's `KEY`."""
    return json.dumps(dict(key), ensure_ascii=False)


def texts_of(record: RunRecord, transformed: int) -> tuple[ScriptText, ...]:
    """The texts of a run's script, each with the number of items that it has transformed; their sum is
    `transformed`."""
    items = {text.checksum: text.items for text in record.texts}
    rest = max(0, transformed - sum(items.values()))
    items[record.content] = items.get(record.content, 0) + rest
    return tuple(ScriptText(checksum, number) for checksum, number in items.items())


def transformed(counts: Counts) -> int:
    """The number of items that a script has transformed."""
    return counts.read - counts.dead


def texts_reported(record: RunRecord) -> tuple[ScriptText, ...]:
    """The texts that have transformed items, if the script was edited during the run; empty otherwise."""
    texts = texts_of(record, transformed(record.counts))
    texts = tuple(text for text in texts if text.items)
    return texts if any(text.checksum != record.content for text in texts) else ()
