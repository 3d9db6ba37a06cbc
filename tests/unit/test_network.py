"""The connection to an endpoint: proxies, private CAs, endpoints, and the report if there is no connection or no
answer.

Both clients, the wire and botocore's, are tested, and must behave the same.
"""

from __future__ import annotations

import pwd
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from rich.console import Console

from dynamodt.cli import console
from dynamodt.dynamodb import clients, http, unresponsive, wire
from dynamodt.dynamodb.clients import client, explained, resolved
from dynamodt.dynamodb.unresponsive import report_slow_hosts
from dynamodt.dynamodb.wire import InDoubt, Refusal, RetryingWire, Unsent, Wire
from dynamodt.errors import ServiceError
from dynamodt.model.tables import Connection
from dynamodt.rate import Backoff
from tests.networks import CA, canned, listening, proxy
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.slow

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in (*PROXIES, *map(str.lower, PROXIES), "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    _forget()
    yield monkeypatch
    _forget()


def _forget() -> None:
    """Clears the sessions and clients, which are cached for a connection whatever its environment."""
    for kept in (clients.session, clients.client, clients._boto3_session, clients.resolved, wire.shared_wire):
        kept.cache_clear()


def to(url: str, **settings: object) -> Connection:
    return Connection(REGION, url, access_key="test", secret_key="test", **settings)  # type: ignore[arg-type]


def by_wire(connection: Connection) -> None:
    wire = Wire(connection)
    wire.call("ListTables", {})
    wire.call("ListTables", {})
    wire.close()


def by_client(connection: Connection) -> None:
    with explained("ListTables", "here"):
        client(connection, "dynamodb", attempts=1).list_tables()


WAYS = pytest.mark.parametrize("way", [by_wire, by_client])
Way = Callable[[Connection], None]


def failure(way: Way, connection: Connection) -> tuple[str, str]:
    """The reported error, and its hint."""
    with pytest.raises((ServiceError, Unsent)) as caught:
        way(connection)
    hint: str = caught.value.hint
    return str(caught.value), hint


def refused(way: Way, connection: Connection) -> str:
    """The hint for a refusal; the wire leaves it to its callers."""
    with pytest.raises((ServiceError, Refusal)) as caught:
        way(connection)
    if isinstance(caught.value, Refusal):
        return clients.service_error("Scan", "table users", caught.value.code, caught.value.message).hint
    return caught.value.hint


# ---------------------------------------------------------------- proxies


@WAYS
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_an_https_endpoint_is_reached_through_a_tunnel(bare: pytest.MonkeyPatch, way: Way, variable: str) -> None:
    with canned(secure=True) as endpoint, proxy() as passed:
        bare.setenv(variable, f"http://127.0.0.1:{passed.port}")
        bare.setenv("AWS_CA_BUNDLE", str(CA))
        way(to(f"https://localhost:{endpoint.port}"))
    assert passed.tunnels == [f"localhost:{endpoint.port}"] and endpoint.requests
    assert endpoint.requests[0].startswith("POST / HTTP/1.1") and "proxy" not in endpoint.requests[0].lower()


@WAYS
def test_an_http_endpoint_is_reached_by_whole_urls(bare: pytest.MonkeyPatch, way: Way) -> None:
    with canned() as endpoint, proxy() as passed:
        bare.setenv("HTTP_PROXY", f"127.0.0.1:{passed.port}")  # without a scheme, as botocore takes it
        way(to(f"http://127.0.0.1:{endpoint.port}"))
    assert set(passed.forwarded) == {f"http://127.0.0.1:{endpoint.port}/"}
    assert len(passed.forwarded) == len(endpoint.requests)


@WAYS
@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*", "example.com,127.0.0.1"])
def test_no_proxy_names_hosts_that_are_reached_directly(bare: pytest.MonkeyPatch, way: Way, no_proxy: str) -> None:
    with canned() as endpoint, proxy() as passed:
        bare.setenv("HTTP_PROXY", f"http://127.0.0.1:{passed.port}")
        bare.setenv("NO_PROXY", no_proxy)
        way(to(f"http://127.0.0.1:{endpoint.port}"))
    assert passed.passed == 0 and endpoint.requests


def passes(bare: pytest.MonkeyPatch, way: Way, secure: bool, at: str, user: str = "", by_tls: bool = False) -> None:
    """Asserts that a request to an endpoint passes through a proxy at this URL, into which the proxy's port is
    inserted."""
    with canned(secure=secure) as endpoint, proxy(by_tls, user) as passed:
        bare.setenv("AWS_CA_BUNDLE", str(CA))
        scheme = "https" if secure else "http"
        bare.setenv(f"{scheme.upper()}_PROXY", at.format(passed.port))
        way(to(f"{scheme}://localhost:{endpoint.port}"))
    assert passed.passed and endpoint.requests


@WAYS
@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_is_given_its_credentials(bare: pytest.MonkeyPatch, way: Way, secure: bool) -> None:
    passes(bare, way, secure, "http://me:p%40ss@127.0.0.1:{}", user="me:p@ss")


@WAYS
def test_a_proxy_that_refuses_its_credentials_is_named_without_them(bare: pytest.MonkeyPatch, way: Way) -> None:
    with proxy(user="me:right") as passed:
        bare.setenv("HTTPS_PROXY", f"http://me:wrong@127.0.0.1:{passed.port}")
        what, hint = failure(way, to("https://localhost:9"))
    assert f"proxy http://127.0.0.1:{passed.port}" in what.replace("***:***@", "") and "407" in what
    assert "wrong" not in what + hint and "HTTPS_PROXY" in hint


@WAYS
def test_an_unreachable_proxy_is_reported_as_such(bare: pytest.MonkeyPatch, way: Way) -> None:
    bare.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    what, hint = failure(way, to("http://dynamodb.example"))
    assert "the proxy http://127.0.0.1:9 gives no connection" in what and "refuses connections" in what
    assert "NO_PROXY" in hint


@WAYS
@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_may_be_reached_by_tls(bare: pytest.MonkeyPatch, way: Way, secure: bool) -> None:
    passes(bare, way, secure, "https://localhost:{}", by_tls=True)


# ---------------------------------------------------------------- trusted CAs


@WAYS
@pytest.mark.parametrize("by", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"])
def test_a_private_ca_is_configured_as_for_botocore(
    bare: pytest.MonkeyPatch, tmp_path: Path, way: Way, by: str
) -> None:
    if by == "profile":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {CA}\n")
        bare.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        bare.setenv(by, str(CA))
    with canned(secure=True) as endpoint:
        way(to(f"https://localhost:{endpoint.port}"))
    assert endpoint.requests


@WAYS
def test_an_untrusted_certificate_is_reported_as_such(way: Way) -> None:
    with canned(secure=True) as endpoint:
        what, hint = failure(way, to(f"https://localhost:{endpoint.port}"))
    assert f"the certificate of https://localhost:{endpoint.port} is not accepted" in what
    assert "AWS_CA_BUNDLE" in hint and not endpoint.requests


@WAYS
@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("name", "why"), [("absent.pem", "No such file"), ("empty.pem", "not a PEM file"), (".", "directory")]
)
def test_a_bundle_that_cannot_be_read_is_named(
    bare: pytest.MonkeyPatch, way: Way, tmp_path: Path, variable: str, name: str, why: str
) -> None:
    bare.setenv(variable, str(tmp_path / name))
    (tmp_path / "empty.pem").write_text("no certificate\n", encoding="utf-8")
    with canned(secure=True) as endpoint:
        what, _ = failure(way, to(f"https://localhost:{endpoint.port}"))
    assert f"trusted CAs cannot be read: {tmp_path / name}: " in what and why in what and variable in what, what
    assert not endpoint.requests


# ---------------------------------------------------------------- no way, no answer


@contextmanager
def silent() -> Iterator[str]:
    """Accepts connections, reads, and never answers; yields its URL."""
    with listening(lambda connection: threading.Event().wait(HANG_SECONDS) and None) as port:
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@WAYS
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{free}", "refuses connections"),
        ("http://nowhere.invalid", "http://nowhere.invalid cannot be resolved (DNS)"),
        ("https://127.0.0.1:{plain}", "no TLS connection to https://127.0.0.1"),
    ],
)
def test_each_reason_of_an_unreachable_endpoint_is_reported(way: Way, url: str, reason: str) -> None:
    with canned() as endpoint:
        what, hint = failure(way, to(url.format(free=free_port(), plain=endpoint.port)))
    assert reason in what and hint and "throttl" not in what + hint


def test_a_first_call_without_a_connection_is_tried_three_times() -> None:
    waited: list[float] = []
    retried = RetryingWire(Wire(to(f"http://127.0.0.1:{free_port()}")), "table users", sleep=waited.append)
    with pytest.raises(ServiceError, match=r"gave up after 3 tries: .* refuses connections") as caught:
        retried.call("Scan", {})
    assert len(waited) == 2 and caught.value.where == "table users" and "AWS_ENDPOINT_URL" in caught.value.hint


def test_a_lost_connection_is_retried_for_longer_and_is_not_a_throttle() -> None:
    waited: list[float] = []
    throttles: list[None] = []
    with canned() as endpoint:
        wire = Wire(to(f"http://127.0.0.1:{endpoint.port}"))
        wire.call("ListTables", {})
        wire.close()
    retried = RetryingWire(wire, "table users", sleep=waited.append, throttled=lambda: throttles.append(None))
    with pytest.raises(ServiceError, match=r"gave up after 12 tries: .* refuses connections"):
        retried.call("Scan", {})
    assert len(waited) == 11 and not throttles


def test_a_silent_endpoint_is_mentioned_and_then_reported(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(unresponsive, "MENTION_SECONDS", 0.01)
    mentioned = threading.Event()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        mentioned.set()

    with silent() as url, report_slow_hosts(note):
        dynamodb = client(to(url), "dynamodb", seconds=1.0)
        with pytest.raises(ServiceError) as caught, explained("DescribeTable", "table users"):
            dynamodb.describe_table(TableName="users")
        assert mentioned.wait(HANG_SECONDS)
    assert notes == [f"no response from {url} for 0 s: still waiting"]
    assert f"{url} accepts connections and does not answer: no response within 1 s" in caught.value.what


@pytest.mark.parametrize("answers", [True, False])
def test_the_end_of_a_call_ends_its_watch(answers: bool) -> None:
    def watches() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

    with canned() as endpoint:
        connection = to(f"http://127.0.0.1:{endpoint.port if answers else free_port()}")
        with suppress(ServiceError), explained("ListTables", "here"):
            client(connection, "dynamodb", attempts=1).list_tables()
        until(lambda: not watches(), "the timer has ended")


def test_a_later_call_is_retried_in_full() -> None:
    """Only an endpoint that has never answered is given up after three tries."""
    with canned() as endpoint:
        dynamodb = client(to(f"http://127.0.0.1:{endpoint.port}"), "dynamodb", attempts=1)
        dynamodb.list_tables()
        endpoint.status = 500
        with pytest.raises(clients.ClientError):
            dynamodb.list_tables()
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(("status", "hint"), [(404, "not the service's own"), (407, "USER:PASSWORD")])
@WAYS
def test_a_response_of_something_between_client_and_endpoint_is_reported(way: Way, status: int, hint: str) -> None:
    with canned(status=status, answer="<html>who are you?</html>") as endpoint:
        connection = to(f"http://127.0.0.1:{endpoint.port}")
        assert hint in refused(way, connection)


def test_an_endpoint_that_falls_silent_is_given_up_after_three_tries(bare: pytest.MonkeyPatch) -> None:
    with canned() as endpoint:
        dynamodb = client(to(f"http://127.0.0.1:{endpoint.port}"), "dynamodb", seconds=0.2)
        dynamodb.list_tables()
        endpoint.silent = True
        with pytest.raises(ServiceError, match="accepts connections and does not answer"), explained("Query", "here"):
            dynamodb.list_tables()
    assert len(endpoint.requests) == 1 + 3


class Moments:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def outages(bare: pytest.MonkeyPatch) -> tuple[Moments, list[str]]:
    """The clock of the outages, and the messages about them. There is no wait between tries."""
    clock, notes = Moments(), list[str]()
    bare.setattr(unresponsive.outages, "_clock", clock)
    bare.setattr(unresponsive, "_listeners", [notes.append])
    # of this module alone: threads that other tests have left sleep, too
    waiting = SimpleNamespace(sleep=lambda seconds: setattr(clock, "now", clock.now + seconds + 0.1))
    bare.setattr(unresponsive, "time", waiting)
    return clock, notes


@WAYS
def test_a_lost_connection_is_mentioned_while_it_is_tried_again(outages: tuple[Moments, list[str]], way: Way) -> None:
    """By both clients, and once. An interruption that the next try ends is not mentioned; the end of a longer one
    is."""
    clock, notes = outages
    with canned() as endpoint:
        connection, url = to(f"http://127.0.0.1:{endpoint.port}"), f"http://127.0.0.1:{endpoint.port}"
        way(connection)
        unresponsive.outages.failed(url, "reset")
        way(connection)
        assert notes == []
        unresponsive.outages.failed(url, f"{url} refuses connections")
        clock.now += unresponsive.LOST_SECONDS
        unresponsive.outages.failed(url, f"{url} refuses connections")
        unresponsive.outages.failed(url, f"{url} refuses connections")
        assert notes == [f"{url} refuses connections: it is tried again for about a minute"]
        way(connection)
    assert notes[1:] == [f"{url} answers again"]


def test_a_call_outlasts_an_interruption_and_ends_after_a_minute_of_it(outages: tuple[Moments, list[str]]) -> None:
    """botocore's own tries end within a second. A later call to a host that has been lost for a minute ends soon, and
    so does one that must not be carried out twice."""
    clock, notes = outages
    with canned() as endpoint:
        connection = to(f"http://127.0.0.1:{endpoint.port}")
        patient, hasty = client(connection, "dynamodb"), client(connection, "dynamodb", attempts=0)
        patient.list_tables()
        patient.close()
    for dynamodb, least in ((hasty, 0.0), (patient, unresponsive.LASTING_SECONDS)):
        with pytest.raises(ServiceError, match="refuses connections"), explained("ListTables", "here"):
            dynamodb.list_tables()
        assert least <= clock.now < least + unresponsive.LASTING_SECONDS
    before = clock.now
    with pytest.raises(ServiceError, match="refuses connections"), explained("ListTables", "here"):
        patient.list_tables()
    assert clock.now < before + unresponsive.LASTING_SECONDS and len(notes) == 1


def test_a_call_that_is_lost_each_time_ends_though_its_host_answers_others(
    outages: tuple[Moments, list[str]], bare: pytest.MonkeyPatch
) -> None:
    bare.setattr(unresponsive.outages, "lasted", lambda url: 0.0)
    with canned() as endpoint:
        dynamodb = client(to(f"http://127.0.0.1:{endpoint.port}"), "dynamodb")
        dynamodb.list_tables()
        dynamodb.close()
    with pytest.raises(ServiceError, match="refuses connections"), explained("ListTables", "here"):
        dynamodb.list_tables()


@pytest.mark.parametrize(("busy", "succeeds"), [(9, True), (99, False)])
def test_a_busy_s3_is_asked_again_for_longer_than_by_botocore(
    outages: tuple[Moments, list[str]], bare: pytest.MonkeyPatch, busy: int, succeeds: bool
) -> None:
    """botocore alone gives up after six tries."""
    bare.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    s3, sent = client(to("http://127.0.0.1:9"), "s3"), list[str]()

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request.url)
        status = 503 if len(sent) <= busy else 200
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda: [b""], read=lambda: b""))

    s3.meta.events.register("before-send.s3", answer)
    try:
        with nullcontext() if succeeds else pytest.raises(ServiceError), explained("PutObject", "here"):
            s3.put_object(Bucket="b", Key="k", Body=b"x")
    finally:
        s3.meta.events.unregister("before-send.s3", answer)
    assert 9 < len(sent) < 20


def test_a_call_over_the_wire_ends_after_a_minute_without_its_host(outages: tuple[Moments, list[str]]) -> None:
    clock, _ = outages
    with canned() as endpoint:
        lost = Wire(to(f"http://127.0.0.1:{endpoint.port}"))
        lost.call("ListTables", {})
        lost.close()
    calls = RetryingWire(lost, "here", backoff=Backoff(attempts=1000), sleep=unresponsive.time.sleep)
    for least in (unresponsive.LASTING_SECONDS, 0.0):  # the minute is that of the host, not of the call
        before = clock.now
        with pytest.raises(ServiceError, match="refuses connections"):
            calls.call("ListTables", {})
        assert least <= clock.now - before < least + unresponsive.LASTING_SECONDS


def test_silence_of_a_host_that_has_answered_is_mentioned(outages: tuple[Moments, list[str]]) -> None:
    with canned() as endpoint:
        wire = Wire(to(f"http://127.0.0.1:{endpoint.port}"))
        wire.call("ListTables", {})
        endpoint.silent = True
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(http, "MENTION_SECONDS", 0.01)
            patched.setattr(http, "READ_SECONDS", 0.02)
            with pytest.raises(InDoubt, match="does not answer"):
                wire.call("ListTables", {})
    assert len(outages[1]) == 1 and "no response from http://127.0.0.1" in outages[1][0]


# ---------------------------------------------------------------- the embedded stage


@WAYS
def test_the_embedded_stage_uses_no_configuration_of_the_user(
    bare: pytest.MonkeyPatch, tmp_path: Path, way: Way
) -> None:
    """Neither a proxy nor a profile, a file, an option for endpoints, a home folder or an entry for the user."""

    def absent(*_: object) -> object:
        raise KeyError("uid not found")

    (tmp_path / "config").write_text("[default\n")
    broken = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "nobody", "AWS_USE_FIPS_ENDPOINT": "true"}
    odd = {"AWS_RETRY_MODE": "odd", "AWS_CA_BUNDLE": " ", "AWS_ENDPOINT_URL": "odd", "AWS_MAX_ATTEMPTS": "odd"}
    for name, value in {**broken, **odd}.items():
        bare.setenv(name, value)
    bare.delenv("HOME")
    bare.setattr(pwd, "getpwuid", absent)
    with canned() as endpoint, proxy() as passed:
        for name in ("HTTP_PROXY", "http_proxy"):
            bare.setenv(name, f"http://127.0.0.1:{passed.port}")
        way(to(f"http://127.0.0.1:{endpoint.port}", embedded=True))
    assert passed.passed == 0 and endpoint.requests


def test_s3_of_the_embedded_stage_uses_no_proxy(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with canned() as endpoint:
        client(to(f"http://127.0.0.1:{endpoint.port}", embedded=True), "s3").head_bucket(Bucket="files")
    assert endpoint.requests[0].startswith("HEAD /files")


# ---------------------------------------------------------------- endpoints


def url_of(bare: pytest.MonkeyPatch, variables: dict[str, str], **settings: object) -> str:
    for name, value in variables.items():
        bare.setenv(name, value)
    return resolved(Connection(REGION, access_key="test", secret_key="test", **settings)).route.url  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://dynamodb.eu-central-1.amazonaws.com/"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "https://dynamodb-fips.eu-central-1.amazonaws.com/"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://dynamodb.eu-central-1.api.aws/"),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1"}, "http://127.0.0.1:1/"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "https://dynamodb.eu-central-1.amazonaws.com/"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1/x"}, "http://127.0.0.1:1/x"),
    ],
)
def test_the_wire_uses_the_endpoint_of_the_client(
    bare: pytest.MonkeyPatch, variables: dict[str, str], url: str
) -> None:
    assert url_of(bare, variables) == url


@pytest.mark.parametrize(
    ("mode", "host"), [("preferred", "123456789012.ddb.eu-central-1"), ("disabled", "dynamodb.eu-central-1")]
)
def test_an_account_based_endpoint_is_used(bare: pytest.MonkeyPatch, mode: str, host: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        bare.setenv(name, "test")
    bare.setenv("AWS_ACCOUNT_ID", "123456789012")
    bare.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", mode)
    assert resolved(Connection(REGION)).route.url == f"https://{host}.amazonaws.com/"


def test_an_account_id_that_is_required_and_unknown_is_reported(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError, match="AccountId"):
        url_of(bare, {"AWS_ACCOUNT_ID_ENDPOINT_MODE": "required"})


def test_the_profile_s_services_have_their_endpoints(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "[profile p]\nservices = mine\n[services mine]\ndynamodb =\n  endpoint_url = http://127.0.0.1:2\n"
    (tmp_path / "config").write_text(text)
    bare.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert url_of(bare, {}, profile="p") == "http://127.0.0.1:2/"


def endpoints(*services: str, **settings: object) -> list[str]:
    connection = Connection(REGION, access_key="test", secret_key="test", **settings)  # type: ignore[arg-type]
    return [client(connection, service).meta.endpoint_url for service in services]


def test_a_service_s_endpoint_is_its_own(bare: pytest.MonkeyPatch) -> None:
    own = (("CLOUDWATCH_LOGS", "http://logs"), ("DYNAMODB", "http://dynamodb"), ("S3", "http://s3"))
    found = endpoints("dynamodb", "s3", "logs", "glue", endpoints=own)
    assert found == ["http://dynamodb", "http://s3", "http://logs", "https://glue.eu-central-1.amazonaws.com"]
    assert endpoints("dynamodb", "glue", endpoints=own, endpoint_url="http://all") == ["http://dynamodb", "http://all"]


def test_an_endpoint_that_is_not_a_url_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"no client for s3: .*odd"):
        endpoints("s3", endpoints=(("S3", "odd"),))


# ---------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("ExpiredTokenException", "The security token included in the request is expired", "have expired"),
        ("ExpiredToken", "The provided token has expired.", "have expired"),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", "not valid"),
        ("InvalidSignatureException", "The request signature we calculated does not match", "secret key"),
        ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier", "set this machine's clock"),
        ("InvalidSignatureException", "Signature not yet current: 20260101T000000Z is", "set this machine's clock"),
    ],
)
@WAYS
def test_credentials_that_are_refused_are_not_tried_again(way: Way, code: str, message: str, hint: str) -> None:
    answer = {"__type": f"com.amazon.coral.service#{code}", "message": message}
    with canned(status=400, answer=answer) as endpoint:
        assert hint in refused(way, to(f"http://127.0.0.1:{endpoint.port}"))
    assert len(endpoint.requests) == 1


DENIAL = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: {} on resource: r {}"
OF_KMS = "KMS key access denied error: com.amazonaws.services.kms.model.AWSKMSException: The ciphertext refers to ..."


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (DENIAL.format("dynamodb:Scan", "because no identity-based policy allows it"), "grant the action"),
        (DENIAL.format("dynamodb:Scan", "with an explicit deny in a service control policy"), "no grant overrides"),
        (DENIAL.format("kms:Decrypt", "because no identity-based policy allows it"), "to use the key"),
        (OF_KMS, "to use the key"),
    ],
)
@WAYS
def test_the_hint_of_a_denial_names_what_to_change(way: Way, message: str, hint: str) -> None:
    with canned(status=400, answer={"__type": "x#AccessDeniedException", "Message": message}) as endpoint:
        assert hint in refused(way, to(f"http://127.0.0.1:{endpoint.port}"))


SIGNED = (
    "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this "
    "request should have been\n'POST\n/\n\nhost:x\nx-amz-security-token:TOKEN/abc==\n\nhost\ne3b0'\n\nThe "
    "String-to-Sign should have been\n'AWS4'\n"
)


@WAYS
def test_the_text_that_a_service_has_signed_is_not_shown(way: Way) -> None:
    answer = {"__type": "x#InvalidSignatureException", "message": SIGNED}
    with canned(status=400, answer=answer) as endpoint, pytest.raises((ServiceError, Refusal)) as caught:
        way(to(f"http://127.0.0.1:{endpoint.port}"))
    assert str(caught.value).endswith("the signature you provided.")


def test_a_traceback_shows_no_session_token(bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bare.setenv(console.DEBUG, "1")
    try:
        raise RuntimeError("unexpected") from ValueError(SIGNED)
    except RuntimeError as error:
        console.print_error(Console(stderr=True), error)
    shown = capsys.readouterr().err
    assert "x-amz-security-token:..." in shown and "TOKEN" not in shown


def test_a_request_that_was_signed_before_a_renewal_is_sent_again(bare: pytest.MonkeyPatch) -> None:
    with canned(status=400, answer={"__type": "x#ExpiredTokenException", "message": "expired"}) as endpoint:
        connection = to(f"http://127.0.0.1:{endpoint.port}")
        wire = Wire(connection)
        answered = wire.begin("Scan", {})
        clients.session(connection).get_credentials().access_key = "renewed"
        with pytest.raises(Unsent, match="ExpiredTokenException"):
            answered()
        with pytest.raises(Refusal):
            wire.call("Scan", {})


ROLE = "arn:aws:iam::123456789012:role/deploy"
DENIED = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>"


@WAYS
@pytest.mark.parametrize("by", ["stage", "profile"])
def test_a_role_that_cannot_be_assumed_is_named(bare: pytest.MonkeyPatch, tmp_path: Path, way: Way, by: str) -> None:
    text = f"[profile p]\nrole_arn = {ROLE}\nsource_profile = base\nregion = {REGION}\n[profile base]\n"
    (tmp_path / "config").write_text(text + "aws_access_key_id = a\naws_secret_access_key = b\n")
    bare.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with canned(status=403, answer=DENIED) as sts:
        bare.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{sts.port}")
        given = {"profile": "base", "role_arn": ROLE} if by == "stage" else {"profile": "p"}
        url = f"http://127.0.0.1:{sts.port}"
        what, _ = failure(way, Connection(REGION, "http://127.0.0.1:9", **given, endpoints=(("STS", url),)))
    assert "AssumeRole was refused" in what and (ROLE if by == "stage" else "profile p") in what


def test_a_role_is_assumed_by_the_stage_s_own_endpoint(bare: pytest.MonkeyPatch) -> None:
    with canned(status=403, answer=DENIED) as every:
        failure(by_wire, replace(to(f"http://127.0.0.1:{every.port}"), role_arn=ROLE))
    assert b"Action=AssumeRole" in every.bodies[0]


@WAYS
def test_a_missing_session_of_identity_center_is_reported_with_the_login_command(
    bare: pytest.MonkeyPatch, tmp_path: Path, way: Way
) -> None:
    sso = "sso_session = s\nsso_account_id = 123456789012\nsso_role_name = R\n"
    session = "[sso-session s]\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\n"
    (tmp_path / "config").write_text(f"[profile p]\n{sso}{session}")
    bare.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bare.setenv("HOME", str(tmp_path))
    what, hint = failure(way, Connection(REGION, "http://127.0.0.1:9", profile="p"))
    assert hint == "aws sso login --profile p" and "profile p" in what


@pytest.mark.parametrize(("text", "reason"), [("[default\n", "parse"), ("[profile other]\n", "(p) could not be found")])
def test_a_configuration_that_cannot_be_read_is_named(
    bare: pytest.MonkeyPatch, tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "config").write_text(text)
    bare.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    what, hint = failure(by_client, Connection(REGION, profile="p"))
    assert reason in what and "AWS configuration" in hint
