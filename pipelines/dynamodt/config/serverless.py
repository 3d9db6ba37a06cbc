"""The tables of a Serverless Framework service, as its file declares them: for `init`, before anything is deployed.

Only what is written in the file, or in a file that it includes as a whole or by a key, is read: values that the
framework computes are not. A table's logical name is its logical id, as the plugin has it (`infra/serverless`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynamodt.errors import UsageError
from dynamodt.model.tables import KEY_TYPES, KeyAttribute

SERVICE = "DYNAMODT_SERVICE"
_NAMES = ("serverless.yml", "serverless.yaml", "serverless.json")
_TYPES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")
_INCLUDED = re.compile(r"\$\{file\(([^)]+)\)(?::([A-Za-z0-9_.-]+))?\}")
_MOST_INCLUDED = 10  # files within each other


def service_file(folder: Path) -> Path | None:
    """The service's file in a folder."""
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


def service_keys(folder: Path) -> dict[str, tuple[KeyAttribute, ...]]:
    """The keys of the service's tables, by logical id, without tables whose key is computed. Raises UsageError for a
    file that cannot be read. The plugin's keys take precedence, since they include values that the framework
    computes."""
    return {**_keys_in_files(folder), **_given_by_the_plugin()}


def _given_by_the_plugin() -> dict[str, tuple[KeyAttribute, ...]]:
    """The `keys` of DYNAMODT_SERVICE, whose form `config.stage` checks."""
    try:
        found = json.loads(os.environ.get(SERVICE) or "{}").get("keys", {})
        return {table: tuple(KeyAttribute(str(name), str(kind)) for name, kind in key) for table, key in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _keys_in_files(folder: Path) -> dict[str, tuple[KeyAttribute, ...]]:
    file = service_file(folder)
    content = _read(file) if file is not None else None
    sections = content.get("resources") if isinstance(content, dict) else None
    found = (_key(id, one) for section in _included(folder, sections) for id, one in _resources(section))
    return dict(entry for entry in found if entry is not None)


def _read(file: Path) -> Any:
    import yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda loader, suffix, node: None)  # !Ref and the like: unknown values
    try:
        return yaml.load(file.read_text(encoding="utf-8-sig"), loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        what, hint = " ".join(str(error).split()), "correct it, or give the key: --key"
        raise UsageError(f"cannot be read: {what}", where=str(file), hint=hint) from error


def _included(folder: Path, value: Any, depth: int = 0) -> Iterator[Any]:
    """The sections of `resources`: one, or a list of them, each written out or in a file of its own."""
    if isinstance(value, list):
        for one in value:
            yield from _included(folder, one, depth)
    elif isinstance(value, str) and (found := _INCLUDED.fullmatch(value.strip())) and depth < _MOST_INCLUDED:
        file = folder / found[1]
        content = _read(file) if file.is_file() and file.suffix in (".yml", ".yaml", ".json") else None
        for key in filter(None, (found[2] or "").split(".")):
            content = content.get(key) if isinstance(content, dict) else None
        yield from _included(folder, content, depth + 1)
    elif isinstance(value, dict):
        yield value


def _resources(section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    resources = section.get("Resources")
    yield from resources.items() if isinstance(resources, dict) else ()


def _key(id: str, resource: Any) -> tuple[str, tuple[KeyAttribute, ...]] | None:
    properties = resource.get("Properties") if isinstance(resource, dict) and resource.get("Type") in _TYPES else None
    if not isinstance(properties, dict):
        return None
    types = dict(_pairs(properties.get("AttributeDefinitions"), "AttributeName", "AttributeType"))
    schema = sorted(_pairs(properties.get("KeySchema"), "KeyType", "AttributeName"))  # HASH before RANGE
    key = tuple(KeyAttribute(name, types.get(name, "")) for _, name in schema)
    return (id, key) if key and all(attribute.type in KEY_TYPES for attribute in key) else None


def _pairs(values: Any, first: str, second: str) -> Iterator[tuple[str, str]]:
    for one in values if isinstance(values, list) else ():
        if isinstance(one, dict) and isinstance(one.get(first), str) and isinstance(one.get(second), str):
            yield one[first], one[second]
