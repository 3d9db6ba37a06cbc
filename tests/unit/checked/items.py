"""The tables and items that the version files are checked on: 100 each, a few of them untidy as real ones are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dynamodt.model.tables import Image, IndexKey, KeyAttribute, TableSpec
from dynamodt.script.codec import encode

ITEMS = 100
USERS = TableSpec(
    "users", (KeyAttribute("id", "S"),), index_keys=(IndexKey(name="country", type="S", of="by_country", most=1024),)
)
SHOP = TableSpec("users", (KeyAttribute("pk", "S"), KeyAttribute("sk", "S")))
TARGET = TableSpec("people", (KeyAttribute("email", "S"),))

_FIRST = "Ada Grace Alan Edsger Barbara Donald Frances Tony Radia Ken".split()
_LAST = ["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Allen", "van der Hoare", "Perlman", "Thompson"]
_COUNTRIES = "DE FR GB NL US".split()
_STATES = "active trial closed".split()


def user(number: int) -> dict[str, Any]:
    """A user; one in fifty has no email, one in forty a NULL phone, and one in a hundred is only a stub."""
    if number % 100 == 99:
        return {"id": f"u{number:05}", "state": "closed"}
    first, last = _FIRST[number % 10], _LAST[number // 10 % 10]
    found: dict[str, Any] = {
        "id": f"u{number:05}",
        "name": f"{first} {last}",
        "email": f"{first}.{last.replace(' ', '')}{number}@Example.com",
        "country": _COUNTRIES[number % 5],
        "state": _STATES[number % 3],
        "joined": f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}",
        "price": Decimal(number * 7 + 5) / 100,
        "visits": Decimal(number),
        "phone": f"+49 30 {number:06}",
        "tags": ["new", "beta", "new"] if number % 2 else ["old"],
        "roles": {"reader", "writer", f"team-{number % 4}", "guest"},
        "address": {"street": f"Street {number}", "zip": f"{number:05}", "lines": ["a", "b"]},
        "active": number % 3 == 0,
    }
    if number % 50 == 17:
        del found["email"]
    if number % 40 == 13:
        found["phone"] = None
    if number % 60 == 21:
        found["name"] = "Plato"
    return found


def order(number: int) -> dict[str, Any]:
    """A single table: customers, and their orders with lines."""
    customer = f"CUSTOMER#{number // 4:04}"
    if number % 4 == 0:
        return {"pk": customer, "sk": "PROFILE", "type": "customer", "name": f"{_FIRST[number % 10]} {number}"}
    lines = [
        {"sku": f"S{number}-{n}", "amount": Decimal(n + 1), "price": Decimal(199 + n) / 100} for n in range(number % 4)
    ]
    return {
        "pk": customer,
        "sk": f"ORDER#{number:05}",
        "type": "order",
        "status": "paid" if number % 3 else "open",
        "lines": lines,
        "note": "" if number % 5 else "please ring",
    }


def _with_bodies(number: int) -> dict[str, Any]:
    return {"id": f"d{number:03}", "body": "x" * (240_000 if number == 7 else 100), "name": "a b", "email": "a@b"}


def users() -> list[Image]:
    return [encode(user(number)) for number in range(ITEMS)]


def orders() -> list[Image]:
    return [encode(order(number)) for number in range(ITEMS)]


def documents() -> list[Image]:
    return [encode(_with_bodies(number)) for number in range(20)]
