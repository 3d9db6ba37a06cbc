"""One export, as DescribeExport tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["full", "incremental"]
KINDS: dict[str, Kind] = {"FULL_EXPORT": "full", "INCREMENTAL_EXPORT": "incremental"}

COMPLETED = "COMPLETED"
FAILED = "FAILED"
IN_PROGRESS = "IN_PROGRESS"


@dataclass(frozen=True, slots=True)
class Export:
    """An export and how far it is. Moments are aware of their zone.

    `items` and `billed_bytes` are 0 until it is completed. A full one shows the table `at` a moment, an incremental one
    what changed from `since` (included) to `until` (excluded).
    """

    arn: str
    status: str  # IN_PROGRESS, COMPLETED or FAILED
    table_arn: str
    kind: Kind
    bucket: str
    manifest: str  # the key of manifest-summary.json, whether it is there already or not
    at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    items: int = 0
    billed_bytes: int = 0
    failure_code: str = ""
    failure_message: str = ""

    @property
    def id(self) -> str:
        """`01234567890123-a1b2c3d4`: the folder's name."""
        return self.arn.rpartition("/")[2]

    @property
    def table(self) -> str:
        """The table's name."""
        return table_of(self.table_arn)


def table_of(arn: str) -> str:
    """The name in a table's ARN: `arn:aws:dynamodb:eu-west-1:123456789012:table/users` -> `users`."""
    return arn.partition(":table/")[2].partition("/")[0]


def export_of(description: dict[str, Any]) -> Export:
    """An ExportDescription (of DescribeExport, of ExportTableToPointInTime) as a value."""
    window = description.get("IncrementalExportSpecification", {})
    return Export(
        arn=description["ExportArn"],
        status=description["ExportStatus"],
        table_arn=description["TableArn"],
        kind=KINDS[description.get("ExportType", "FULL_EXPORT")],
        bucket=description["S3Bucket"],
        manifest=_manifest(description),
        at=description.get("ExportTime"),
        since=window.get("ExportFromTime"),
        until=window.get("ExportToTime"),
        items=description.get("ItemCount", 0),
        billed_bytes=description.get("BilledSizeBytes", 0),
        failure_code=description.get("FailureCode", ""),
        failure_message=description.get("FailureMessage", ""),
    )


def _manifest(description: dict[str, Any]) -> str:
    """As the service says, which it does at the end; before, where it will be."""
    prefix = (description.get("S3Prefix") or "").strip("/")
    told = description.get("ExportManifest") or ""
    if told and told.startswith(prefix):
        return str(told)
    export = description["ExportArn"].rpartition("/")[2]
    return "/".join(filter(None, (prefix, "AWSDynamoDB", export, "manifest-summary.json")))
