"""(d) The floor: signed HTTP on one kept connection, orjson both ways, PartiQL batches guarded by every attribute read.

    floor.py ENDPOINT TABLE SHARE

No engine around it: no checkpoint, no journal, no retry, no threads, one shape of item. What is left is what a guarded
migration cannot do without, and each step of it is written to be quick.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.client import HTTPConnection
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

Image = dict[str, dict[str, Any]]


class Service:
    def __init__(self, endpoint: str) -> None:
        self._url = endpoint + "/"
        self._http = HTTPConnection(urlsplit(endpoint).netloc)
        self._signer = SigV4Auth(Credentials("local", "local"), "dynamodb", "us-east-1")

    def call(self, operation: str, body: dict[str, Any]) -> Any:
        payload = orjson.dumps(body)
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        request = AWSRequest("POST", self._url, data=payload, headers=headers)
        self._signer.add_auth(request)
        self._http.request("POST", "/", payload, dict(request.headers.items()))
        response = self._http.getresponse()
        answer = orjson.loads(response.read())
        if response.status != 200:
            raise RuntimeError(answer)
        return answer


def decoded(value: dict[str, Any]) -> Any:
    for kind, raw in value.items():
        return raw if kind == "S" else DECODERS[kind](raw)
    return None


DECODERS: dict[str, Callable[[Any], Any]] = {
    "S": str,
    "N": Decimal,
    "B": b64decode,
    "BOOL": bool,
    "NULL": lambda raw: None,
    "M": lambda raw: {name: decoded(inner) for name, inner in raw.items()},
    "L": lambda raw: [decoded(inner) for inner in raw],
    "SS": set,
    "NS": lambda raw: set(map(Decimal, raw)),
    "BS": lambda raw: set(map(b64decode, raw)),
}


def encoded(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, Decimal):
        return {"N": str(value)}
    raise TypeError(type(value))


def transform(item: dict[str, Any], share: int) -> dict[str, Any]:
    if item["n"] % 100 >= share:
        return item
    first, _, last = item["name"].partition(" ")
    return {**item, "first_name": first, "last_name": last}


def scan(service: Service, table: str) -> Iterator[Image]:
    body: dict[str, Any] = {"TableName": table, "ReturnConsumedCapacity": "TOTAL"}
    while True:
        page = service.call("Scan", body)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        body["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def changes(service: Service, table: str, share: int) -> Iterator[dict[str, Any]]:
    texts: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
    for image in scan(service, table):
        item = {name: decoded(value) for name, value in image.items()}
        result = transform(dict(item), share)
        sets = {name: encoded(value) for name, value in result.items() if name not in item or item[name] != value}
        if not sets:
            continue
        guarded = [name for name in image if name != "id"]
        shape = (tuple(sets), tuple(image))
        if shape not in texts:
            setting = ", ".join(f'"{name}"=?' for name in sets)
            equal = " AND ".join(f'"{name}"=?' for name in ("id", *guarded))
            missing = "".join(f' AND "{name}" IS MISSING' for name in sets if name not in image)
            texts[shape] = f'UPDATE "{table}" SET {setting} WHERE {equal}{missing}'
        parameters = [*sets.values(), image["id"], *[image[name] for name in guarded]]
        yield {
            "Statement": texts[shape],
            "Parameters": parameters,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def main(endpoint: str, table: str, share: str) -> None:
    service = Service(endpoint)
    found = changes(service, table, int(share))
    while batch := list(islice(found, 25)):
        answer = service.call("BatchExecuteStatement", {"Statements": batch, "ReturnConsumedCapacity": "INDEXES"})
        errors = [response["Error"] for response in answer["Responses"] if "Error" in response]
        if errors:
            raise RuntimeError(errors)


if __name__ == "__main__":
    main(*sys.argv[1:])
