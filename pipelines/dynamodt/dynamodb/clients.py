"""AWS sessions and clients, created only here, and their errors.

A client of S3 names the account that owns the bucket in every request (ExpectedBucketOwner): S3 refuses it, with 403,
where another account has created a bucket of that name in between. So nothing is written to a stranger's bucket, and
nothing is read from it.

`explained` turns botocore's exceptions into ServiceError, with what was refused, where, and the next step;
`file_explained` does so for errors of the file system.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    PartialCredentialsError,
)

from dynamodt.errors import DynamodtError, ServiceError

if TYPE_CHECKING:
    import botocore.session

    from dynamodt.model.tables import Connection


# Tags of the resources that infra/template.yaml creates and keeps.
STAGE_TAG = "dynamodt:stage"
BUCKET_TAG = "dynamodt:bucket"  # on a key: the bucket of its stage, whose name is unique in all of AWS


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
    """A session with the role's credentials, which renews them: a run may outlast their hour."""
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
    """A client: for DynamoDB by botocore alone, since importing boto3, which S3's transfers need, takes as long again
    and most commands do without it."""
    if service == "dynamodb":
        return session(connection).create_client(service, endpoint_url=connection.endpoint_url, config=config)
    return _boto3_session(connection).client(service, endpoint_url=connection.endpoint_url, config=config)


@lru_cache(maxsize=8)
def _boto3_session(connection: Connection) -> Any:
    """One for each connection: a second one over the same botocore session registers S3's transfers twice, which boto3
    reports as an error."""
    import boto3

    return boto3.Session(botocore_session=session(connection))


@lru_cache(maxsize=32)
def client(
    connection: Connection, service: str, *, attempts: int = 6, seconds: float = 60, owner: str | None = None
) -> Any:
    """A shared, thread-safe client. Retries are botocore's standard mode: bounded by `attempts`, with jitter; `seconds`
    is the read timeout of one attempt.

    `owner`, for S3: the account that must own each bucket; None: that of the connection's credentials, except at an
    endpoint, where an emulator may have no accounts; empty: any, for a bucket that the user names.
    """
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
    if service == "s3" and (owner or (owner is None and not connection.endpoint_url)):
        made.meta.events.register("provide-client-params.s3", partial(_name_owner, connection, owner))
    return made


def _name_owner(connection: Connection, owner: str | None, params: dict[str, Any], model: Any, **_: Any) -> None:
    """Adds the owner to the parameters of every operation that takes one, transfers included. Creating a bucket takes
    none."""
    if model.input_shape is not None and "ExpectedBucketOwner" in model.input_shape.members:
        params.setdefault("ExpectedBucketOwner", owner or account_id(connection))


def is_owned_by(connection: Connection, bucket: str, account: str) -> bool:
    """Whether a bucket belongs to an account; false also where HeadBucket is refused to the caller."""
    with explained("HeadBucket", f"bucket {bucket}"):
        try:
            client(connection, "s3", owner=account).head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
                return False
            raise
    return True


def _check_whole(response_dict: dict[str, Any], **_: Any) -> None:
    """Raises ServiceError for a truncated response, which botocore would read as an empty one, "there is no such item".
    DynamoDB sends a CRC32, by which botocore recognizes it; some endpoints do not."""
    import orjson

    try:
        orjson.loads(response_dict["body"] or b"{}")
    except orjson.JSONDecodeError as error:
        if response_dict["status_code"] == 200:
            raise ServiceError(
                "a response of DynamoDB was truncated",
                hint="check the network or a proxy in between, and run the same command again: it continues",
            ) from error


_GRANT_OR_OWNER = (
    "grant the action to the role or user that runs dynamodt; a bucket of the stage must belong to its account, or to "
    "the one that storage_owner names in dynamodt.toml"
)
_NO_SPACE = "free some space on its disk, then run the same command again"
_HINTS = {
    "InsufficientStorage": _NO_SPACE,  # of the embedded emulator's S3
    "ResourceNotFoundException": "create the table first, or check the stage, the region and the name",
    "NoSuchBucket": "create the bucket, or correct the stage's `storage` in dynamodt.toml",
    "404": "check that the bucket and the key exist",
    "AccessDeniedException": "grant the action to the role or user that runs dynamodt",
    "AccessDenied": _GRANT_OR_OWNER,
    "403": _GRANT_OR_OWNER,
    "UnrecognizedClientException": "the credentials are not valid for this account: renew them",
    "ExpiredTokenException": "the credentials have expired: renew them",
    "InvalidSignatureException": "check the secret key and this machine's clock",
}
NO_TABLE = "the table does not exist"
_WHAT = {
    "ResourceNotFoundException": NO_TABLE,
    "NoSuchBucket": "the bucket does not exist",
}
_CREDENTIALS_HINT = "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a `profile` in dynamodt.toml"

_TRANSFER_ENDED = "RetriesExceededError"  # boto3's, by name: importing it would cost every command a fifth of its start
_DAMAGED = "run the same command again; if that ends the same, the object is damaged: create it again"


_NO_ACCESS = "give the user that runs this access"
_OF_ANY_FILE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ELSEWHERE = ", or name another folder (DYNAMODT_STORAGE)"
_FILE_HINTS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), then run the same command again",
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EROFS: _NO_ACCESS,
    errno.ENOTDIR: "a file is where a folder should be: move it, or name another folder as the storage",
    errno.EEXIST: "a file is where a folder should be: move it, or name another folder as the storage",
    errno.EISDIR: "a folder is where a file should be: move it, then run the same command again",
    errno.EIO: "check the disk",
}


@contextmanager
def file_explained(what: str, path: Path) -> Iterator[None]:
    """Turns an error of the file system within into ServiceError, as `explained` does for S3. `what` is "read" or
    "written"."""
    try:
        yield
    except OSError as error:
        found = file_error(what, str(path), error)
        raise (found.hinted(found.hint + _ELSEWHERE) if found.hint == _NO_ACCESS else found) from error


def file_error(what: str, place: str, error: OSError) -> DynamodtError:
    """The error of a file that cannot be read or written (`what`), with its place and the next step."""
    reason = error.strerror or str(error)
    hint = _FILE_HINTS.get(error.errno or 0, "check the folder, then run the same command again")
    return ServiceError(f"the file cannot be {what}: {reason}", where=place, hint=hint)


def is_of_the_disk(error: OSError) -> bool:
    """Whether an error is the file system's: it is full or read-only, or the error names a file."""
    return error.errno in _FILE_HINTS and (error.errno in _OF_ANY_FILE or error.filename is not None)


@contextmanager
def explained(operation: str, where: str) -> Iterator[None]:
    """Turns botocore's exceptions of the calls within into ServiceError."""
    try:
        yield
    except ClientError as error:
        detail = error.response.get("Error", {})
        raise service_error(operation, where, detail.get("Code", ""), detail.get("Message", "")) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ServiceError("no AWS credentials were found", where=where, hint=_CREDENTIALS_HINT) from error
    except EndpointConnectionError as error:
        hint = "check the network, the region, and AWS_ENDPOINT_URL if it is set"
        raise ServiceError(f"the endpoint cannot be reached: {error}", where=where, hint=hint) from error
    except FlexibleChecksumError as error:
        raise ServiceError(
            f"{operation} returned other content than was stored: {error}", where=where, hint=_DAMAGED
        ) from error
    except BotoCoreError as error:
        raise ServiceError(f"{operation} failed: {error}", where=where) from error
    except Exception as error:
        if type(error).__name__ != _TRANSFER_ENDED:
            raise
        what = f"{operation} gave up after several tries: {getattr(error, 'last_exception', error)}"
        raise ServiceError(what, where=where, hint=_DAMAGED) from error


def service_error(operation: str, where: str, code: str, message: str) -> ServiceError:
    """The error for a refusal of the service, with the hint for its code."""
    what = _WHAT.get(code) or f"{operation} was refused: {code}: {message}"
    return ServiceError(what, where=where, hint=_HINTS.get(code, ""))


@lru_cache(maxsize=8)
def account_id(connection: Connection) -> str:
    """The account of the connection's credentials, requested once by each process. Raises ServiceError when they are
    invalid."""
    with explained("GetCallerIdentity", f"region {connection.region}"):
        return str(client(connection, "sts").get_caller_identity()["Account"])
