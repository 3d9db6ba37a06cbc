"""The reports of `deploy` and `destroy`, and the question before a deletion."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from prompt_toolkit.input import PipeInput
from rich.console import Console

from dynamodt.cli import short_reports
from dynamodt.cli.questions import confirm_removal as confirm
from dynamodt.cli.request import Request
from dynamodt.deploy.deploy import Deployment, _one_change_each
from dynamodt.deploy.destroy import Removal
from dynamodt.deploy.stacks import ResourceChange
from dynamodt.errors import Refused, UsageError
from dynamodt.runs.options import RunOptions

ADDED = ResourceChange("Add", "Storage", "AWS::S3::Bucket", False)
REPLACED = ResourceChange("Modify", "MigrateJob", "AWS::Glue::Job", True)
MAILED = ResourceChange("Add", "AlarmsByEmail", "AWS::SNS::Subscription", False)
REQUEST = Request("deploy", "prod")
PLANNED = Removal("dynamodt-prod", "dry-run", ("stack dynamodt-prod",), ("bucket files",))


def shown(made: Deployment, request: Request = REQUEST) -> str:
    console = Console(file=io.StringIO(), width=120)
    short_reports.print_deployment(console, request, made)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_deployment_shows_its_changes_its_outputs_and_the_next_step() -> None:
    text = shown(Deployment("dynamodt-prod", "updated", (ADDED, REPLACED), {"StorageUrl": "s3://files/"}))
    assert "dynamodt-prod  is updated" in text and "+ Storage  AWS::S3::Bucket" in text
    assert "~ MigrateJob  AWS::Glue::Job  is replaced" in text
    assert "StorageUrl  s3://files/" in text
    assert "dynamodt up --stage prod --runner glue" in text and "mail" not in text


def test_an_alarm_address_that_must_confirm_is_mentioned() -> None:
    made = Deployment("dynamodt-prod", "created", (MAILED,), {"AlarmsTo": "team@example.com"})
    assert "a mail to team@example.com: alarms are sent there" in shown(made)
    assert "a mail to" not in shown(replace(made, changes=()))


def test_a_dry_run_suggests_the_command_only_if_there_are_changes() -> None:
    request = replace(REQUEST, options=RunOptions(dry_run=True))
    assert "dynamodt deploy --stage prod  deploy it" in shown(Deployment("s", "dry-run", (ADDED,), {}), request)
    assert "next" not in shown(Deployment("s", "dry-run", (), {}), request)


def test_a_resource_is_listed_once() -> None:
    assert _one_change_each((ADDED, MAILED, ADDED._replace(action="Modify"))) == (ADDED, MAILED)


# ---------------------------------------------------------------- asking


@pytest.mark.parametrize(("typed", "done"), [("y", True), ("n", False), ("\r", False), ("\x03", False)])
def test_a_removal_without_data_asks_one_question(keys: PipeInput, typed: str, done: bool) -> None:
    keys.send_text(typed)
    answered(Request("destroy", "prod"), done)


@pytest.mark.parametrize(("typed", "done"), [("prod\r", True), ("y\r", False), ("pro\r", False), ("\r", False)])
def test_a_removal_of_data_is_confirmed_by_the_stage_s_name(keys: PipeInput, typed: str, done: bool) -> None:
    keys.send_text(typed)
    answered(Request("destroy", "prod", purge=True), done)


def answered(request: Request, done: bool) -> None:
    if done:
        confirm(request, PLANNED)
        return
    with pytest.raises(Refused, match="nothing was deleted") as caught:
        confirm(request, PLANNED)
    assert caught.value.exit_code == 3


def test_with_yes_no_question_is_asked() -> None:
    confirm(Request("destroy", "prod", yes=True, purge=True), PLANNED)


@pytest.mark.usefixtures("keys")
def test_without_a_terminal_no_question_is_asked() -> None:
    with pytest.raises(UsageError, match="no terminal"):
        confirm(Request("destroy", "prod", json=True), PLANNED)
