"""The contract suite: each assumption about a service as a check, tried on scratch resources that are deleted again.

`contract` has the checks about DynamoDB; those about S3 and exports are here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from dynamodt.dynamodb.clients import BAD_CREDENTIALS, client, explained
from dynamodt.dynamodb.network import refusal
from dynamodt.dynamodb.table import ACTIVE_SOON, create_table
from dynamodt.errors import DynamodtError
from dynamodt.model.tables import Image, KeyAttribute, Stage
from dynamodt.runs.liveness import polls

Status = Literal["ok", "wrong", "differs", "asked", "skipped"]
Notify = Callable[[str], None]

Seen = tuple[Status, str, str]  # status, observation, hint
OK: Status = "ok"
WRONG: Status = "wrong"
INDEX = "by_g"
_UNKNOWN = "UnknownOperationException"  # of emulators
_SCRATCH = "dynamodt-doctor-"


class CheckResult(NamedTuple):
    """The result of one check. `status` is "ok"; "wrong"; "differs": an emulator deviates from the service without
    harm, for the reason in `hint`; "asked": no document has the answer, which is `seen`; or "skipped", for the reason
    in `seen`. `relies`: the module that depends on it; `source`: the document that states it."""

    name: str
    status: Status
    seen: str = ""
    hint: str = ""
    relies: str = ""
    source: str = ""


def finding_of(name: str, check: Callable[[], Seen], where: str, causes: dict[str, str]) -> CheckResult:
    """The result of one check. `causes` has the errors so far, each with the check that has found it first: only that
    one is wrong."""
    try:
        with explained(f"the check {name!r}", where):
            return CheckResult(name, *check())
    except DynamodtError as error:
        if _UNKNOWN in error.what:
            return CheckResult(name, "skipped", "the endpoint has no such call")
        first = causes.setdefault(_cause(error), name)
        if first != name:
            return CheckResult(name, "skipped", f"not possible, for the same reason as: {first}")
        return CheckResult(name, WRONG, str(error), error.hint)


def _cause(error: DynamodtError) -> str:
    """What several errors have in common: the credentials, an endpoint that is out of reach, or their whole text."""
    reason = error.what.partition(" failed: ")[2]
    return error.hint if error.hint in BAD_CREDENTIALS else reason or str(error)


class WriteAnswer(NamedTuple):
    """A service's answer to one write: "done" or an error's code, and the item that it returned with a refusal."""

    outcome: str
    item: Image | None = None


@dataclass(frozen=True)
class Assumption:
    """One assumption. `probe` returns the differing observation, or empty if the assumption holds; for a check that is
    `asked`, the answer. Without the service `needs` it is skipped. `harmless`: the reason why an emulator may
    differ."""

    name: str
    relies: str
    source: str
    probe: Callable[[Scratch], str]
    asked: bool = False
    needs: Literal["dynamodb", "s3", "aws", "glue"] = "dynamodb"
    harmless: str = ""


class Scratch:
    """A table of its own with the key `id` (S) and an index of `g` (S), and a prefix of its own in the stage's bucket
    (empty where the storage is a folder)."""

    def __init__(self, stage: Stage, table: str) -> None:
        self.table = table
        self.connection = stage.connection
        self.bucket = stage.storage.bucket
        self.prefix = f"{stage.storage.prefix}/doctor/{table}".lstrip("/")
        self.is_aws = stage.connection.is_aws
        self.job = stage.job_name

    @cached_property
    def dynamodb(self) -> Any:
        return client(self.connection, "dynamodb")

    @cached_property
    def s3(self) -> Any:
        return client(self.connection, "s3")

    # ------------------------------------------------------------ items

    def put(self, *items: Image) -> None:
        for item in items:
            self.dynamodb.put_item(TableName=self.table, Item=item)

    def item(self, id: str) -> Image | None:
        found: Image | None = self.dynamodb.get_item(
            TableName=self.table, Key={"id": {"S": id}}, ConsistentRead=True
        ).get("Item")
        return found

    def execute(self, *statements: tuple[str, Sequence[Any]]) -> list[WriteAnswer]:
        """The answers to statements in one batch. `@` in a text is the table's name. An error of the whole request is
        the answer to each."""
        words = [
            {
                "Statement": text.replace("@", f'"{self.table}"'),
                **({"Parameters": list(given)} if given else {}),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
            for text, given in statements
        ]
        try:
            responses = self.dynamodb.batch_execute_statement(Statements=words)["Responses"]
        except ClientError as error:
            return [WriteAnswer(f"request: {refusal(error).code}")] * len(words)
        return [
            WriteAnswer(one.get("Error", {}).get("Code", "done"), one.get("Error", {}).get("Item")) for one in responses
        ]

    def call(self, operation: str, **parameters: Any) -> WriteAnswer:
        """The answer to one call that writes the table."""
        try:
            getattr(self.dynamodb, operation)(TableName=self.table, **parameters)
        except ClientError as error:
            return WriteAnswer(refusal(error).code, error.response.get("Item"))
        return WriteAnswer("done")


def differs(expected: object, seen: object) -> str:
    """The observed value and the expected one; empty if they are equal."""
    return "" if expected == seen else f"{seen} instead of {expected}"


@contextmanager
def scratch(stage: Stage, notify: Notify) -> Iterator[Scratch]:
    """The scratch resources, deleted at the end, also after an interrupt. Raises ServiceError if they cannot be created
    or deleted. After a failure or an interrupt, its error is raised, and remaining resources are reported."""
    found = Scratch(stage, f"{_SCRATCH}{secrets.token_hex(4)}")
    notify(f"creating the scratch table {found.table}")
    try:
        _create(found)
        yield found
    except BaseException:
        notify(f"deleting the scratch table {found.table}")
        try:
            _delete(found)
        except DynamodtError as error:
            notify(f"{error}: delete what is left by hand")
        raise
    notify(f"deleting the scratch table {found.table}")
    _delete(found)


def _create(found: Scratch) -> None:
    indexes = {INDEX: (KeyAttribute("g", "S"),)}
    create_table(found.dynamodb, found.table, (KeyAttribute("id", "S"),), f"table {found.table}", indexes)


def _delete(found: Scratch) -> None:
    absent = found.dynamodb.exceptions.ResourceNotFoundException
    with explained("DeleteTable", f"table {found.table}"), suppress(absent):
        try:
            found.dynamodb.delete_table(TableName=found.table)
        except found.dynamodb.exceptions.ResourceInUseException:  # it is still being created
            found.dynamodb.get_waiter("table_exists").wait(TableName=found.table, WaiterConfig=ACTIVE_SOON)
            found.dynamodb.delete_table(TableName=found.table)
    if found.bucket:
        with explained("DeleteObject", f"bucket {found.bucket}"):
            listed = found.s3.list_objects_v2(Bucket=found.bucket, Prefix=f"{found.prefix}/")
            for one in listed.get("Contents", ()):
                found.s3.delete_object(Bucket=found.bucket, Key=one["Key"])


def contract(stage: Stage, notify: Notify, checks: Sequence[Assumption]) -> list[CheckResult]:
    """The results of the checks on scratch resources; one for the resources if they cannot be created or deleted."""
    try:
        with scratch(stage, notify) as found:
            return list(run_suite(checks, found))
    except DynamodtError as error:
        return [CheckResult("scratch table", "wrong", str(error), error.hint)]


def run_suite(checks: Sequence[Assumption], found: Scratch) -> Iterator[CheckResult]:
    """Tries each check; a check that raises an error is wrong."""
    for check in checks:
        yield _tried(check, found)


def _tried(check: Assumption, found: Scratch) -> CheckResult:
    about = {"relies": check.relies, "source": check.source}
    reason = _missing(check, found)
    if reason:
        return CheckResult(check.name, "skipped", reason, **about)
    try:
        seen = check.probe(found)
    except (ClientError, BotoCoreError, DynamodtError) as error:
        return CheckResult(check.name, "asked" if check.asked else "wrong", str(error), **about)
    if check.asked:
        return CheckResult(check.name, "asked", seen, **about)
    if seen and check.harmless and not found.is_aws:
        return CheckResult(check.name, "differs", seen, check.harmless, **about)
    return CheckResult(check.name, "wrong" if seen else "ok", seen, **about)


def _missing(check: Assumption, found: Scratch) -> str:
    if check.needs == "s3" and not found.bucket:
        return "the storage is a folder"
    if check.needs == "aws" and not found.is_aws:
        return "the stage has its own endpoint, not AWS's"
    if check.needs == "glue" and not _has_run(found):
        return f"the job {found.job} is not deployed, or has not run yet"
    return ""


def _has_run(found: Scratch) -> bool:
    try:
        return bool(client(found.connection, "glue").get_job_runs(JobName=found.job, MaxResults=1)["JobRuns"])
    except ClientError:
        return False


# ---------------------------------------------------------------- S3 and exports

_S3 = "docs.aws.amazon.com/AmazonS3/latest/API"
_EXPORTS = "docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html"
_EXPORT_SECONDS, _POLL_SECONDS = 1800.0, 10.0


def _object(found: Scratch) -> str:
    """An object can be read as soon as it is written, and a range of it only until it is replaced."""
    key = f"{found.prefix}/object"
    tag = found.s3.put_object(Bucket=found.bucket, Key=key, Body=b"0123456789")["ETag"]
    where = {"Bucket": found.bucket, "Key": key, "Range": "bytes=2-4"}
    part = found.s3.get_object(**where, IfMatch=tag)["Body"].read()
    found.s3.put_object(Bucket=found.bucket, Key=key, Body=b"another")
    try:
        found.s3.get_object(**where, IfMatch=tag)
        return "a range of a replaced object"
    except ClientError as error:
        return differs((b"234", 412), (part, refusal(error).status))


def _listing(found: Scratch) -> str:
    """Names are listed in the order of their UTF-8 bytes, and at once."""
    names = [f"{found.prefix}/list/{name}" for name in ("B", "a", "é", "🙂")]
    for name in reversed(names):
        found.s3.put_object(Bucket=found.bucket, Key=name, Body=b"")
    listed = found.s3.list_objects_v2(Bucket=found.bucket, Prefix=f"{found.prefix}/list/")["Contents"]
    return differs(names, [one["Key"] for one in listed])


def _owner(found: Scratch) -> str:
    try:
        found.s3.head_bucket(Bucket=found.bucket, ExpectedBucketOwner="123456789012")
    except ClientError as error:
        return differs(403, refusal(error).status)
    return "another account's bucket was accepted"


# ---------------------------------------------------------------- exports


def _export(found: Scratch, **moments: Any) -> str:
    table = found.dynamodb.describe_table(TableName=found.table)["Table"]["TableArn"]
    where = {"S3Bucket": found.bucket, "S3Prefix": f"{found.prefix}/exports"}
    try:
        return str(found.dynamodb.export_table_to_point_in_time(TableArn=table, **where, **moments)["ExportArn"])
    except ClientError as error:
        return refusal(error).code


def _token_of_an_export(found: Scratch) -> str:
    """Recovery is on at once, the same token gives the same export, and the export completes, so that its files can be
    deleted."""
    on = {"PointInTimeRecoveryEnabled": True}
    found.dynamodb.update_continuous_backups(TableName=found.table, PointInTimeRecoverySpecification=on)
    first, again = (_export(found, ClientToken=found.table) for _ in range(2))
    if not first.startswith("arn:"):
        return first
    for _ in polls(_EXPORT_SECONDS, _POLL_SECONDS):
        export = found.dynamodb.describe_export(ExportArn=first)["ExportDescription"]
        if export["ExportStatus"] != "IN_PROGRESS":
            break
    return differs((first, "COMPLETED"), (again, export["ExportStatus"]))


def _short_window(found: Scratch) -> str:
    until = datetime.now(UTC).replace(microsecond=0)
    window = {"ExportFromTime": until - timedelta(minutes=5), "ExportToTime": until}
    kind = {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": window}
    return differs("InvalidExportTimeException", _export(found, **kind))


OF_STORAGE: tuple[Assumption, ...] = (
    Assumption("object-is-read-as-written", "export/objects.py", f"{_S3}/API_GetObject.html", _object, needs="s3"),
    Assumption("names-are-in-utf-8-order", "state/storage.py", f"{_S3}/API_ListObjectsV2.html", _listing, needs="s3"),
    Assumption("bucket-of-another-account", "dynamodb/clients.py", f"{_S3}/API_HeadBucket.html", _owner, needs="s3",
               harmless="an emulator compares no owner, and no bucket of it is a stranger's"),
    Assumption("export-needs-recovery", "export/request.py", _EXPORTS, needs="aws",
               probe=lambda found: differs("PointInTimeRecoveryUnavailableException", _export(found))),
    Assumption("export-token-repeated", "export/request.py", _EXPORTS, _token_of_an_export, needs="aws"),
    Assumption("export-window-of-15-minutes", "export/request.py", _EXPORTS, _short_window, needs="aws"),
)  # fmt: skip
