"""The state table as a worker uses it for every page: calls about one row go over the wire (docs/adr/019)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from dynamodt.dynamodb.clients import service_error
from dynamodt.dynamodb.reads import Answered, Retried
from dynamodt.dynamodb.wire import Refusal, shared_wire
from dynamodt.state.rows import ConditionFailed, Rows

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection


class QuickRows(Rows):
    """The table as a worker uses it for every page: calls about one row go over the wire (docs/adr/019)."""

    def __init__(self, connection: Connection, table: str) -> None:
        super().__init__(connection, table)
        self._calls = Retried(shared_wire(connection), self.where)

    def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._begin(operation, body)()

    def _begin(self, operation: str, body: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        return partial(self._answer, operation, body, self._calls.begin(operation, body))

    def _answer(self, operation: str, body: dict[str, Any], answered: Callable[[], Answered]) -> dict[str, Any]:
        try:
            return answered().answer
        except Refusal as refusal:
            if refusal.code == "ConditionalCheckFailedException":
                raise ConditionFailed(str(body["Key"])) from refusal
            raise service_error(operation, self.where, refusal.code, refusal.message) from refusal
