"""`dynamodt doctor`: the read-only checks of a stage, the contract suite, the checks in the deployed job, and the
report.

The read-only checks write nothing and return no item: reads of a table use a key that no item has.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from botocore.utils import get_environ_proxies

from dynamodt import __version__
from dynamodt.config.names import with_names, with_targets
from dynamodt.config.stage import load_stage
from dynamodt.deploy.buckets import bucket_facts, not_allowed
from dynamodt.doctor.contract import CHECKS
from dynamodt.doctor.suite import OK, WRONG, Assumption, CheckResult, Seen, contract, finding_of
from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.network import DENIALS, Tolerated, is_denied, refusal, without_signed_text
from dynamodt.dynamodb.table import (
    NO_RESOURCE,
    STATE_HINTS,
    USABLE,
    consumers,
    description,
    has_point_in_time_recovery,
    place_of,
    spec_of,
    with_legacy_replicas,
)
from dynamodt.errors import DynamodtError, file_explained, suggest
from dynamodt.local.stage import open_stage as open_embedded
from dynamodt.model.tables import Connection, Stage, TableSpec, name_in_requests
from dynamodt.runs.context import Project
from dynamodt.runs.options import Observer
from dynamodt.script.names import tables

# The actions that infra/template.yaml grants to the jobs; a run started elsewhere needs them too.
TABLE_ACTIONS = tuple(
    f"dynamodb:{name}"
    for name in (
        "DescribeTable DescribeContinuousBackups DescribeKinesisStreamingDestination DescribeTimeToLive Scan GetItem "
        "BatchGetItem PartiQLInsert PartiQLUpdate PartiQLDelete PutItem UpdateItem DeleteItem ConditionCheckItem "
        "ExportTableToPointInTime"
    ).split()
)
STATE_ACTIONS = tuple(
    f"dynamodb:{name}" for name in "GetItem BatchGetItem Query PutItem UpdateItem DeleteItem ConditionCheckItem".split()
)
OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload")

_LARGEST_SKEW = 60.0  # seconds; a signature is refused after five minutes
_PACKAGES = ("apache-beam", "boto3", "botocore", "orjson", "pyarrow", "urllib3")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_STATE_KEY = [("pk", "HASH"), ("sk", "RANGE")]
_ANOTHER = "name another state_table in dynamodt.toml"

InJob = Callable[[Project, Sequence[str]], Sequence[Mapping[str, Any]]]  # the checks as the deployed job makes them
_ACCOUNT = re.compile(r"(?<!\w)\d{12}(?!\w)")  # not the digits of a longer name


@dataclass(frozen=True)
class Examination:
    """The findings. `report` is the file that was written (empty: none)."""

    stage: str
    findings: tuple[CheckResult, ...]
    report: str = ""

    @property
    def wrong(self) -> tuple[CheckResult, ...]:
        return tuple(finding for finding in self.findings if finding.status == "wrong")


def doctor(
    name: str,
    folder: Path,
    named: Sequence[str],
    observer: Observer,
    *,
    full: bool = False,
    in_job: InJob | None = None,
    more: Sequence[Assumption] = (),
) -> Examination:
    """Examines the stage of this name, its tables (default: all that have a folder) and those that their versions write
    to. The embedded stage is started; on another one nothing is written without `full`. Raises UsageError for a stage
    that is not configured, ServiceError without credentials.

    With `full`, the contract suite is run on a table and a prefix of its own, which are deleted again, also after an
    interrupt, with the checks `more`, and a report is written to `folder`. With `in_job`, the read-only checks are also
    made in the deployed job. A failed check is a finding; so is an error that prevents a whole part.
    """
    stage = with_names(open_embedded(load_stage(name, folder), folder, observer.notify), folder, named)
    here = tables(folder / "transforms", stage.names, needed=False)
    chosen = tuple(map(stage.names.real, named)) or here
    written = with_targets(folder, [stage.names.logical(name) for name in chosen])
    findings = list(read_only(stage, [stage.names.real(name) for name in written]))
    if in_job is not None:
        findings += _in_the_job(Project(stage, folder, observer=observer), chosen, in_job)
    if full:
        findings += contract(stage, observer.notify, (*CHECKS, *more))
    found = tuple(finding._replace(name=_masked(finding.name), seen=_masked(finding.seen)) for finding in findings)
    return Examination(stage.name, found, str(_written(stage.name, found, folder)) if full else "")


def _in_the_job(project: Project, names: Sequence[str], job: InJob) -> Iterator[CheckResult]:
    """The read-only checks as the job's role makes them, in the job's environment."""
    try:
        checks = job(project, names)
    except DynamodtError as error:
        yield CheckResult("job", "wrong", str(error), error.hint)
        return
    for each in checks:
        yield CheckResult(f"job: {each['name']}", each["status"], each["seen"], each["hint"])


def _masked(text: str) -> str:
    """A text with the last digits only of account ids, and without session tokens."""
    return _ACCOUNT.sub(lambda id: f"...{id[0][-3:]}", without_signed_text(text))


def _written(stage: str, findings: tuple[CheckResult, ...], folder: Path) -> Path:
    path = folder / f"dynamodt-doctor-{stage}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    with file_explained("written", path):
        path.write_text(json.dumps([finding._asdict() for finding in findings], indent=1) + "\n", encoding="utf-8")
    return path


def read_only(stage: Stage, names: Sequence[str]) -> Iterator[CheckResult]:
    """The findings about the stage and these tables (real names). A failed check does not end the others."""
    checks: list[tuple[str, Callable[[], Seen]]] = [
        ("versions", _versions),
        ("region", lambda: (OK, stage.connection.region, "")),
        ("credentials", partial(_credentials, stage)),
        ("endpoints", partial(_endpoints, stage)),
        ("proxy", partial(_proxy, stage)),
        ("clock", partial(_clock, stage)),
        ("state table", partial(_state_table, stage)),
        ("storage", partial(_storage, stage)),
        ("key", partial(_key, stage)),
        ("glue job", partial(_glue_job, stage)),
    ]
    of_table = (("table", state_of_table), ("recovery of", _recovery), ("permissions on", _permissions))
    for shown, table in ((stage.names.shown(table), table) for table in names):
        checks += [(f"{about} {shown}", partial(check, stage, table)) for about, check in of_table]
    causes: dict[str, str] = {}
    for name, check in checks:
        yield finding_of(name, check, f"region {stage.connection.region}", causes)


def _versions() -> Seen:
    found = [f"{name} {next((one.version for one in metadata.distributions(name=name)), '-')}" for name in _PACKAGES]
    return OK, ", ".join([f"dynamodt {__version__}", f"Python {platform.python_version()}", *found]), ""


def _endpoints(stage: Stage) -> Seen:
    services = ("dynamodb", "s3", "sts")
    return OK, ", ".join(f"{name} {client(stage.connection, name).meta.endpoint_url}" for name in services), ""


def _proxy(stage: Stage) -> Seen:
    endpoint = client(stage.connection, "dynamodb").meta.endpoint_url
    used = get_environ_proxies(endpoint)
    given = [name for name in _PROXIES if os.environ.get(name)]
    if not used:
        return OK, f"none for {endpoint}" + (f" ({', '.join(given)} excludes it)" if given else ""), ""
    return OK, f"used for {endpoint}, by {', '.join(given)}", ""


def _credentials(stage: Stage) -> Seen:
    if not stage.connection.is_aws:
        return "skipped", "the stage has its own endpoint", ""
    with explained("GetCallerIdentity", f"region {stage.connection.region}"):
        found = client(stage.connection, "sts").get_caller_identity()
    return OK, str(found["Arn"]), ""


def _clock(stage: Stage) -> Seen:
    """The difference of this machine's clock from the service's, by the header Date of a response or a refusal."""
    with explained("ListTables", f"region {stage.connection.region}"):
        try:
            answer = client(stage.connection, "dynamodb").list_tables(Limit=1)
        except ClientError as error:
            answer = error.response
            if "HTTPHeaders" not in answer["ResponseMetadata"]:
                raise
    here, there = datetime.now(UTC), answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not there:
        return "skipped", "the endpoint sends no Date", ""
    skew = (here - parsedate_to_datetime(there)).total_seconds()
    seen = f"{skew:+.0f} s from the service's"
    if abs(skew) <= _LARGEST_SKEW:
        return OK, seen, ""
    return WRONG, seen, "correct this machine's clock: AWS refuses signatures that are five minutes off"


# ---------------------------------------------------------------- the stage's own things


def _state_table(stage: Stage) -> Seen:
    dynamodb = client(stage.connection, "dynamodb")
    with explained("DescribeTable", f"table {stage.state_table}"), Tolerated(NO_RESOURCE):
        with Tolerated(*DENIALS):
            return _state_table_of(stage, dynamodb.describe_table(TableName=stage.state_table)["Table"])
        key = {name: {"S": "dynamodt-doctor"} for name, _ in _STATE_KEY}
        dynamodb.get_item(TableName=stage.state_table, Key=key)  # which a run needs, unlike the description
        return OK, f"{stage.state_table}; the caller may read it, but not its description", ""
    if stage.makes_state_table:
        return OK, f"{stage.state_table} is created on first use", ""
    return WRONG, f"there is no table {stage.state_table}", suggest("deploy", stage=stage.name) + " creates it"


def _state_table_of(stage: Stage, table: dict[str, Any]) -> Seen:
    key = [(each["AttributeName"], each["KeyType"]) for each in table["KeySchema"]]
    if key != _STATE_KEY:
        return WRONG, f"{stage.state_table} has the key {key}", _ANOTHER
    denied = not_allowed(stage.connection, STATE_ACTIONS, [table["TableArn"]])
    if denied:
        return WRONG, denied, _GRANT
    spec = spec_of(stage.connection, stage.state_table, table)
    seen = ", ".join([stage.state_table, spec.status, *replicas(spec)])
    if spec.strong:
        return WRONG, seen, f"it takes no transactions, in which a run is recorded: {_ANOTHER}"
    return judged(stage, spec, seen, f"a lease holds for the commands of one region: run them in one, or {_ANOTHER}")


def _storage(stage: Stage) -> Seen:
    url, bucket, prefix = stage.storage.url, stage.storage.bucket, stage.storage.prefix
    if not stage.storage.in_s3:
        return OK, f"the folder {url}", ""
    encryption = _encryption(stage.connection, bucket)
    if not encryption:
        return WRONG, f"there is no bucket {bucket}", suggest("deploy", stage=stage.name) + " creates it"
    with explained("ListObjectsV2", f"bucket {bucket}"):
        client(stage.connection, "s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1)
    partition = client(stage.connection, "s3").meta.partition
    denied = not_allowed(stage.connection, OBJECT_ACTIONS, [f"arn:{partition}:s3:::{bucket}/{prefix}/x"])
    return (WRONG, denied, _GRANT) if denied else (OK, f"{url}, {encryption}", "")


def _encryption(connection: Connection, bucket: str) -> str:
    """The default encryption of a bucket, as far as the caller may read it, which a run does not need; empty if there
    is no such bucket."""
    try:
        facts = bucket_facts(connection, bucket)
    except DynamodtError as error:
        if not (isinstance(error.__cause__, ClientError) and is_denied(error.__cause__)):
            raise
        return "the caller may not read how it is encrypted"
    return "" if facts is None else facts.kms_key or "encrypted with SSE-S3"


def _key(stage: Stage) -> Seen:
    key = stage.storage.kms_key
    if not key:
        in_s3 = OK, "the bucket's default encryption", ""
        return in_s3 if stage.storage.in_s3 else ("skipped", "the storage is a folder", "")
    with explained("DescribeKey", f"key {key}"), Tolerated(*DENIALS):
        found = client(stage.connection, "kms").describe_key(KeyId=key)["KeyMetadata"]
        if found["KeyState"] != "Enabled":
            return WRONG, f"{key} is {found['KeyState']}", "enable it, or name another kms_key in dynamodt.toml"
        return OK, str(found["Arn"]), ""
    return "skipped", f"the caller may not describe {key}, which a run does not need", ""


def _glue_job(stage: Stage) -> Seen:
    if stage.embedded or not (stage.connection.is_aws or stage.connection.endpoint("GLUE")):
        return "skipped", "the embedded stage has no Glue" if stage.embedded else "the stage has its own endpoint", ""
    try:
        job = client(stage.connection, "glue").get_job(JobName=stage.job_name)["Job"]
    except ClientError as error:
        if refusal(error).code == "EntityNotFoundException":
            return "skipped", f"no job {stage.job_name} is deployed", ""
        return "skipped", f"it cannot be read: {refusal(error).code}", ""
    modules = job.get("DefaultArguments", {}).get("--additional-python-modules", "")
    return OK, f"{stage.job_name}, Glue {job.get('GlueVersion')}, {modules.rpartition('/')[2]}", ""


def _recovery(stage: Stage, name: str) -> Seen:
    if has_point_in_time_recovery(stage.connection, name):
        return OK, "on", ""
    hint = "turn point-in-time recovery on: exports need it, and so does a stage with protected = true"
    return (WRONG, "off, and the stage is protected", hint) if stage.protected else (OK, "off: no exports", hint)


# ---------------------------------------------------------------- permissions

_GRANT = "grant the actions to the role or user that runs dynamodt (infra/template.yaml has the policy of a job)"


def _permissions(stage: Stage, name: str) -> Seen:
    if not stage.connection.is_aws or name in dict(stage.connection.table_roles):
        return "skipped", "the stage has its own endpoint, or the table a role of another account", ""
    place = place_of(stage.connection, name)
    if place is None:
        return "skipped", "the table does not exist", ""
    denied = not_allowed(stage.connection, TABLE_ACTIONS, [place.arn])
    if denied is not None:
        return (WRONG, denied, _GRANT) if denied else (OK, f"{len(TABLE_ACTIONS)} actions by simulation", "")
    return _reads(stage, name)


def _reads(stage: Stage, name: str) -> Seen:
    """Tries the reads, for a caller that may not simulate policies; the permissions to write stay unknown."""
    dynamodb, name = client(stage.connection.of_table(name), "dynamodb"), name_in_requests(name)
    table = dynamodb.describe_table(TableName=name)["Table"]
    types = {one["AttributeName"]: one["AttributeType"] for one in table["AttributeDefinitions"]}
    values = {"S": "dynamodt-doctor", "N": "0", "B": b"dynamodt-doctor"}
    key = {one["AttributeName"]: {(kind := types[one["AttributeName"]]): values[kind]} for one in table["KeySchema"]}
    tries: dict[str, Callable[[], Any]] = {
        "Scan": lambda: dynamodb.scan(TableName=name, Limit=1, Select="COUNT"),
        "GetItem": lambda: dynamodb.get_item(TableName=name, Key=key),
        "BatchGetItem": lambda: dynamodb.batch_get_item(RequestItems={name: {"Keys": [key]}}),
    }
    refused = [f"dynamodb:{action}" for action, call in tries.items() if _is_refused(call)]
    if refused:
        return WRONG, f"not allowed: {', '.join(refused)}", _GRANT
    return OK, "the reads, as tried; writes unknown without iam:SimulatePrincipalPolicy", ""


def _is_refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        return is_denied(error)
    return False


# ---------------------------------------------------------------- a table


def judged(stage: Stage, spec: TableSpec, seen: str, if_merged: str) -> Seen:
    """The finding about a table's state, and about the writes of other regions."""
    if spec.status not in USABLE:
        return WRONG, seen, STATE_HINTS.get(spec.status, "")
    if spec.merges_writes and not stage.single_region_writers:
        return WRONG, seen, f"{if_merged} (single_region_writers = true in dynamodt.toml states it)"
    return OK, seen, ""


def replicas(spec: TableSpec) -> list[str]:
    strong = "strongly consistent " if spec.strong else ""
    return [f"{strong}replicas in {', '.join(spec.replicas)}"] if spec.replicas else []


def state_of_table(stage: Stage, name: str) -> Seen:
    """The table's status, and the properties that its writes depend on."""
    table = description(stage.connection, name)
    spec = spec_of(stage.connection, name, table)
    spec = spec if stage.local else with_legacy_replicas(stage.connection, spec)
    seen = [spec.status, _capacity(table), *_facts(table), *_receivers(stage, spec), *replicas(spec)]
    merged = "a condition is evaluated on the local replica: a run needs --single-region-writers"
    return judged(stage, spec, ", ".join(seen), merged)


def _capacity(table: Mapping[str, Any]) -> str:
    units = table.get("ProvisionedThroughput", {})
    if units.get("WriteCapacityUnits"):
        return f"provisioned {units['ReadCapacityUnits']} RCU and {units['WriteCapacityUnits']} WCU"
    most = table.get("OnDemandThroughput") or {}
    keys = [key for key in ("MaxReadRequestUnits", "MaxWriteRequestUnits") if most.get(key, -1) > 0]  # -1: no maximum
    limits = [f"at most {most[key]} {key}" for key in keys]
    return ", ".join(["on-demand", *limits])


def _facts(table: Mapping[str, Any]) -> Iterator[str]:
    for key, words in (("GlobalSecondaryIndexes", "global"), ("LocalSecondaryIndexes", "local")):
        indexes = [index["IndexName"] for index in table.get(key) or ()]
        if indexes:
            yield f"{words} indexes {', '.join(indexes)}"
    if (table.get("StreamSpecification") or {}).get("StreamEnabled"):
        yield "a stream, with a record for each change"
    if table.get("SSEDescription"):
        yield f"encrypted by {table['SSEDescription'].get('SSEType', 'KMS')}"


def _receivers(stage: Stage, spec: TableSpec) -> Iterator[str]:
    """The consumers of a write, as far as the caller may list them."""
    found = consumers(stage.connection, spec)
    for kind, names in (("Lambda", found.functions), ("Kinesis", found.kinesis)):
        if names:
            yield f"{kind} {', '.join(names)}"
    if found.ttl:
        yield f"TTL by {found.ttl}"
    if found.unknown:
        yield found.unknown
