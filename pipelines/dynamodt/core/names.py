"""The rules for names: a table's, as DynamoDB has them, and a version file's, `v<N>_<name>.py`."""

from __future__ import annotations

import re
import unicodedata

from dynamodt.errors import ScriptError, UsageError

_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_VERSION_FILE = re.compile(r"v([1-9][0-9]*)_([A-Za-z0-9][A-Za-z0-9_]*)\.py")
_NEARLY_VERSION_FILE = re.compile(r"v?[\W_]*0*([1-9][0-9]*)(.*)\.py", re.IGNORECASE)


def is_table_name(name: str) -> bool:
    return _TABLE_NAME.fullmatch(name) is not None


def check_table_name(name: str) -> None:
    """Raise UsageError unless DynamoDB could have a table of this name."""
    if not is_table_name(name):
        raise UsageError(
            f"{name!r} is not the name of a DynamoDB table",
            hint="A table's name has 3 to 255 characters out of a-z, A-Z, 0-9, '_', '-' and '.'.",
        )


def parse_version_file(file_name: str, where: str) -> tuple[int, str]:
    """`v2_split_name.py` -> `(2, "split_name")`. Raises ScriptError at `where` for any other form."""
    match = _VERSION_FILE.fullmatch(file_name)
    if match is None:
        raise ScriptError("is not named like a version, v<N>_<name>.py", where=where, hint=_naming_hint(file_name))
    return int(match[1]), match[2]


def _naming_hint(file_name: str) -> str:
    nearly = _NEARLY_VERSION_FILE.fullmatch(file_name)
    better = f"v{nearly[1]}_{slug(nearly[2]) or '<name>'}.py" if nearly else "v<N>_<name>.py, such as v2_split_name.py"
    return f"Rename it to {better}; a file that is no version begins with '_'."


def slug(name: str) -> str:
    """`"Split the Name!"` and `"SplitTheName"` -> `"split_the_name"`: what may stand in a file's name, or nothing."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
