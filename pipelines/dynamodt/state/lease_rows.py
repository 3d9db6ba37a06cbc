"""A table's lease in the state table: one run at a time, and what its workers are told.

The row is never deleted: its token must only grow. Dry runs have such a row of their own, which nobody contends for.
Every write raises the row's `revision` and is conditional on the one before it, so that a word that is carried out late
changes nothing (ADR 025). The row is read, changed and written, and again after a conflict; it names the last few words
that were written, by which a writer whose answer was lost finds its own.

Where a run has many workers, what they are told stands on several boards, each with a partition key of its own: the
lease's row is the first, the others are copies of it, made anew by every word and every sign of life. A copy never
replaces a later one. Who takes the lease has written all of them before he begins.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dynamodt.errors import Fenced, ServiceError
from dynamodt.model.items import Item
from dynamodt.model.runs import Lease
from dynamodt.state.rows import ConditionFailed, RowKey, Rows, write_once

_OURS = "lease_token = :token"
_AS_READ = f"{_OURS} AND revision = :revision"
_LATER_COPY = "attribute_not_exists(pk) OR revision < :revision"
_WORDS = 8  # that a row names
_TRIES = 100  # each time somebody else has written the row between read and write
_FRACTIONS = ("beat", "ttl", "wcu", "rcu", "ticks")


class LeaseRows:
    """Conditional reads and writes of lease rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def name(self) -> str:
        """Of the state table."""
        return self._rows.table

    def read(self, table: str, replica: int = 0) -> Lease:
        """The lease as it is, or as a board has it; one that was never taken has token 0 and no run."""
        return self.begin_read(table, replica)()

    def begin_read(self, table: str, replica: int = 0) -> Callable[[], Lease]:
        """`read`, sent; what it returns waits for the answer."""
        answer = self._rows.begin_get(_key(table, replica))
        return lambda: _lease(table, answer() or {})

    def take(self, lease: Lease, over: Lease) -> bool:
        """Make `lease` the holder where the row is still as `over` was read: same token, same last sign of life."""
        word, seen = _new_word(), over
        for _ in range(_TRIES):
            if _life(seen) != _life(over):
                return False
            lease_replicas = max(lease.lease_replicas, seen.lease_replicas)
            if self._write(lease._replace(lease_replicas=lease_replicas), seen, word):
                return True
            seen = self.read(lease.table)
            if word in seen.words:  # the answer to an earlier sending was lost
                self._publish(lease.table, _row(seen))
                return True
        return False

    def beat(self, table: str, token: int, beat: float, ticks: float = 0.0) -> None:
        """Give a sign of life, with the time and the system's monotonic clock. Raises Fenced when somebody else holds
        the lease by now."""
        self.change(table, token, lambda seen: {"beat": beat, "beats": seen.beats + 1, "ticks": ticks})

    def tell(self, table: str, token: int, **what: Any) -> None:
        """Leave word for all workers of a run: `paused`, `hold`, `stop`, `error`, `wcu`, `rcu`. Raises Fenced when
        the lease is not the holder's."""
        self.change(table, token, lambda seen: what)

    def release(self, table: str, token: int) -> None:
        """Let the lease go; the token stays, for the next owner to exceed."""
        self.change(table, token, lambda seen: {"run": ""})

    def change(self, table: str, token: int, changes: Callable[[Lease], Item]) -> None:
        """Write what `changes` makes of the row as it is now; nothing, if that is empty. Raises Fenced when somebody
        else holds the lease by now, ServiceError when others write it all the time."""
        word = _new_word()
        for _ in range(_TRIES):
            seen = self.read(table)
            if word in seen.words:  # the answer to an earlier sending was lost
                return self._publish(table, _row(seen))
            if not token or seen.token != token:
                raise Fenced("another process holds the lease by now", where=f"table {table}")
            what = changes(seen)
            if not what or self._write(seen._replace(**what), seen, word):
                return None
        raise ServiceError(f"gave up after {_TRIES} tries: others write the lease all the time", where=f"table {table}")

    def _write(self, lease: Lease, over: Lease, word: str) -> bool:
        """Write what is different from the row as it was read, if it still is so."""
        lease = lease._replace(revision=over.revision + 1, words=(word, *over.words)[:_WORDS])
        before, row = _row(over) if over.revision else {}, _row(lease)
        row = {name: value for name, value in row.items() if name not in before or before[name] != value}
        condition, values = "attribute_not_exists(revision)", {}
        if over.revision:
            condition, values = _AS_READ, {"token": over.token, "revision": over.revision}
        try:
            written = write_once(self._rows, _key(lease.table), row, condition, **values)
        except ConditionFailed:
            return False
        self._publish(lease.table, written)
        return True

    def _publish(self, table: str, row: Item) -> None:
        """Copy the row to the other boards, but over no later copy: one that was held up may arrive after it."""
        said = {name: value for name, value in row.items() if name not in ("pk", "sk")}
        for replica in range(1, int(row.get("lease_replicas", 1))):
            with suppress(ConditionFailed):
                write_once(self._rows, _key(table, replica), said, _LATER_COPY, revision=row["revision"])

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


def _key(table: str, replica: int = 0) -> RowKey:
    return f"TABLE#{table}" + (f"#BOARD#{replica}" if replica else ""), "LEASE"


def _life(lease: Lease) -> tuple[int, int]:
    """What stays the same for as long as a holder gives no sign of life."""
    return lease.token, lease.beats


def _new_word() -> str:
    return secrets.token_hex(4)


def _row(lease: Lease) -> Item:
    row = lease._asdict()
    del row["table"]
    row["words"] = list(lease.words)
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
    known["lease_replicas"] = int(row.get("lease_replicas", 1))
    known |= {name: int(row.get(name, 0)) for name in ("revision", "beats")}
    known["words"] = tuple(row.get("words", ()))
    return Lease(table=table, token=int(row.get("lease_token", 0)), **known)
