"""AWS sessions and clients, created only here, and their errors.

Proxies, trusted CAs and endpoints are found as botocore finds them. The embedded stage uses none of these, and no
profile or file of the user: it works in any shell, without a home folder and under any user id.

A client of S3 names the account that owns the bucket in every request (ExpectedBucketOwner): S3 refuses the request,
with 403, if another account has since created a bucket of that name. So no foreign bucket is written or read.

`explained` turns botocore's exceptions into ServiceError, with the refused call, its place and the next step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from dynamodt.dynamodb.network import (
    CONNECT_SECONDS,
    DENIALS,
    LOST,
    READ_SECONDS,
    Route,
    ca_bundle,
    client_reason,
    refusal,
    route_to,
    shown_url,
    url_of_requests,
)
from dynamodt.dynamodb.unresponsive import FirstAnswers, retried_longer
from dynamodt.errors import AGAIN, CONTINUES, NO_SPACE, ServiceError, suggest

if TYPE_CHECKING:
    import botocore.session

    from dynamodt.model.tables import Connection

# Tags of the resources that infra/template.yaml creates and keeps.
STAGE_TAG = "dynamodt:stage"
BUCKET_TAG = "dynamodt:bucket"  # on a key: the bucket of its stage, whose name is unique in all of AWS

_ATTEMPTS = 6
_CREDENTIALS_HINT = (
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile` (of a stage: in dynamodt.toml)"
)
_CONFIGURATION = "correct the AWS configuration: the variables AWS_*, ~/.aws/config and ~/.aws/credentials"


@lru_cache(maxsize=8)
def session(connection: Connection) -> botocore.session.Session:
    """A botocore session for the connection, with the stage's role assumed if it names one.

    Raises ServiceError when there are no credentials, no such profile, or the AWS configuration cannot be read.
    Credentials that cannot be renewed raise ServiceError, too, from the call that needs them.
    """
    base = _bare_session() if connection.embedded else _session(connection.profile)
    base.set_config_variable("region", connection.region)
    if connection.access_key and connection.secret_key:
        base.set_credentials(connection.access_key, connection.secret_key)
    with _configured(connection.profile):
        credentials = base.get_credentials()
    if credentials is None:
        raise ServiceError("no AWS credentials were found", where=f"region {connection.region}", hint=_CREDENTIALS_HINT)
    _explain_renewals(credentials, f"profile {base.profile or 'default'}", base.profile or "default")
    return _assume(base, connection) if connection.role_arn else base


def region_of(profile: str | None) -> str | None:
    """The region of a profile; None: the profile of the environment. Raises ServiceError when the profile does not
    exist or the AWS configuration cannot be read."""
    with _configured(profile):
        region = _session(profile).get_config_variable("region")
    return str(region) if region else None


def _session(profile: str | None) -> botocore.session.Session:
    import botocore.session

    made = botocore.session.get_session()
    if profile is not None:
        made.set_config_variable("profile", profile)
    return _watched(made)


def _bare_session() -> botocore.session.Session:
    """A session with default settings, which reads no variable and no file."""
    import botocore.session
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

    settings = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    return _watched(botocore.session.Session(session_vars={**settings, **files}), proxies={})


def _watched(made: botocore.session.Session, **settings: Any) -> botocore.session.Session:
    """The session, with time-outs for all of its clients, including those by which botocore gets credentials."""
    from botocore.config import Config

    made.set_default_client_config(Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, **settings))
    FirstAnswers(lambda error: client_reason(error).what).watch(made)
    return made


def _assume(base: botocore.session.Session, connection: Connection) -> botocore.session.Session:
    """A session with the role's credentials, which are renewed, since a run may outlast their hour."""
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(base.create_client, endpoint_url=_endpoint(base, connection, "sts")),
        source_credentials=base.get_credentials(),
        role_arn=connection.role_arn,
        extra_args={"RoleSessionName": "dynamodt"},
    )
    inner = _session(connection.profile)
    inner._credentials = DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
    _explain_renewals(inner._credentials, f"role {connection.role_arn}", base.profile or "default")
    inner.set_config_variable("region", connection.region)
    return inner


def _explain_renewals(credentials: Any, where: str, profile: str) -> None:
    """Makes a failed renewal of credentials raise ServiceError. botocore raises errors of the issuing service, STS or
    IAM Identity Center, as if they were errors of the call that needs the credentials."""
    renew = getattr(credentials, "_refresh_using", None)
    if renew is None:
        return

    def renewed() -> Any:
        try:
            return renew()
        except (BotoCoreError, ClientError) as error:
            raise _not_renewed(error, where, profile) from error

    credentials._refresh_using = renewed


@contextmanager
def _configured(profile: str | None) -> Iterator[None]:
    """Turns errors of the AWS configuration, and of the credentials in it, into ServiceError."""
    try:
        yield
    except BotoCoreError as error:
        named = profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
        raise _not_renewed(error, f"profile {named}", named) from error


def _not_renewed(error: BotoCoreError | ClientError, where: str, profile: str) -> ServiceError:
    if isinstance(error, SSOError | TokenRetrievalError):
        what = f"the session of IAM Identity Center has ended, or was not begun: {error}"
        return ServiceError(what, where=where, hint=f"aws sso login --profile {profile}")
    if isinstance(error, ClientError):
        code, message, _ = refusal(error)
        what = f"the credentials could not be renewed: {error.operation_name} was refused: {code}: {message}"
        hint = _HINTS.get(code, _RENEW)
        if code.startswith("AccessDenied"):
            hint = "allow sts:AssumeRole on the role to the caller, and the caller in the role's trust policy"
        return ServiceError(what, where=where, hint=hint)
    if isinstance(error, LOST):
        what, hint = client_reason(error)
        return ServiceError(f"the credentials could not be renewed: {what}", where=where, hint=hint)
    return ServiceError(str(error), where=where, hint=_CONFIGURATION)


# ---------------------------------------------------------------- endpoints


def _endpoint(of: botocore.session.Session, connection: Connection, service: str) -> str | None:
    """The endpoint of a service in the environment or dynamodt.toml; None: botocore finds it."""
    if not connection.endpoints:
        return connection.endpoint_url
    name = of.get_service_model(service).service_id.hyphenize().replace("-", "_").upper()
    return connection.endpoint(name)


class Resolved(NamedTuple):
    """The settings of DynamoDB's client: the route to its endpoint, the region of the signature, the credentials."""

    route: Route
    region: str
    credentials: Any


@lru_cache(maxsize=8)
def resolved(connection: Connection) -> Resolved:
    """The endpoint of DynamoDB that its client finds for each request (by account id, FIPS, dual-stack, the profile's
    services), with proxy and CAs. Sends no request to DynamoDB; credentials may be renewed.

    Raises ServiceError when there are no credentials, or no endpoint for these settings.
    """
    made = _make_client(connection, "dynamodb", _config(connection, "dynamodb"))
    with explained("Scan", shown_url(made.meta.endpoint_url)):
        url = url_of_requests(made)
    boto = session(connection)
    route = Route(url) if connection.embedded else route_to(url, ca_bundle(boto, url))
    return Resolved(route, str(made.meta.region_name), boto.get_credentials())


# ---------------------------------------------------------------- clients


def _make_client(connection: Connection, service: str, config: Any) -> Any:
    """A client. DynamoDB's uses botocore alone: importing boto3, which S3's transfers need, takes as long again, and
    most commands do not need it."""
    boto = session(connection)
    try:
        url = _endpoint(boto, connection, service)
        create = boto.create_client if service == "dynamodb" else _boto3_session(connection).client
        made = create(service, endpoint_url=url, config=config)
        ca_bundle(boto, made.meta.endpoint_url)  # an unreadable file is reported here
        return made
    except (BotoCoreError, ValueError) as error:
        raise ServiceError(f"there is no client for {service}: {error}", hint=_CONFIGURATION) from error


@lru_cache(maxsize=8)
def _boto3_session(connection: Connection) -> Any:
    """The boto3 session of a connection. A second one over the same botocore session would register S3's transfers
    twice, which boto3 reports as an error."""
    import boto3

    return boto3.Session(botocore_session=session(connection))


@lru_cache(maxsize=32)
def client(
    connection: Connection,
    service: str,
    *,
    attempts: int = _ATTEMPTS,
    seconds: float = READ_SECONDS,
    owner: str | None = None,
) -> Any:
    """A shared, thread-safe client. Retries are those of botocore's standard mode: bounded by `attempts`, with jitter;
    with the default number, a lost connection is tried again for up to a minute. `seconds` is the read timeout of one
    attempt.

    `owner`, for S3: the account that must own each bucket; None: that of the connection's credentials, except at a
    custom endpoint, since an emulator may have no accounts; empty: any account, for a bucket that the user names.
    """
    made = _make_client(connection, service, _config(connection, service, attempts, seconds))
    if attempts == _ATTEMPTS:
        made.meta.events.register("needs-retry", retried_longer)
    if service == "dynamodb":
        made.meta.events.register("before-parse.dynamodb", _check_whole)
    if service == "s3" and (owner or (owner is None and not connection.endpoint("S3"))):
        made.meta.events.register("provide-client-params.s3", partial(_name_owner, connection, owner))
    return made


def _config(connection: Connection, service: str, attempts: int = _ATTEMPTS, seconds: float = READ_SECONDS) -> Any:
    from botocore.config import Config

    by_path = service == "s3" and connection.endpoint("S3")
    return Config(
        retries={"mode": "standard", "max_attempts": attempts},
        s3={"addressing_style": "path"} if by_path else None,
        connect_timeout=min(CONNECT_SECONDS, seconds),
        read_timeout=seconds,
    )


def _name_owner(connection: Connection, owner: str | None, params: dict[str, Any], model: Any, **_: Any) -> None:
    """Adds the owner to the parameters of every operation that takes one, including transfers. Creating a bucket takes
    none."""
    if model.input_shape is not None and "ExpectedBucketOwner" in model.input_shape.members:
        params.setdefault("ExpectedBucketOwner", owner or bucket_owner(connection))


def _check_whole(response_dict: dict[str, Any], **_: Any) -> None:
    """Raises ServiceError for a truncated response, which botocore would read as an empty one: "there is no such item".
    DynamoDB sends a CRC32, by which botocore detects it; some endpoints do not."""
    import orjson

    try:
        orjson.loads(response_dict["body"] or b"{}")
    except orjson.JSONDecodeError as error:
        if response_dict["status_code"] == 200:
            hint = f"check the network or a proxy in between, and {CONTINUES}"
            raise ServiceError("a response of DynamoDB was truncated", hint=hint) from error


_GRANT = "grant the action to the role or user that runs dynamodt"
_OWNER = "; a bucket of the stage must belong to its account, or to the one that storage_owner names in dynamodt.toml"
_GRANT_KEY = (
    "allow the role or user that runs dynamodt to use the key, in its own policy and in the key's: kms:Decrypt, "
    "DescribeKey, Encrypt, GenerateDataKey* and ReEncrypt*"
)
_EXPLICIT = "a policy of the named kind denies the action explicitly, which no grant overrides: change that policy"
_RENEW = f"renew them (`aws sso login`, for example), then {CONTINUES}"
EXPIRED = ("ExpiredTokenException", "ExpiredToken", "RequestExpired", "TokenRefreshRequired")  # error codes
_INVALID = ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken")
_SKEWED = ("RequestTimeTooSkewed", "RequestInTheFuture")
_SIGNATURES = ("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException")
_BUSY = ("SlowDown", "InternalError", "ServiceUnavailable")  # S3's
_KEYS = ("KMS.DisabledException", "KMS.KMSInvalidStateException", "KMS.NotFoundException")  # S3's, about the key
_CLOCK = ("Signature expired", "Signature not yet current")  # such messages are due to a clock
_PROXY_USER = "give the proxy's credentials: HTTP_PROXY=http://USER:PASSWORD@HOST:PORT"
_HINTS = {
    "InsufficientStorage": NO_SPACE,  # of the embedded emulator's S3
    "ResourceNotFoundException": "create the table first, or check its name, the region and the stage",
    "NoSuchBucket": "create the bucket, or correct its name (of a stage: `storage` in dynamodt.toml)",
    "404": "check that the bucket and the key exist",
    **dict.fromkeys(_BUSY, "S3 is busy: wait for some minutes"),
    **dict.fromkeys(_KEYS, "enable the KMS key, or cancel its deletion: it encrypts the stage's files, old ones, too"),
    **dict.fromkeys(_INVALID, f"the credentials are not valid: {_RENEW}"),
    **dict.fromkeys(EXPIRED, f"the credentials have expired: {_RENEW}"),
    **dict.fromkeys(_SKEWED, "set this machine's clock: it differs from AWS's by more than 5 minutes"),
    **dict.fromkeys(_SIGNATURES, "check the secret key and this machine's clock, and that no proxy changes requests"),
}
BAD_CREDENTIALS = frozenset(_HINTS[code] for code in (*_INVALID, *EXPIRED))  # the hints of errors of every service
NO_TABLE = "the table does not exist"
_WHAT = {"ResourceNotFoundException": NO_TABLE, "NoSuchBucket": "the bucket does not exist"}

_NO_RESPONSE = "ResponseParserError"  # botocore's, also by name
_OTHER = "the response is not the service's own: check the endpoint, and a proxy or login page in between"
_TRANSFER_ENDED = ("RetriesExceededError", "S3DownloadFailedError", "S3ValidationError")  # by name: slow to import
_DAMAGED = f"{AGAIN}; if that ends the same, the object is damaged: create it again"


@contextmanager
def explained(operation: str, where: str) -> Iterator[None]:
    """Turns botocore's exceptions in the code within into ServiceError."""
    try:
        yield
    except ClientError as error:
        code, message, _ = refusal(error)
        raise service_error(operation, where, code, message) from error
    except BotoCoreError as error:
        raise _client_error(operation, where, error) from error
    except Exception as error:
        if type(error).__name__ == _NO_RESPONSE:
            raise ServiceError(f"{operation}: {error}", where=where, hint=_OTHER) from error
        if type(error).__name__ not in _TRANSFER_ENDED:
            raise
        what = f"{operation} gave up after several tries: {getattr(error, 'last_exception', error)}"
        raise ServiceError(what, where=where, hint=_DAMAGED) from error


def _client_error(operation: str, where: str, error: BotoCoreError) -> ServiceError:
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return ServiceError("no AWS credentials were found", where=where, hint=_CREDENTIALS_HINT)
    if isinstance(error, FlexibleChecksumError):
        return ServiceError(f"{operation} returned other content than was stored: {error}", where=where, hint=_DAMAGED)
    if isinstance(error, LOST):
        what, hint = client_reason(error)
        return ServiceError(f"{operation} failed: {what}", where=where, hint=hint)
    return ServiceError(f"{operation} failed: {error}", where=where, hint=_CONFIGURATION)


def service_error(operation: str, where: str, code: str, message: str) -> ServiceError:
    """The error for a refusal of the service, with the hint for its code."""
    skewed = code in _SIGNATURES and message.startswith(_CLOCK)
    hint = _hint_of_denial(where, message) if code in DENIALS else _HINTS.get(_SKEWED[0] if skewed else code, "")
    if code == "ResourceNotFoundException" and where.startswith("state table"):
        hint = suggest("deploy", state_only=True) + " creates it; or check the stage, the region and `state_table`"
    status = code.removeprefix("HTTP")
    if status.isdigit() and (not message or message.startswith("<")):  # a service gives a code, S3 at least a message
        what = f"{operation} was answered with status {status} and no error code"
        return ServiceError(what, where=where, hint=_PROXY_USER if status == "407" else _OTHER)
    return ServiceError(_WHAT.get(code) or f"{operation} was refused: {code}: {message}", where=where, hint=hint)


def _hint_of_denial(where: str, message: str) -> str:
    if "explicit deny" in message:
        return _EXPLICIT
    if ("kms:" in message or "KMS" in message) and not where.startswith("key "):  # DynamoDB or S3 has called KMS
        return _GRANT_KEY
    return _GRANT + _OWNER if where.startswith(("s3://", "bucket ")) else _GRANT


@lru_cache(maxsize=8)
def account_id(connection: Connection) -> str:
    """The account of the connection's credentials, requested once by each process. Raises ServiceError."""
    with explained("GetCallerIdentity", f"region {connection.region}"):
        return str(client(connection, "sts").get_caller_identity()["Account"])


def bucket_owner(connection: Connection) -> str:
    """`account_id`, for the stage's bucket. Raises ServiceError, with the alternative to STS."""
    try:
        return account_id(connection)
    except ServiceError as error:
        way = "; or name the account that owns the bucket, storage_owner in dynamodt.toml: then no request is sent to "
        raise error.hinted(error.hint + f"{way}STS for it") from error
