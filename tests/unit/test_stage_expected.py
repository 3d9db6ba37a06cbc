"""A stage that is not where the application was deployed is refused before anything is read or written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.config import stage
from dynamodt.config.stage import ACCOUNT, REGION, check_expected
from dynamodt.errors import Refused
from dynamodt.model.tables import Connection, Stage, StorageSpec

STAGE = Stage("prod", Connection("eu-west-1"), StorageSpec("s3://files"))
HERE = "123456789012"


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ACCOUNT, REGION):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(stage, "account_id", lambda _: HERE)


def test_without_an_expected_account_no_request_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "account_id", None)
    check_expected(STAGE)


def test_a_stage_in_the_expected_place_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ACCOUNT, HERE)
    monkeypatch.setenv(REGION, "eu-west-1")
    check_expected(STAGE)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (ACCOUNT, "999999999999", "account 999999999999, and this stage is in account 123456789012"),
        (REGION, "us-east-1", "deployed to us-east-1, and this stage is in eu-west-1"),
    ],
)
def test_a_stage_in_another_place_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refused, match=told) as caught:
        check_expected(STAGE)
    assert "stages.prod" in caught.value.where and caught.value.hint and caught.value.exit_code == 3


def test_the_embedded_stage_is_refused_for_a_deployed_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's stage `local` in AWS has its tables there, and not on this machine."""
    monkeypatch.setenv(ACCOUNT, HERE)
    with pytest.raises(Refused, match="the embedded stage"):
        check_expected(replace(STAGE, embedded=True))
