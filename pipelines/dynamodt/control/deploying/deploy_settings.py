"""`[stages.NAME.deploy]`: what `dynamodt deploy` makes for a stage, apart from what the stage is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dynamodt.control.toml_values import as_choice, as_flag, as_number, as_text, as_texts, check_keys, place
from dynamodt.errors import UsageError

_WORKER_TYPES = ("G.1X", "G.2X", "G.4X", "G.8X", "G.12X", "G.16X", "R.1X", "R.2X", "R.4X", "R.8X")
_FLEXIBLE = ("G.1X", "G.2X")
# the ones that CloudWatch Logs knows
_LOG_DAYS = 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
_LONGEST_MINUTES = 10_080  # Glue's own limit: a week
_MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """How a stage's jobs run, and who hears of them; `infra/template.yaml` says more of each.

    `run_days` 0 keeps journals and dead letters for ever; an empty `schedule`, and no `application_stacks`: nothing
    runs by itself.
    """

    glue_version: str = "5.1"
    worker_type: str = "G.1X"
    workers: int = 10
    timeout_minutes: int = 2880
    flex: bool = False
    max_concurrent_runs: int = 3
    log_days: int = 90
    run_days: int = 0
    alarm_email: str = ""
    schedule: str = ""
    application_stacks: tuple[str, ...] = ()
    policy_arns: tuple[str, ...] = ()


def deploy_settings(values: dict[str, Any], path: str) -> DeploySettings:
    """The settings of a table at `path`. Raises UsageError, naming the key."""
    check_keys(values, _READERS, path)
    settings = DeploySettings(**{key: _READERS[key](value, f"{path}.{key}") for key, value in values.items()})
    if settings.flex and settings.worker_type not in _FLEXIBLE:
        hint = f"with flex = true, choose one of: {', '.join(_FLEXIBLE)}"
        raise UsageError(f"{settings.worker_type} is not for FLEX", where=place(path, "worker_type"), hint=hint)
    return settings


def _whole(least: int, most: int = _MANY) -> Callable[[object, str], int]:
    return lambda value, path: as_number(value, path, least, most)


def _log_days(value: object, path: str) -> int:
    days = as_number(value, path, _LOG_DAYS[0], _LOG_DAYS[-1])
    if days not in _LOG_DAYS:
        hint = f"one of: {', '.join(map(str, _LOG_DAYS))}"
        raise UsageError(f"cannot be {days}", where=place(path), hint=hint)
    return days


def _matching(pattern: str, example: str) -> Callable[[object, str], str]:
    def read(value: object, path: str) -> str:
        text = as_text(value, path)
        if not re.fullmatch(pattern, text):
            raise UsageError(f"cannot be {text!r}", where=place(path), hint=f"write it like this: {example}")
        return text

    return read


_email = _matching(r"[^@\s,]+@[^@\s,]+", '"team@example.com"')
_schedule = _matching(r"cron\((\S+ ){5}\S+\)", '"cron(0 3 * * ? *)", in UTC')
_stack_name = _matching(r"[A-Za-z][A-Za-z0-9-]{0,127}", '["shop-prod"]')
_policy_arn = _matching(r"arn:[^,\s]+:policy/[^,\s]+", '["arn:aws:iam::123456789012:policy/read-countries"]')

_READERS: dict[str, Callable[[object, str], Any]] = {
    "glue_version": _matching(r"\d+\.\d+", '"5.1"'),
    "worker_type": lambda value, path: as_choice(value, path, _WORKER_TYPES),
    "workers": _whole(2),
    "timeout_minutes": _whole(1, _LONGEST_MINUTES),
    "flex": as_flag,
    "max_concurrent_runs": _whole(1),
    "log_days": _log_days,
    "run_days": _whole(0),
    "alarm_email": _email,
    "schedule": _schedule,
    "application_stacks": lambda value, path: tuple(_stack_name(one, path) for one in as_texts(value, path)),
    "policy_arns": lambda value, path: tuple(_policy_arn(one, path) for one in as_texts(value, path)),
}
