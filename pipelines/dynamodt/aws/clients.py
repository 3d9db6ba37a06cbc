"""The one place where AWS sessions and clients are made."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dynamodt.errors import ServiceError

if TYPE_CHECKING:
    import botocore.session

    from dynamodt.model import Connection

_NO_CREDENTIALS_HINT = (
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile` for the stage in dynamodt.toml"
)


@lru_cache(maxsize=8)
def session(connection: Connection) -> botocore.session.Session:
    """A botocore session for the connection, with the stage's role assumed where it names one.

    Raises ServiceError when there are no credentials, no such profile, or the role cannot be assumed.
    """
    import botocore.session
    from botocore.exceptions import ProfileNotFound

    base = botocore.session.get_session()
    if connection.profile is not None:
        base.set_config_variable("profile", connection.profile)
    if connection.access_key and connection.secret_key:
        base.set_credentials(connection.access_key, connection.secret_key)
    base.set_config_variable("region", connection.region)
    try:
        credentials = base.get_credentials()
    except ProfileNotFound as error:
        raise ServiceError(str(error), hint=_NO_CREDENTIALS_HINT) from error
    if credentials is None:
        raise ServiceError("no AWS credentials were found", where=connection.region, hint=_NO_CREDENTIALS_HINT)
    return _assume(base, connection) if connection.role_arn else base


def _assume(base: botocore.session.Session, connection: Connection) -> botocore.session.Session:
    """A session that holds the role's credentials and renews them by itself (a run may outlast their hour)."""
    import botocore.session
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=base.create_client,
        source_credentials=base.get_credentials(),
        role_arn=connection.role_arn,
        extra_args={"RoleSessionName": "dynamodt"},
    )
    inner = botocore.session.get_session()
    inner._credentials = DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
    inner.set_config_variable("region", connection.region)
    return inner


def _made(connection: Connection, service: str, config: Any) -> Any:
    """A client, by botocore alone for DynamoDB: boto3, which gives S3's its transfers, takes as long to import as
    botocore itself, and most commands need none of it."""
    if service == "dynamodb":
        return session(connection).create_client(service, endpoint_url=connection.endpoint_url, config=config)
    return _boto3_session(connection).client(service, endpoint_url=connection.endpoint_url, config=config)


@lru_cache(maxsize=8)
def _boto3_session(connection: Connection) -> Any:
    """One for each connection: a second one over the same botocore session gives S3's clients their transfers twice,
    which boto3 takes for a fault."""
    import boto3

    return boto3.Session(botocore_session=session(connection))


@lru_cache(maxsize=32)
def client(connection: Connection, service: str, *, attempts: int = 6, seconds: float = 60) -> Any:
    """A client as boto3 has it (thread-safe, shared). Retries are botocore's standard mode: bounded, with jitter;
    `seconds` is how long one attempt waits for an answer."""
    from botocore.config import Config

    style = {"addressing_style": "path"} if connection.endpoint_url else {}
    config = Config(
        retries={"mode": "standard", "max_attempts": attempts},
        s3=style or None,
        connect_timeout=min(10, seconds),
        read_timeout=seconds,
    )
    made = _made(connection, service, config)
    if service == "dynamodb":
        made.meta.events.register("before-parse.dynamodb", _check_whole)
    return made


def _check_whole(response_dict: dict[str, Any], **_: Any) -> None:
    """botocore takes an answer that was cut off for an empty one: "there is no such item". DynamoDB sends a CRC32 with
    each, for botocore to see that; not every endpoint does."""
    import orjson

    try:
        orjson.loads(response_dict["body"] or b"{}")
    except orjson.JSONDecodeError as error:
        if response_dict["status_code"] == 200:
            raise ServiceError(
                "an answer of DynamoDB arrived in part only",
                hint="look at the network or at the proxy in between, and run the same command again: it goes on",
            ) from error
