from pathlib import Path

import pytest

from dynamodt import load_script

folder = Path(__file__).parents[1]
script = load_script(folder / "v4_remove_name.py")
split = load_script(folder / "v2_split_name.py").transform_up


def test_up():
    assert script.transform_up({"id": "1", "name": "A B", "first_name": "A"}) == {"id": "1", "first_name": "A"}


@pytest.mark.parametrize("name", ["Acorn Anyname", "Acorn", "Acorn van der Sample", "Acorn  Two Spaces", " Acorn", ""])
def test_down_brings_back_the_very_name(name):
    item = split({"id": "1", "name": name})
    assert script.transform_down(script.transform_up(item)) == item
