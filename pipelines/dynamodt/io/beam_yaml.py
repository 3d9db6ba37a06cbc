"""The connectors as Beam YAML has them: rows of a JSON schema. `dynamodb.yaml` beside this module names them.

Beam YAML needs the extra `yaml` of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import apache_beam as beam
from apache_beam.typehints.row_type import RowTypeConstraint

from dynamodt.errors import UsageError
from dynamodt.io.endpoint import in_full
from dynamodt.io.export import ReadFromDynamoDBExport
from dynamodt.io.read import ReadFromDynamoDB
from dynamodt.io.rows import as_value
from dynamodt.io.write import FailedWrite, Mode, WriteToDynamoDB

_ROWS = "rows can be put, put if absent or deleted; patch in a pipeline of Python"
_EXAMPLE = "schema: {type: object, properties: {id: {type: string}, age: {type: integer}}, required: [id]}"


def read_from_dynamodb(
    table: str,
    schema: Mapping[str, Any],
    filter: str | None = None,
    filter_names: Mapping[str, str] | None = None,
    filter_values: Mapping[str, Any] | None = None,
    index: str | None = None,
    consistent: bool = False,
    segments: int | None = None,
    projection: Sequence[str] | None = None,
    max_rcu: float | None = None,
    processes: int | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
) -> ReadFromDynamoDB:
    """Reads a table, or one of its indexes, as rows.

    Args:
      table (str): The table's name, or its ARN.
      schema (dict): A JSON schema, whose properties are the attributes to read. One that is not in `required` may be
        missing.
      filter (str): An expression that an item must fulfil, such as `#age > :least`.
      filter_names (dict): The attributes of its names, such as `{"#age": age}`.
      filter_values (dict): The values of its placeholders, such as `{":least": 18}`.
      index (str): The index to read in place of the table.
      consistent (bool): Strongly consistent reads.
      segments (int): How many parts the table is read in.
      projection (list): The attributes to read from DynamoDB.
      max_rcu (float): The most read units a second.
      processes (int): The runner's worker processes, among which max_rcu is divided.
      region (str): The table's region.
      endpoint_url (str): The URL of an emulator or a VPC endpoint.
      profile (str): An AWS profile of the workers.
    """
    return ReadFromDynamoDB(
        table,
        schema=_fields(schema),
        filter=filter,
        filter_names=filter_names,
        filter_values=None if filter_values is None else {name: as_value(one) for name, one in filter_values.items()},
        index=index,
        consistent=consistent,
        segments=segments,
        projection=projection,
        max_rcu=max_rcu,
        processes=processes,
        region=region,
        endpoint_url=endpoint_url,
        profile=profile,
    )


class ReadExport(beam.PTransform):
    """Reads the items of an export in S3 as rows: the output `items`, and the output `unreadable`.

    Args:
      export (str): `s3://bucket/prefix`, or an export's ARN.
      schema (dict): A JSON schema, whose properties are the attributes to read.
      region (str): The bucket's region.
      endpoint_url (str): The URL of an emulator or a VPC endpoint.
      profile (str): An AWS profile of the workers.
    """

    def __init__(
        self,
        export: str,
        schema: Mapping[str, Any],
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:
        super().__init__()
        self._read = ReadFromDynamoDBExport(
            export, schema=_fields(schema), region=region, endpoint_url=endpoint_url, profile=profile
        )

    def expand(self, pbegin: Any) -> dict[str, Any]:
        return dict((pbegin | self._read)._asdict())


class Write(beam.PTransform):
    """Writes rows to a table: the output `written`, and the output `failed` of rows with `element`, `code` and
    `message`.

    Args:
      table (str): The table's name, or its ARN.
      mode (str): `put`, `put_if_absent` or `delete`.
      max_wcu (float): The most write units a second.
      processes (int): The runner's worker processes, among which max_wcu is divided.
      region (str): The table's region.
      endpoint_url (str): The URL of an emulator or a VPC endpoint.
      profile (str): An AWS profile of the workers.
    """

    @in_full()
    def __init__(
        self,
        table: str,
        mode: str = "put",
        max_wcu: float | None = None,
        processes: int | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:
        super().__init__()
        if mode == "patch":
            raise UsageError("mode is 'patch', whose elements are pairs", where="WriteToDynamoDB", hint=_ROWS)
        self._write = WriteToDynamoDB(
            table,
            mode=cast(Mode, mode),
            max_wcu=max_wcu,
            processes=processes,
            region=region,
            endpoint_url=endpoint_url,
            profile=profile,
        )

    def expand(self, pcoll: Any) -> dict[str, Any]:
        found = pcoll | self._write
        row_type = RowTypeConstraint.from_fields([("element", pcoll.element_type), ("code", str), ("message", str)])
        failed = found.failed | "As rows" >> beam.Map(_failed_row).with_output_types(row_type)
        return {"written": found.written, "failed": failed}


def _failed_row(failed: FailedWrite) -> beam.Row:
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
