"""The one place where AWS sessions and clients are made."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dynamodt.errors import ServiceError

if TYPE_CHECKING:
    import boto3

    from dynamodt.model import Connection

_NO_CREDENTIALS_HINT = (
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile` for the stage in dynamodt.toml"
)


@lru_cache(maxsize=8)
def session(connection: Connection) -> boto3.Session:
    """A boto3 session for the connection, with the stage's role assumed where it names one.

    Raises ServiceError when there are no credentials, no such profile, or the role cannot be assumed.
    """
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        base = boto3.Session(
            profile_name=connection.profile,
            region_name=connection.region,
            aws_access_key_id=connection.access_key,
            aws_secret_access_key=connection.secret_key,
        )
    except ProfileNotFound as error:
        raise ServiceError(str(error), hint=_NO_CREDENTIALS_HINT) from error
    if base.get_credentials() is None:
        raise ServiceError("no AWS credentials were found", where=connection.region, hint=_NO_CREDENTIALS_HINT)
    return _assume(base, connection.role_arn) if connection.role_arn else base


def _assume(base: boto3.Session, role_arn: str) -> boto3.Session:
    """A session that holds the role's credentials and renews them by itself (a run may outlast their hour)."""
    import boto3
    import botocore.session
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=base._session.create_client,
        source_credentials=base.get_credentials(),
        role_arn=role_arn,
        extra_args={"RoleSessionName": "dynamodt"},
    )
    inner = botocore.session.get_session()
    inner._credentials = DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
    inner.set_config_variable("region", base.region_name)
    return boto3.Session(botocore_session=inner)


@lru_cache(maxsize=32)
def client(connection: Connection, service: str, *, attempts: int = 6, seconds: float = 60) -> Any:
    """A boto3 client (thread-safe, shared). Retries are botocore's standard mode: bounded, with jitter; `seconds` is
    how long one attempt waits for an answer."""
    from botocore.config import Config

    style = {"addressing_style": "path"} if connection.endpoint_url else {}
    config = Config(
        retries={"mode": "standard", "max_attempts": attempts},
        s3=style or None,
        connect_timeout=min(10, seconds),
        read_timeout=seconds,
    )
    made = session(connection).client(service, endpoint_url=connection.endpoint_url, config=config)
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
