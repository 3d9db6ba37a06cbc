"""What of a deployed stage was deleted by hand: named before anything is changed, with the way to heal it.

`deploy` heals what loses nothing by that: a bucket, the jobs and what starts them. A state table is made anew where
DynamoDB has no backup of it; until its history is brought back or stamped, nothing may run by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynamodt.aws.backups import latest_backup
from dynamodt.aws.existing import is_gone
from dynamodt.aws.keys import key_facts
from dynamodt.aws.stacks import Stack
from dynamodt.errors import Refused
from dynamodt.model import Stage

OF_JOBS = ("MigrateJob", "PrepareJob", "OnSchedule", "AfterDeploy", "OnEvent", "ApplicationUpdated", "EventRole")
_UNUSABLE = {
    "Disabled": "aws kms enable-key --key-id {key}",
    "PendingDeletion": "aws kms cancel-key-deletion --key-id {key}, then aws kms enable-key --key-id {key}",
}


@dataclass(frozen=True, slots=True)
class Drift:
    """What is gone: the state table, the bucket, and, by their names in the template, jobs and what starts them."""

    state_table: bool = False
    bucket: bool = False
    jobs: tuple[str, ...] = ()

    @property
    def resources(self) -> tuple[str, ...]:
        """All of it, by its names in the template."""
        lasting = {"State": self.state_table, "Storage": self.bucket}
        return (*(name for name, gone in lasting.items() if gone), *self.jobs)


def gone_resources(stage: Stage, stack: Stack, own: Mapping[str, str]) -> tuple[str, ...]:
    """The jobs, and what starts them, that are not there any more. Raises Refused for another resource that is gone."""
    kinds = stack.kinds()
    gone = [name for name, kind in kinds.items() if is_gone(stage.connection, kind, own.get(name, ""))]
    others = [f"{name} ({kinds[name]} {own[name]})" for name in gone if name not in OF_JOBS]
    if others:
        hint = f"dynamodt destroy --stage {stage.name} (the data stays), then dynamodt deploy --stage {stage.name}"
        raise Refused(f"deleted by hand: {', '.join(others)}", where=stack.where, hint=hint)
    return tuple(gone)


def check_key(stage: Stage, key: str, stack: Stack) -> None:
    """Raises Refused for a key that nothing can be encrypted with."""
    found = key_facts(stage.connection, key)
    if found is None:
        hint = "what it has encrypted cannot be read; name another one for what comes: kms_key, in dynamodt.toml"
        raise Refused(f"the key {key} is gone", where=stack.where, hint=hint)
    if found.state in _UNUSABLE:
        hint = f"{_UNUSABLE[found.state].format(key=found.arn)}; then deploy again"
        raise Refused(
            f"the key {found.arn} is {found.state}: nothing can be written with it", where=stack.where, hint=hint
        )


def check_history(stage: Stage, starts_by_itself: bool) -> None:
    """What must be before a state table that is gone is made anew. Raises Refused."""
    name, where = stage.state_table, f"state table {stage.state_table}"
    backup = latest_backup(stage.connection, name)
    if backup:
        command = f"aws dynamodb restore-table-from-backup --target-table-name {name} --backup-arn {backup}"
        hint = f"there is a backup of it: {command}; once it is ACTIVE, deploy again"
        raise Refused("it was deleted by hand, with the history of what is applied", where=where, hint=hint)
    if starts_by_itself:
        hint = (
            "remove schedule and application_stacks from dynamodt.toml, deploy, say what is applied (dynamodt stamp), "
        )
        what = "it was deleted by hand; made anew it knows of no version, and the next start by itself would apply all"
        raise Refused(what, where=where, hint=f"{hint}put them back, and deploy again")


def told(stage: Stage, stack: Stack, drift: Drift, bucket: str) -> list[str]:
    """What is gone and is made anew, a line for each."""
    lines = [f"{name} of {stack.name} was deleted by hand: it is made anew" for name in drift.jobs]
    if drift.bucket:
        lines.append(f"the bucket {bucket} was deleted by hand, with its journals and dead letters: it is made anew")
    if drift.state_table:
        stamp = f"dynamodt stamp --stage {stage.name} --table TABLE --to N"
        lines.append(
            f"the state table {stage.state_table} was deleted by hand, with the history: it is made anew, and is empty;"
            f" before the next `up`, say of each table which versions are applied: {stamp}"
        )
    return lines
