"""A start of a job whose answer is lost finds the started run or none, and never an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from dynamodt.deploy.glue_runs import GlueJob
from dynamodt.deploy.on_glue import DeployedJob
from dynamodt.errors import Refused, ServiceError
from dynamodt.model.tables import Connection, Stage, StorageSpec

ARGUMENTS = {"--command": "up"}
STATES = ("stopping", "starting")  # of runs that are called so


def _refused(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "StartJobRun")


LOST = (
    ConnectionClosedError(endpoint_url="glue"),
    ReadTimeoutError(endpoint_url="glue"),
    _refused("OperationTimeoutException", 400),
    _refused("InternalServiceException", 500),
    _refused("", 503),
)


class Glue:
    """Loses the answer to a start, which has `arrived` or not; the caller gets an `error`."""

    def __init__(self, arrived: bool, *before: str, error: Exception = LOST[0]) -> None:
        self._arrived = arrived
        self._error = error
        self._runs = [_run(name) for name in before]

    def start_job_run(self, JobName: str, Arguments: Mapping[str, str]) -> dict[str, Any]:  # noqa: N803
        if self._arrived:
            self._runs.insert(0, _run("new"))
        raise self._error

    def get_job_runs(self, JobName: str, MaxResults: int) -> dict[str, Any]:  # noqa: N803
        return {"JobRuns": list(self._runs)}


def _run(name: str) -> dict[str, Any]:
    return {"Id": name, "JobRunState": name.upper() if name in STATES else "RUNNING", "Arguments": ARGUMENTS}


def job(glue: Glue, monkeypatch: pytest.MonkeyPatch) -> GlueJob:
    monkeypatch.setattr("dynamodt.deploy.glue_runs.client", lambda *words, **options: glue)
    return GlueJob(Connection("us-east-1"), "dynamodt-prod")


@pytest.mark.parametrize("before", [(), ("old",), ("older", "old")])
def test_a_start_with_a_lost_answer_finds_its_run(before: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert job(Glue(True, *before), monkeypatch).start(ARGUMENTS) == "new"


@pytest.mark.parametrize("before", [(), ("old",), ("older", "old")])
def test_a_start_with_a_lost_answer_does_not_find_an_earlier_run(
    before: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServiceError) as lost:
        job(Glue(False, *before), monkeypatch).start(ARGUMENTS)
    assert lost.value.hint.endswith("if a run has started nevertheless, the same command follows it")


@pytest.mark.parametrize("error", LOST, ids=str)
def test_a_start_whose_outcome_is_not_known_finds_its_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job(Glue(True, "old", error=error), monkeypatch).start(ARGUMENTS) == "new"


def test_a_start_that_glue_has_refused_finds_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError) as refused:
        job(Glue(True, error=_refused("InvalidInputException", 400)), monkeypatch).start(ARGUMENTS)
    assert "nevertheless" not in refused.value.hint


@pytest.mark.parametrize(
    ("runs", "followed"),
    [(("stopping",), None), (("stopping", "old"), "old"), (("starting",), "starting"), ((), None)],
)
def test_a_run_that_is_being_stopped_is_not_followed(
    runs: tuple[str, ...], followed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = object.__new__(DeployedJob)
    deployed._glue = job(Glue(True, *runs), monkeypatch)
    deployed._arguments = ARGUMENTS
    deployed._answers = NoAnswers()  # type: ignore[assignment]
    found = deployed.active()
    assert (found.id if found else None) == followed
    assert deployed._is_ending() == ("stopping" in runs)


@pytest.mark.parametrize("policies", [True, False])
def test_a_table_of_another_account_needs_a_policy_for_its_role(tmp_path: Path, policies: bool) -> None:
    given = 'policy_arns = ["arn:aws:iam::123456789012:policy/assume"]' if policies else ""
    text = f'[stages.prod]\nregion = "us-east-1"\n[stages.prod.deploy]\n{given}\n'
    (tmp_path / "dynamodt.toml").write_text(text, encoding="utf-8")
    deployed = DeployedJob.__new__(DeployedJob)
    deployed.stage = replace(AWAY, connection=Connection("us-east-1", table_roles=(("arn:users", "arn:role"),)))
    deployed.project = SimpleNamespace(folder=tmp_path)  # type: ignore[assignment]
    deployed.check_roles(["orders"])
    with nullcontext() if policies else pytest.raises(Refused, match="may not assume the role arn:role"):
        deployed.check_roles(["arn:users"])


class NoAnswers:
    def read(self, run: str) -> None:
        return None


# ---------------------------------------------------------------- an export that lies elsewhere

AWAY = Stage("prod", Connection("us-east-1"), StorageSpec("s3://files/below"))


@pytest.mark.parametrize(
    ("place", "may", "policies", "refused"),
    [
        ("", None, False, False),
        ("new", None, False, False),
        ("s3://files/below/AWSDynamoDB/01-a", None, False, False),
        ("s3://files/below", None, False, False),
        ("s3://files/belowground/AWSDynamoDB/01-a", False, False, True),
        ("s3://other/AWSDynamoDB/01-a", True, False, False),
        ("s3://other/AWSDynamoDB/01-a", False, True, True),
        ("s3://other/AWSDynamoDB/01-a", None, False, True),
        ("s3://other/AWSDynamoDB/01-a", None, True, False),
    ],
)
def test_an_export_that_the_role_may_not_read_is_refused_before_the_job_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, may: bool | None, policies: bool, refused: bool
) -> None:
    if policies:
        (tmp_path / "dynamodt.toml").write_text(
            '[stages.prod]\nregion = "us-east-1"\n[stages.prod.deploy]\n'
            'policy_arns = ["arn:aws:iam::123456789012:policy/read-exports"]\n'
        )
    monkeypatch.setattr("dynamodt.deploy.on_glue.may_read", lambda *asked: may)
    deployed = DeployedJob.__new__(DeployedJob)
    deployed.stage, deployed.project = AWAY, SimpleNamespace(folder=tmp_path)  # type: ignore[assignment]
    deployed._glue = SimpleNamespace(role=lambda: "arn:aws:iam::1:role/jobs")  # type: ignore[assignment]
    with pytest.raises(Refused, match="the role of the job") if refused else nullcontext() as caught:
        deployed.check_export(place)
    if caught is not None:
        assert caught.value.where == place and "policy_arns" in caught.value.hint
