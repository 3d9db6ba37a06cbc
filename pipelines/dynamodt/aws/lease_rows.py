"""A table's lease in the state table: one run at a time, and what its workers are told.

The row is never deleted: its token must only grow. Dry runs have such a row of their own, which nobody contends for.

Where a run has many workers, what they are told stands on several boards, each with a partition key of its own: the
lease's row is the first, the others are copies of it, made anew by every word and every sign of life. Who takes the
lease has written all of them before he begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dynamodt.aws.rows import ConditionFailed, RowKey, Rows
from dynamodt.errors import Fenced
from dynamodt.model import Item, Lease

_OURS = "lease_token = :token"
_NO_LATER_ONE = "attribute_not_exists(pk) OR lease_token <= :token"
_FRACTIONS = ("beat", "ttl", "wcu", "rcu")


class LeaseRows:
    """Conditional reads and writes of lease rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def read(self, table: str, board: int = 0) -> Lease:
        """The lease as it is, or as a board has it; one that was never taken has token 0 and no run."""
        return self.begin_read(table, board)()

    def begin_read(self, table: str, board: int = 0) -> Callable[[], Lease]:
        """`read`, sent; what it returns waits for the answer."""
        answer = self._rows.begin_get(_key(table, board))
        return lambda: _lease(table, answer() or {})

    def take(self, lease: Lease, over: Lease) -> bool:
        """Make `lease` the holder where the row is still as `over` was read: same token, same last sign of life."""
        condition = "attribute_not_exists(pk)"
        values: dict[str, Any] = {}
        if over.token:
            condition = f"{_OURS} AND beat = :beat"
            values = {"token": over.token, "beat": repr(over.beat)}
        lease = lease._replace(boards=max(lease.boards, over.boards))
        try:
            row = self._rows.update(_key(lease.table), _row(lease), condition, **values)
        except ConditionFailed:
            row = self._rows.get(_key(lease.table)) or {}
            if _lease(lease.table, row) != lease:  # it is ours already, if the answer to a first sending was lost
                return False
        self._publish(lease.table, row)
        return True

    def beat(self, table: str, token: int, beat: float) -> None:
        """Give a sign of life. Raises Fenced when somebody else holds the lease by now."""
        self._ours(table, token, {"beat": repr(beat)})

    def tell(self, table: str, token: int, **what: Any) -> None:
        """Leave word for all workers of a run: `paused`, `hold`, `stop`, `error`, `wcu`, `rcu`. Raises Fenced when
        the lease is not the holder's."""
        told = {name: _stored(name, value) for name, value in what.items()}
        self._ours(table, token, told)

    def release(self, table: str, token: int) -> None:
        """Let the lease go; the token stays, for the next owner to exceed."""
        self._ours(table, token, {"run": ""})

    def _ours(self, table: str, token: int, row: dict[str, Any]) -> None:
        try:
            said = self._rows.update(_key(table), row, _OURS, token=token)
        except ConditionFailed as error:
            raise Fenced("another process holds the lease by now", where=f"table {table}") from error
        self._publish(table, said)

    def _publish(self, table: str, row: Item) -> None:
        """Copy the row to the other boards, but over no later owner's: a copy that was held up may arrive after his."""
        said = {name: value for name, value in row.items() if name not in ("pk", "sk")}
        for board in range(1, int(row.get("boards", 1))):
            with suppress(ConditionFailed):
                self._rows.update(_key(table, board), said, _NO_LATER_ONE, token=row["lease_token"])

    def condition(self, table: str, token: int) -> dict[str, Any]:
        """A transaction's action that fails when the lease is not the holder's any more."""
        pk, sk = _key(table)
        return {
            "ConditionCheck": {
                "TableName": self._rows.table,
                "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
                "ConditionExpression": _OURS,
                "ExpressionAttributeValues": {":token": {"N": str(token)}},
            }
        }


def _key(table: str, board: int = 0) -> RowKey:
    return f"TABLE#{table}" + (f"#BOARD#{board}" if board else ""), "LEASE"


def _row(lease: Lease) -> Item:
    row = lease._asdict()
    del row["table"]
    row["lease_token"] = row.pop("token")
    return {name: _stored(name, value) for name, value in row.items()}


def _stored(name: str, value: Any) -> Any:
    """Numbers that are not whole go as text: no digit is lost."""
    if name == "error":
        return json.dumps(value)
    return repr(float(value)) if name in _FRACTIONS else value


def _lease(table: str, row: Item) -> Lease:
    known = {name: row[name] for name in Lease._fields if name in row}
    known |= {name: float(row[name]) for name in _FRACTIONS if name in row}
    known["error"] = json.loads(row.get("error", "null"))
    known["pid"] = int(row.get("pid", 0))
    known["boards"] = int(row.get("boards", 1))
    return Lease(table=table, token=int(row.get("lease_token", 0)), **known)
