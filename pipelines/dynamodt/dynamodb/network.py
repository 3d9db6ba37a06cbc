"""Connections to one URL, direct or through a proxy, with TLS if the URL requires it; and the reasons for failures.

A proxy is used as botocore uses it: for an `https` URL by a tunnel (CONNECT), for an `http` URL by requests with the
whole URL as their target.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)

if TYPE_CHECKING:
    import botocore.session

CONNECT_SECONDS = 5.0  # for the connection, and for each answer to a tunnel's or a TLS handshake's message
READ_SECONDS = 30.0  # for a response to begin, and for each part of it
_HEAD_BYTES = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}[^\r\n]*)\r\n")
_PORTS = {"https": 443, "http": 80}

REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"  # for all services; for one of them with its name: AWS_ENDPOINT_URL_S3
_IGNORE_VARIABLE = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"


def environment_region() -> str | None:
    """The region that the environment names."""
    return next((os.environ[name] for name in REGION_VARIABLES if os.environ.get(name)), None)


def environment_endpoints() -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """AWS_ENDPOINT_URL, and (SERVICE, URL) for each AWS_ENDPOINT_URL_SERVICE, unless botocore ignores them."""
    if os.environ.get(_IGNORE_VARIABLE, "").lower() == "true":
        return None, ()
    prefix = f"{_ENDPOINT_VARIABLE}_"
    given = {name: url for name, url in sorted(os.environ.items()) if url and name.startswith(prefix)}
    return os.environ.get(_ENDPOINT_VARIABLE) or None, tuple(
        (name.removeprefix(prefix), url.rstrip("/")) for name, url in given.items()
    )


class Route(NamedTuple):
    """The route to an endpoint: its URL, the proxy's URL (empty: direct) with the proxy's headers, and the file of the
    trusted CAs (None: the system's)."""

    url: str
    proxy: str = ""
    proxy_headers: Mapping[str, str] = {}
    ca_bundle: str | None = None


class Reason(NamedTuple):
    """The reason why an endpoint does not respond, and the next step."""

    what: str
    hint: str


class Unreachable(Exception):
    """There is no connection; nothing was sent."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.what)
        self.reason = reason


class Connector:
    """Opens the connections of a route; safe to share between threads. `target` is the target in a request's first
    line, `headers` are the lines that the proxy needs in each request.

    Raises OSError if the file of the CAs cannot be read.
    """

    def __init__(self, route: Route) -> None:
        parts = urlsplit(route.url)
        self._url, self._proxy = route.url, route.proxy
        self._secure = parts.scheme == "https"
        self._lines = "".join([f"{name}: {value}\r\n" for name, value in route.proxy_headers.items()])
        needs_tls = self._secure or route.proxy.startswith("https:")
        self._tls = ssl.create_default_context(cafile=route.ca_bundle) if needs_tls else None
        forwarded = bool(route.proxy) and not self._secure
        self.target = route.url if forwarded else parts.path or "/"
        self.headers = self._lines if forwarded else ""

    def connect(self) -> socket.socket:
        """A new connection. Raises Unreachable."""
        made = self._through_proxy() if self._proxy else self._open(self._url)
        return self._secured(made, self._url) if self._secure else made

    def _through_proxy(self) -> socket.socket:
        if urlsplit(self._proxy).scheme not in _PORTS:
            raise Unreachable(proxy_reason(self._proxy, self._url, "its URL must begin with http:// or https://"))
        try:
            made = self._open(self._proxy)
            if self._proxy.startswith("https:"):
                made = self._secured(made, self._proxy)
        except Unreachable as error:
            raise Unreachable(proxy_reason(self._proxy, self._url, str(error))) from error
        if self._secure:
            self._tunnel(made)
        return made

    def _open(self, url: str) -> socket.socket:
        try:
            made = socket.create_connection(_address(url), CONNECT_SECONDS)
        except (OSError, ValueError) as error:  # ValueError: no host name, or no port
            raise Unreachable(reason(error, url)) from error
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _secured(self, made: socket.socket, url: str) -> socket.socket:
        assert self._tls is not None
        host, _ = _address(url)
        try:
            if not isinstance(made, ssl.SSLSocket):
                return self._tls.wrap_socket(made, server_hostname=host)
            from urllib3.util.ssltransport import SSLTransport  # TLS within the TLS of a proxy

            return SSLTransport(made, self._tls, host)  # type: ignore[return-value]
        except OSError as error:
            made.close()
            raise Unreachable(reason(error, url)) from error

    def _tunnel(self, made: socket.socket) -> None:
        host, port = _address(self._url)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            made.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{self._lines}\r\n".encode("latin-1"))
            answer = _head(made)
        except OSError as error:
            made.close()
            raise Unreachable(proxy_reason(self._proxy, self._url, str(error))) from error
        if not answer.startswith("2"):
            made.close()
            raise Unreachable(proxy_reason(self._proxy, self._url, f"it answers {answer!r}"))


def _head(made: socket.socket) -> str:
    """The status and the reason of a response without a body."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        more = made.recv(_HEAD_BYTES)
        if not more:
            break
        head += more
    found = _STATUS.match(head)
    return (found[1] if found else head[:60]).decode("latin-1").strip()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def route_to(url: str, ca_bundle: str | None) -> Route:
    """The route to a URL, through the proxies of the environment in the same way as botocore. Without a file, the CAs
    are botocore's."""
    from botocore.httpsession import ProxyConfiguration, get_cert_path
    from botocore.utils import get_environ_proxies

    proxies = ProxyConfiguration(get_environ_proxies(url))
    proxy = proxies.proxy_url_for(url) or ""
    return Route(url, proxy, proxies.proxy_headers_for(proxy), ca_bundle or str(get_cert_path(True)))


def url_of_requests(dynamodb: Any) -> str:
    """The URL to which a client of DynamoDB sends its requests. The client finds it for each request; none is sent
    here."""
    found: list[str] = []

    def stop(params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        from botocore.awsrequest import AWSResponse

        found.append(params["url"])
        return AWSResponse(params["url"], 200, {}, None), {}

    dynamodb.meta.events.register_first("before-call.dynamodb", stop)
    dynamodb.scan(TableName="any")
    return found[0]


def ca_bundle(boto: botocore.session.Session, url: str) -> str | None:
    """The file of the trusted CAs, if one is named: by AWS_CA_BUNDLE, the profile, or REQUESTS_CA_BUNDLE, as in
    botocore. Raises ValueError for a file that a connection to this URL needs and cannot read."""
    bundle: str | None = boto.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and url.startswith("https:"):
        _check_bundle(bundle)
    return bundle


@cache
def _check_bundle(bundle: str) -> None:
    """Raises ValueError for a file of CAs that cannot be read or is empty: OpenSSL's error at a connection does not
    name the file."""
    try:
        ssl.create_default_context(cafile=bundle)
    except OSError as error:
        why = "it is not a PEM file with certificates" if isinstance(error, ssl.SSLError) else error.strerror
        what = f"the file of the trusted CAs cannot be read: {bundle}: {why}"
        raise ValueError(f"{what} (AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, or ca_bundle of the profile)") from error


# ---------------------------------------------------------------- reasons for a missing response


_NETWORK = "check the network, the region, and AWS_ENDPOINT_URL if it is set"
_CA = "name a PEM file that has the certificate of its CA: AWS_CA_BUNDLE, or `ca_bundle` of the AWS profile"
_PROXY = "correct HTTPS_PROXY or HTTP_PROXY (http://USER:PASSWORD@HOST:PORT), or add the endpoint's host to NO_PROXY"
_KINDS: tuple[tuple[type[OSError], str, str], ...] = (  # the first matching type counts
    (ssl.SSLCertVerificationError, "the certificate of {place} is not accepted: {error.verify_message}", _CA),
    (ssl.SSLError, "no TLS connection to {place}: {error}", "check the scheme of the URL, http or https; then " + _CA),
    (socket.gaierror, "the host name of {place} cannot be resolved (DNS): {error.strerror}", _NETWORK),
    (ConnectionRefusedError, "{place} refuses connections", _NETWORK),
    (
        TimeoutError,
        "no connection to {place}: no answer within {seconds:.0f} s",
        "check for a firewall, a missing route or VPC endpoint, and a proxy that is needed (HTTPS_PROXY)",
    ),
)


def reason(error: BaseException, url: str) -> Reason:
    """The reason why there is no connection to a URL, by the error of a socket or of botocore's HTTP client."""
    chain = list(_causes(error))
    place = shown_url(url)
    for kind, what, hint in _KINDS:
        for one in chain:
            if isinstance(one, kind):
                return Reason(what.format(place=place, error=one, seconds=CONNECT_SECONDS), hint)
    innermost = next((one for one in reversed(chain) if isinstance(one, OSError)), error)
    return Reason(f"no connection to {place}: {innermost}", _NETWORK)


def proxy_reason(proxy: str, url: str, why: str) -> Reason:
    """The reason why a proxy gives no connection to a URL (empty: unknown), without credentials."""
    to = f" to {shown_url(url)}" if url else ""
    return Reason(f"the proxy {shown_url(proxy)} gives no connection{to}: {why}", _PROXY)


def silence(url: str, seconds: float) -> Reason:
    """The reason if a connection was made, but no response came in time."""
    hint = "check the endpoint, and a proxy or firewall in between"
    return Reason(f"{shown_url(url)} accepts connections and does not answer: no response within {seconds:.0f} s", hint)


def interruption(url: str, error: object) -> Reason:
    """The reason if a connection ended before the whole response came."""
    hint = "check the network, and a proxy or firewall in between"
    return Reason(f"{shown_url(url)} sent an incomplete response: {error}", hint)


class RefusedCall(NamedTuple):
    """A service's refusal of a call; a field that the response lacks is empty or 0."""

    code: str
    message: str
    status: int


def refusal(error: ClientError) -> RefusedCall:
    """The refusal in an error of botocore's client."""
    detail, answer = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    message = without_signed_text(detail.get("Message", ""))
    return RefusedCall(str(detail.get("Code", "")), message, answer.get("HTTPStatusCode", 0))


def is_denied(error: ClientError) -> bool:
    """Whether the caller lacks the permission for a call; a response to HEAD has no code but the status."""
    return refusal(error).code in DENIALS


DENIALS = frozenset("AccessDenied AccessDeniedException AuthorizationError AuthorizationErrorException 403".split())
_SIGNED_TEXT = re.compile(r"\s*The Canonical String for this request should have been.*", re.DOTALL)
_TOKEN = re.compile(r"(x-amz-security-token:)[^\s'\\]+", re.IGNORECASE)


def without_signed_text(message: str) -> str:
    """A service's message without the text that it has signed itself: some services add it when they refuse a
    signature, and the session token is a part of it."""
    return _SIGNED_TEXT.sub("", message)


def without_token(text: str) -> str:
    """A text, such as a traceback, in which a session token of a signed request is replaced."""
    return _TOKEN.sub(r"\1...", text)


class Tolerated:
    """Ends the code within without an error if a call is refused with one of these codes (texts) or statuses."""

    def __init__(self, *signs: str | int) -> None:
        self._signs = signs

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> bool:
        if not isinstance(error, ClientError):
            return False
        found = refusal(error)
        return found.code in self._signs or found.status in self._signs


LOST = (ConnectionError, HTTPClientError, IncompleteReadError)  # botocore's: there is no response, or only a part of it
_READS = 3


def content_of(get_object: Callable[[], dict[str, Any]], tries: int = _READS) -> bytes:
    """The content of an object of S3. One that ends early, or has another checksum than was stored, is requested again:
    botocore tries a call again until its response begins, and not while its content is read. The response of another
    server is an error (`own`)."""
    answer = own(get_object(), "ETag")
    try:
        return bytes(answer["Body"].read())
    except (HTTPClientError, IncompleteReadError, FlexibleChecksumError):
        if tries == 1:
            raise
    return content_of(get_object, tries - 1)


def own(answer: dict[str, Any], member: str) -> dict[str, Any]:
    """A response of S3, which always has this member. Raises ResponseParserError for one of another server, such as a
    login page, which botocore reads as an empty response: a stored object, or a list without objects."""
    from botocore.parsers import ResponseParserError

    if member not in answer:
        raise ResponseParserError(f"the response has no {member}")
    return answer


def client_reason(error: BotoCoreError) -> Reason:
    """The reason why a client of botocore has no response, or only a part of it (`LOST`)."""
    url = str(error.kwargs.get("endpoint_url") or "")
    if isinstance(error, ProxyConnectionError):
        proxy = str(error.kwargs.get("proxy_url", ""))
        return proxy_reason(proxy, url, reason(error, proxy).what)
    if isinstance(error, ReadTimeoutError):
        found = re.search(r"read timeout=([\d.]+)", str(error.kwargs.get("error")))
        return silence(url, float(found[1]) if found else READ_SECONDS)
    if isinstance(error, ConnectionClosedError | ResponseStreamingError | IncompleteReadError):
        return interruption(url, error.kwargs.get("error", error))
    return reason(error, url)


def shown_url(url: str) -> str:
    """The scheme, host and port of a URL; without one, as in errors of a response's content, a word for the host."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url or "the service"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all of its causes: botocore's errors hold urllib3's as an argument."""
    waiting, seen = [error], {id(error)}
    while waiting:
        one = waiting.pop(0)
        yield one
        made_of = (*getattr(one, "kwargs", {}).values(), *one.args, one.__cause__, one.__context__)
        for found in made_of:
            if isinstance(found, BaseException) and id(found) not in seen:
                seen.add(id(found))
                waiting.append(found)
