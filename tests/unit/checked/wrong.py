"""Wrong version files, each with the property that `check` must find violated by an item of the sample."""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    finds: str  # the property
    text: str
    on: str = "users"  # or orders, documents
    prepared: dict[str, object] | None = None


WRONG: dict[str, Wrong] = {
    # ------------------------------------------------ depends on chance, on the time, on what came before
    "a random id": Wrong(
        "deterministic",
        """
import uuid

def transform_up(item):
    return {**item, "uid": str(uuid.uuid4())}
""",
    ),
    "a bucket drawn at random": Wrong(
        "deterministic",
        """
import random

def transform_up(item):
    return {**item, "bucket": random.randint(0, 9)}
""",
    ),
    "an hour of now": Wrong(
        "deterministic",
        """
from datetime import datetime, timezone

def transform_up(item):
    return {**item, "migrated_at": datetime.now(timezone.utc).isoformat(timespec="hours")}
""",
    ),
    "the machine, and how long it runs": Wrong(
        "deterministic",
        """
import platform
import socket
import time

def transform_up(item):
    if item.get("active"):
        return {**item, "at": int(time.monotonic()) // 3600}
    return {**item, "by": socket.gethostname() + platform.node()}
""",
    ),
    "an hour in the local time zone": Wrong(
        "deterministic",
        """
from datetime import datetime

def transform_up(item):
    joined = datetime.fromisoformat(item.get("joined", "2024-01-01"))
    return {**item, "joined_at": int(joined.timestamp())}
""",
    ),
    "today, imported within the function": Wrong(
        "deterministic",
        """
def transform_up(item):
    from datetime import date
    age = (date.today() - date.fromisoformat(item.get("joined", "2024-01-01"))).days
    return {**item, "days": age}
""",
    ),
    "an expiry from now": Wrong(
        "deterministic",
        """
import time

def transform_up(item):
    return {**item, "ttl": int(time.time()) // 3600 * 3600 + 86400}
""",
    ),
    "a deletion of what is old by the clock": Wrong(
        "deterministic",
        """
import datetime
from dynamodt import Delete

def transform_up(item):
    if item.get("joined", "") < str(datetime.date.today() - datetime.timedelta(days=900)):
        return Delete()
    return item
""",
    ),
    "the first attribute of a map": Wrong(
        "deterministic",
        """
def transform_up(item):
    address = item.get("address") or {"city": "", "zip": ""}
    return {**item, "first": next(iter(item if len(address) < 2 else address))}
""",
    ),
    "a file of the current folder": Wrong(
        "deterministic",
        """
from os.path import exists

def transform_up(item):
    return {**item, "licensed": exists("LICENSE")}
""",
    ),
    "hash() of a text": Wrong(
        "deterministic",
        """
def transform_up(item):
    return {**item, "shard": hash(item["id"]) % 16}
""",
    ),
    "a list of a set": Wrong(
        "deterministic",
        """
def transform_up(item):
    return {**item, "role_list": list(item.get("roles", ()))}
""",
    ),
    "the order of a set": Wrong(  # of many elements: a few may have one order in two processes
        "deterministic",
        """
LETTERS = "abcdefghijklmnopqrstuvwxyz"

def transform_up(item):
    if not item.get("roles"):
        return item
    return {**item, "all_roles": ",".join({*item["roles"], *LETTERS})}
""",
    ),
    "a counter": Wrong(
        "deterministic",
        """
NUMBER = 0

def transform_up(item):
    global NUMBER
    NUMBER += 1
    return {**item, "number": NUMBER}
""",
    ),
    "itertools.count": Wrong(
        "deterministic",
        """
from itertools import count

NUMBERS = count(1)

def transform_up(item):
    return {**item, "number": next(NUMBERS)}
""",
    ),
    "a default argument that grows": Wrong(
        "deterministic",
        """
def tagged(item, tags=[]):
    tags.append(item.get("state"))
    return tags

def transform_up(item):
    return {**item, "states": list(tagged(item))}
""",
    ),
    "a default value that all items share": Wrong(
        "deterministic",
        """
DEFAULTS = {"tags": []}

def transform_up(item):
    tags = item.get("tags", DEFAULTS["tags"])
    tags.append("migrated")
    item["tags"] = tags
    return item
""",
    ),
    "a cache under a key that is too short": Wrong(
        "deterministic",
        """
_cache = {}

def transform_up(item):
    country = item.get("country")
    if country not in _cache:
        _cache[country] = item["id"]
    return {**item, "first_of_country": _cache[country]}
""",
    ),
    "numbers for words, in the order that they are met": Wrong(
        "deterministic",
        """
codes = {}

def transform_up(item):
    return {**item, "street_no": codes.setdefault(item.get("address", {}).get("street"), len(codes))}
""",
    ),
    "a class that counts": Wrong(
        "deterministic",
        """
class TransformUp:
    def setup(self):
        self.seen = 0

    def process(self, item):
        self.seen += 1
        yield {**item, "position": self.seen}
""",
    ),
    "a class that keeps the last item": Wrong(
        "deterministic",
        """
class TransformUp:
    last = None

    def process(self, item):
        previous, TransformUp.last = TransformUp.last, item["id"]
        return [{**item, "previous": previous or ""}]
""",
    ),
    "rows with a random key": Wrong(
        "deterministic",
        """
from uuid import uuid4

def items():
    for name in ("admin", "guest"):
        yield {"id": str(uuid4()), "name": name}
""",
    ),
    "rows of a set": Wrong(
        "deterministic",
        """
NAMES = {"admin", "guest", "auditor", "owner", "reader", "writer", "editor", "root"}

def items():
    for name in NAMES:
        yield {"id": f"role-{name}", "name": name}
""",
    ),
    # ------------------------------------------------ alters what it is given
    "an inner list that is altered": Wrong(
        "input",
        """
def transform_up(item):
    new = dict(item)
    new.get("tags", []).append("migrated")
    return new
""",
    ),
    "an inner map that is altered": Wrong(
        "input",
        """
def transform_up(item):
    address = item.get("address", {})
    address["city"] = "Berlin"
    return {**item, "city": "Berlin"}
""",
    ),
    "a copy that shares a list": Wrong(
        "input",
        """
from dynamodt import Put

IDEMPOTENT = True

def transform_up(item):
    if item["id"].startswith("copy-"):
        return item
    copy = {**item, "id": "copy-" + item["id"]}
    copy.get("tags", []).append("copied")
    return [item, Put(copy)]
""",
    ),
    "prepared data that is altered": Wrong(
        "raises",
        """
def prepare(context):
    yield "DE", {"name": "Germany", "users": []}

def transform_up(item, prepared):
    country = prepared.get(item.get("country"))
    if country is None:
        return item
    country["users"].append(item["id"])
    return {**item, "country_name": country["name"]}
""",
        prepared={"DE": {"name": "Germany", "users": []}},
    ),
    # ------------------------------------------------ not idempotent, although it is declared
    "idempotent, and counts up": Wrong(
        "idempotent",
        """
IDEMPOTENT = True

def transform_up(item):
    return {**item, "visits": item.get("visits", 0) + 1}
""",
    ),
    "idempotent, and converts a price twice": Wrong(
        "idempotent",
        """
IDEMPOTENT = True

def transform_up(item):
    if "price" in item:
        item["price"] = int(item["price"] * 100)
    return item
""",
    ),
    "idempotent, and prefixes a key each time": Wrong(
        "idempotent",
        """
IDEMPOTENT = True

def transform_up(item):
    return {**item, "id": "user#" + item["id"]}
""",
    ),
    "idempotent, and fails on its own result": Wrong(
        "idempotent",
        """
IDEMPOTENT = True

def transform_up(item):
    if "address" not in item and "street" not in item:
        return item
    address = item["address"]
    new = {name: value for name, value in item.items() if name != "address"}
    return {**new, "street": address["street"], "zip": address["zip"]}
""",
    ),
    "idempotent, and copies copies": Wrong(
        "idempotent",
        """
from dynamodt import Put

IDEMPOTENT = True

def transform_up(item):
    return [item, Put({**item, "id": item["id"] + "-archive"})]
""",
    ),
    # ------------------------------------------------ cannot be rolled back
    "down forgets what up has removed": Wrong(
        "reversible",
        """
def transform_up(item):
    if "name" not in item:
        return item
    first, _, last = item["name"].partition(" ")
    new = {k: v for k, v in item.items() if k != "name"}
    return {**new, "first": first, "last": last}

def transform_down(item):
    return {k: v for k, v in item.items() if k not in ("first", "last")}
""",
    ),
    "down leaves what up has added": Wrong(
        "reversible",
        """
def transform_up(item):
    return {**item, "full_name": item.get("name", ""), "schema": 2}

def transform_down(item):
    item.pop("full_name")
    return item
""",
    ),
    "down swaps names": Wrong(
        "reversible",
        """
def transform_up(item):
    first, _, last = item.get("name", "").partition(" ")
    item.pop("name", None)
    return {**item, "first": first, "last": last}

def transform_down(item):
    name = f"{item.pop('last')} {item.pop('first')}"
    return {**item, "name": name}
""",
    ),
    "down removes what was there before": Wrong(
        "reversible",
        """
def transform_up(item):
    item.setdefault("state", "active")
    return item

def transform_down(item):
    item.pop("state")
    return item
""",
    ),
    "down fails on some": Wrong(
        "raises",
        """
def transform_up(item):
    if "phone" in item:
        item["phones"] = [item.pop("phone")]
    return item

def transform_down(item):
    item["phone"] = item.pop("phones")[0]
    return item
""",
    ),
    "down loses digits": Wrong(
        "reversible",
        """
from decimal import Decimal

def transform_up(item):
    if "price" not in item:
        return item
    new = dict(item)
    new["cents"] = int(new.pop("price") * 100)
    return new

def transform_down(item):
    if "cents" not in item:
        return item
    new = dict(item)
    new["price"] = Decimal(int(new.pop("cents")) // 100)
    return new
""",
    ),
    "down keeps the copy": Wrong(
        "reversible",
        """
from dynamodt import Put

IDEMPOTENT = True

def transform_up(item):
    if item["id"].startswith("mail#"):
        return item
    return [item, Put({"id": "mail#" + item["id"], "email": item.get("email", "none")})]

def transform_down(item):
    return item
""",
    ),
    # ------------------------------------------------ keys and indexes
    "a result without its key": Wrong(
        "key",
        """
def transform_up(item):
    return {"name": item.get("name", ""), "email": item.get("email", "")}
""",
    ),
    "a key of another type": Wrong(
        "key",
        """
def transform_up(item):
    return {**item, "id": int(item["id"][1:])}
""",
    ),
    "a new key that several items have": Wrong(
        "key",
        """
SOURCE = "export"

def transform_up(item):
    return {**item, "id": item.get("name", item["id"]).lower()}
""",
    ),
    "a move that makes two items one": Wrong(
        "key",
        """
SOURCE = "export"

def transform_up(item):
    return {"id": f"country#{item['country']}"} if "country" in item else item
""",
    ),
    "new items that have one key": Wrong(
        "key",
        """
from dynamodt import Put

IDEMPOTENT = True

def transform_up(item):
    if item["type"] != "order":
        return item
    return [item, Put({"pk": item["pk"], "sk": "LAST", "type": "last", "order": item["sk"]})]
""",
        on="orders",
    ),
    "an empty key in the target": Wrong(
        "key",
        """
TARGET_TABLE = "people"

def transform_up(item):
    return {"email": item.get("email", ""), "user": item["id"]}
""",
    ),
    "a target's key that several items have": Wrong(
        "key",
        """
TARGET_TABLE = "people"

def transform_up(item):
    return {"email": item.get("country", "none"), "user": item["id"]}
""",
    ),
    "an index's key that becomes a number": Wrong(
        "index keys",
        """
NUMBERS = {"DE": 49, "FR": 33, "GB": 44, "NL": 31, "US": 1}

def transform_up(item):
    if "country" in item:
        item["country"] = NUMBERS[item["country"]]
    return item
""",
    ),
    "an index's key that becomes NULL": Wrong(
        "index keys",
        """
def transform_up(item):
    return {**item, "country": item["country"] if item.get("active") else None}
""",
    ),
    "a new item that the scan would read": Wrong(
        "input",
        """
from dynamodt import Put

def transform_up(item):
    return [item, Put({"id": "log-" + item["id"], "of": item["id"]})]
""",
    ),
    # ------------------------------------------------ values
    "a large text that is doubled": Wrong(
        "size",
        """
def transform_up(item):
    return {**item, "body_before": item["body"]}
""",
        on="documents",
    ),
    "a float": Wrong(
        "values",
        """
def transform_up(item):
    return {**item, "net": float(item.get("price", 1)) / 1.19}
""",
    ),
    "a set that becomes empty": Wrong(
        "values",
        """
def transform_up(item):
    return {**item, "teams": {role for role in item.get("roles", ()) if role.startswith("team-")}}
""",
    ),
    "a date that is no value": Wrong(
        "values",
        """
from datetime import date

def transform_up(item):
    if "joined" in item:
        item["joined"] = date.fromisoformat(item["joined"])
    return item
""",
    ),
    # ------------------------------------------------ errors
    "an attribute that some lack": Wrong(
        "raises",
        """
def transform_up(item):
    return {**item, "domain": item["email"].split("@")[1].lower()}
""",
    ),
    "a NULL": Wrong(
        "raises",
        """
def transform_up(item):
    return {**item, "phone": item.get("phone", "").replace(" ", "")}
""",
    ),
    "a name of one word": Wrong(
        "raises",
        """
def transform_up(item):
    if "name" not in item:
        return item
    first, last = item["name"].split(" ", 1)
    return {**item, "first": first, "last": last}
""",
    ),
    "a forgotten return": Wrong(
        "values",
        """
def transform_up(item):
    if item.get("active"):
        return {**item, "state": "active"}
""",
    ),
    "sys.exit": Wrong(
        "raises",
        """
import sys

def transform_up(item):
    if "email" not in item:
        sys.exit("no email")
    return item
""",
    ),
    "a loop that does not end": Wrong(
        "hangs",
        """
def transform_up(item):
    while "email" not in item:
        pass
    return item
""",
    ),
    "a mark over a value": Wrong(
        "values",
        """
STAMP = "state"

def transform_up(item):
    return {**item, "schema": 2}
""",
    ),
    "a class whose bundle cannot be finished": Wrong(
        "loads",
        """
class TransformUp:
    def process(self, item):
        yield {**item, "schema": 2}

    def finish_bundle(self):
        self.client.flush()
""",
    ),
    "two rows with one key": Wrong(
        "loads",
        """
def items():
    for name in ("Admin", "admin"):
        yield {"id": f"role-{name.lower()}", "name": name}
""",
    ),
    "a module that is not there": Wrong(
        "loads",
        """
import no_such_module_of_ours

def transform_up(item):
    return item
""",
    ),
}
