"""The frequent calls to DynamoDB: signed HTTP on persistent connections, JSON by orjson.

botocore finds the credentials, the endpoint, the proxy and the trusted CAs (`clients.resolved`). Its serializer and
parser, which cost more than everything else together (docs/adr/002), are not used, nor its signer and HTTP client, the
next in cost (docs/adr/016). `Wire` retries nothing: a call returns the service's response, or raises one of the errors
below, which show whether the request may have taken effect. `RetryingWire` retries calls that may be executed twice::

    no connection                                       Unsent      nothing was sent
    expired credentials, renewed since it was signed    Unsent      the next request is signed with new ones
    throttled, 429                                      Throttled   refused without effect, for its rate
    a transaction has the item                          Contended   refused without effect, at any rate
    time-out, reset, truncated response, any 5xx        InDoubt     it may be executed, now or later
    any other 4xx                                       Refusal     without effect, and the same at the next try
    credentials that cannot be used                     ServiceError

The codes are those of AWS's "Error handling with DynamoDB" and of BatchStatementError.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson

from dynamodt.dynamodb.clients import EXPIRED, resolved
from dynamodt.dynamodb.http import BROKEN, Exchanges, Response, Signer
from dynamodt.dynamodb.network import READ_SECONDS, Unreachable, interruption, reason, silence, without_signed_text
from dynamodt.dynamodb.unresponsive import FIRST_TRIES, LASTING_SECONDS
from dynamodt.errors import ServiceError
from dynamodt.rate import Backoff

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

    from dynamodt.model.tables import AttributeValue, Connection, Image


_THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "ThrottlingError",
        "Throttling",
        "RequestLimitExceeded",
    }
)
_CONTENTIONS = frozenset({"TransactionConflict", "TransactionConflictException", "TransactionInProgressException"})
_DOUBTS = frozenset({"InternalServerError", "InternalServerException", "InternalFailure", "ServiceUnavailable"})


MAX_STATEMENTS = 25  # of one batch, and writes of one BatchWriteItem


class BatchWrite(NamedTuple):
    """One unconditional write of a BatchWriteItem: a PutRequest or a DeleteRequest, and its item's key."""

    key: Image
    body: dict[str, Any]


class Statement(NamedTuple):
    """One PartiQL statement of a batch: `text` with a `?` for each of `parameters`, which are in DynamoDB's JSON."""

    text: str
    parameters: list[AttributeValue]


class Call(NamedTuple):
    """One request that is sent alone: an operation of DynamoDB's API, such as `UpdateItem`, and its JSON body."""

    operation: str
    body: dict[str, Any]


Request: TypeAlias = Statement | Call | BatchWrite  # of one change


class Throttled(Exception):
    """The request was refused for its rate and had no effect."""


class Contended(Throttled):
    """The request was refused without effect, since a transaction of another client has the item at this moment. Its
    rate is not the reason."""


class Unsent(Exception):
    """The request had no effect, for another reason than its rate: there was no connection, or its credentials were
    renewed while it was in flight. `hint` is the next step if this lasts; `first`: no connection was made before;
    `lasted`: the seconds without a response of the host."""

    def __init__(self, what: str, hint: str, first: bool = False, lasted: float = 0.0) -> None:
        super().__init__(what)
        self.hint = hint
        self.first = first
        self.lasted = lasted


class InDoubt(Exception):
    """The request may or may not have taken effect: a time-out, a reset, a truncated response, or a 5xx. `hint` is the
    next step if this lasts; empty for a response of the service. `lasted`: the seconds without a response of the
    host."""

    def __init__(self, what: str, hint: str = "", lasted: float = 0.0) -> None:
        super().__init__(what)
        self.hint = hint
        self.lasted = lasted


class Refusal(Exception):
    """The service refused the request, without effect: `code` without its namespace, `message`, the whole response."""

    def __init__(self, code: str, message: str, answer: dict[str, Any]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.answer = answer


def is_throttle(code: str) -> bool:
    """Whether an error code, of a request or of one statement, is a throttle: no effect, try later."""
    return code in _THROTTLES


def is_contention(code: str) -> bool:
    """Whether an error code says that a transaction of another client has the item: no effect, try later."""
    return code in _CONTENTIONS


def is_doubt(code: str) -> bool:
    """Whether the effect of a request with this error code is unknown."""
    return code in _DOUBTS


class Wire:
    """Calls to one endpoint over up to `connections` persistent connections; safe to share between threads."""

    def __init__(self, connection: Connection, connections: int = 8) -> None:
        found = resolved(connection)
        self._url = found.route.url
        self._credentials = found.credentials
        self._signer = Signer(self._url, "dynamodb", found.region)
        try:
            self._exchanges = Exchanges(found.route, connections)
        except OSError as error:  # of the file of the CAs
            what, hint = reason(error, self._url)
            raise ServiceError(what, where=str(found.route.ca_bundle), hint=hint) from error
        self.requests = 0

    def call(self, operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        """One request, its body as a dict or as JSON. Raises Throttled, Unsent, InDoubt or Refusal; ServiceError if
        there are no credentials."""
        return self.begin(operation, body)()

    def begin(self, operation: str, body: dict[str, Any] | bytes) -> Callable[[], dict[str, Any]]:
        """Sends a request; the function that it returns waits for the response, and raises as `call` does. One thread
        may have several requests in flight."""
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        secret = self._credentials.get_frozen_credentials()
        headers = self._signer.signed(_headers(operation), payload, secret)
        self.requests += 1
        return partial(self._answer, operation, secret, self._exchanges.begin(headers, payload))

    def _answer(self, operation: str, secret: ReadOnlyCredentials, response: Callable[[], Response]) -> dict[str, Any]:
        try:
            status, data = response()
        except Unreachable as error:
            first, lasted = not self._exchanges.connected, self._exchanges.lost_seconds
            raise Unsent(str(error), error.reason.hint, first, lasted) from error
        except BROKEN as error:
            raise self._unanswered(operation, error) from error
        if status == 200:
            return _parse(operation, data)
        failure = _failure(operation, status, data)
        if (
            isinstance(failure, Refusal)
            and failure.code in EXPIRED
            and self._credentials.get_frozen_credentials() != secret
        ):
            raise Unsent(str(failure), "renew the credentials") from failure
        raise failure

    def _unanswered(self, operation: str, error: Exception) -> InDoubt:
        silent = isinstance(error, TimeoutError)
        found = silence(self._url, READ_SECONDS) if silent else interruption(self._url, error)
        return InDoubt(f"{operation}: {found.what}", found.hint, self._exchanges.lost_seconds)

    def close(self) -> None:
        """Closes the persistent connections."""
        self._exchanges.close()


@lru_cache(maxsize=8)
def shared_wire(connection: Connection) -> Wire:
    """The wire for the state table, shared by all threads of this process."""
    return Wire(connection)


class RetriedResponse(NamedTuple):
    """A response, and the number of throttles before it."""

    answer: dict[str, Any]
    throttles: int


THROTTLED = "the table is throttled: raise its capacity, or run again later"
CONTENDED = "transactions of other clients have the item at each try: run again later"
FAILING = "the service fails: run again later"


@dataclass(eq=False)
class RetryingWire:
    """Calls of one table, retried with back-off after throttles, lost connections, resets and 5xx until `backoff` is
    exhausted or the host has been lost for a minute (ServiceError at `where`, with the reason); three times before the
    first connection. A refusal that `passes` is retried, too; others are raised unchanged. `throttled` is called for
    each throttle."""

    wire: Wire
    where: str
    _: KW_ONLY
    backoff: Backoff = Backoff()
    sleep: Callable[[float], None] = time.sleep
    throttled: Callable[[], None] = lambda: None
    passes: Callable[[Refusal], bool] = lambda refusal: False

    def call(self, operation: str, body: dict[str, Any]) -> RetriedResponse:
        """One call. Raises Refusal, or ServiceError when all tries fail."""
        return self.begin(operation, body)()

    def begin(self, operation: str, body: dict[str, Any]) -> Callable[[], RetriedResponse]:
        """Sends `call`; the function that it returns waits for the response."""
        return partial(self._answer_with_retries, operation, body, self.wire.begin(operation, body))

    def _answer_with_retries(
        self, operation: str, body: dict[str, Any], answer: Callable[[], dict[str, Any]]
    ) -> RetriedResponse:
        attempt, throttles = 1, 0
        while True:
            try:
                return RetriedResponse(answer(), throttles)
            except Contended as error:
                attempt = self.wait(attempt, str(error), CONTENDED)
            except Throttled as error:
                throttles += 1
                self.throttled()
                attempt = self.wait(attempt, str(error), THROTTLED)
            except Unsent as error:
                last = error.lasted >= LASTING_SECONDS or (error.first and attempt >= FIRST_TRIES)
                attempt = self.wait(attempt, str(error), error.hint, last)
            except Refusal as refusal:
                if not self.passes(refusal):
                    raise
                attempt = self.wait(attempt, str(refusal), "run again later")
            except InDoubt as error:
                last = error.lasted >= LASTING_SECONDS
                attempt = self.wait(attempt, str(error), error.hint or FAILING, last)
            answer = self.wire.begin(operation, body)

    def wait(self, attempt: int, why: str, hint: str, last: bool = False) -> int:
        """Waits after the failed try of this number; returns the next one's. Raises ServiceError after the last."""
        if last or self.backoff.exhausted(attempt):
            raise ServiceError(f"gave up after {attempt} tries: {why}", where=self.where, hint=hint)
        self.sleep(self.backoff.delay(attempt, random.random))
        return attempt + 1


def _headers(operation: str) -> dict[str, str]:
    return {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        "Accept-Encoding": "identity",
    }


def _parse(operation: str, data: bytes | bytearray) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InDoubt(f"{operation}: the response is truncated ({len(data)} bytes)") from error
    return answer


def _failure(operation: str, status: int, data: bytes | bytearray) -> Exception:
    """The error of a response other than 200. The code takes precedence over the status: throttles are 400, like
    refusals. A body that is not JSON is a proxy's page or, with status 400, a truncated refusal, whose effect is
    unknown."""
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        if status == 400:  # the service's refusals are 400, and always have a code
            return InDoubt(f"{operation}: the refusal is truncated ({len(data)} bytes)")
        answer = {}  # a proxy's page
    answer = answer if isinstance(answer, dict) else {}
    code = str(answer.get("__type", "")).rpartition("#")[2] or f"HTTP{status}"
    message = without_signed_text(str(answer.get("message") or answer.get("Message") or ""))
    if is_contention(code):
        return Contended(f"{operation}: {code}: {message}")
    if is_throttle(code) or status == 429:
        return Throttled(f"{operation}: {code}: {message}{_reasons(answer)}")
    if status >= 500 or is_doubt(code):
        return InDoubt(f"{operation}: {code} ({status}): {message}")
    return Refusal(code, message, answer)


def _reasons(answer: dict[str, Any]) -> str:
    """The reasons of a throttle with the throttled table or index, as " (REASON of ARN)"; empty if none is given."""
    found = answer.get("throttlingReasons") or answer.get("ThrottlingReasons") or ()
    named = [" of ".join(filter(None, (one.get("reason"), one.get("resource")))) for one in found]
    return f" ({', '.join(named)})" if named else ""
