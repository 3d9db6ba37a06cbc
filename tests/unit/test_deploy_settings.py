"""`[stages.NAME.deploy]`: every key has its type, and a misspelt one is an error of every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamodt.config.settings import FILE_NAME, DeploySettings, read_settings
from dynamodt.errors import UsageError


def settings(folder: Path, text: str) -> DeploySettings:
    (folder / FILE_NAME).write_text(f"[stages.prod.deploy]\n{text}", encoding="utf-8")
    return read_settings(folder / FILE_NAME)["prod"].deploy


def test_without_settings_the_defaults_apply(tmp_path: Path) -> None:
    assert settings(tmp_path, "") == DeploySettings()
    (tmp_path / FILE_NAME).write_text("[stages.prod]\n")
    assert read_settings(tmp_path / FILE_NAME)["prod"].deploy == DeploySettings()


def test_all_settings_are_read(tmp_path: Path) -> None:
    text = """
glue_version = "5.0"
worker_type = "G.2X"
workers = 50
timeout_minutes = 60
flex = true
max_concurrent_runs = 1
log_days = 30
run_days = 400
alarm_email = "team@example.com"
schedule = "cron(0 3 ? * MON-FRI *)"
application_stacks = ["shop-prod", "billing"]
policy_arns = ["arn:aws:iam::123456789012:policy/countries"]
packages = "wheels"
"""
    assert settings(tmp_path, text) == DeploySettings(
        glue_version="5.0",
        worker_type="G.2X",
        workers=50,
        timeout_minutes=60,
        flex=True,
        max_concurrent_runs=1,
        log_days=30,
        run_days=400,
        alarm_email="team@example.com",
        schedule="cron(0 3 ? * MON-FRI *)",
        application_stacks=("shop-prod", "billing"),
        policy_arns=("arn:aws:iam::123456789012:policy/countries",),
        packages="wheels",
    )


@pytest.mark.parametrize(
    ("line", "key", "told"),
    [
        ("worker = 3", "worker", "did you mean 'workers'?"),
        ("workers = 1", "workers", "from 2 to"),
        ('workers = "10"', "workers", "without quotes"),
        ("workers = true", "workers", "without quotes"),
        ("timeout_minutes = 10081", "timeout_minutes", "10,080"),
        ("log_days = 31", "log_days", "30, 60"),
        ("flex = 1", "flex", "without quotes"),
        ('worker_type = "G.3X"', "worker_type", "G.1X, G.2X"),
        ('worker_type = "G.4X"\nflex = true', "worker_type", "G.1X, G.2X"),
        ('schedule = "rate(1 day)"', "schedule", "cron(0 3 * * ? *)"),
        ('alarm_email = "team"', "alarm_email", "team@example.com"),
        ('application_stacks = "shop"', "application_stacks", '["one", "two"]'),
        ('application_stacks = ["a,b"]', "application_stacks", "shop-prod"),
        ('policy_arns = ["ReadOnly"]', "policy_arns", "arn:aws:iam"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, key: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, line)
    assert caught.value.where == f"dynamodt.toml: stages.prod.deploy.{key}"
    assert told in caught.value.hint
