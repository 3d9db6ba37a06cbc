"""The real names of a stage's tables, looked up when a command opens the stage.

A stack is read once a command, a parameter once, and only for tables that the command needs: those that it names, and
those that their versions write to. Workers and deployed jobs look nothing up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from dynamodt.config.settings import FILE_NAME, place
from dynamodt.dynamodb.clients import account_id, client, explained
from dynamodt.dynamodb.network import Tolerated
from dynamodt.dynamodb.table import list_tables, place_of
from dynamodt.errors import ServiceError, UsageError
from dynamodt.model.runs import Script
from dynamodt.model.tables import LOOKUPS, Connection, Stage, is_elsewhere
from dynamodt.script.names import is_table_name, tables
from dynamodt.script.read import read_versions

_TABLE_TYPES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")


def with_names(stage: Stage, folder: Path, named: Sequence[str] = ()) -> Stage:
    """The stage with the real names of the tables `named`, by either of their names (default: all that have a folder
    in `folder`/transforms), and of those that their versions write to.

    Sends no request unless a name is looked up. Raises UsageError, naming file and key, for a name that cannot be
    found, a table in another account or region, and for two logical names of one table; ServiceError.
    """
    names = stage.names
    if not names.mapped:
        return stage
    here = set(tables(folder / "transforms", needed=False))
    lookups = _Lookups(stage)
    known = _found(lookups, here | names.sources.keys(), set(named or here))
    chosen = {logical for logical, real in known.items() if {logical, real} & set(named or here)}
    targets = {target for logical in chosen for target in _targets(folder, logical)}
    targets -= {*known.values()}
    known |= _found(lookups, targets - known.keys(), targets)
    _check_distinct(stage, known)
    elsewhere = [name for name in sorted(names.roles) if is_elsewhere(known.get(name, ""))]
    roles = tuple((known[name], names.roles[name]) for name in elsewhere)
    connection = replace(stage.connection, table_roles=roles)
    return replace(stage, connection=connection, names=replace(names, known=known))


def _found(lookups: _Lookups, logical: set[str], wanted: set[str]) -> dict[str, str]:
    """The real names by logical name: all that need no lookup, and all that are wanted."""
    names = lookups.stage.names
    sources = {name: names.source(name) for name in sorted(logical)}
    known = {name: source for name, source in sources.items() if not source.startswith(LOOKUPS)}
    others = wanted - logical - set(known.values())
    looked_up = sources if others else wanted & logical  # another one may be the real name of any
    known |= {name: lookups.real(name, sources[name]) for name in sorted(looked_up)}
    others -= set(known.values())
    return known | {name: lookups.real(name, names.source(name)) for name in sorted(others)}


def tables_in_use(folder: Path) -> tuple[str, ...]:
    """The logical names of the tables that have a folder, and of those that their versions write to, sorted."""
    return with_targets(folder, tables(folder / "transforms", needed=False))


def with_targets(folder: Path, named: Sequence[str]) -> tuple[str, ...]:
    """Tables, and those that their versions write to, by logical name, sorted."""
    return tuple(sorted({*named, *(target for logical in named for target in _targets(folder, logical))}))


def named_in(script: Script, folder: Path) -> list[str]:
    """The tables whose logical names are written in a script, or in a module that it uses."""
    texts = [script.text, *(file.content.decode() for file in script.files if file.name.endswith(".py"))]
    return [name for name in tables_in_use(folder) if any(name in text for text in texts)]


def _targets(folder: Path, logical: str) -> set[str]:
    """The tables that the versions of a table write to; none for a folder with an error, which the command for that
    table reports."""
    with suppress(UsageError):
        scripts = read_versions(folder / "transforms", logical)
        return {script.target_table for script in scripts if script.target_table}
    return set()


def _check_distinct(stage: Stage, known: dict[str, str]) -> None:
    """Raises UsageError for two logical names of one table: each would have versions of its own for the same items."""
    seen: dict[str, str] = {}
    for logical, real in sorted(known.items()):
        first = seen.setdefault(real, logical)
        if first != logical:
            hint = "give one of them another name, or put the versions of both in one folder"
            what = f"{first} and {logical} are the same table, {real}"
            listed = logical if logical in stage.names.sources else first  # the pattern, if any, names neither alone
            raise UsageError(what, where=name_place(stage, listed), hint=hint)


def check_patterned(stage: Stage, folder: Path, named: Sequence[str]) -> None:
    """Raises UsageError for a table without a folder if the pattern `table_name` makes the name of no table from it,
    and a table of the given name exists. Sends no request for any other."""
    for name in named:
        made = stage.names.real(name)
        known = made == name or name in stage.names.sources or (folder / "transforms" / name).is_dir()
        if known or _exists(stage, made) or not _exists(stage, name):
            continue
        what = (
            f"{name} is a logical name here, and means the table {made}, which does not exist; a table whose real name "
            f"is {name} exists"
        )
        hint = f'give it a logical name: NAME = "{name}" under [stages.{stage.name}.tables], and --table NAME'
        raise UsageError(what, where=name_place(stage, name), hint=hint)


def _exists(stage: Stage, table: str) -> bool:
    """Whether a table exists, as far as the caller may see it."""
    with suppress(ServiceError):
        return place_of(stage.connection, table) is not None
    return False


def name_place(stage: Stage, logical: str) -> str:
    """The place of a table's name, as an error's `where`."""
    if logical in stage.names.offered and logical not in stage.names.sources:
        return f"table {logical}, as serverless-dynamodt gives it"
    keys = ("tables", logical) if logical in stage.names.sources else ("table_name",)
    return place("stages", stage.name, *keys)


# ---------------------------------------------------------------- looking names up


@dataclass
class _Lookups:
    """The lookups of one command. Each stack and each parameter is read once."""

    stage: Stage
    _stacks: dict[str, _Stack] = field(default_factory=dict)
    _parameters: dict[str, str] = field(default_factory=dict)

    def real(self, logical: str, source: str) -> str:
        """The real name of a table. Raises UsageError, naming its key."""
        where = name_place(self.stage, logical)
        if source.startswith("cfn:"):
            source = self._of_stack(source.removeprefix("cfn:"), where)
        elif source.startswith("ssm:"):
            source = self._of_parameter(source.removeprefix("ssm:"), where)
        if source.startswith("arn:"):
            source = self._of_arn(logical, source, where)
        if not is_elsewhere(source) and not is_table_name(source):
            hint = "a table's name has 3 to 255 characters out of a-z, A-Z, 0-9, '_', '-' and '.'"
            raise UsageError(f"{source!r} is not the name of a DynamoDB table", where=where, hint=hint)
        return source

    def _of_stack(self, path: str, where: str) -> str:
        name, _, key = path.partition(".")
        stack = self._stacks.setdefault(name, _Stack(self.stage.connection, name))
        return stack.outputs(where).get(key) or stack.table(key, where)

    def _of_parameter(self, name: str, where: str) -> str:
        if name in self._parameters:
            return self._parameters[name]
        with explained("GetParameter", where), Tolerated("ParameterNotFound"):
            found = client(self.stage.connection, "ssm").get_parameter(Name=name, WithDecryption=True)
            return self._parameters.setdefault(name, str(found["Parameter"]["Value"]).strip())
        hint = f"create it in {self.stage.connection.region}, or write the table's name"
        raise UsageError(f"there is no parameter {name}", where=where, hint=hint)

    def _of_arn(self, logical: str, arn: str, where: str) -> str:
        """The table's name, or its ARN if it is in another account or region than the stage. Raises UsageError for one
        of another account without a role there: PartiQL, by which items are written, takes no table of another account
        ("DynamoDB API operations supported by resource-based policies")."""
        region, account, resource = arn.split(":", 5)[3:]
        name = resource.removeprefix("table/").partition("/")[0]
        here = self.stage.connection.region, self._account
        if (region, account) == here:
            return name
        if account != here[1] and logical not in self.stage.names.roles:
            what = f"the table is in account {account}, and the stage in account {here[1]}"
            hint = (
                f'name a role of that account which may use the table: {logical} = {{ name = "{arn}", role_arn = '
                f'"arn:aws:iam::{account}:role/NAME" }}; or add a stage to {FILE_NAME} with the region, a role_arn (or '
                "profile) and a storage of that account"
            )
            raise UsageError(what, where=where, hint=hint)
        return f"{arn.rpartition(':')[0]}:table/{name}"

    @cached_property
    def _account(self) -> str:
        return account_id(self.stage.connection)


class _Stack:
    """The outputs and the tables of one stack, each read when it is first needed."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._cloudformation = client(connection, "cloudformation")
        self._region = connection.region
        self._name = name
        self._outputs: dict[str, str] | None = None
        self._tables: dict[str, str] | None = None

    def outputs(self, where: str) -> dict[str, str]:
        """The outputs by their keys. Raises UsageError for a stack that does not exist."""
        if self._outputs is None:
            with explained("DescribeStacks", where):
                stack = self._described(where)
            self._outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", ())}
        return self._outputs

    def _described(self, where: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._cloudformation.describe_stacks(StackName=self._name)["Stacks"][0]
            return found
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            hint = f"deploy it first, or write the table's name; the stack is looked for in {self._region}"
            raise UsageError(f"there is no stack {self._name}", where=where, hint=hint) from None

    def table(self, logical_id: str, where: str) -> str:
        """The name of the table with that logical id. Raises UsageError if the stack has no such table."""
        if self._tables is None:
            pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self._name)
            with explained("ListStackResources", where):
                found = [one for page in pages for one in page["StackResourceSummaries"]]
            self._tables = dict(_tables_of(found))
        if logical_id not in self._tables:
            named = ", ".join([*self.outputs(where), *self._tables]) or "nothing"
            what = f"the stack {self._name} has neither an output nor a table {logical_id}"
            raise UsageError(what, where=where, hint=f"it has {named}")
        return self._tables[logical_id]


def _tables_of(resources: Iterable[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    for one in resources:
        exists = one.get("PhysicalResourceId") and not one["ResourceStatus"].startswith("DELETE")
        if exists and one["ResourceType"] in _TABLE_TYPES:
            yield one["LogicalResourceId"], one["PhysicalResourceId"]


def logical_names(stage: Stage, folder: Path) -> Iterator[str]:
    """The logical names of the stage's tables, without tables whose names its pattern cannot make."""
    names = with_names(stage, folder, tuple(stage.names.sources)).names
    head, _, tail = names.pattern.partition("{table}")
    for real in list_tables(stage.connection):
        if real not in stage.state_tables and real in names.known.values():
            yield names.logical(real)
        elif real not in stage.state_tables and real.startswith(head) and real.endswith(tail):
            yield real.removeprefix(head).removesuffix(tail)
