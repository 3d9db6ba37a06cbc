"""Changes as requests: a PartiQL statement of a batch, or a call of its own if a statement cannot hold the change.

Each insertion is one transaction with a row of the state table, which must be absent, too. So a run inserts an item of
one key at most once, even if a request is repeated or late, and one strongly consistent read shows whether it has. The
row names the source of the inserted item, which distinguishes a repetition from a collision (docs/adr/034).

Facts (AWS, "Service quotas", and both emulators of the service tests): a statement has at most 8,192 characters, an
expression 4,096 bytes, and either one at most 300 operators (each comparison and each AND is one), so that it guards
150 attributes; the older parameters Expected and AttributeUpdates have none of these limits, but no transaction takes
them; `"name"` quotes any attribute name, `""` a quote within; an UPDATE of an absent key fails its
condition; REMOVE is repeated for each attribute; INSERT takes a struct of single-quoted names.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.wire import BatchWrite, Call, Request, Statement
from dynamodt.errors import ItemError
from dynamodt.model.tables import (
    Atomic,
    AttributeValue,
    Change,
    Check,
    Guard,
    Image,
    Insert,
    Remove,
    TableSpec,
    Update,
    name_in_requests,
)
from dynamodt.script.codec import image_bytes, surely_fit
from dynamodt.script.diff import Part, parts_of, transaction_digest

MAX_STATEMENT = 8192
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
_CACHED_SHAPES = 4096
_OTHER_GUARD = (
    'set GUARD = "changed" in the script: an update compares only the attributes that it touches then (with an export '
    "as the source, a script must be IDEMPOTENT for that)"
)
_DELETE_BY_HAND = (
    "delete it by hand, and run the same command again: it counts as vanished; a run that reads the table from the "
    "beginning (--source scan) also deletes such items"
)
_IN_TWO_VERSIONS = (
    'it cannot be moved in one transaction: put the new item in one version (GUARD = "changed", --source scan), and '
    "delete this one in the next (--source scan)"
)


class Statements:
    """Makes the requests for changes of one table; an insertion names its own table. A statement's text depends only on
    attribute names, and is cached by them.

    With the `guard` None an update requires only that its item exists.

    With `inserted`, each insertion is a transaction with its row. `confirms`: a deletion is a request of its own, which
    fails for an absent item, while a statement succeeds. `meets_insertions`: a transaction or deletion fails for an
    item that the run has inserted. `taken_back`, of an undo: the rows of the run that it undoes. A deletion is that of
    an inserted item, and a transaction with its row: a repeated or late deletion has no effect on an item that was put
    there since.
    """

    conditional = True  # a change may be refused, and its item is then read

    def __init__(
        self,
        spec: TableSpec,
        guard: Guard | None = "item",
        inserted: InsertedRows | None = None,
        *,
        confirms: bool = False,
        meets_insertions: bool = False,
        taken_back: InsertedRows | None = None,
    ) -> None:
        self._spec = spec
        self._name = name_in_requests(spec.name)
        self._guard = guard
        self._inserted = inserted
        self._confirms = confirms
        self._meets_insertions = meets_insertions
        self._taken_back = taken_back
        self._keys = spec.key_names
        self._texts: dict[tuple[Any, ...], tuple[str | None, tuple[str, ...]]] = {}

    def write(self, change: Change) -> Request:
        """The request for a change. Raises ItemError for a transaction whose item has too many attributes for its
        expressions."""
        if type(change) is Update:
            return self._update(change)
        if isinstance(change, Insert):
            return self._insert(change) if self._inserted is None else self._transaction(change, None)
        if isinstance(change, Remove):
            return self._deletion(change)
        assert isinstance(change, Atomic)
        return self._transaction(change, change.key)

    def _deletion(self, change: Remove) -> Request:
        if self._taken_back is not None:
            with suppress(ItemError):  # a wide item: only the older parameters can name all of its attributes
                return self._transaction(change, change.key)
        elif self._meets_insertions:
            return self._transaction(change, change.key)
        return self._remove(change)

    def alone(self, change: Update | Insert | Remove) -> Call:
        """The request for a change as a call of its own, even if a statement could hold it."""
        if isinstance(change, Update):
            return self._single("UpdateItem", {**self._update_body(change), "Key": change.key})
        if isinstance(change, Insert):
            return self._single("PutItem", self._put_body(change))
        return self._single("DeleteItem", {**self._delete_body(change), "Key": change.key})

    # ------------------------------------------------------------ statements

    def _update(self, change: Update) -> Statement | Call:
        """`UPDATE "T" SET "a"=? REMOVE "b" WHERE "id"=? AND "c"=? AND "d" IS MISSING`: the key, the guarded attributes
        as read, new ones absent; a call of its own if no statement can hold this."""
        key, read, sets, removes = change
        shape = (tuple(sets), removes, tuple(read))
        kept = self._texts.get(shape)
        if kept is None:
            if len(self._texts) >= _CACHED_SHAPES:  # bounded for items without a common shape
                self._texts.clear()
            kept = self._texts[shape] = (self._update_text(change), self._guarded(change))
        text, guarded = kept
        if text is None:
            return self.alone(change)
        return Statement(text, [*sets.values(), *key.values(), *map(read.__getitem__, guarded)])

    def _update_text(self, change: Update) -> str | None:
        if not _can_name(*change.sets, *change.removes, *change.read):
            return None
        set_clause = " SET " + ", ".join(f"{quoted(name)}=?" for name in change.sets) if change.sets else ""
        remove_clause = "".join(f" REMOVE {quoted(name)}" for name in change.removes)
        text = f"UPDATE {quoted(self._name)}{set_clause}{remove_clause} WHERE {self._where(change)}"
        return None if self._too_wide(text, change) else text

    def _where(self, change: Update | Remove) -> str:
        equal = [f"{quoted(name)}=?" for name in (*self._keys, *self._guarded(change))]
        missing = [f"{quoted(name)} IS MISSING" for name in self._added(change)]
        return " AND ".join(equal + missing)

    def _too_wide(self, text: str, change: Update | Remove) -> bool:
        terms = len(self._keys) + len(self._guarded(change)) + len(self._added(change))
        return len(text) > MAX_STATEMENT or operators(terms) > MAX_OPERATORS

    def _guarded(self, change: Update | Remove | Check, whole: bool = False) -> tuple[str, ...]:
        """The attributes that must be as they were read: all of them for a deletion, a check or a `whole` update, and
        with the guard "item"."""
        if whole or self._guard == "item" or not isinstance(change, Update):
            return tuple(name for name in change.read if name not in self._keys)
        if self._guard is None:
            return ()
        return tuple(name for name in (*change.sets, *change.removes) if name in change.read)

    def _added(self, change: Update | Remove | Check) -> list[str]:
        """The new attributes, which must be absent."""
        if self._guard is None or not isinstance(change, Update):
            return []
        return [name for name in change.sets if name not in change.read]

    def _insert(self, change: Insert) -> Statement | Call:
        names = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}': ?" for name in change.item)
        text = f"INSERT INTO {quoted(name_in_requests(change.table))} VALUE {{{names}}}"
        if len(text) > MAX_STATEMENT or not _can_name(*change.item):
            return self.alone(change)
        return Statement(text, list(change.item.values()))

    def _remove(self, change: Remove) -> Statement | Call:
        text = f"DELETE FROM {quoted(self._name)} WHERE {self._where(change)}"
        if self._confirms or self._too_wide(text, change) or not _can_name(*change.read):
            return self.alone(change)
        guarded = self._guarded(change)
        return Statement(text, [*change.key.values(), *[change.read[name] for name in guarded]])

    # ------------------------------------------------------------ expressions

    def _single(self, operation: str, body: dict[str, Any]) -> Call:
        answer = {"ReturnConsumedCapacity": "INDEXES"}
        if "Expected" not in body:  # DynamoDB refuses parameters of both kinds; the item is read after a refusal
            answer["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return Call(operation, {"TableName": self._name, **answer, **body})

    def _transaction(self, change: Atomic | Insert | Remove, source: Image | None) -> Call:
        """All parts, and a row for each insertion, in one TransactWriteItems. Raises ItemError, with the
        alternative."""
        phase = self._inserted.phase if self._inserted is not None else ""
        made = "" if isinstance(change, Remove) else transaction_digest(change, phase)
        try:
            items = [action for part in parts_of(change) for action in self._actions(part, source, made)]
        except ItemError as error:
            raise error.hinted(self._way_out(change)) from error
        _check_together(items)
        if source is not None:
            items += self._noted(source)
        return Call("TransactWriteItems", {"TransactItems": items, "ReturnConsumedCapacity": "INDEXES"})

    def _noted(self, source: Image) -> list[dict[str, Any]]:
        """What a transaction requires of the row of an item that the run has inserted at the key of its source."""
        if self._taken_back is not None:
            return [self._taken_back.removed(self._spec.name, source)]
        if self._inserted is None or not self._meets_insertions:
            return []
        return [self._inserted.absent(self._spec.name, source)]

    def _way_out(self, change: Change) -> str:
        """The hint for an item with too many attributes for a transaction; the other guard is tried."""
        if isinstance(change, Remove):
            return _DELETE_BY_HAND
        if any(isinstance(part, Remove) for part in parts_of(change)):
            return _IN_TWO_VERSIONS
        with suppress(ItemError):
            if self._guard == "item" and Statements(self._spec, "changed").write(change):
                return _OTHER_GUARD
        return "change fewer of its attributes at once, in several versions"

    def _actions(self, part: Part, source: Image | None, transaction: str) -> list[dict[str, Any]]:
        if isinstance(part, Insert):
            row = [] if self._inserted is None else [self._inserted.put(part, source, transaction)]
            return [{"Put": self._put_body(part)}, *row]
        where = {"TableName": self._name, "Key": part.key}
        if isinstance(part, Remove):
            return [{"Delete": {**where, **self._delete_expression(part)}}]
        if isinstance(part, Check):
            return [{"ConditionCheck": {**where, **self._check_expression(part)}}]
        return [{"Update": {**where, **self._whole_update_expression(part)}}]

    def _whole_update_expression(self, change: Update) -> dict[str, Any]:
        """The expression of an update in a transaction. It requires all attributes as read, regardless of the guard, if
        they fit: the insertions of the transaction may depend on any of them."""
        try:
            return self._update_expression(change, whole=True)
        except ItemError:
            if self._guard == "item":
                raise
            return self._update_expression(change)

    def _check_expression(self, change: Check) -> dict[str, Any]:
        """The expression of a check. With `GUARD = "changed"`, an item with too many attributes is only required to
        exist."""
        try:
            return self._delete_expression(change)
        except ItemError:
            if self._guard == "item":
                raise
            return self._delete_expression(change._replace(read=change.key))

    def _put_body(self, change: Insert) -> dict[str, Any]:
        condition = {"ConditionExpression": "attribute_not_exists(#k)"}
        names = {"ExpressionAttributeNames": {"#k": next(iter(change.key))}}
        return {"TableName": name_in_requests(change.table), "Item": change.item, **condition, **names}

    def _delete_expression(self, change: Remove | Check) -> dict[str, Any]:
        expression = Expression()
        return expression.body(ConditionExpression=self._condition(expression, change))

    def _update_expression(self, change: Update, whole: bool = False) -> dict[str, Any]:
        expression = Expression()
        clauses = []
        if change.sets:
            clauses.append("SET " + ",".join(expression.equal(n, v) for n, v in change.sets.items()))
        if change.removes:
            clauses.append("REMOVE " + ",".join(map(expression.name, change.removes)))
        condition = self._condition(expression, change, whole)
        return expression.body(UpdateExpression=" ".join(clauses), ConditionExpression=condition)

    def _condition(self, expression: Expression, change: Update | Remove | Check, whole: bool = False) -> str:
        """The condition that the item exists, its guarded attributes are as read, and new ones are absent. Raises
        ItemError."""
        exists = f"attribute_exists({expression.name(self._keys[0])})"
        equal = [expression.equal(name, change.read[name]) for name in self._guarded(change, whole)]
        missing = [f"attribute_not_exists({expression.name(name)})" for name in self._added(change)]
        expression.check_operators(len(equal) + len(missing) + 1)
        return " AND ".join([exists, *equal, *missing])

    # ------------------------------------------------------------ beyond the limits of expressions

    def _update_body(self, change: Update) -> dict[str, Any]:
        try:
            return self._update_expression(change)
        except ItemError:
            sets = {name: {"Action": "PUT", "Value": value} for name, value in change.sets.items()}
            removes = {name: {"Action": "DELETE"} for name in change.removes}
            return {"AttributeUpdates": {**sets, **removes}, "Expected": self._expected(change)}

    def _delete_body(self, change: Remove) -> dict[str, Any]:
        try:
            return self._delete_expression(change)
        except ItemError:
            return {"Expected": self._expected(change)}

    def _expected(self, change: Update | Remove) -> dict[str, Any]:
        """The conditions as `Expected`. The key attributes are included, so that an absent item is not created."""
        values = {**change.key, **{name: change.read[name] for name in self._guarded(change)}}
        equal = {name: {"ComparisonOperator": "EQ", "AttributeValueList": [value]} for name, value in values.items()}
        return {**equal, **{name: {"Exists": False} for name in self._added(change)}}


class Replacing(Statements):
    """As `Statements`, but without conditions, as requests of a BatchWriteItem: an insertion replaces the item of its
    key, and a removal deletes it."""

    conditional = False

    def write(self, change: Change) -> BatchWrite:
        """The request for an insertion or a removal."""
        if isinstance(change, Insert):
            return BatchWrite(change.key, {"PutRequest": {"Item": change.item}})
        return BatchWrite(change.key, {"DeleteRequest": {"Key": change.key}})


def _check_together(actions: Sequence[dict[str, Any]]) -> None:
    """Raises ItemError if the items, keys and values of a transaction's actions are too large together (AWS, "Amazon
    DynamoDB Transactions: How it works"). The rows of the insertions count, and so does the item that they are made of,
    whose attributes are in a condition."""
    images = [
        image
        for action in actions
        for body in action.values()
        for image in (body.get("Item") or body["Key"], body.get("ExpressionAttributeValues", {}))
    ]
    if surely_fit(*images):
        return
    if (size := sum(map(image_bytes, images))) > MAX_TRANSACTION_BYTES:
        raise ItemError(
            f"the new items have {size:,} bytes together, with their rows of the state table; a transaction takes at "
            f"most {MAX_TRANSACTION_BYTES:,}",
            hint="return fewer, in several versions",
        )


def _can_name(*names: str) -> bool:
    """Whether a statement can name these attributes: `"#x"` and `":x"` are placeholders even when quoted."""
    return not any(name.startswith(("#", ":")) for name in names)


def quoted(name: str) -> str:
    """A quoted attribute or table name for PartiQL."""
    return '"' + name.replace('"', '""') + '"'


# ---------------------------------------------------------------- condition and update expressions

MAX_EXPRESSION = 4096
MAX_OPERATORS = 300


class Expression:
    """Collects the placeholders of an expression. They are as short as possible, since an expression has at most 4
    KB."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, AttributeValue] = {}

    def name(self, name: str) -> str:
        return self._names.setdefault(name, f"#{len(self._names):x}")

    def equal(self, name: str, value: AttributeValue) -> str:
        placeholder = f":{len(self._values):x}"
        self._values[placeholder] = value
        return f"{self.name(name)}={placeholder}"

    def check_operators(self, terms: int) -> None:
        """Raises ItemError when a condition of this many terms, joined by AND, has too many operators."""
        if operators(terms) > MAX_OPERATORS:
            raise _wide(f"{operators(terms)} of {MAX_OPERATORS} operators of a condition")

    def body(self, **expressions: str) -> dict[str, Any]:
        """The expressions with their placeholders. Raises ItemError when one is too long."""
        for kind, text in expressions.items():
            if len(text) > MAX_EXPRESSION:
                raise _wide(f"{len(text):,} of {MAX_EXPRESSION:,} bytes of its {kind}")
        body: dict[str, Any] = {**expressions}
        body["ExpressionAttributeNames"] = {short: name for name, short in self._names.items()}
        if self._values:
            body["ExpressionAttributeValues"] = self._values
        return body


def operators(terms: int) -> int:
    """The number of operators in a condition of this many comparisons, joined by AND."""
    return 2 * terms - 1


def takes_transaction(change: Remove) -> bool:
    """Whether a condition of a transaction can name all attributes of the item."""
    return operators(1 + len(change.read) - len(change.key)) <= MAX_OPERATORS


def _wide(measure: str) -> ItemError:
    return ItemError(f"the item has too many attributes for a transaction ({measure})")
