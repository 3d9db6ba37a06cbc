"""What is asked before a run starts: whether its tables can be brought back, and whether the script fits the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from shlex import join

from dynamodt.aws.backups import has_point_in_time_recovery
from dynamodt.control.planner import Step, TablePlan, moves_items
from dynamodt.control.requests import Observer, RunOptions
from dynamodt.control.running.catching_up import check_export
from dynamodt.control.running.exporting import EXPORT
from dynamodt.core.started_with import key_told
from dynamodt.errors import Refused, ServiceError
from dynamodt.model import Connection, Stage


def refuse_unsafe(stage: Stage, planned: TablePlan, options: RunOptions) -> None:
    """Raises Refused for a script that was written for another key, one whose mark would overwrite a key, one that
    cannot do without the journal or that an export would mislead, and a table of a protected stage that could not be
    brought back. Only the last asks the service anything."""
    for step in planned.steps:
        _check_key(planned, step)
        _check_stamp(planned, step)
        _check_journal(step, options)
        if moves_items(step.script, planned.direction) and (options.source or step.script.source) == EXPORT:
            check_export(step.script, options.catch_up)
    targets = [step.target.name for step in planned.steps if step.target]
    check_recovery(stage, [planned.table.name, *targets], options)


def check_recovery(stage: Stage, tables: Sequence[str], options: RunOptions) -> None:
    """Raises Refused for a table of a protected stage that could not be brought back."""
    if stage.protected and not options.dry_run and not options.no_pitr:
        for table in dict.fromkeys(tables):
            _check_recovery(stage.connection, table)


def note_other_key(stage: Stage, planned: TablePlan, observer: Observer) -> None:
    """Tell when dynamodt.toml gives a table of the embedded stage another key than it was created with."""
    table, wanted = planned.table, stage.tables.get(planned.table.name)
    if wanted and wanted != table.key:
        observer.note(
            f"table {table.name} has the key {key_told(table.key)}, while dynamodt.toml says {key_told(wanted)}: "
            "a table is created once and then left as it is (`dynamodt local reset` deletes all of them, "
            "with their items)"
        )


def _check_key(planned: TablePlan, step: Step) -> None:
    script, table = step.script, planned.table
    if script.key and script.key != table.key:
        raise Refused(
            f"the script was written for the key {key_told(script.key)}, "
            f"and table {table.name} has {key_told(table.key)}",
            where=script.path,
            hint="check the stage and the folder's name, which is the table's; or correct KEY in the script",
        )


def _check_stamp(planned: TablePlan, step: Step) -> None:
    """A mark in a key attribute would move the item; in an index's, the service rejects it or the index changes."""
    stamp = step.script.stamp
    for table in filter(None, (planned.table, step.target)):
        kind = "key" if stamp in table.key_names else "key of an index" if stamp in table.index_keys else ""
        if kind:
            raise Refused(
                f"STAMP names {json.dumps(stamp, ensure_ascii=False)}, which is a {kind} of table {table.name}",
                where=step.script.path,
                hint='name an attribute that nothing else uses: STAMP = "_dynamodt"',
            )


def _check_journal(step: Step, options: RunOptions) -> None:
    if options.journal is False and not step.script.idempotent:
        raise Refused(
            f"version {step.script.sequence} needs its journal: by it a run that died knows which items are done",
            where=step.script.path,
            hint="leave out --no-journal; or set IDEMPOTENT = True, if a second application harms nothing",
        )


def _check_recovery(connection: Connection, table: str) -> None:
    where = f"table {table}"
    try:
        if has_point_in_time_recovery(connection, table):
            return
    except ServiceError as error:
        raise Refused(
            f"the stage is protected, and whether point-in-time recovery is on cannot be read: {error.what}",
            where=where,
            hint="allow dynamodb:DescribeContinuousBackups on the table to who runs dynamodt, or pass --no-pitr",
        ) from error
    raise Refused(
        "the stage is protected, and point-in-time recovery is off",
        where=where,
        hint=f"turn it on: {_turn_on(connection, table)} (or pass --no-pitr)",
    )


def _turn_on(connection: Connection, table: str) -> str:
    words = ["aws", "dynamodb", "update-continuous-backups", "--table-name", table, "--region", connection.region]
    words += ["--point-in-time-recovery-specification", "PointInTimeRecoveryEnabled=true"]
    words += ["--profile", connection.profile] if connection.profile else []
    return join(words + (["--endpoint-url", connection.endpoint_url] if connection.endpoint_url else []))
