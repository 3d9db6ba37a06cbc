"""An application that writes to a table all the time, in its own process, and records its writes.

`python -m tests.service.writer URL TABLE NUMBER LOG LOOKS`: writer NUMBER (0 or 1) prints "writing" once it has begun,
and writes until its stdin is closed. Then it writes to LOG one JSON array per line, in the order of its writes: the
kind of the write, the item's id, and the earlier value of `n`. It owns the items with its parity; of the other writer's
items it changes another attribute only.

Some items are `contested`: their owner writes to one as soon as it is listed in LOOKS, to which the script adds each
item that it reads. The script waits for that write (the file LOOKS.ID), so that it always falls between the read of the
item and the migration's own write, on a machine of any speed.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ITEMS = 1_500
STEP = 3  # the addition of a read-modify-write
CONTESTED = ITEMS // 500 * 2  # items that each of the three ways of changing one meets for certain
_WARM = 30


def contested(number: int) -> bool:
    return number < ITEMS and number % 500 < 6


class Writer:
    def __init__(self, client: Any, table: str, number: int, poller: Path) -> None:
        self._client = client
        self._table = table
        self._dice = random.Random(number)
        self._number = number
        self._own = [own for own in range(number, ITEMS, 2) if not contested(own)]
        self._poller = poller
        self._looked = poller.open(encoding="utf-8")
        self._line = ""  # the received part of the next line
        self.log: list[tuple[str, int, int]] = []
        self._acts = [*[self._touch] * 4, *[self._add] * 3, *[self._delete, self._archive] * 2]

    def write(self) -> None:
        """One of the application's four kinds of writes, after the requested ones."""
        *looked, self._line = (self._line + self._looked.read()).split("\n")
        for line in looked:
            self._contest(int(line))
        act = self._dice.choice(self._acts)
        act(self._dice.randrange(ITEMS) if act == self._touch else self._dice.choice(self._own))

    def _contest(self, number: int) -> None:
        """Writes between the script's first read of an item and the migration's write."""
        met = Path(f"{self._poller}.{number}")
        if contested(number) and number % 2 == self._number and not met.exists():
            (self._add, self._delete, self._archive)[number % 500 // 2](number)
            met.touch()

    def _touch(self, number: int) -> None:
        """A blind update of another attribute than the one that is migrated."""
        if self._update(number, "ADD touched :one", "attribute_exists(id)", {":one": 1}) is not None:
            self.log.append(("touch", number, 0))

    def _add(self, number: int) -> None:
        """Read, modify, write; after a write by another process in between, nothing is done."""
        item = self._client.get_item(TableName=self._table, Key=_key(number), ConsistentRead=True)["Item"]
        before = int(item["n"]["N"])
        values = {":before": before, ":after": before + STEP, ":by": len(self.log)}
        if self._update(number, "SET n = :after, writer = :by", "n = :before", values) is not None:
            self.log.append(("add", number, before))

    def _delete(self, number: int) -> None:
        if not contested(number):
            if len(self._own) < ITEMS // 4:
                return  # however long the migration takes to start, there is something left to write to
            self._own.remove(number)
        self._client.delete_item(TableName=self._table, Key=_key(number))
        self.log.append(("delete", number, 0))

    def _archive(self, number: int) -> None:
        """Archives an item; the script leaves archived items unchanged."""
        old = self._update(number, "SET archived = :yes", "attribute_exists(id)", {":yes": 1})
        assert old is not None
        self.log.append(("archive", number, int(old["n"]["N"])))

    def _update(self, number: int, update: str, condition: str, values: dict[str, int]) -> dict[str, Any] | None:
        """The item as it was before, or None when the condition does not hold."""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(number),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues={name: {"N": str(value)} for name, value in values.items()},
                ReturnValues="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
        found: dict[str, Any] = answer["Attributes"]
        return found


def _key(number: int) -> dict[str, Any]:
    return {"id": {"N": str(number)}}


def main(url: str, table: str, number: str, log: str, poller: str) -> None:
    client = boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"max_attempts": 0}),  # an update that was sent twice could not be accounted for
    )
    writer = Writer(client, table, int(number), Path(poller))
    while len(writer.log) < _WARM:
        writer.write()
    sys.stdout.write("writing\n")
    sys.stdout.flush()
    end_of_stdin = threading.Thread(target=sys.stdin.read, daemon=True)
    end_of_stdin.start()
    while end_of_stdin.is_alive():
        writer.write()
    Path(log).write_text("".join(json.dumps(entry) + "\n" for entry in writer.log), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
