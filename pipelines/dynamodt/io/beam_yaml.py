"""The connectors as Beam YAML has them: rows of a JSON schema. `dynamodb.yaml` beside this module names them.

Each has the arguments of the connector of its name, but those that are of no use to rows. Beam YAML needs the extra
`yaml` of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.typehints.row_type import RowTypeConstraint

from dynamodt.errors import UsageError
from dynamodt.io import export, read, write
from dynamodt.io.connector import in_full
from dynamodt.io.rows import as_value

_ROWS = "rows can be put, put if absent or deleted; patch in a pipeline of Python"
_EXAMPLE = "schema: {type: object, properties: {id: {type: string}, age: {type: integer}}, required: [id]}"


@dataclass(kw_only=True, eq=False, repr=False)
class ReadFromDynamoDB(read.ReadFromDynamoDB):
    """Reads a table, or one of its indexes, as rows.

    The properties of `schema`, a JSON schema, are the attributes to read; one that is not in `required` may be missing.
    `filter` is an expression, such as `#age > :least`.
    """

    raw: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.schema = _fields(self.schema)
        if self.filter_values is not None:
            self.filter_values = {name: as_value(value) for name, value in self.filter_values.items()}
        super().__post_init__()


@dataclass(kw_only=True, eq=False, repr=False)
class ReadFromDynamoDBExport(export.ReadFromDynamoDBExport):
    """Reads the items of an export in S3 as rows of `schema`: the output `items`, and the output `unreadable`."""

    raw: bool = field(default=False, init=False)
    view: export.View = field(default="new", init=False)

    def __post_init__(self) -> None:
        self.schema = _fields(self.schema)
        super().__post_init__()

    def expand(self, pbegin: Any) -> dict[str, Any]:  # type: ignore[override]  # Beam YAML takes outputs by name
        return dict(super().expand(pbegin)._asdict())


@dataclass(kw_only=True, eq=False, repr=False)
class WriteToDynamoDB(write.WriteToDynamoDB):
    """Writes rows to a table: the output `written`, and the output `failed` of rows with `element`, `code` and
    `message`."""

    guard: Any = field(default=..., init=False)

    @in_full()
    def __post_init__(self) -> None:
        if self.mode == "patch":
            raise UsageError("mode is 'patch', whose elements are pairs", where="WriteToDynamoDB", hint=_ROWS)
        super().__post_init__()

    def expand(self, pcoll: Any) -> dict[str, Any]:  # type: ignore[override]
        found = super().expand(pcoll)
        row_type = RowTypeConstraint.from_fields([("element", pcoll.element_type), ("code", str), ("message", str)])
        failed = found.failed | "As rows" >> beam.Map(_failed_row).with_output_types(row_type)
        return {"written": found.written, "failed": failed}


read_from_dynamodb, ReadExport, Write = ReadFromDynamoDB, ReadFromDynamoDBExport, WriteToDynamoDB  # as named before


def _failed_row(failed: write.FailedWrite) -> beam.Row:
    return beam.Row(element=failed.element, code=failed.error.code, message=failed.error.message)


@in_full()
def _fields(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The fields of a JSON schema. Raises UsageError for anything else."""
    from apache_beam.typehints.schemas import named_fields_from_schema
    from apache_beam.yaml.json_utils import json_schema_to_beam_schema

    try:
        return list(named_fields_from_schema(json_schema_to_beam_schema(dict(schema))))
    except (TypeError, ValueError) as error:
        raise UsageError(f"schema is not a JSON schema of an object: {error}", hint=_EXAMPLE) from error
