"""Right version files, for which `check` must report no fault."""

from __future__ import annotations

from typing import NamedTuple


class Right(NamedTuple):
    text: str
    on: str = "users"  # or orders, documents
    prepared: dict[str, object] | None = None


RIGHT: dict[str, Right] = {
    "the template": Right(
        """
def transform_up(item):
    # Called for every item, a plain dict; returns its new shape. Keep old attributes: running code reads them.
    return item


def transform_down(item):
    return item
"""
    ),
    "a name that is split, beside the old one": Right(
        """
from dynamodt import without

def transform_up(item):
    first, _, last = item.get("name", "").partition(" ")
    return {**item, "first_name": first, "last_name": last}

def transform_down(item):
    return without(item, "first_name", "last_name")
"""
    ),
    "a name that is split and joined": Right(
        """
from dynamodt import without

def transform_up(item):
    if "name" not in item:
        return item
    first, space, last = item["name"].partition(" ")
    new = without(item, "name")
    return {**new, "first": first, "last": last} if space else {**new, "first": first}

def transform_down(item):
    if "first" not in item:
        return item
    name = f"{item['first']} {item['last']}" if "last" in item else item["first"]
    return {**without(item, "first", "last"), "name": name}
"""
    ),
    "an attribute that is renamed in place": Right(
        """
def transform_up(item):
    if "phone" in item:
        item["telephone"] = item.pop("phone")
    return item

def transform_down(item):
    if "telephone" in item:
        item["phone"] = item.pop("telephone")
    return item
"""
    ),
    "an attribute that is popped into another dict": Right(
        """
def transform_up(item):
    state = item.pop("state")
    return {**item, "status": state.upper()}

def transform_down(item):
    status = item.pop("status")
    return {**item, "state": status.lower()}
"""
    ),
    "a default for those without": Right(
        """
IDEMPOTENT = True

def transform_up(item):
    item.setdefault("locale", "en")
    return item
"""
    ),
    "an inner list that is altered in the item that is returned": Right(
        """
def transform_up(item):
    if "tags" in item and "migrated" not in item["tags"]:
        item["tags"].append("migrated")
    return item
"""
    ),
    "an inner map that is copied": Right(
        """
def transform_up(item):
    if "address" not in item:
        return item
    return {**item, "address": {**item["address"], "country": item["country"]}}

def transform_down(item):
    if "address" not in item:
        return item
    return {**item, "address": {k: v for k, v in item["address"].items() if k != "country"}}
"""
    ),
    "a deep copy": Right(
        """
import copy

def transform_up(item):
    new = copy.deepcopy(item)
    for line in new.get("lines", []):
        line["total"] = line["amount"] * line["price"]
    return new

def transform_down(item):
    new = copy.deepcopy(item)
    for line in new.get("lines", []):
        del line["total"]
    return new
""",
        on="orders",
    ),
    "a list that becomes a set": Right(
        """
def transform_up(item):
    return {**item, "tag_set": set(item["tags"])} if item.get("tags") else item
"""
    ),
    "a set that becomes a sorted list": Right(
        """
IDEMPOTENT = True

def transform_up(item):
    if isinstance(item.get("roles"), set):
        item["roles"] = sorted(item["roles"])
    return item

def transform_down(item):
    if isinstance(item.get("roles"), list):
        item["roles"] = set(item["roles"])
    return item
"""
    ),
    "cents, exactly": Right(
        """
from decimal import Decimal

def transform_up(item):
    if "price" not in item:
        return item
    new = dict(item)
    new["cents"] = new.pop("price") * 100
    return new

def transform_down(item):
    if "cents" not in item:
        return item
    new = dict(item)
    new["price"] = new.pop("cents") / 100
    return new
"""
    ),
    "a rounded price": Right(
        """
from decimal import ROUND_HALF_EVEN, Decimal

def transform_up(item):
    if "price" not in item:
        return item
    return {**item, "gross": (item["price"] * Decimal("1.19")).quantize(Decimal("0.01"), ROUND_HALF_EVEN)}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "gross"}
"""
    ),
    "a number from a text": Right(
        """
def transform_up(item):
    zip_code = item.get("address", {}).get("zip", "")
    return {**item, "zip_number": int(zip_code)} if zip_code.isdigit() else item
"""
    ),
    "an attribute that is removed, and no way back": Right(
        """
from dynamodt import without

IDEMPOTENT = True

def transform_up(item):
    return without(item, "phone", "visits")
"""
    ),
    "an attribute that is removed, and a default for it": Right(
        """
from dynamodt import without

def transform_up(item):
    return without(item, "phone")

def transform_down(item):
    return {**item, "phone": None}
"""
    ),
    "a text in lower case, and down leaves it": Right(
        """
IDEMPOTENT = True

def transform_up(item):
    if "email" in item:
        item["email"] = item["email"].strip().lower()
    return item

def transform_down(item):
    return item
"""
    ),
    "a class with a pattern": Right(
        """
import re

class TransformUp:
    def setup(self):
        self.digits = re.compile(r"[^0-9+]")

    def process(self, item):
        if not item.get("phone"):
            yield item
            return
        yield {**item, "phone_digits": self.digits.sub("", item["phone"])}

class TransformDown:
    def process(self, item):
        yield {name: value for name, value in item.items() if name != "phone_digits"}
"""
    ),
    "a class that counts for its log": Right(
        """
import logging

import apache_beam as beam

class TransformUp(beam.DoFn):
    def start_bundle(self):
        self.number = 0

    def process(self, item):
        self.number += 1
        if self.number % 50 == 0:
            logging.getLogger(__name__).info("%s items", self.number)
        yield {**item, "schema": 2}
"""
    ),
    "print": Right(
        """
def transform_up(item):
    print("at", item["id"])
    return {**item, "schema": 2}
"""
    ),
    "prepared data": Right(
        """
def prepare(context):
    yield from {"DE": "Germany", "FR": "France"}.items()

def transform_up(item, prepared):
    name = prepared.get(item.get("country"))
    return {**item, "country_name": name} if name else item

def transform_down(item, prepared):
    item.pop("country_name", None)
    return item
""",
        prepared={"DE": "Germany", "FR": "France"},
    ),
    "prepared data that is copied": Right(
        """
def prepare(context):
    yield "DE", {"name": "Germany", "users": []}

def transform_up(item, prepared):
    country = prepared.get(item.get("country"))
    if country is None:
        return item
    return {**item, "nation": {**country, "users": [*country["users"], item["id"]]}}
""",
        prepared={"DE": {"name": "Germany", "users": []}},
    ),
    "another table": Right(
        """
TARGET_TABLE = "people"

def transform_up(item):
    email = item.get("email") or f"{item['id']}@unknown.example"
    return {"email": email.lower(), "user": item["id"], "name": item.get("name", "")}
"""
    ),
    "a mark": Right(
        """
STAMP = "_dynamodt"

def transform_up(item):
    return {**item, "visits": item.get("visits", 0) + 1}
"""
    ),
    "a new key, once": Right(
        """
IDEMPOTENT = True

def transform_up(item):
    if item["id"].startswith("USER#"):
        return item
    return {**item, "id": f"USER#{item['id']}"}

def transform_down(item):
    return {**item, "id": item["id"].removeprefix("USER#")}
"""
    ),
    "a new key, from an export": Right(
        """
SOURCE = "export"

def transform_up(item):
    return {**item, "pk": "V2#" + item["pk"]}

def transform_down(item):
    return {**item, "pk": item["pk"].removeprefix("V2#")}
""",
        on="orders",
    ),
    "lines that become items": Right(
        """
from dynamodt import Delete, Put, without

IDEMPOTENT = True

def transform_up(item):
    if item["type"] != "order" or "lines" not in item:
        return item
    lines = [
        Put({"pk": item["pk"], "sk": f"{item['sk']}#LINE#{number}", "type": "line", **line})
        for number, line in enumerate(item["lines"])
    ]
    return [without(item, "lines") | {"line_count": len(lines)}, *lines]
""",
        on="orders",
    ),
    "an item beside, which down deletes": Right(
        """
from dynamodt import Delete, Put

IDEMPOTENT = True

def transform_up(item):
    if item["id"].startswith("settings#"):
        return item
    return [item, Put({"id": f"settings#{item['id']}", "theme": "dark"})]

def transform_down(item):
    return Delete() if item["id"].startswith("settings#") else item
"""
    ),
    "an equal item of several": Right(
        """
from dynamodt import Put

IDEMPOTENT = True

def transform_up(item):
    if "country" not in item or item["id"].startswith("country#"):
        return item
    return [item, Put({"id": f"country#{item['country']}", "code": item["country"]})]
"""
    ),
    "a deletion of some": Right(
        """
from dynamodt import Delete

def transform_up(item):
    return Delete() if item.get("state") == "closed" else item
"""
    ),
    "a cache of a function without side effects": Right(
        """
from functools import lru_cache

@lru_cache(maxsize=None)
def slug(text):
    return "-".join(text.lower().split())

def transform_up(item):
    return {**item, "slug": slug(item.get("name", item["id"]))}
"""
    ),
    "constants of a module": Right(
        """
import string
from types import MappingProxyType

REGIONS = MappingProxyType({"DE": "eu", "FR": "eu", "NL": "eu", "GB": "uk", "US": "us"})
LETTERS = frozenset(string.ascii_letters)

def transform_up(item):
    new = {**item, "initial": next((c for c in item.get("name", "") if c in LETTERS), "?")}
    if item.get("country") in REGIONS:
        new["region"] = REGIONS[item["country"]]
    return new
"""
    ),
    "a date of another form": Right(
        """
from datetime import date, datetime, timezone

def transform_up(item):
    if "joined" not in item:
        return item
    day = date.fromisoformat(item["joined"])
    moment = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    return {**item, "joined_at": int(moment.timestamp()), "weekday": day.strftime("%A")}

def transform_down(item):
    return {k: v for k, v in item.items() if k not in ("joined_at", "weekday")}
"""
    ),
    "a stable shard": Right(
        """
from zlib import crc32

def transform_up(item):
    return {**item, "shard": crc32(item["id"].encode()) % 16}
"""
    ),
    "a stable id, and a stable draw": Right(
        """
import hashlib
import random
from uuid import NAMESPACE_URL, uuid5

def transform_up(item):
    dice = random.Random(hashlib.sha256(item["id"].encode()).digest())
    return {**item, "uid": str(uuid5(NAMESPACE_URL, item["id"])), "group": dice.choice(["a", "b"])}
"""
    ),
    "the kinds of a single table": Right(
        """
def transform_up(item):
    match item:
        case {"type": "customer", "name": str(name)}:
            return {**item, "search": name.lower()}
        case {"type": "order", "lines": [*lines]}:
            return {**item, "total": sum((line["amount"] * line["price"] for line in lines), start=0)}
        case _:
            return item

def transform_down(item):
    return {name: value for name, value in item.items() if name not in ("search", "total")}
""",
        on="orders",
    ),
    "a guard of the changed attributes": Right(
        """
GUARD = "changed"

def transform_up(item):
    return {**item, "is_active": bool(item.get("active"))}

def transform_down(item):
    item.pop("is_active", None)
    return item
"""
    ),
    "a key of an index": Right(
        """
IDEMPOTENT = True

def transform_up(item):
    item.setdefault("country", "ZZ")
    return item
"""
    ),
    "a key attribute that is left out of an index": Right(
        """
from dynamodt import without

def transform_up(item):
    return without(item, "country") if item.get("state") == "closed" else item
"""
    ),
    "an empty text that goes": Right(
        """
IDEMPOTENT = True

def transform_up(item):
    return {name: value for name, value in item.items() if value != ""}
""",
        on="orders",
    ),
    "rows": Right(
        """
ROLES = ("admin", "guest", "owner")

def items():
    for number, name in enumerate(ROLES):
        yield {"id": f"role-{name}", "rank": number}
"""
    ),
    "rows and a change": Right(
        """
def items():
    yield {"id": "config", "schema": 2}

def transform_up(item):
    return {**item, "schema": 2}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "schema"}
"""
    ),
    "a large text that moves": Right(
        """
import hashlib

def transform_up(item):
    return {**item, "digest": hashlib.sha256(item["body"].encode()).hexdigest()}

def transform_down(item):
    item.pop("digest")
    return item
""",
        on="documents",
    ),
    "keys that are taken apart": Right(
        """
def transform_up(item):
    _, customer = item["pk"].split("#")
    match item["sk"].split("#"):
        case ["PROFILE"]:
            return {**item, "customer": int(customer)}
        case ["ORDER", number]:
            return {**item, "customer": int(customer), "number": int(number)}
    raise ValueError(f"an unknown kind of item: {item['sk']}")

def transform_down(item):
    item.pop("number", None)
    del item["customer"]
    return item
""",
        on="orders",
    ),
    "a time in the local time zone, for a log": Right(
        """
import logging
from datetime import UTC, datetime

def transform_up(item):
    joined = datetime.fromisoformat(item.get("joined", "2024-01-01"))
    logging.info("%s of %s", item["id"], joined.astimezone())
    return {**item, "joined_at": int(joined.replace(tzinfo=UTC).timestamp())}
"""
    ),
    "a time that is measured for a log": Right(
        """
import logging
import time

def transform_up(item):
    begun = time.perf_counter()
    found = {**item, "name_length": len(item.get("name", ""))}
    logging.debug("%s: %s s at %s", item["id"], time.perf_counter() - begun, time.time())
    return found
"""
    ),
}
