"""The parameters of infra/template.yaml, but for those that say where the jobs' parts are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dynamodt.aws.stacks import Stack
from dynamodt.aws.table import TablePlace
from dynamodt.control.deploying.deploy_settings import DeploySettings
from dynamodt.control.deploying.deployed import Found, bucket_of
from dynamodt.control.deploying.limits import check_parameters
from dynamodt.control.settings import FILE_NAME, StageSettings, place, read_settings
from dynamodt.errors import UsageError
from dynamodt.model import Stage


def deploy_settings_of(stage: Stage, folder: Path) -> DeploySettings:
    """The stage's `[stages.NAME.deploy]`."""
    return read_settings(folder / FILE_NAME).get(stage.name, StageSettings()).deploy


def parameters(stage: Stage, folder: Path, found: Found) -> dict[str, str]:
    """What dynamodt.toml and the account say. Raises UsageError for a stack of the application that is not there, and
    for a value that is longer than a parameter."""
    settings = deploy_settings_of(stage, folder)
    bucket = bucket_of(stage)
    given = {
        "Stage": stage.name,
        "Bucket": bucket.name,
        "Prefix": bucket.prefix,
        "MakeBucket": _word(found.owns_bucket),
        "StateTable": stage.state_table,
        "MakeStateTable": _word(found.owns_state_table),
        "KmsKey": found.key,
        **_tables(found.tables),
        **_of_jobs(settings),
        "AlarmEmail": settings.alarm_email,
        "Schedule": settings.schedule,
    }
    check_parameters(stage, given)  # before CloudFormation is asked about the application's stacks
    given["ApplicationStackIds"] = ",".join(_stack_ids(stage, settings))
    check_parameters(stage, given)
    return given


def _tables(tables: Mapping[str, TablePlace]) -> dict[str, str]:
    keys = {table.key_arn for table in tables.values() if table.key_arn}
    return {"TableArns": ",".join(table.arn for table in tables.values()), "TableKeyArns": ",".join(sorted(keys))}


def _of_jobs(settings: DeploySettings) -> dict[str, str]:
    return {
        "PolicyArns": ",".join(settings.policy_arns),
        "GlueVersion": settings.glue_version,
        "WorkerType": settings.worker_type,
        "Workers": str(settings.workers),
        "TimeoutMinutes": str(settings.timeout_minutes),
        "ExecutionClass": "FLEX" if settings.flex else "STANDARD",
        "MaxConcurrentRuns": str(settings.max_concurrent_runs),
        "LogDays": str(settings.log_days),
        "RunDays": str(settings.run_days),
    }


def _stack_ids(stage: Stage, settings: DeploySettings) -> Iterable[str]:
    """An event names a stack by its id alone, and a rule compares whole ids: they are looked up here."""
    for name in settings.application_stacks:
        state = Stack(stage.connection, name).state()
        if state is None:
            where = place("stages", stage.name, "deploy", "application_stacks")
            raise UsageError(f"there is no stack {name}", where=where, hint="deploy it first, or correct its name")
        yield state.id


def _word(flag: bool) -> str:
    return "true" if flag else "false"
