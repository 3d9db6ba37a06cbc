"""A start of a job whose answer is lost: the run that came of it, or none; never one that was there before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from dynamodt.deploy.glue_runs import GlueJob
from dynamodt.deploy.on_glue import DeployedJob
from dynamodt.errors import ServiceError
from dynamodt.model.tables import Connection

ARGUMENTS = {"--command": "up"}
STATES = ("stopping", "starting")  # of runs that are called so


class Glue:
    """Loses the answer to a start, which has `arrived` or not."""

    def __init__(self, arrived: bool, *before: str) -> None:
        self._arrived = arrived
        self._runs = [_run(name) for name in before]

    def start_job_run(self, JobName: str, Arguments: Mapping[str, str]) -> dict[str, Any]:  # noqa: N803
        if self._arrived:
            self._runs.insert(0, _run("new"))
        raise ConnectionClosedError(endpoint_url="glue")

    def get_job_runs(self, JobName: str, MaxResults: int) -> dict[str, Any]:  # noqa: N803
        return {"JobRuns": list(self._runs)}


def _run(name: str) -> dict[str, Any]:
    return {"Id": name, "JobRunState": name.upper() if name in STATES else "RUNNING", "Arguments": ARGUMENTS}


def job(glue: Glue, monkeypatch: pytest.MonkeyPatch) -> GlueJob:
    monkeypatch.setattr("dynamodt.deploy.glue_runs.client", lambda *words, **options: glue)
    return GlueJob(Connection("us-east-1"), "dynamodt-prod")


@pytest.mark.parametrize("before", [(), ("old",), ("older", "old")])
def test_the_run_that_came_of_it_is_found(before: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert job(Glue(True, *before), monkeypatch).start(ARGUMENTS) == "new"


@pytest.mark.parametrize("before", [(), ("old",), ("older", "old")])
def test_an_earlier_run_is_not_taken_for_it(before: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceError):
        job(Glue(False, *before), monkeypatch).start(ARGUMENTS)


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
    found = deployed.at_work()
    assert (found.id if found else None) == followed
    assert deployed._winding_up() == ("stopping" in runs)


class NoAnswers:
    def read(self, run: str) -> None:
        return None
