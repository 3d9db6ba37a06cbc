from pathlib import Path
from types import SimpleNamespace

import pytest

from dynamodt import load_script

folder = Path(__file__).parents[1]
script = load_script(folder / "v3_add_country_name.py")
prepared = dict(script.prepare(SimpleNamespace(folder=folder)))

BEFORE = {"id": "user-0001", "country": "AT"}
AFTER = {**BEFORE, "country_name": "Austria"}


def test_up():
    assert script.transform_up(BEFORE, prepared) == AFTER


def test_up_refuses_an_unknown_country():
    with pytest.raises(KeyError):
        script.transform_up({"id": "user-0001", "country": "??"}, prepared)


def test_down():
    assert script.transform_down(AFTER) == BEFORE


def test_every_user_has_a_country_of_the_file():
    users = load_script(folder / "v1_add_users.py").items()
    assert {user["country"] for user in users} <= prepared.keys()
