"""Condition and update expressions, with their limits (AWS, "Service quotas")."""

from __future__ import annotations

from typing import Any

from dynamodt.errors import ItemError
from dynamodt.model.tables import AttributeValue

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


def _wide(measure: str) -> ItemError:
    return ItemError(f"the item has too many attributes for a transaction ({measure})")
