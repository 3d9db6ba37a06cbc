"""The rules for names of tables (DynamoDB's) and version files (`v<N>_<name>.py`), and for run ids.

Also the files of `transforms/` that belong to the project, and durations (`90s`, `10m`, `1h`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

from dynamodt.errors import Refused, ScriptError, UsageError, suggest
from dynamodt.model.tables import Stage, TableNames

SAMPLE_FILE = "sample.jsonl"  # in a table's folder: see `checks.examples`
_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_VERSION_FILE = re.compile(r"v([1-9][0-9]*)_([A-Za-z0-9][A-Za-z0-9_]*)\.py")
_RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{6}")
_NEARLY_VERSION_FILE = re.compile(r"v?[\W_]*0*([1-9][0-9]*)(.*)\.py", re.IGNORECASE)
_SEQUENCE = re.compile(rb"^sequence\s*(?::\s*int\s*)?=\s*\d+\s*(?:#.*)?$", re.MULTILINE)
_LEFT_OUT = ("tests", "__pycache__")


def is_table_name(name: str) -> bool:
    return _TABLE_NAME.fullmatch(name) is not None


def check_table_name(name: str) -> None:
    """Raises UsageError for a name that DynamoDB does not allow for a table."""
    if not is_table_name(name):
        raise UsageError(
            f"{name!r} is not the name of a DynamoDB table",
            hint="A table's name has 3 to 255 characters out of a-z, A-Z, 0-9, '_', '-' and '.'.",
        )


def check_no_state_table(stage: Stage, table: str, where: str = "") -> None:
    """Raises Refused for a state table of dynamodt: transforming it would break every guarantee."""
    if table in stage.state_tables:
        raise Refused(
            f"{table} is a table of dynamodt's own state: it is neither transformed nor written to by a script",
            where=where or f"stage {stage.name}",
            hint="name a table of the application; if this is one, name another state_table in dynamodt.toml",
        )


def is_run_id(text: object) -> bool:
    """Whether a text has the form of a run's id (`runs.plan.new_run`)."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


def looks_like_version_file(file_name: str) -> bool:
    """Whether a file's name is a version's, or similar to one."""
    return _NEARLY_VERSION_FILE.fullmatch(file_name) is not None


def parse_version_file(file_name: str, where: str) -> tuple[int, str]:
    """`v2_split_name.py` -> `(2, "split_name")`. Raises ScriptError at `where` for any other form."""
    match = _VERSION_FILE.fullmatch(file_name)
    if match is None:
        raise ScriptError("is not named as a version, v<N>_<name>.py", where=where, hint=_naming_hint(file_name))
    return int(match[1]), match[2]


def _naming_hint(file_name: str) -> str:
    nearly = _NEARLY_VERSION_FILE.fullmatch(file_name)
    better = f"v{nearly[1]}_{slug(nearly[2]) or '<name>'}.py" if nearly else "v<N>_<name>.py, such as v2_split_name.py"
    return f"Rename it to {better}; a module that versions import has no `sequence`."


def tables(folder: Path, names: TableNames = TableNames(), *, needed: bool = True) -> tuple[str, ...]:
    """The tables that have versions in the folder `transforms`, by their real names, in the order of their folders.

    A folder without a version, such as `shared`, is not a table. A folder with an unusual name (it begins with '_' or
    '.', or DynamoDB does not allow it) is a table only if one of its files is named like a version.

    Without such a folder there is none; if one is `needed`, raises UsageError.
    """
    if not folder.is_dir() and not needed:
        return ()
    if not folder.is_dir():
        hint = "Go to the folder that holds it, or make it: " + suggest("init", table="users")
        raise UsageError(f"there is no folder {folder}", hint=hint)
    here = sorted(path.name for path in folder.iterdir() if path.is_dir() and _has_versions(path))
    return tuple(map(names.real, here))


def _has_versions(folder: Path) -> bool:
    usual = is_table_name(folder.name) and folder.name[0] not in "_."
    return any(usual or looks_like_version_file(path.name) for path in filter(is_script_file, folder.iterdir()))


def version_files(folder: Path, table: str) -> tuple[Path, ...]:
    """The table's version files in order, determined by their names alone. Raises UsageError and ScriptError, as
    `read_versions` does."""
    check_table_name(table)
    place = folder / table
    if not place.is_dir():
        raise without_folder(folder, table)
    paths = sorted(filter(is_script_file, place.iterdir()))
    numbered = sorted((parse_version_file(path.name, str(path))[0], path) for path in paths)
    for error in number_errors(numbered):
        raise error
    return tuple(path for _, path in numbered)


def without_folder(folder: Path, table: str) -> UsageError:
    """The error for a table that has no folder in `folder`; its hint names the folder with the most similar name."""
    known = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    near = "".join(f"Did you mean {name}? " for name in get_close_matches(table, known, 1))
    hint = f"{near}Check the table's name, or begin: " + suggest("init", table=table)
    return UsageError(f"there is no folder {folder / table}", hint=hint)


def is_script_file(path: Path) -> bool:
    """Whether a file must be a version: its name looks like one, or it assigns a number to `sequence`. Other .py files
    are modules that versions import."""
    name = path.name.lower()
    other = name.startswith(("_", ".", "test_")) or name.endswith("_test.py") or name == "conftest.py"
    if other or not name.endswith(".py") or not path.is_file():
        return False
    return looks_like_version_file(path.name) or _has_sequence(path)


def _has_sequence(path: Path) -> bool:
    try:
        return _SEQUENCE.search(path.read_bytes().replace(b"\r", b"\n")) is not None
    except OSError:  # reported by the version that imports it
        return False


def entries(folder: Path, planned: Collection[str] = ()) -> dict[str, Path]:
    """The files and folders of a folder of `transforms/` that belong to the project, by name.

    Excluded are hidden files, tests, compiled Python files, and links to an enclosing folder. A folder whose name is in
    `planned` is always included.
    """
    found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    return {name: path for name, path in found.items() if _is_taken(path, name in planned)}


def _is_taken(path: Path, planned: bool) -> bool:
    if path.is_dir():
        target, here = path.resolve(), path.parent.resolve()
        encloses = target == here or target in here.parents
        return not encloses and (planned or not (path.name in _LEFT_OUT or path.name.startswith(".")))
    return path.is_file() and not path.name.startswith(".") and path.suffix != ".pyc"


def files_below(
    folder: Path, planned: Collection[str] = (), passed: frozenset[Path] = frozenset()
) -> Iterator[tuple[str, Path]]:
    """The files of `entries` and of its folders, recursively and unordered, each by its name relative to `folder`, with
    `/`. A link to a folder in `passed`, the folders on the path so far, is not followed."""
    passed |= {folder.resolve()}
    for name, path in entries(folder, planned).items():
        if not path.is_dir():
            yield name, path
        elif path.resolve() not in passed:
            yield from ((f"{name}/{inner}", file) for inner, file in files_below(path, passed=passed))


def number_errors(numbered: Sequence[tuple[int, Path]]) -> Iterator[ScriptError]:
    """The errors in the numbers of a table's version files, sorted by number: no 1, a gap, a duplicate."""
    if numbered and numbered[0][0] != 1:
        number, path = numbered[0]
        yield ScriptError(
            f"is version {number}, but there is no version 1",
            where=str(path),
            hint=f"Versions count from 1: rename it to {_renumbered(path, 1)}, with sequence = 1.",
        )
    for (number, path), (follower, next_path) in pairwise(numbered):
        if follower == number:
            yield _duplicate(number, path, next_path, numbered[-1][0] + 1)
        if follower > number + 1:
            yield _gap(number, path, next_path)


def _duplicate(number: int, path: Path, other: Path, free: int) -> ScriptError:
    return ScriptError(
        f"{path.name} and {other.name} are both version {number}",
        where=f"{path}, {other}",
        hint="Were two branches merged? Renumber the later one, which is not applied yet: "
        f"{_renumbered(path, free)} or {_renumbered(other, free)}, with sequence = {free}.",
    )


def _gap(number: int, path: Path, following: Path) -> ScriptError:
    return ScriptError(
        f"version {number + 1} is missing between {path.name} and {following.name}",
        where=f"{path}, {following}",
        hint=f"Bring the missing file back, or rename {following.name} to {_renumbered(following, number + 1)}, "
        f"with sequence = {number + 1}.",
    )


def _renumbered(path: Path, number: int) -> str:
    return f"v{number}_{path.name.partition('_')[2]}"


def slug(name: str) -> str:
    """A name in the form of a file name: `"split_the_name"` for `"Split the Name!"` and `"SplitTheName"`. May be
    empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


_SECONDS = {"s": 1, "m": 60, "h": 3600}
_WRITTEN = re.compile(r"(\d{1,6})([smh])", re.ASCII)


def seconds(flag: str, text: str) -> float:
    """The seconds of a flag's value, such as `90s`; 0.0 for an empty text. Raises UsageError for any other text."""
    if not text:
        return 0.0
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise UsageError(f"{flag} cannot be {text!r}", hint="write a number and a unit: 90s, 10m or 1h")
    return float(int(written[1]) * _SECONDS[written[2]])
