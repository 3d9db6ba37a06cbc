"""`check`: applies a table's versions in order to a sample of items, each version to the results of the previous one.

The items come from random segments of a scan, an export in S3, or a file.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dynamodt.checks.examples import Replacer, read_images, sample_path, sample_text, version_of
from dynamodt.checks.other_process import OtherProcess, VersionInputs
from dynamodt.checks.subject import CallLimit, HangError, applied_to_all
from dynamodt.checks.version import VersionTrial
from dynamodt.errors import DynamodtError, Refused, ScriptError, UsageError, file_explained, suggest
from dynamodt.export.datafiles import DataFile, DataReader
from dynamodt.export.objects import S3Objects
from dynamodt.model.reports import Finding, TableCheck, VersionCheck
from dynamodt.model.runs import Script
from dynamodt.model.tables import Image, TableSpec
from dynamodt.pipeline.author_output import labelled
from dynamodt.pipeline.process import mute_beam
from dynamodt.runs.context import Project
from dynamodt.runs.estimate import TableSample, read_sample
from dynamodt.runs.exports import open_export
from dynamodt.runs.jobs import was_held_recently
from dynamodt.runs.plan import usable_table, usable_target
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of
from dynamodt.state import prepared
from dynamodt.state.runs import unfinished


@dataclass(frozen=True)
class CheckOptions:
    """The options of `check`: `sample` items, from the table, from `items` (a file) or from `export`; one `version`
    (None: every pending version, or all without one), each on `variants` variants. `save`: keep the sample, with its
    values replaced. `seconds` is the limit of one call of the author's code."""

    sample: int = 1000
    items: str = ""
    export: str = ""
    version: int | None = None
    variants: int = 300
    save: bool = False
    seconds: float = 10.0


def check_table(project: Project, name: str, options: CheckOptions) -> TableCheck:
    """Checks one table's versions; only `save` writes a file, the sample. `name` is the table's real name; the
    project's options limit the reads.

    Raises ScriptError for files that are not versions, UsageError for a version or file that does not exist,
    ServiceError.
    """
    scripts, state = project.versions(name), project.state
    table = usable_table(project.stage, name)
    applied, unended = state.applied(name), [run for run in state.runs(name) if unfinished(run.status)]
    at = max(applied, default=0)
    chosen = _chosen(scripts, at, options.version)
    sample = _sample(project, table, options, was_held_recently(state.leases.read(name)))
    saved = _saved(project, table, sample, at) if options.save else ""
    checking = _Checking(project, table, scripts, options)
    with mute_beam(), OtherProcess() as elsewhere:
        versions, notices = checking.versions(chosen, sample, at, elsewhere)
    if unended and not options.items:
        run = unended[-1]
        what = f"a run of version {run.version} is unfinished ({run.status})"
        notices.append(f"{what}: it has changed some items already")
    return TableCheck(
        name, at, sample.source, len(sample.images), sample.whole, versions, tuple(notices), saved,
        sample.read_units,
    )  # fmt: skip


def check_tables(project: Project, names: Sequence[str], options: CheckOptions) -> list[TableCheck]:
    """Checks several tables; an error that ends a table's check is in its result."""
    found: list[TableCheck] = []
    for name in names:
        try:
            found.append(check_table(project, name, options))
        except DynamodtError as error:
            found.append(TableCheck(name, 0, "", 0, error=error))
    return found


def _chosen(scripts: Sequence[Script], at: int, version: int | None) -> tuple[Script, ...]:
    """The versions to check: the given one, else every pending one, else all."""
    if version is None:
        return tuple(script for script in scripts if script.sequence > at) or tuple(scripts)
    found = tuple(script for script in scripts if script.sequence == version)
    if not found:
        last = f"; the last one is {scripts[-1].sequence}" if scripts else ""
        hint = suggest("status") + " lists the versions"
        raise UsageError(f"there is no version {version}{last}", where="--version", hint=hint)
    return found


def _sample(project: Project, table: TableSpec, options: CheckOptions, consistent: bool) -> TableSample:
    if options.items:
        return sample_of_file(Path(options.items), table)
    if options.export:
        files, objects = open_export(project.stage, table, options.export)
        return sample_of_export(files, objects, table, options.export, options.sample)
    found = read_sample(project, table, options.sample, consistent)
    where = "a scan of the whole table" if found.whole else "random segments of a scan"
    return replace(found, source=where)


def _saved(project: Project, table: TableSpec, sample: TableSample, at: int) -> str:
    """Writes the sample with its values replaced, and returns the file's name. Raises UsageError without items."""
    names = project.stage.names
    if not sample.images:
        hint = "put items into the table, or name a file of them: --items FILE.jsonl"
        raise UsageError("there is no item to save", where=f"table {names.shown(table.name)}", hint=hint)
    replacer = Replacer(sample.images)
    path = sample_path(project.folder / "transforms", names.logical(table.name))
    version = at if sample.version is None else sample.version
    with file_explained("written", path):
        path.write_text(sample_text(map(replacer.image, sample.images), version), encoding="utf-8")
    return path.relative_to(project.folder).as_posix()


@dataclass(frozen=True)
class _Checking:
    project: Project
    table: TableSpec
    scripts: tuple[Script, ...]
    options: CheckOptions

    def versions(
        self, chosen: Sequence[Script], sample: TableSample, at: int, elsewhere: OtherProcess
    ) -> tuple[tuple[VersionCheck, ...], list[str]]:
        """The checks of the chosen versions, and the notices about limits of the check."""
        notices = [] if sample.images else [_NO_ITEMS.format(self.project.stage.names.shown(self.table.name))]
        first = chosen[0].sequence if chosen else 0
        there = self._version_of(sample, at, first)
        images, derived, why = self._before(first, there, list(sample.images))
        notices += [why] if why else []
        found: list[VersionCheck] = []
        for script in self._between(there + 1, first):
            _, images = self._one(script, images, False, elsewhere, quick=True)
        for script in chosen:
            checked, images = self._one(script, images, derived, elsewhere)
            found.append(checked)
        notices += [_UNPREPARED.format(one.version) for one in found if one.prepared == "missing"]
        return tuple(found), notices

    def _version_of(self, sample: TableSample, at: int, first: int) -> int:
        """The version of the sample's items; a file without a version counts as the input of the first version to
        check."""
        if sample.version is not None:
            return min(sample.version, len(self.scripts))
        return first - 1 if self.options.items else at

    def _between(self, start: int, end: int) -> list[Script]:
        return [script for script in self.scripts if start <= script.sequence < end]

    def _before(self, first: int, there: int, images: list[Image]) -> tuple[list[Image], bool, str]:
        """The items as the input of version `first`: `transform_down` reverts a sample of a later version. Also whether
        items were reverted, and a notice."""
        undone = self._between(first, there + 1)[::-1]
        if not undone or not images:
            return images, False, ""
        which = f"the items have version {there} already"
        missing = next((s for s in undone if s.has_up and not s.has_down), None)
        if missing is not None:
            instead = f"version {first} is tried on variants only"
            return [], False, f"{which}, and version {missing.sequence} has no transform_down: {instead}"
        for script in undone:
            images = self._undone(script, images)
        return images, True, f"{which}: version {first} is tried on what transform_down makes of them"

    def _undone(self, script: Script, images: list[Image]) -> list[Image]:
        """The results of a version's transform_down, without the items that raise an error."""
        if not script.has_down:
            return images
        limit, found = CallLimit(self.options.seconds), dict[str, Image]()
        try:
            asked = self._asked(script, False)
            with labelled(script), limit.guarded():
                subject = asked.open("down", limit)
                for image in images:
                    found.update(applied_to_all(subject, [image])[0])
                subject.close()
        except (ScriptError, HangError):
            return []
        return list(found.values())

    def _one(
        self, script: Script, images: list[Image], derived: bool, elsewhere: OtherProcess, quick: bool = False
    ) -> tuple[VersionCheck, list[Image]]:
        """One version's check, and the items after it; `quick`: only these items are needed."""
        try:
            asked = self._asked(script, derived)
        except DynamodtError as error:
            finding = Finding("fault", "loads", error.what, str(error.hint), error.where)
            empty = VersionCheck(script.sequence, script.name, script.path, len(images), findings=(finding,))
            return empty, images
        if quick:
            asked = replace(asked, examples=1)
        return VersionTrial(asked, elsewhere, self.project.observer.notify).check(images)

    def _asked(self, script: Script, derived: bool) -> VersionInputs:
        """A version with its tables and its prepared data. Raises Refused if KEY is not the table's key, and for an
        unusable target."""
        if script.key and script.key != self.table.key:
            raise Refused(
                f"KEY is not the key of table {self.table.name}",
                where=script.path,
                hint="check the stage and the folder's name, or correct KEY in the script",
            )
        target = usable_target(self.project.stage, script)
        rows: Mapping[Any, Any] | None = self._prepared(script) if script.has_prepare else {}
        return VersionInputs(script, self.table, target, rows, derived, self.options.variants, self.options.seconds)

    def _prepared(self, script: Script) -> Mapping[Any, Any] | None:
        """The version's prepared rows; None if they are missing."""
        with suppress(Refused):
            return prepared.load(self.project.storage, script, self.project.prepared(script, self.table))
        return None


_UNPREPARED = (
    "version {} joins prepared data, which is missing: `prepare` must run first; until then its errors may be those of "
    "the missing rows, and the versions after it get only the items that it does not fail on"
)


_NO_ITEMS = (
    "table {} has no item: the versions were tried on variants only, made of the attributes that they name; "
    "name a file of items (--items FILE.jsonl), or a stage with items (--stage NAME)"
)


# ---------------------------------------------------------------- the sample


_PLACES = 50  # files from which a large export is sampled
_LISTED = "an item of --items must have the table's key"


def sample_of_file(path: Path, table: TableSpec) -> TableSample:
    """The items of a file. Raises UsageError for an item without the table's key, and for two with the same key."""
    images = list(read_images(path))
    seen: dict[str, int] = {}
    for number, image in enumerate(images, 1):
        where = f"{path}: item {number}"
        for attribute in table.key:
            if attribute.type not in image.get(attribute.name, {}):
                what = f"the item has no {attribute.name} of type {attribute.type}, the key of {table.name}"
                raise UsageError(what, where=where, hint=_LISTED)
        earlier = seen.setdefault(key_text(key_of(table, image)), number)
        if earlier != number:
            raise UsageError(f"items {earlier} and {number} have one key", where=where, hint="keep one of them")
    return TableSample(tuple(images), whole=False, source=str(path), version=version_of(path))


def sample_of_export(
    files: Sequence[DataFile], objects: S3Objects, table: TableSpec, place: str, number: int
) -> TableSample:
    """Items of the first chunks of random data files of the export at `place`. Raises the errors of a run with this
    export; UsageError for an empty one."""
    files = random.sample(files, len(files))
    limit = max(1, -(-number // _PLACES))
    images: list[Image] = []
    for file in files:
        reader = DataReader(objects, table, size=limit if len(files) >= _PLACES else number)
        for chunk in reader.items(file):
            images += chunk.records
            break
        if len(images) >= number:
            break
    if not images:
        raise UsageError("the export has no item", where=place, hint="name another export, or use --items")
    return TableSample(tuple(images[:number]), whole=False, source=f"the export {place}")
