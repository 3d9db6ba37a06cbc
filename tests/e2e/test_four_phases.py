"""The four phases on the example: an application is changed, deployed, rolled back and cleaned up, and writes to its
table all the time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.project import ROOT, Project
from tests.waiting import until

TABLE = "users"
_LINES = (ROOT / "transforms" / "users" / "countries.csv").read_text(encoding="utf-8").splitlines()[1:]
COUNTRIES = dict(line.split(",") for line in _LINES)


@dataclass(frozen=True)
class User:
    """A user in the application's model, independent of the shape in the table."""

    first: str
    last: str
    country: str


Shape = Callable[[User], dict[str, str]]


def release_1(user: User) -> dict[str, str]:
    """The old code: one name."""
    return {"name": f"{user.first} {user.last}", "country": user.country}


def release_2(user: User) -> dict[str, str]:
    """Phase 1: writes the new attributes beside the old, so that a roll-back is possible at any time."""
    return {**release_1(user), "first_name": user.first, "last_name": user.last}


def release_3(user: User) -> dict[str, str]:
    """Phase 1 of the next change: the country's name beside its code."""
    return {**release_2(user), "country_name": COUNTRIES[user.country]}


def release_4(user: User) -> dict[str, str]:
    """Phase 3: nothing reads `name` any more, and nothing writes it."""
    return {name: value for name, value in release_3(user).items() if name != "name"}


@dataclass
class Application:
    """Adds, renames and deletes users. `ledger` is the expected content of the table."""

    dynamodb: Any
    shape: Shape = release_1
    ledger: dict[str, User] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    requests: int = 0
    failure: BaseException | None = None

    def adopt(self) -> None:
        """Add the users of version 1 to the ledger."""
        for key, item in self.items().items():
            first, _, last = item["name"].partition(" ")
            self.ledger[key] = User(first, last, item["country"])

    def act(self) -> None:
        """One request of a user."""
        self.dice.choices((self.rename, self.sign_up, self.leave), weights=(8, 1, 1))[0]()
        self.requests += 1

    def rename(self) -> None:
        key = self.dice.choice(sorted(self.ledger))
        number = self.dice.randrange(10_000)
        user = User(f"First{number}", f"van Last{number}", self.dice.choice(sorted(COUNTRIES)))
        attributes = self.shape(user)
        self.dynamodb.update_item(
            TableName=TABLE,
            Key={"id": {"S": key}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ConditionExpression="attribute_exists(id)",
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in attributes.items()},
        )
        self.ledger[key] = user

    def sign_up(self) -> None:
        key = f"new-{len(self.ledger) + len(self.gone):05}"
        user = User("Nova", f"van Number {key}", self.dice.choice(sorted(COUNTRIES)))
        item = {"id": key, **self.shape(user)}
        self.dynamodb.put_item(TableName=TABLE, Item={name: {"S": value} for name, value in item.items()})
        self.ledger[key] = user

    def leave(self) -> None:
        key = self.dice.choice(sorted(self.ledger))
        self.dynamodb.delete_item(TableName=TABLE, Key={"id": {"S": key}})
        del self.ledger[key]
        self.gone.add(key)

    def items(self) -> dict[str, dict[str, str]]:
        """All users as they are in the table: their attributes of type string, by id."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
        plain = ({n: v["S"] for n, v in item.items() if "S" in v} for page in pages for item in page["Items"])
        return {item["id"]: item for item in plain}

    @contextmanager
    def live(self) -> Iterator[None]:
        """Sends requests all the time, many of them while the enclosed command runs."""
        before, quiet = self.requests, threading.Event()
        thread = threading.Thread(target=self._serve, args=(quiet,))
        thread.start()
        try:
            yield
        finally:
            quiet.set()
            thread.join()
        assert self.failure is None, self.failure
        assert self.requests - before >= 20

    def _serve(self, quiet: threading.Event) -> None:
        try:
            while not quiet.wait(0.01):
                self.act()
        except BaseException as failure:
            self.failure = failure

    def check(self, shape: Shape, *, without: tuple[str, ...] = ()) -> None:
        """Every user exists, has the values that were written last, in this shape; and no deleted user exists."""
        found = self.items()
        assert found.keys() == self.ledger.keys()
        for key, user in self.ledger.items():
            expected = shape(user)
            assert {name: found[key].get(name) for name in expected} == expected, key
            assert not found[key].keys() & set(without), key


@pytest.fixture(scope="module")
def application(project: Project) -> Application:
    done = project.sh("make run TABLE=users VERSION=1 RUNNER=direct")
    assert done.returncode == 0, done.stderr
    application = Application(project.client())
    application.adopt()
    assert len(application.ledger) == 1000
    return application


def move(project: Project, application: Application, *words: str) -> None:
    """Runs a command beside the live application: it must succeed, with a correct balance and without dead letters."""
    with application.live():
        document = project.json(*words)
    assert "error" not in document, document
    for version in document["tables"][0]["versions"]:
        counts = version["counts"]
        assert version["status"] == "succeeded"
        assert counts["read"] == sum(counts.values()) - counts["read"]
        assert counts["dead"] == 0
        assert counts["changed"] > 0


def test_a_name_is_split_rolled_back_used_and_cleaned_up(project: Project, application: Application) -> None:
    # Phase 1: the release that writes both shapes is deployed. The old users have one name still.
    application.shape = release_2
    with application.live():
        until(lambda: application.requests >= 50, "fifty requests of the application")
    application.check(release_1)
    assert any("first_name" not in item for item in application.items().values())

    # Phase 2: the data is transformed, while the application goes on.
    move(project, application, "up", "--table", TABLE, "--to", "2")
    application.check(release_2)

    # Something is wrong with the release: the old code comes back first, then the data.
    application.shape = release_1
    move(project, application, "down", "--table", TABLE)
    application.check(release_1, without=("first_name", "last_name"))

    # The second attempt, together with the next small change: the country's name. It needs data from outside, which
    # is prepared first.
    application.shape = release_3
    refused = project.ddt("up", "--table", TABLE, "--to", "3")
    assert refused.returncode == 3
    assert "dynamodt prepare --table users --version 3" in refused.stderr
    assert project.json("prepare", "--table", TABLE, "--tNumber", "3")["rows"] == len(COUNTRIES)
    move(project, application, "up", "--table", TABLE, "--to", "3")
    application.check(release_3)

    # Phase 3: the code uses the new attributes, and writes the old one no more. Phase 4: it is removed.
    application.shape = release_4
    move(project, application, "up", "--table", TABLE)
    application.check(release_4, without=("name",))

    # The history tells the same story.
    (table,) = project.json("history", "--table", TABLE)["tables"]
    story = [(run["version"], run["direction"]) for run in table["runs"] if run["status"] == "succeeded"]
    assert story == [(1, "up"), (2, "up"), (2, "down"), (2, "up"), (3, "up"), (4, "up")]
    (status,) = project.json("status", "--table", TABLE)["tables"]
    assert (status["at"], {version["state"] for version in status["versions"]}) == (4, {"applied"})
