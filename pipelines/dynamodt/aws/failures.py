"""botocore's exceptions as our own: what was refused, where, and what to do now."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    PartialCredentialsError,
)

from dynamodt.errors import DynamodtError, ServiceError

_HINTS = {
    "ResourceNotFoundException": "create the table first, or check the stage, the region and the name",
    "NoSuchBucket": "create the bucket, or correct the stage's `storage` in dynamodt.toml",
    "404": "check that the bucket and the key exist",
    "AccessDeniedException": "grant the action to the role or user that runs dynamodt",
    "AccessDenied": "grant the action to the role or user that runs dynamodt",
    "403": "grant the action to the role or user that runs dynamodt",
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
_DAMAGED = "run the same command again; if that ends the same, the object is damaged: make it anew"


_NO_SPACE = "free some space on its disk, then run the same command again"
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
    """Turns an error of the file system, while a file is read or written, into ServiceError: storage in a folder fails
    as storage in S3 does."""
    try:
        yield
    except OSError as error:
        told = file_error(what, str(path), error)
        raise (told.hinted(told.hint + _ELSEWHERE) if told.hint == _NO_ACCESS else told) from error


def file_error(what: str, place: str, error: OSError) -> DynamodtError:
    """The error of a file that cannot be read or written (`what`), with its place and what to do."""
    reason = error.strerror or str(error)
    hint = _FILE_HINTS.get(error.errno or 0, "check the folder, then run the same command again")
    return ServiceError(f"the file cannot be {what}: {reason}", where=place, hint=hint)


def is_of_the_disk(error: OSError) -> bool:
    """Whether an error is the file system's: full or read-only, or another one that names its file."""
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
            f"{operation} brought another content than was stored: {error}", where=where, hint=_DAMAGED
        ) from error
    except BotoCoreError as error:
        raise ServiceError(f"{operation} failed: {error}", where=where) from error
    except Exception as error:
        if type(error).__name__ != _TRANSFER_ENDED:
            raise
        what = f"{operation} gave up after several tries: {getattr(error, 'last_exception', error)}"
        raise ServiceError(what, where=where, hint=_DAMAGED) from error


def service_error(operation: str, where: str, code: str, message: str) -> ServiceError:
    """The error for a refusal of the service, by its code."""
    what = _WHAT.get(code) or f"{operation} was refused: {code}: {message}"
    return ServiceError(what, where=where, hint=_HINTS.get(code, ""))
