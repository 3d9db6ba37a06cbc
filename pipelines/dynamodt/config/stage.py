"""A stage by its name: `dynamodt.toml`, overridden by the environment.

::

    [stages.prod]
    region = "eu-west-1"
    storage = "s3://my-bucket/dynamodt"

The stage `local` needs no entry: it is the embedded emulator, unless an endpoint is set. The plugin of the Serverless
Framework sets DYNAMODT_EXPECTED_ACCOUNT and DYNAMODT_EXPECTED_REGION to the account and the region of the application;
a stage in another account or region is refused, since its tables belong to another deployment. It sets DYNAMODT_SERVICE
to the settings of a stage without an entry, as JSON: `{"stage": "dev", "storage": "s3://BUCKET/PREFIX", "tables":
{"users": "cfn:shop-dev.Users"}}`, for `init` with the `keys` of its tables. An entry's own keys take precedence.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dynamodt.config.settings import FILE_NAME, StageSettings, place, read_settings, table_source
from dynamodt.dynamodb.clients import account_id, region_of
from dynamodt.dynamodb.network import environment_endpoints, environment_region
from dynamodt.errors import Refused, UsageError
from dynamodt.model.tables import LOOKUPS, STATE_TABLE, WORK_FOLDER, Connection, Stage, StorageSpec, TableNames

SERVICE = "DYNAMODT_SERVICE"  # what the Serverless plugin knows of a service
ACCOUNT, REGION = "DYNAMODT_EXPECTED_ACCOUNT", "DYNAMODT_EXPECTED_REGION"


def check_expected(stage: Stage) -> None:
    """Raises Refused if the stage is in another account or region than these variables, ServiceError if its account
    cannot be read. Without the variables no request is sent."""
    account, region = os.environ.get(ACCOUNT, ""), os.environ.get(REGION, "")
    if not account and not region:
        return
    if stage.embedded:
        hint = f"name the stage of {FILE_NAME} for it (custom.dynamodt.stages), or set AWS_ENDPOINT_URL"
        what = f"the service is in account {account or '?'}, {region or '?'}, and the embedded stage on this machine"
        raise Refused(what, where=f"stage {stage.name}", hint=hint)
    if region and stage.connection.region != region:
        what = f"the service was deployed to {region}, and this stage is in {stage.connection.region}"
        raise Refused(what, where=place("stages", stage.name, "region"), hint="remove the key, or correct it")
    found = account_id(stage.connection) if account else ""
    if found != account:
        what = f"the service was deployed to account {account}, and this stage is in account {found}"
        hint = "remove `profile` and `role_arn` of the stage, or name those of that account"
        raise Refused(what, where=place("stages", stage.name), hint=hint)


LOCAL = "local"
EMBEDDED_URL = "DYNAMODT_EMBEDDED_URL"  # set by `local env`
LOCAL_REGION = "us-east-1"
_EMULATED_ACCOUNT = "000000000000"
EMBEDDED_STORAGE = "s3://dynamodt-local/dynamodt"

_STORAGE = "DYNAMODT_STORAGE"
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_LOCAL_KEYS: dict[str, Any] = {"access_key": "local", "secret_key": "local"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def load_stage(name: str = LOCAL, folder: Path = Path()) -> Stage:
    """The stage of that name, from `folder/dynamodt.toml` and the environment; starts nothing, sends no request.

    AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SERVICE and DYNAMODT_STORAGE override the file. The embedded stage has no
    endpoint yet; `local.stage.open_stage` sets it.

    Raises UsageError, naming file and key, for an unknown stage, an invalid file, and a stage without a region or a
    storage; ServiceError if the region is that of an AWS profile which cannot be read.
    """
    known = read_settings(folder / FILE_NAME)
    service = _of_service(name)
    declared = name in {LOCAL, *known}
    if not declared and service is None:
        raise _unknown_stage(name, known, folder)
    if not declared and service and not (service.storage or os.environ.get(_STORAGE)):
        hint = f"deploy the service first, or write storage under [stages.{name}] in {FILE_NAME}"
        raise UsageError("the service has no deployment bucket yet", where=f"stage {name}", hint=hint)
    endpoint, others = environment_endpoints()
    if name == LOCAL and endpoint == os.environ.get(EMBEDDED_URL):  # by `local env`: the embedded stage's own endpoint
        endpoint = None
    return _stage(name, known, service or StageSettings(), folder, endpoint, others)


def embedded_stage(folder: Path, by_file: bool = True) -> Stage:
    """The embedded stage, as `load_stage` returns it if neither the environment nor the file names an endpoint. Without
    `by_file`, the file is ignored. Raises UsageError for an invalid file."""
    known = read_settings(folder / FILE_NAME) if by_file else {}
    settings = replace(known.get(LOCAL, StageSettings()), endpoint_url=None)
    return _stage(LOCAL, {**known, LOCAL: settings}, StageSettings(), folder, None, ())


def _of_service(stage: str) -> StageSettings | None:
    """The settings that the Serverless Framework has given the stage; None if it has given none, or those of another
    stage. Raises UsageError for a value that is not the plugin's."""
    if not os.environ.get(SERVICE):
        return None
    try:
        given = json.loads(os.environ[SERVICE])
        if given["stage"] != stage:
            return None
        names = {name: table_source(source, f"tables.{name}") for name, source in given.get("tables", {}).items()}
        return StageSettings(storage=given.get("storage"), table_names=names)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        hint = "it is set by serverless-dynamodt: remove it from the environment"
        raise UsageError(f"is not what the plugin sets: {error}", where=SERVICE, hint=hint) from error


def _state_tables(known: dict[str, StageSettings]) -> tuple[str, ...]:
    found = tuple(sorted({settings.state_table or STATE_TABLE for settings in known.values()}))
    for name, settings in known.items():
        for table in {**settings.tables, **settings.table_names}:
            if settings.table_names.get(table, table) in found:
                hint = "remove the line, the table is created automatically; or name another state_table"
                raise UsageError(f"{table} is a state table", where=place("stages", name, "tables", table), hint=hint)
    return found


def ambient_connection(region: str) -> Connection:
    """The connection of a process in AWS, in its region and with its own role."""
    endpoint, others = environment_endpoints()
    return Connection(region, endpoint, endpoints=others)


def embedded_file(url: str) -> str:
    """The file of an object in the emulator's S3, as a path from the project's folder."""
    return f"{WORK_FOLDER}/{LOCAL}/s3/{_EMULATED_ACCOUNT}/{url.removeprefix('s3://')}"


def _unknown_stage(name: str, known: dict[str, StageSettings], folder: Path) -> UsageError:
    hint = f"add a table [stages.{name}], or choose one of: {', '.join(sorted({LOCAL, *known}))}"
    if any(folder.glob("serverless.*")):
        known_there = "`sls dynamodt up`, `down`, `prepare`, `history` and `status`"
        hint += f". A stage of the service is known to {known_there}; any other command needs that table, with region, "
        hint += "storage and tables as `sls dynamodt up` shows them"
    return UsageError(f"there is no stage {name!r}", where=FILE_NAME, hint=hint)


def _stage(
    name: str,
    known: dict[str, StageSettings],
    service: StageSettings,
    folder: Path,
    endpoint: str | None,
    others: tuple[tuple[str, str], ...],
) -> Stage:
    settings = known.get(name, StageSettings())
    endpoint = endpoint or settings.endpoint_url
    embedded = name == LOCAL and not (endpoint or "DYNAMODB" in dict(others))
    if embedded:  # not the shell's region: the emulator separates tables by region, and another one would hide them
        connection = Connection(region=settings.region or LOCAL_REGION, **_LOCAL_KEYS, embedded=True)
    else:
        connection = _connection(name, settings, endpoint, others)
    given = {"state_table": settings.state_table, "glue_job": settings.glue_job}
    named: dict[str, Any] = {key: value for key, value in given.items() if value}
    names = _names(name, settings, service, embedded)
    in_service = not settings.storage and not os.environ.get(_STORAGE) and bool(service.storage)
    settings = replace(settings, storage=service.storage) if in_service else settings
    return Stage(
        name=name,
        connection=connection,
        storage=_storage(name, settings, folder, embedded),
        local=name == LOCAL,
        embedded=embedded,
        makes_state_table=name == LOCAL or in_service,
        tables={names.source(table): key for table, key in settings.tables.items()} if embedded else {},
        extras={names.source(table): more for table, more in settings.extras.items()} if embedded else {},
        names=names,
        protected=settings.protected,
        single_region_writers=settings.single_region_writers,
        other_state_tables=_state_tables({LOCAL: StageSettings(), **known}),
        **named,
    )


def _names(stage: str, settings: StageSettings, service: StageSettings, embedded: bool) -> TableNames:
    pattern = settings.table_name or TableNames().pattern
    names = TableNames(settings.table_names, pattern, offered=service.table_names, roles=settings.table_roles)
    for table in ("", *names.sources) if embedded else ():
        if names.source(table).startswith(LOOKUPS):
            where = place("stages", stage, *(("tables", table) if table else ("table_name",)))
            hint = "write the table's name: the embedded stage has no stacks and no parameters"
            raise UsageError(f"cannot be looked up by {names.source(table)!r}", where=where, hint=hint)
    return names


# ---------------------------------------------------------------- the connection


def _connection(
    name: str, settings: StageSettings, endpoint: str | None, others: tuple[tuple[str, str], ...]
) -> Connection:
    connection = Connection(
        region="",
        endpoint_url=_checked_endpoint(endpoint, name) if endpoint else None,
        profile=settings.profile,
        role_arn=settings.role_arn,
        endpoints=others,
    )
    url = connection.endpoint()
    on_this_machine = url is not None and urlsplit(_checked_endpoint(url, name)).hostname in _LOOPBACK
    needs_no_secret = name == LOCAL and on_this_machine and settings.profile is None and not _has_credentials()
    region = settings.region or environment_region() or region_of(settings.profile)
    if region is None and name == LOCAL and on_this_machine:
        region = LOCAL_REGION
    if region is None:
        hint = f'write region = "eu-west-1" under [stages.{name}], or set AWS_REGION, or name a profile with a region'
        raise UsageError("the stage has no region", where=place("stages", name, "region"), hint=hint)
    return replace(connection, region=region, **(_LOCAL_KEYS if needs_no_secret else {}))


def _checked_endpoint(endpoint: str, name: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        where = f"AWS_ENDPOINT_URL, or {place('stages', name, 'endpoint_url')}"
        raise UsageError(f"{endpoint!r} is not the URL of an endpoint", where=where, hint="write http://HOST:PORT")
    return endpoint.rstrip("/")


def _has_credentials() -> bool:
    file = os.path.expanduser(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    return any(map(os.environ.get, _CREDENTIAL_VARIABLES)) or os.path.isfile(file)


# ---------------------------------------------------------------- the storage


def _storage(name: str, settings: StageSettings, folder: Path, embedded: bool) -> StorageSpec:
    given = os.environ.get(_STORAGE) or settings.storage
    where = _STORAGE if os.environ.get(_STORAGE) else place("stages", name, "storage")
    if given is None and name != LOCAL:
        hint = f'write storage = "s3://BUCKET/PREFIX" under [stages.{name}], or set DYNAMODT_STORAGE'
        raise UsageError("the stage has no storage", where=where, hint=hint)
    default = EMBEDDED_STORAGE if embedded else f"{WORK_FOLDER}/storage"
    return _storage_spec(given or default, name, settings, folder, where)


def _storage_spec(given: str, name: str, settings: StageSettings, folder: Path, where: str) -> StorageSpec:
    if given.startswith("s3://"):
        return StorageSpec(_checked_bucket(given, where), settings.kms_key, settings.storage_owner)
    if "://" in given:
        raise UsageError(f"{given!r} is not a storage", where=where, hint="write s3://BUCKET/PREFIX, or a folder")
    if name != LOCAL:
        hint = "only the stage `local` can use a folder; write s3://BUCKET/PREFIX"
        raise UsageError(f"the folder {given!r} cannot be reached by a worker in AWS", where=where, hint=hint)
    for key in ("kms_key", "storage_owner"):
        if getattr(settings, key):
            hint = f"remove `{key}`, or use s3://BUCKET/PREFIX as the storage"
            where = place("stages", name, key)
            raise UsageError("is for a bucket, and the storage is a folder", where=where, hint=hint)
    return StorageSpec(str((folder / os.path.expanduser(given)).resolve()))


def _checked_bucket(url: str, where: str) -> str:
    if not urlsplit(url).netloc:
        raise UsageError(f"{url!r} names no bucket", where=where, hint="write s3://BUCKET/PREFIX")
    return url.rstrip("/")
