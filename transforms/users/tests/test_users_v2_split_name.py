from pathlib import Path

from dynamodt import load_script

script = load_script(Path(__file__).parents[1] / "v2_split_name.py")

BEFORE = {"id": "user-0001", "name": "Acorn van der Sample"}
AFTER = {**BEFORE, "first_name": "Acorn", "last_name": "van der Sample"}


def test_up():
    assert script.transform_up(BEFORE) == AFTER


def test_up_keeps_a_name_of_one_word():
    assert script.transform_up({"name": "Acorn"}) == {"name": "Acorn", "first_name": "Acorn", "last_name": ""}


def test_down():
    assert script.transform_down(AFTER) == BEFORE
