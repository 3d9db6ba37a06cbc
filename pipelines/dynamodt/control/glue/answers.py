"""What a job in AWS has answered, as the reports of a command that ran here: `shapes` read backwards. What the answer
leaves out, since it ends in a log, is read from the stage's storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dynamodt import __version__
from dynamodt.aws.state import State
from dynamodt.aws.storage import Storage
from dynamodt.control.running.dead_letters import first_of
from dynamodt.control.running.steps import samples_under
from dynamodt.core.passes import passes
from dynamodt.core.places import dead_letters_of, samples_of
from dynamodt.errors import DeadLetters, DynamodtError, Refused, RunFailed, UsageError
from dynamodt.model import OWN_ITEMS, Cost, Counts, LeftItem, PreparedRef, RunReport, Script, UndoReport, Units

Document = dict[str, Any]
_KINDS: dict[int, type[DynamodtError]] = {2: UsageError, 3: Refused}


RELEASE = "release"


def other_release(document: Document) -> str:
    """What is to be said of a job that runs another release than this command; nothing where it runs the same."""
    told = document.get(RELEASE, __version__)
    return "" if told == __version__ else f"the job runs release {told} of dynamodt, and this command is {__version__}"


def told_error(document: Document, dead: bool = False) -> DynamodtError | None:
    """The error of a document that has one, with the exit code that it had there; `dead`: dead letters are left."""
    told = document.get("error")
    if told is None:
        return None
    kind = _KINDS.get(told["exit_code"], DeadLetters if dead else RunFailed)
    return kind(told["what"], where=told["where"], hint=told["hint"].replace("--runner spark", "--runner glue"))


def runs_of(table: Document) -> list[RunReport]:
    """The runs of one table of the document that `up` and `down` print."""
    return [_run(table["table"], table["direction"], version) for version in table["versions"]]


def undo_of(document: Document) -> UndoReport:
    """The report of the document that `undo` prints."""
    left = document["left"]
    run = _run(document["table"], document["direction"], document)
    first = tuple(
        LeftItem(one["key"], tuple(one["attributes"]), one["why"], tuple(one.get("restored", ())))
        for one in left["first"]
    )
    run = replace(run, rehearsal=run.status == "dry-run")
    return UndoReport(
        run,
        document["at"],
        left["items"],
        left["file"],
        first,
        told_error(document),
        document["restored"]["partly"],
        document["missing_parts"],
    )


def prepared_of(document: Document) -> PreparedRef:
    """The reference in the document that `prepare` prints."""
    names = ("url", "rows", "sha256", "script_checksum", "created")
    return PreparedRef(**{name: document[name] for name in names})


def in_full(
    run: RunReport, state: State, storage: Storage, scripts: Sequence[Script], key_names: tuple[str, ...], dry_run: bool
) -> RunReport:
    """A report with what a person is shown of a run here, and what no log may hold."""
    record = state.run(run.table, run.run)
    ids = [one.run for one in passes(record)] if record else [run.run, run.run + OWN_ITEMS]
    path = next((script.path for script in scripts if script.sequence == run.version), "")
    letters = storage.read(dead_letters_of(run.table, run.run)) if run.dead_letters else None
    return replace(
        run,
        journal=record is not None and record.journal,
        samples=samples_under(storage, [samples_of(run.table, one) for one in ids]),
        first_dead_letter=first_of(letters or b"", path),
        key_names=key_names,
        rehearsal=dry_run,
    )


def _run(table: str, direction: Any, told: Document) -> RunReport:
    error = told.get("error")
    return RunReport(
        table=table,
        direction=direction,
        version=told["version"],
        name=told["name"],
        run=told["run"],
        status=told["status"],
        counts=Counts(**_known(Counts._fields, told["counts"])),
        consumed=Units(**_known(Units._fields, told["consumed"])),
        seconds=told["seconds"],
        error=error["what"] if error else "",
        dead_letters=told.get("dead_letters", ""),
        uncovered=told.get("uncovered_since", ""),
        cost=_cost(told["cost"]) if "cost" in told else None,
    )


def _known(names: Sequence[str], told: Document) -> Document:
    """Of what another release may tell, what this one knows."""
    return {name: told[name] for name in names if name in told}


def _cost(told: Document) -> Cost:
    usd, requests = told["usd"], told["s3_requests"]
    prices = ((usd["low"], usd["high"]), usd["as_of"]) if usd else (None, "")
    amounts = (told["wcu"], told["wcu_most"], told["rcu"])
    return Cost(*amounts, requests["put"], requests["get"], told["export_bytes"], *prices)


def dead_letters_in(document: Document) -> int:
    """How many items are dead in all that a document tells of."""
    told = [version for table in document.get("tables", ()) for version in table["versions"]]
    told += [document] if "counts" in document else []
    return sum(int(one["counts"]["dead"]) for one in told)
