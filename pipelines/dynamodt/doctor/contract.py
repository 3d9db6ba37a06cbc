"""The assumptions about DynamoDB, one per line; `suite` has those about S3 and exports.

Each line has a name, the module that relies on it, the document that it is taken from, and a probe. If no document has
the answer, the check is `asked`: the service's behaviour is reported without a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from botocore.exceptions import ClientError

from dynamodt.doctor.suite import OF_STORAGE, Assumption, Scratch, WriteAnswer, differs
from dynamodt.dynamodb.network import refusal

_GUIDE = "docs.aws.amazon.com/amazondynamodb/latest/developerguide"
_API = "docs.aws.amazon.com/amazondynamodb/latest/APIReference"
_NOWHERE = "not documented"

_UPDATE = f"{_GUIDE}/ql-reference.update.html"
_INSERT = f"{_GUIDE}/ql-reference.insert.html"
_DELETE = f"{_GUIDE}/ql-reference.delete.html"
_BATCHES = f"{_API}/API_BatchExecuteStatement.html"
_BATCH_ERRORS = f"{_API}/API_BatchStatementError.html"
_LIMITS = f"{_GUIDE}/Constraints.html"
_COMPARED = f"{_GUIDE}/Expressions.OperatorsAndFunctions.html"
_LEGACY = f"{_GUIDE}/LegacyConditionalParameters.Expected.html"
_TRANSACTIONS = f"{_API}/API_TransactWriteItems.html"

_KEY = {"S": "1"}
_CONFLICT = "ConditionalCheckFailed"


# ---------------------------------------------------------------- values, as a write's condition

_STORED: dict[str, Any] = {
    "string": {"S": "é"},
    "number": {"N": "1.50"},
    "binary": {"B": b"\x00\xff"},
    "boolean": {"BOOL": True},
    "null": {"NULL": True},
    "list": {"L": [{"N": "1"}, {"S": "a"}, {"M": {"x": {"NULL": True}}}]},
    "map": {"M": {"a": {"N": "1"}, "b": {"L": [{"S": "x"}]}}},
    "string-set": {"SS": ["a", "b", "c"]},
    "number-set": {"NS": ["1", "2.5", "-3"]},
    "binary-set": {"BS": [b"1", b"2"]},
}
_SAME: dict[str, Any] = {  # equal, in another notation
    "number": {"N": "15E-1"},
    "map": {"M": {"b": {"L": [{"S": "x"}]}, "a": {"N": "1.0"}}},
    "string-set": {"SS": ["c", "a", "b"]},
    "number-set": {"NS": ["-3.0", "1", "2.50"]},
    "binary-set": {"BS": [b"2", b"1"]},
}
_OTHER: dict[str, Any] = {  # of the same type, and different
    "string": {"S": "e"},
    "number": {"N": "1.51"},
    "binary": {"B": b"\x00\xfe"},
    "boolean": {"BOOL": False},
    "list": {"L": [{"N": "1"}, {"S": "a"}, {"M": {"x": {"BOOL": True}}}]},
    "map": {"M": {"a": {"N": "1"}, "b": {"L": [{"S": "y"}]}}},
    "string-set": {"SS": ["a", "b"]},
    "number-set": {"NS": ["1", "2.5", "3"]},
    "binary-set": {"BS": [b"1"]},
}


def _compares(stored: Any, compared: Any, expected: str) -> Callable[[Scratch], str]:
    """An UPDATE whose condition compares one attribute is done, or refused and without an effect."""

    def probe(found: Scratch) -> str:
        found.put({"id": _KEY, "v": stored})
        (answer,) = found.execute(('UPDATE @ SET "n"=? WHERE "id"=? AND "v"=?', [{"N": "1"}, _KEY, compared]))
        written = "n" in (found.item("1") or {})
        return differs((expected, expected == "done"), (answer.outcome, written))

    return probe


def _values() -> Iterator[Assumption]:
    place = "pipeline/conflicts.py"
    for kind, value in _STORED.items():
        yield Assumption(f"equal-{kind}", place, _COMPARED, _compares(value, value, "done"))
        if kind in _SAME:
            yield Assumption(f"equal-{kind}-written-otherwise", place, _COMPARED, _compares(value, _SAME[kind], "done"))
        other = _OTHER.get(kind, {"S": "another type"})
        yield Assumption(f"different-{kind}", place, _COMPARED, _compares(value, other, _CONFLICT))


# ---------------------------------------------------------------- statements


def _statement(
    before: dict[str, Any] | None, text: str, given: Sequence[Any], outcome: str, after: dict[str, Any] | None
) -> Callable[[Scratch], str]:
    """The outcome of one statement about the item of the key "1", and the item's other attributes afterwards (None: no
    item)."""

    def probe(found: Scratch) -> str:
        found.call("delete_item", Key={"id": _KEY})
        if before is not None:
            found.put({"id": _KEY, **before})
        (answer,) = found.execute((text, given))
        return differs((outcome, after), (answer.outcome, _others(found)))

    return probe


def _others(found: Scratch) -> dict[str, Any] | None:
    item = found.item("1")
    return None if item is None else {name: value for name, value in item.items() if name != "id"}


_A, _B = {"S": "a"}, {"S": "b"}
_ODD = 'a "b".c[0] 🙂'
_QUOTED = '"' + _ODD.replace('"', '""') + '"'
_Row = tuple[str, str, dict[str, Any] | None, str, list[Any], str, dict[str, Any] | None]
_STATEMENTS: tuple[_Row, ...] = (
    ("quoted-names", _UPDATE, {_ODD: _A}, f'UPDATE @ SET {_QUOTED}=? WHERE "id"=? AND {_QUOTED}=?', [_B, _KEY, _A],
     "done", {_ODD: _B}),
    ("reserved-words-quoted", _UPDATE, {"name": _A}, 'UPDATE @ SET "name"=? WHERE "id"=?', [_B, _KEY], "done",
     {"name": _B}),
    ("several-attributes-set", _UPDATE, {}, 'UPDATE @ SET "x"=?, "y"=? WHERE "id"=?', [_A, _B, _KEY], "done",
     {"x": _A, "y": _B}),
    ("remove-is-repeated", _UPDATE, {"x": _A, "y": _B, "z": _A}, 'UPDATE @ REMOVE "x" REMOVE "y" WHERE "id"=?', [_KEY],
     "done", {"z": _A}),
    ("set-and-remove", _UPDATE, {"x": _A}, 'UPDATE @ SET "y"=? REMOVE "x" WHERE "id"=?', [_B, _KEY], "done",
     {"y": _B}),
    ("is-missing-holds", _NOWHERE, {}, 'UPDATE @ SET "x"=? WHERE "id"=? AND "x" IS MISSING', [_A, _KEY], "done",
     {"x": _A}),
    ("is-missing-refuses", _NOWHERE, {"x": _B}, 'UPDATE @ SET "x"=? WHERE "id"=? AND "x" IS MISSING', [_A, _KEY],
     _CONFLICT, {"x": _B}),
    ("update-creates-no-item", _UPDATE, None, 'UPDATE @ SET "x"=? WHERE "id"=?', [_A, _KEY], _CONFLICT, None),
    ("insert", _INSERT, None, "INSERT INTO @ VALUE {'id': ?, 'it''s': ?}", [_KEY, _A], "done", {"it's": _A}),
    ("insert-replaces-no-item", _INSERT, {"x": _A}, "INSERT INTO @ VALUE {'id': ?}", [_KEY], "DuplicateItem",
     {"x": _A}),
    ("delete", _DELETE, {"x": _A}, 'DELETE FROM @ WHERE "id"=? AND "x"=?', [_KEY, _A], "done", None),
    ("delete-refuses", _DELETE, {"x": _B}, 'DELETE FROM @ WHERE "id"=? AND "x"=?', [_KEY, _A], _CONFLICT, {"x": _B}),
    ("delete-of-no-item-is-done", _DELETE, None, 'DELETE FROM @ WHERE "id"=?', [_KEY], "done", None),
    ("empty-string-and-binary", _LIMITS, {}, 'UPDATE @ SET "x"=?, "y"=? WHERE "id"=?', [{"S": ""}, {"B": b""}, _KEY],
     "done", {"x": {"S": ""}, "y": {"B": b""}}),
    ("38-digits", _LIMITS, {}, 'UPDATE @ SET "x"=? WHERE "id"=?', [{"N": "1." + "2" * 37}, _KEY], "done",
     {"x": {"N": "1." + "2" * 37}}),
)  # fmt: skip


def _returns_item(found: Scratch) -> str:
    found.put({"id": _KEY, "v": _A, "l": {"L": [_B]}})
    (answer,) = found.execute(('UPDATE @ SET "n"=? WHERE "id"=? AND "v"=?', [_A, _KEY, _B]))
    return differs(WriteAnswer(_CONFLICT, {"id": _KEY, "v": _A, "l": {"L": [_B]}}), answer)


def _batch_goes_on(found: Scratch) -> str:
    """A refused statement does not affect the others of its batch."""
    found.put({"id": _KEY, "v": _A}, {"id": {"S": "2"}})
    text = 'UPDATE @ SET "n"=? WHERE "id"=?'
    first, second = found.execute((f'{text} AND "v"=?', [_A, _KEY, _B]), (text, [_A, {"S": "2"}]))
    return differs((_CONFLICT, "done"), (first.outcome, second.outcome))


def _same_key_twice(found: Scratch) -> str:
    found.put({"id": _KEY})
    text = 'UPDATE @ SET "n"=? WHERE "id"=?'
    return ", ".join(answer.outcome for answer in found.execute((text, [_A, _KEY]), (text, [_B, _KEY])))


def _capacity_of_refused(found: Scratch) -> str:
    found.put({"id": _KEY, "v": _A})
    statement = {"Statement": f'UPDATE "{found.table}" SET "n"=? WHERE "id"=? AND "v"=?', "Parameters": [_A, _KEY, _B]}
    answer = found.dynamodb.batch_execute_statement(Statements=[statement], ReturnConsumedCapacity="TOTAL")
    return f"{sum(one['CapacityUnits'] for one in answer.get('ConsumedCapacity', ()))} units"


def _placeholder_names(found: Scratch) -> str:
    found.put({"id": _KEY})
    return ", ".join(found.execute((f'UPDATE @ SET "{n}"=? WHERE "id"=?', [_A, _KEY]))[0].outcome for n in ("#0", ":0"))


# ---------------------------------------------------------------- limits


def _wide(count: int, length: int = 4) -> dict[str, Any]:
    return {f"a{number:03}".ljust(length, "x"): {"S": str(number)} for number in range(count)}


def _many_guarded(found: Scratch) -> str:
    """150 comparisons, including the key's, have 299 operators; a statement takes them."""
    item = _wide(149)
    found.put({"id": _KEY, **item})
    where = "".join(f' AND "{name}"=?' for name in item)
    (answer,) = found.execute((f'UPDATE @ SET "n"=? WHERE "id"=?{where}', [_A, _KEY, *item.values()]))
    return differs("done", answer.outcome)


def _longest_statement(found: Scratch) -> str:
    """A statement has at most 8,192 characters, including the table's name."""
    text = f'UPDATE "{found.table}" SET "{{}}"=? WHERE "id"=?'
    found.put({"id": _KEY})
    name = "x" * (8192 - len(text) + 2)
    long, longer = (found.execute((text.format(one), [_A, _KEY]))[0].outcome for one in (name, name + "x"))
    return "" if "alidation" in longer else f"8,193 characters: {longer}; 8,192: {long}"


def _most_statements(found: Scratch) -> str:
    text = 'UPDATE @ SET "n"=? WHERE "id"=?'
    found.put(*({"id": {"S": f"m{number}"}} for number in range(26)))
    every = [(text, [_A, {"S": f"m{number}"}]) for number in range(26)]
    counted = [answer.outcome for answer in found.execute(*every[:25])].count("done"), found.execute(*every)[0].outcome
    return differs((25, "request: ValidationException"), counted)


def _largest_item(found: Scratch) -> str:
    fits = 400 * 1024 - len("id1t")
    sizes = [found.call("put_item", Item={"id": _KEY, "t": {"S": "x" * size}}).outcome for size in (fits, fits + 1)]
    return differs(["done", "ValidationException"], sizes)


# ---------------------------------------------------------------- calls of their own


def _legacy(found: Scratch) -> str:
    """400 attributes in a condition: the update is done, or refused if one has changed, and creates no item."""
    item = _wide(400)
    found.put({"id": _KEY, **item})
    equal = {name: {"ComparisonOperator": "EQ", "AttributeValueList": [value]} for name, value in item.items()}
    expected = {"id": {"ComparisonOperator": "EQ", "AttributeValueList": [_KEY]}, **equal, "n": {"Exists": False}}
    change = {"n": {"Action": "PUT", "Value": _A}, "a001": {"Action": "DELETE"}}

    def sent(id: dict[str, str]) -> str:
        return found.call("update_item", Key={"id": id}, AttributeUpdates=change, Expected=expected).outcome

    outcomes = [sent(_KEY), sent(_KEY), sent({"S": "absent"})]
    refused = "ConditionalCheckFailedException"
    return differs((["done", refused, refused], None), (outcomes, found.item("absent")))


def _call_returns_item(found: Scratch) -> str:
    found.put({"id": _KEY, "v": _A})
    answer = found.call(
        "update_item",
        Key={"id": _KEY},
        UpdateExpression="SET n=:n",
        ConditionExpression="v=:v",
        ExpressionAttributeValues={":n": _A, ":v": _B},
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )
    return differs(WriteAnswer("ConditionalCheckFailedException", {"id": _KEY, "v": _A}), answer)


def _delete_of_no_item(found: Scratch) -> str:
    exists = {"ConditionExpression": "attribute_exists(id)"}
    answer = found.call("delete_item", Key={"id": {"S": "absent"}}, **exists)
    return differs("ConditionalCheckFailedException", answer.outcome)


def _transaction(found: Scratch, id: str, value: Any = _A) -> str:
    """Puts an item if it is absent. The token is unique in the account, which keeps it for ten minutes."""
    put = {"TableName": found.table, "Item": {"id": {"S": id}, "v": value}}
    absent = {**put, "ConditionExpression": "attribute_not_exists(id)"}
    try:
        found.dynamodb.transact_write_items(TransactItems=[{"Put": absent}], ClientRequestToken=f"{found.table}-{id}")
    except ClientError as error:
        reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", ())]
        return " ".join([refusal(error).code, *reasons])
    return "done"


def _token_repeated(found: Scratch) -> str:
    answers = [_transaction(found, "token"), _transaction(found, "token"), _transaction(found, "token", _B)]
    return differs(["done", "done", "IdempotentParameterMismatchException"], answers)


def _cancelled(found: Scratch) -> str:
    found.put({"id": {"S": "cancelled"}})
    return differs("TransactionCanceledException ConditionalCheckFailed", _transaction(found, "cancelled"))


# ---------------------------------------------------------------- reads


def _fill(found: Scratch, count: int = 40) -> set[str]:
    names = {f"r{number:02}" for number in range(count)}
    found.put(*({"id": {"S": name}} for name in names))
    return names


def _segments(found: Scratch) -> str:
    """Segments cover the table without an overlap, page by page, also after the key of a deleted item."""
    names = _fill(found)
    seen: list[str] = []
    for segment in range(3):
        start: dict[str, Any] = {}
        while True:
            page = found.dynamodb.scan(
                TableName=found.table, Segment=segment, TotalSegments=3, Limit=7, ConsistentRead=True, **start
            )
            seen += [item["id"]["S"] for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                break
            found.call("delete_item", Key=page["LastEvaluatedKey"])
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    read = [name for name in seen if name in names]
    return differs((len(names), names), (len(read), set(read)))


def _checksum(found: Scratch) -> str:
    answer = found.dynamodb.get_item(TableName=found.table, Key={"id": _KEY})
    return "" if "x-amz-crc32" in answer["ResponseMetadata"]["HTTPHeaders"] else "no x-amz-crc32"


def _identity(found: Scratch) -> str:
    table = found.dynamodb.describe_table(TableName=found.table)["Table"]
    return "" if table.get("TableId") else "no TableId"


def _index_keys(found: Scratch) -> str:
    """An index accepts neither a value of another type nor an empty one."""
    text = 'UPDATE @ SET "g"=? WHERE "id"=?'
    found.put({"id": _KEY})
    codes = [found.execute((text, [value, _KEY]))[0].outcome for value in ({"N": "1"}, {"S": ""}, {"S": "x" * 2049})]
    return differs(["ValidationError"] * 3, codes)


_FORMS = "dynamodb/statements.py"
_BATCH = "dynamodb/batch.py"
CHECKS: tuple[Assumption, ...] = (
    *_values(),
    *(
        Assumption(name, _FORMS, source, _statement(before, text, given, outcome, after))
        for name, source, before, text, given, outcome, after in _STATEMENTS
    ),
    Assumption("refusal-returns-item", _BATCH, _BATCH_ERRORS, _returns_item),
    Assumption("refusal-leaves-others", _BATCH, _BATCHES, _batch_goes_on),
    Assumption("same-key-twice-in-a-batch", _BATCH, _NOWHERE, _same_key_twice, asked=True),
    Assumption("capacity-of-a-refused-statement", "pipeline/rate_limit.py", _NOWHERE, _capacity_of_refused, asked=True),
    Assumption("names-like-placeholders", _FORMS, _NOWHERE, _placeholder_names, asked=True),
    Assumption("statement-of-8192-characters", _FORMS, _LIMITS, _longest_statement,
               harmless="dynamodt sends no longer statement"),
    Assumption("25-statements", _BATCH, _BATCHES, _most_statements),
    Assumption("149-attributes-guarded", _FORMS, _LIMITS, _many_guarded),
    Assumption("400-attributes-guarded", _FORMS, _LEGACY, _legacy),
    Assumption("item-of-400-kb", "script/codec.py", _LIMITS, _largest_item),
    Assumption("call-returns-item", _FORMS, f"{_API}/API_UpdateItem.html", _call_returns_item),
    Assumption("conditional-delete-of-no-item", _FORMS, f"{_API}/API_DeleteItem.html", _delete_of_no_item),
    Assumption("transaction-token-repeated", "pipeline/own_writes.py", _TRANSACTIONS, _token_repeated),
    Assumption("transaction-reasons", _BATCH, _TRANSACTIONS, _cancelled),
    Assumption("segments-cover-the-table", "dynamodb/reads.py", f"{_GUIDE}/Scan.html", _segments),
    Assumption("response-has-a-checksum", "dynamodb/clients.py", f"{_GUIDE}/Programming.LowLevelAPI.html", _checksum),
    Assumption("table-has-an-identity", "runs/plan.py", f"{_API}/API_TableDescription.html", _identity,
               harmless="a table is recognised by its time of creation"),
    Assumption("index-rejects-other-keys", "script/diff.py", f"{_GUIDE}/GSI.html", _index_keys,
               harmless="dynamodt finds a value that an index cannot take before the write"),
    *OF_STORAGE,
)  # fmt: skip
