"""AWS Signature Version 4 of a POST with headers, as the service documents it (AWS, "Create a signed AWS API request").

The same signature as botocore's own `SigV4Auth`, to which a test compares it, at a fifth of its CPU: the signing key is
kept for its day, and only what is signed is looked at. Credentials are botocore's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"


class Secret(Protocol):
    """Frozen credentials of botocore."""

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...

    @property
    def token(self) -> str | None: ...


class _Kept(NamedTuple):
    """A signing key, and what it is for."""

    secret_key: str
    date: str
    key: bytes


def _now() -> datetime:
    return datetime.now(UTC)


class Signer:
    """Signs requests to one URL of a service in a region; safe to share between threads."""

    def __init__(self, url: str, service: str, region: str, now: Callable[[], datetime] = _now) -> None:
        parts = urlsplit(url)
        default = {"https": 443, "http": 80}.get(parts.scheme)
        port = f":{parts.port}" if parts.port and parts.port != default else ""
        self.host = f"{parts.hostname}{port}"
        self._path = quote(parts.path or "/", safe="/~")
        self._scope = f"{region}/{service}/aws4_request"
        self._parts = (region, service, "aws4_request")
        self._now = now
        self._kept = _Kept("", "", b"")

    def signed(self, headers: dict[str, str], body: bytes, secret: Secret) -> dict[str, str]:
        """The headers, all of them signed, with Host, X-Amz-Date, the session's token and Authorization."""
        moment = self._now().strftime("%Y%m%dT%H%M%SZ")
        headers = {**headers, "Host": self.host, "X-Amz-Date": moment}
        if secret.token:
            headers["X-Amz-Security-Token"] = secret.token
        lower = sorted([(name.lower(), value) for name, value in headers.items()])
        names = ";".join([name for name, _ in lower])
        lines = "".join([f"{name}:{value}\n" for name, value in lower])
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{moment[:8]}/{self._scope}"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = digest(self._key(secret.secret_key, moment[:8]), text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"{ALGORITHM} Credential={secret.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _key(self, secret_key: str, date: str) -> bytes:
        kept = self._kept
        if kept.secret_key == secret_key and kept.date == date:
            return kept.key
        key = f"AWS4{secret_key}".encode()
        for part in (date, *self._parts):
            key = digest(key, part.encode(), "sha256")
        self._kept = _Kept(secret_key, date, key)
        return key
