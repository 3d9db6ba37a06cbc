"""`init` and the keys of tables: as a user types them, as a Serverless service declares them, and in dynamodt.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamodt import api
from dynamodt.config.scaffold import create, declare, init, keys_here, parse_key, service_keys
from dynamodt.config.settings import FILE_NAME, SCHEMA_FILE, read_settings, schema
from dynamodt.errors import Refused, UsageError
from dynamodt.model.tables import KeyAttribute

pytestmark = pytest.mark.unit

ID = (KeyAttribute("id", "S"),)
PAIR = (KeyAttribute("pk", "S"), KeyAttribute("sk", "N"))


def test_a_key_is_typed_as_pairs() -> None:
    assert parse_key("id:S") == ID
    assert parse_key(" pk:s , sk:n ") == PAIR
    assert parse_key("a:b:B") == (KeyAttribute("a:b", "B"),)
    for wrong in ("id", "id:X", ":S", "", "a:S,b:S,c:S", "a:S,a:N", "a:S,"):
        with pytest.raises(UsageError) as caught:
            parse_key(wrong)
        assert "--key pk:S,sk:N" in caught.value.hint


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("", ()),
        ('\ufeff[stages.local.tables]\nusers = { id = "S" }\n', ("users",)),
        ('[stages.local.tables] # of mine\nusers = { id = "S" }\n[stages.dev]\nregion = "eu-west-1"\n', ("users",)),
        ('# mine\n[stages.dev]\nregion = "eu-west-1"', ()),
        ("[stages.local]\nprotected = true\n", ()),
    ],
)
def test_an_entry_is_added_and_the_rest_of_the_file_stays(tmp_path: Path, before: str, kept: tuple[str, ...]) -> None:
    file = tmp_path / FILE_NAME
    if before:
        file.write_text(before)
    keys = {"orders": PAIR, "my.table": (KeyAttribute("the id", "B"),)}
    assert declare(tmp_path, keys, dry_run=True) == file and (file.read_text() if before else "") == before
    assert declare(tmp_path, keys) == file
    found = read_settings(file)
    assert found["local"].tables == {**dict.fromkeys(kept, ID), **keys}
    assert all(line in file.read_text() for line in before.removeprefix("\ufeff").splitlines())
    assert ("dev" in found) == ("dev" in before)
    assert declare(tmp_path, keys) is None
    assert (tmp_path / ".dynamodt" / SCHEMA_FILE).read_text() == schema()


def test_a_file_that_no_entry_can_be_added_to_is_left_alone(tmp_path: Path) -> None:
    text = 'stages = { local = { tables = { users = { id = "S" } } } }\n'
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(Refused, match="no entry can be added") as caught:
        declare(tmp_path, {"orders": PAIR})
    assert 'orders = { pk = "S", sk = "N" }' in caught.value.hint
    assert (tmp_path / FILE_NAME).read_text() == text


def test_another_key_is_refused(tmp_path: Path) -> None:
    declare(tmp_path, {"users": ID})
    with pytest.raises(Refused, match="id:S there, and not pk:S,sk:N"):
        declare(tmp_path, {"users": PAIR})
    with pytest.raises(UsageError, match="of one table"):
        api.declare("local", tmp_path, ["users", "orders"], "id:S")
    with pytest.raises(UsageError, match="for the stage `local`"):
        api.declare("dev", tmp_path, ["users"], "id:S")


SERVICE = """
service: shop
custom: { stage: "${opt:stage, 'dev'}" }
resources:
  - ${file(more.yml)}
  - ${file(all.yml):tables.here}
  - ${file(absent.yml)}
  - Resources:
      Users:
        Type: AWS::DynamoDB::Table
        Properties:
          TableName: !Sub "users-${sls:stage}"
          AttributeDefinitions:
            - { AttributeName: sk, AttributeType: N }
            - { AttributeName: pk, AttributeType: S }
          KeySchema:
            - { AttributeName: sk, KeyType: RANGE }
            - { AttributeName: pk, KeyType: HASH }
      Computed: { Type: "AWS::DynamoDB::Table", Properties: { KeySchema: !Ref Key } }
      Queue: { Type: "AWS::SQS::Queue" }
"""
TABLE = """
Resources:
  {0}:
    Type: AWS::DynamoDB::GlobalTable
    Properties:
      AttributeDefinitions: [{{ AttributeName: id, AttributeType: S }}]
      KeySchema: [{{ AttributeName: id, KeyType: HASH }}]
"""


def test_a_service_gives_the_keys_that_its_files_write_out(tmp_path: Path) -> None:
    assert service_keys(tmp_path) == {}
    (tmp_path / "serverless.yml").write_text(SERVICE)
    (tmp_path / "more.yml").write_text(TABLE.format("Orders"))
    nested = TABLE.format("Carts").replace("\n", "\n    ")
    (tmp_path / "all.yml").write_text(f"tables:\n  here:\n{nested}")
    assert service_keys(tmp_path) == {"Orders": ID, "Carts": ID, "Users": PAIR}
    keys, written = api.declare("local", tmp_path, [])
    assert keys == keys_here(tmp_path) == service_keys(tmp_path) and written == tmp_path / FILE_NAME
    (tmp_path / "serverless.yml").write_text("a: [")
    with pytest.raises(UsageError, match="cannot be read"):
        service_keys(tmp_path)
    assert keys_here(tmp_path)["Users"] == PAIR  # of dynamodt.toml


def test_the_plugin_gives_keys_that_the_framework_has_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMODT_SERVICE", '{"stage": "dev", "keys": {"users": [["pk", "S"], ["sk", "N"]]}}')
    assert service_keys(tmp_path) == {"users": PAIR}
    assert api.declare("dev", tmp_path, ["users"]) == ({"users": PAIR}, None) and not (tmp_path / FILE_NAME).exists()
    monkeypatch.setenv("DYNAMODT_SERVICE", "no JSON")
    assert service_keys(tmp_path) == {}


def test_a_generated_test_has_the_key_of_its_table(tmp_path: Path) -> None:
    _, test = init(tmp_path, ["users"], {"users": PAIR})
    assert 'BEFORE: Item = {"pk": "1", "sk": Decimal(1)}' in test.read_text()
    _, test = create(tmp_path, "users", "more", (KeyAttribute('a "b"', "B"),))
    assert r'BEFORE: Item = {"a \"b\"": b"1"}' in test.read_text()


def test_an_untouched_test_gets_the_key_when_it_is_known(tmp_path: Path) -> None:
    _, test = init(tmp_path, ["users"])
    assert init(tmp_path, ["users"], {"users": PAIR}, dry_run=True) == [test] and '"id"' in test.read_text()
    assert init(tmp_path, ["users"], {"users": PAIR}) == [test] and '"pk"' in test.read_text()
    test.write_text(test.read_text() + "# mine\n")
    assert init(tmp_path, ["users"], {"users": ID}) == []
