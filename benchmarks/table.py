"""The table that everything is measured on: items of about 450 bytes, ten attributes, a map and a set among them.

The version splits `name` in two, for a percentage of the items. Every peer makes the same change.
"""

from __future__ import annotations

import json
from typing import Any

FIRST = 1_000_000  # all numbers have seven digits: the canned endpoint puts them in place of seven @
ITEM_BYTES = 451  # as DynamoDB bills it

SCRIPT = """
sequence = 1
{constants}

def transform_up(item):
    if item["n"] % 100 >= {share}:
        return item
    first, _, last = item["name"].partition(" ")
    return {{**item, "first_name": first, "last_name": last}}
"""


def script(share: int, constants: str = "") -> str:
    """The version's file, which changes `share` items of a hundred."""
    return SCRIPT.format(share=share, constants=constants)


def item(number: int) -> dict[str, Any]:
    """The item of a number from 0 on, as DynamoDB's JSON."""
    return _item(str(FIRST + number))


def template() -> str:
    """What the canned endpoint makes its items from."""
    return json.dumps(_item("@" * 7), separators=(",", ":"))


def _item(digits: str) -> dict[str, Any]:
    return {
        "id": {"S": f"user-{digits}"},
        "n": {"N": digits},
        "name": {"S": f"First{digits} Last{digits}"},
        "email": {"S": f"first{digits}.last{digits}@example.com"},
        "country": {"S": "AT"},
        "bio": {"S": "lorem ipsum " * 23},
        "tags": {"SS": ["a", "b", "c"]},
        "address": {"M": {"street": {"S": "Example Street"}, "number": {"N": "7"}, "city": {"S": "Example"}}},
        "active": {"BOOL": True},
        "score": {"N": "12.5"},
    }
