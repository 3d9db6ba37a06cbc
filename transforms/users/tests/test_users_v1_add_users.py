from pathlib import Path

from dynamodt import load_script

script = load_script(Path(__file__).parents[1] / "v1_add_users.py")
users = list(script.items())


def test_adds_1000_users_of_different_id_and_email():
    assert len({user["id"] for user in users}) == len({user["email"] for user in users}) == len(users) == 1000


def test_says_the_same_each_time():
    assert list(script.items()) == users


def test_a_user():
    assert users[0] == {
        "id": "user-0001",
        "name": "Acorn Anyname",
        "email": "acorn.anyname@example.com",
        "country": "AT",
        "signed_up": "2024-01-02",
        "tags": {"newsletter"},
        "address": {"street": "Example Street", "number": 2, "country": "AT"},
    }
