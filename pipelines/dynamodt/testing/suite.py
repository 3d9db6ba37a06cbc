"""The tests of `pytest --dynamodt`: for each table of `transforms/` and each of its versions, without a line of code.

==================  ================================================================================================
of a table          `one_chain`: its versions are valid and one chain without gaps
of a version        `loads`: it can be loaded and called
with a sample       `up`, `down`: no item becomes a dead letter; `key_kept`: no item is written to the key of another
                    one, and one that is moved comes back by `down`; `idempotent`: applied again, a version that
                    says so changes nothing
==================  ================================================================================================

A version gets the sample after the versions before it or, if the sample has a later version, after `transform_down` of
the later ones. Prepared rows come from the script's `prepare`, called without a stage: the items of a table are its
saved sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dynamodt.checks.examples import read_images, sample_path, version_of
from dynamodt.errors import DynamodtError, UsageError, error_text, suggest
from dynamodt.model.runs import Script
from dynamodt.model.tables import Image, Item
from dynamodt.pipeline.attempts import AttemptOutcome
from dynamodt.script.apply import effect, prepare_rows
from dynamodt.script.codec import decode, key_text
from dynamodt.script.diff import key_of, key_shown
from dynamodt.script.functions import check
from dynamodt.script.load import author_frames
from dynamodt.script.names import tables
from dynamodt.script.read import read_versions
from dynamodt.state.prepared import storable
from dynamodt.testing.rehearsal import Rehearsed, Subject, rehearsed, subject

_SHOWN = 3  # failures of a test


def collected(session: pytest.Session, project: Path) -> Iterator[pytest.Item]:
    """The tests of a project's tables. Raises pytest.UsageError without a folder `transforms`."""
    transforms = project / "transforms"
    try:
        names = tables(transforms)
    except DynamodtError as error:
        hint = "run pytest in the folder that holds transforms/, or name it: --dynamodt-folder"
        raise pytest.UsageError(f"--dynamodt: {error.what} ({hint})") from error
    for name in names:
        yield from _of_table(session, Table(project, name))


def missing_samples(project: Path) -> list[str]:
    """The reasons why tests are skipped, by table."""
    try:
        found = [Table(project, name) for name in tables(project / "transforms")]
    except DynamodtError:
        return []
    return [f"{table.name}: {table.missing}" for table in found if table.missing]


def _of_table(session: pytest.Session, table: Table) -> Iterator[pytest.Item]:
    folder = table.project / "transforms" / table.name
    parent = _Versions.from_parent(session, path=folder)
    yield _Test.from_parent(parent, name="one_chain", body=table.check_chain)
    try:
        scripts = table.scripts
    except DynamodtError:
        return  # `one_chain` fails with it
    for script in scripts:
        version = _Versions.from_parent(session, path=folder / Path(script.path).name)
        for name, body in tests_of(table, script).items():
            test = _Test.from_parent(version, name=name, body=body)
            if table.missing and name != "loads":
                test.add_marker(pytest.mark.skip(reason=table.missing))
            yield test


class _Versions(pytest.File):
    """A version file, or a table's folder, as the parent of its tests; pytest itself collects none from it."""

    def collect(self) -> list[pytest.Item]:
        return []


class Failed(Exception):
    """A version fails a test; only the text is reported."""


class _Test(pytest.Item):
    def __init__(self, *, body: Callable[[], None], **more: Any) -> None:
        super().__init__(**more)
        self._body = body

    def runtest(self) -> None:
        self._body()

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.parent.name}/{self.path.name} {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The failure in the author's terms, without the package's own frames."""
        if not isinstance(excinfo.value, Failed | DynamodtError):
            return super().repr_failure(excinfo, style)
        hint = getattr(excinfo.value, "hint", "")
        return f"{excinfo.value}" + (f"\nhint: {hint}" if hint else "")


# ---------------------------------------------------------------- what is tested


@dataclass
class Table:
    """A table of the project, with its versions and its sample, each read once."""

    project: Path
    name: str

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """The table's versions. Raises ScriptError."""
        return read_versions(self.project / "transforms", self.name)

    def check_chain(self) -> None:
        """Raises ScriptError unless its versions are valid, and numbered from 1 on without a gap."""
        read_versions(self.project / "transforms", self.name)

    @cached_property
    def sample(self) -> tuple[list[Image], int]:
        """The table's saved items, and their version. Raises UsageError."""
        path = sample_path(self.project / "transforms", self.name)
        return list(read_images(path)), min(version_of(path) or 0, len(self.scripts))

    @property
    def missing(self) -> str:
        """The text about a missing sample, with the command that saves one; empty if the table has a sample."""
        there = sample_path(self.project / "transforms", self.name).is_file()
        return "" if there else "no saved sample: " + suggest("check", table=self.name, save=True)

    @cached_property
    def _before(self) -> dict[int, list[Image]]:
        return {}

    @cached_property
    def _ups(self) -> dict[int, Rehearsed]:
        return {}

    def subject(self, script: Script) -> Subject:
        """A version with its tables. Raises UsageError if a key is not known."""
        return subject(self.project / "transforms" / self.name / Path(script.path).name)

    def before(self, number: int) -> list[Image]:
        """The input items of a version. Skips the test if they cannot be made from the sample."""
        images, there = self.sample
        if number not in self._before:
            if number == there + 1:
                self._before[number] = images
            elif number > there:
                self._before[number] = self._made_by(number - 1)
            else:
                self._before[number] = self._undone(number, self.before(number + 1))
        return self._before[number]

    def _made_by(self, number: int) -> list[Image]:
        """The table's items after a version; with a TARGET_TABLE they are unchanged."""
        script = self.scripts[number - 1]
        try:
            found = self.up(number)
        except (Failed, DynamodtError):  # its test `up` reports the reason
            found = None
        if found is None or any(outcome.error is not None for outcome in found.outcomes):
            pytest.skip(f"version {number} fails on the sample")
        return self.before(number) if script.target_table else found.images

    def up(self, number: int) -> Rehearsed:
        """The results of a version for its items."""
        script = self.scripts[number - 1]
        if number not in self._ups:
            images = self.before(number)
            self._ups[number] = rehearsed(self.subject(script), images, "up", self.prepared(script))
        return self._ups[number]

    def _undone(self, number: int, images: list[Image]) -> list[Image]:
        script = self.scripts[number - 1]
        if script.target_table or not (script.has_up or script.has_items):
            return images
        if script.has_up and not script.has_down:
            there = self.sample[1]
            pytest.skip(f"the sample has version {there}, and version {number} has no transform_down")
        found = self.down(script, images)
        if any(outcome.error is not None for outcome in found.outcomes):
            pytest.skip(f"transform_down of version {number} fails on the sample")
        return found.images

    def down(self, script: Script, images: Sequence[Image]) -> Rehearsed:
        """The results of reverting a version, for these items."""
        return rehearsed(self.subject(script), images, "down", self.prepared(script))

    def prepared(self, script: Script) -> Mapping[Any, Any] | None:
        """The rows of the script's `prepare`, called without a stage. Skips the test if `prepare` needs one. Raises
        ScriptError for rows that could not be stored."""
        if not script.has_prepare:
            return None
        try:
            rows = list(prepare_rows(script, _Offline(self, script)))
        except DynamodtError as error:
            missing = _beyond_folder(error)
            if missing is None:
                raise _of_prepare(script, error) from error
            way = "; test it by dynamodt.testing.transformed(..., prepared={...})"
            pytest.skip(f"prepare of version {script.sequence} needs more than this folder: {missing}{way}")
        return dict(storable(rows, script))


class _NeedsStage(UsageError):
    """`prepare` needs a client, or the items of a table without a saved sample; a test has neither."""


def _beyond_folder(error: BaseException) -> str | None:
    """The need of `prepare` beyond this folder: a stage, or a service out of reach, also if the script has wrapped that
    error. None: the script is wrong."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, _NeedsStage):
            return at.what
        if isinstance(at, pytest.skip.Exception):  # of an earlier version, by context.prepared
            return str(at)
        of_network = isinstance(at, OSError) and at.filename is None
        if of_network or type(at).__module__.startswith("botocore."):
            return error_text(at)
        at = at.__cause__ or at.__context__
    return None


def _of_prepare(script: Script, error: DynamodtError) -> Exception:
    """The failure of a test: an error in `prepare`, with the script's lines; or the error of a row, unchanged."""
    if isinstance(error.__cause__, Failed):  # of an earlier version, by context.prepared
        return error.__cause__
    frames = [f"  {line}" for line in _lines(script, error.__cause__ or error)]
    return Failed("\n".join([str(error), *frames])) if frames else error


class _Offline:
    """The argument of `prepare` in a test: the folder, saved samples as the items of tables, and no stage."""

    def __init__(self, table: Table, script: Script) -> None:
        self._table = table
        self.folder = table.project / "transforms" / table.name
        self.table = script.table
        self.stage = "test"
        self.version = script.sequence

    def client(self, service: str) -> NoReturn:
        """Raises _NeedsStage: a test has no client."""
        raise _NeedsStage(f"a test has no client of {service}")

    def items(
        self, table: str | None = None, index: str | None = None, projection: Sequence[str] | None = None
    ) -> Iterator[Item]:
        """The saved sample of the table; with `projection`, whole attributes only. Raises UsageError without a
        sample."""
        found = self._table if table in (None, self._table.name) else Table(self._table.project, str(table))
        if found.missing:
            raise _NeedsStage(f"table {found.name} has {found.missing}")
        names = None if projection is None else {path.partition(".")[0].partition("[")[0] for path in projection}
        for image in found.sample[0]:
            yield {name: value for name, value in decode(image).items() if names is None or name in names}

    def prepared(self, version: int) -> Mapping[Any, Any]:
        """The rows of an earlier version's `prepare`, called without a stage. Raises UsageError if it has none."""
        earlier = (script for script in self._table.scripts[: self.version - 1] if script.sequence == version)
        found = next((self._table.prepared(script) for script in earlier), None)
        if found is None:
            raise UsageError(f"there is no earlier version {version!r} with a prepare function")
        return found


def tests_of(table: Table, script: Script) -> dict[str, Callable[[], None]]:
    """The tests of a version, by name."""
    found: dict[str, Callable[[], None]] = {"loads": partial(check, script), "up": partial(_up, table, script)}
    if script.has_down and not script.target_table:
        found["down"] = partial(_down, table, script)
    if script.has_up and not script.target_table:
        found["key_kept"] = partial(_key_kept, table, script)
    if script.has_up and script.idempotent:
        found["idempotent"] = partial(_idempotent, table, script)
    return found


def _up(table: Table, script: Script) -> None:
    _check_alive(table, script, table.up(script.sequence).outcomes)


def _down(table: Table, script: Script) -> None:
    _check_alive(table, script, table.down(script, table._made_by(script.sequence)).outcomes)


def _idempotent(table: Table, script: Script) -> None:
    """Applies the version twice, without the rows of `items()`, which a run does not transform, and without its STAMP,
    which each run changes."""
    table._made_by(script.sequence)  # skips the test of a version that fails on the sample
    bare = table.subject(script)._replace(script=replace(script, has_items=False, stamp=None))
    prepared = table.prepared(script)
    images = rehearsed(bare, table.before(script.sequence), "up", prepared).images
    again = rehearsed(bare, images, "up", prepared)
    changed = [one for one in again.outcomes if one.kind != "unchanged"]
    _fail(table, script, changed, len(images), "IDEMPOTENT = True, and a second application changes")


def _key_kept(table: Table, script: Script) -> None:
    outcomes = table.up(script.sequence).outcomes
    taken = [one for one in outcomes if one.step == "write" or one.kind == "superseded"]
    _fail(table, script, taken, len(outcomes), "the key of an insertion is taken, for")
    lost = [one for one in outcomes if script.has_down and not _key_restored(table, script, one)]
    _fail(table, script, lost, len(outcomes), "transform_down does not bring back to its own key")


def _key_restored(table: Table, script: Script, outcome: AttemptOutcome) -> bool:
    """Whether an item that the version has moved is at its own key again after `down`."""
    stays, inserts = effect(outcome.image, outcome.change)
    if stays is not None or not inserts:
        return True
    own = key_text(key_of(table.subject(script).table, outcome.image))
    back = table.down(script, [part.item for part in inserts])
    return any(key_text(key_of(table.subject(script).table, image)) == own for image in back.images)


def _check_alive(table: Table, script: Script, outcomes: Sequence[AttemptOutcome]) -> None:
    dead = [outcome for outcome in outcomes if outcome.error is not None]
    _fail(table, script, dead, len(outcomes), "dead letters:")


def _fail(table: Table, script: Script, outcomes: Sequence[AttemptOutcome], of: int, what: str) -> None:
    """Raises Failed if there are outcomes: the first keys, their errors and the author's lines."""
    if not outcomes:
        return
    lines = [f"{script.path}: {what} {len(outcomes):,} of {of:,} items"]
    for outcome in outcomes[:_SHOWN]:
        key = key_shown(key_of(table.subject(script).table, outcome.image))
        lines.append(f"  item {key}" + (f": {error_text(outcome.error)}" if outcome.error is not None else ""))
        lines += [f"    {line}" for line in _lines(script, outcome.error)]
    raise Failed("\n".join(lines))


def _lines(script: Script, error: BaseException | None) -> list[str]:
    """The author's own lines in an error's traceback."""
    found = author_frames(script, error) if error is not None else []
    return [f"{one.filename}:{one.lineno}: {one.line}" for one in found]
