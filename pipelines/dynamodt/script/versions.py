"""Plans the versions of a table that a command runs, and gives the status of each version."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dynamodt.errors import Hint, Refused, UsageError, suggest
from dynamodt.model.reports import VersionStatus
from dynamodt.model.runs import AppliedVersion, RunRecord, Script
from dynamodt.model.tables import Direction

Applied = Mapping[int, AppliedVersion]


# ---------------------------------------------------------------- planning


def plan(
    scripts: Sequence[Script],
    applied: Applied,
    direction: Direction,
    to: int | None = None,
    mended: Collection[int] = (),
) -> tuple[Script, ...]:
    """The versions to run, in the order of running; empty when there is nothing to do.

    up: every pending version up to `to` (default: the latest); none if a newer release has applied versions above the
    last file. down: the applied versions above `to`, from the highest (default: only the latest; 0: all). `mended`:
    versions whose `down` has begun, and whose file may have been edited since. Raises UsageError if no file has the
    version `to`, and Refused if running would break the history.
    """
    if to is not None:
        _check_exists(scripts, applied, to)
    return _plan_up(scripts, applied, to) if direction == "up" else _plan_down(scripts, applied, to, mended)


def _check_exists(scripts: Sequence[Script], applied: Applied, to: int) -> None:
    """Raises UsageError for a version that has neither a file nor a record; 0 is the table before the first."""
    if to < 0:
        raise UsageError(f"{to} is not a version", hint="Versions count from 1; 0 is the table before the first.")
    last = scripts[-1].sequence if scripts else 0
    if to > max(last, *applied, 0):
        raise UsageError(
            f"there is no version {to}; the last one is {last}",
            where=scripts[-1].path if scripts else "",
            hint=_write_it(scripts, last),
        )


def _plan_up(scripts: Sequence[Script], applied: Applied, to: int | None) -> tuple[Script, ...]:
    _check_history(scripts, applied)
    at = max(applied, default=0)
    last = scripts[-1].sequence if scripts else 0
    goal = max(last, at) if to is None else to
    if goal < at:
        raise _way_back(applied[at].table, at, goal)
    return tuple(script for script in scripts if at < script.sequence <= goal)


def _write_it(scripts: Sequence[Script], last: int) -> Hint:
    if not scripts:
        return "Write it first: " + suggest("create", help=True)
    return f"Choose one up to {last}, or write it: " + suggest("create", "NAME", table=scripts[0].table)


def _way_back(table: str, at: int, goal: int) -> Refused:
    return Refused(
        f"{table} is at version {at} already, above {goal}",
        hint="To roll back: "
        + suggest("down", table=table, to=goal)
        + f" (make run TABLE={table} VERSION={goal} DIRECTION=down)",
    )


def _plan_down(
    scripts: Sequence[Script], applied: Applied, to: int | None, mended: Collection[int]
) -> tuple[Script, ...]:
    if not applied:
        return ()
    at = max(applied)
    goal = at - 1 if to is None else to
    if goal > at:
        table = applied[at].table
        raise Refused(
            f"{table} is at version {at}, below {goal}", hint="To go forward: " + suggest("up", table=table, to=goal)
        )
    numbered = {script.sequence: script for script in scripts}
    versions = sorted((number for number in applied if number > goal), reverse=True)
    steps = tuple(
        numbered[number]
        if number in mended and number in numbered
        else _as_applied(numbered.get(number), applied[number])
        for number in versions
    )
    for script in steps:
        _check_reversible(script, applied[script.sequence].run)
    return steps


def _check_history(scripts: Sequence[Script], applied: Applied) -> None:
    numbered = {script.sequence: script for script in scripts}
    newer = {record.version for record in newer_versions(scripts, applied)}
    for number in sorted(applied.keys() - newer):
        _as_applied(numbered.get(number), applied[number])
    at = max(applied, default=0)
    free = max(numbered.keys() | applied, default=0) + 1
    for script in scripts:
        if script.sequence < at and script.sequence not in applied:
            raise _late(script, applied[at], free)


def newer_versions(scripts: Sequence[Script], applied: Applied) -> list[AppliedVersion]:
    """The applied versions above the last file, in order: they belong to a newer release than these files."""
    last = max((script.sequence for script in scripts), default=0)
    return [applied[number] for number in sorted(applied) if number > last]


def _as_applied(script: Script | None, record: AppliedVersion) -> Script:
    """The script, if it is still the one that was applied. Raises Refused otherwise."""
    file_name = file_of(record)
    if script is None:
        raise Refused(
            f"version {record.version} of {record.table} is applied, but its file is missing",
            where=file_name,
            hint=f"Bring {file_name} back, or use the release that has it (another branch?). Roll a version back "
            "before its file is deleted.",
        )
    if is_unedited(script, record):
        return script
    if script.name != record.name:
        raise another_script(script, record)
    replay = "If the edit is for its dead letters, replay them: " + suggest("retry", record.run) + ". Otherwise: "
    raise Refused(
        f"was edited after version {record.version} of {record.table} was applied",
        where=script.path,
        hint=(replay if record.counts.dead else "")
        + "Revert the edit, and put the change into a new version: "
        + suggest("create", "NAME", table=record.table)
        + "; or accept it, if what is applied may stay as it is: "
        + suggest("repair", table=record.table, reason="WHY"),
    )


def another_script(script: Script, record: AppliedVersion) -> Refused:
    """The refusal of a file with the number of an applied version, but another name and content."""
    what = f"version {record.version} of {record.table} was applied as {file_of(record)}, which is another script"
    return Refused(what, where=script.path, hint=bring_back(record))


def bring_back(version: AppliedVersion | RunRecord | VersionStatus) -> Hint:
    """The hint for a version whose number another script has now, as after a merge of two branches."""
    return Hint(f"bring {file_of(version)} back under its number, and give the new script the next free one")


def file_of(version: AppliedVersion | RunRecord | VersionStatus) -> str:
    """The name of the file with which a version was applied."""
    return f"v{version.version}_{version.name}.py"


def is_unedited(script: Script, record: AppliedVersion | RunRecord) -> bool:
    """Whether the script is equivalent to the one that was applied. Early records have the checksum of the exact
    text."""
    return record.checksum in (script.checksum, script.text_checksum)


def _late(script: Script, latest: AppliedVersion, free: int) -> Refused:
    name = f"v{free}_{script.name}.py"
    return Refused(
        f"version {script.sequence} is not applied, though version {latest.version} ({latest.name}) is: merged late?",
        where=script.path,
        hint=f"Renumber it: rename the file to {name}, with sequence = {free}.",
    )


def is_reversible(script: Script) -> bool:
    """Whether `down` can run: rows of `items` are deleted without a function, `transform_up` needs `transform_down`."""
    return script.has_down or not script.has_up


def _check_reversible(script: Script, run: str) -> None:
    """Raises Refused for a version without `transform_down`; `run` is the one that has applied it."""
    if not is_reversible(script):
        raise Refused(
            f"version {script.sequence} of {script.table} is irreversible: it has no transform_down",
            where=script.path,
            hint="Nothing was started. Repair the data in a new version; or, while its run "
            f"is the last one{' and kept a journal' * script.idempotent}: " + suggest("undo", run),
        )


# ---------------------------------------------------------------- status


def statuses(scripts: Sequence[Script], applied: Applied) -> tuple[VersionStatus, ...]:
    """The status of each version that has a file or is applied, in order. An edited one has the name with which it was
    applied, and the path of the present file."""
    numbered = {script.sequence: script for script in scripts}
    return tuple(
        _status(number, numbered.get(number), applied.get(number)) for number in sorted(numbered.keys() | applied)
    )


def _status(number: int, script: Script | None, record: AppliedVersion | None) -> VersionStatus:
    if script is None:
        assert record is not None
        return VersionStatus(number, record.name, "missing", when=record.when)
    if record is None:
        return VersionStatus(number, script.name, "pending", script.path)
    changed = changed_files(record.files, script.file_checksums)
    if is_unedited(script, record):
        return VersionStatus(number, script.name, "applied", script.path, record.when, changed=changed)
    return VersionStatus(number, record.name, "edited", script.path, record.when, changed=changed)


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the files whose checksums differ, or that only one side has, in sorted order."""
    return tuple(sorted(name for name in before.keys() | now if before.get(name) != now.get(name)))
