"""What a job in AWS has answered, as the reports of a command that ran here: `shapes` read backwards. What the answer
leaves out, since it ends in a log, is read from the stage's storage.

A job may run another release: names that are not known are passed over, and only those without which a report would say
something wrong (versions, runs, statuses, counts) must be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dynamodt import __version__
from dynamodt.deploy.packages import build
from dynamodt.errors import DeadLetters, DynamodtError, Refused, RunFailed, UsageError
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import Cost, NotRestored, RunReport, UndoReport
from dynamodt.model.runs import INSERTED_ROWS, PreparedRef, Script
from dynamodt.runs.dead_letters import first_of, samples_under
from dynamodt.state.object_keys import dead_letters_of, samples_of
from dynamodt.state.phases import phases

if TYPE_CHECKING:
    from dynamodt.state.state import State
    from dynamodt.state.storage import Storage

Document = dict[str, Any]
_KINDS: dict[int, type[DynamodtError]] = {2: UsageError, 3: Refused}


RELEASE, BUILD = "release", "build"


def of_this_release(document: Document) -> Document:
    """The document with the release and the build that have made it."""
    return {**document, RELEASE: __version__, BUILD: build()}


def other_release(document: Document) -> str:
    """The note about a job that runs another release than this command, or another build of the same; empty where it
    runs the same, or where the document names neither."""
    release = document.get(RELEASE, __version__)
    if release != __version__:
        return f"the job runs release {release} of dynamodt, and this command is {__version__}"
    if RELEASE not in document or document.get(BUILD) == build():
        return ""
    return f"the job runs another build of dynamodt {release} than this command"


@contextmanager
def understood(where: str) -> Iterator[None]:
    """Raises RunFailed where a document has another form than any that is known: `where` is the job's run."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        hint = "`dynamodt status` and `dynamodt history` say what was done; `dynamodt deploy` brings the job up to date"
        what = f"the job's answer cannot be read ({type(error).__name__}: {error})"
        raise RunFailed(what, where=where, hint=hint) from error


def told_error(document: Document, dead: bool = False) -> DynamodtError | None:
    """The error of a document that has one, with the exit code that it had there; `dead`: dead letters are left."""
    told = document.get("error")
    if told is None:
        return None
    kind = _KINDS.get(told.get("exit_code", 1), DeadLetters if dead else RunFailed)
    of_run = {"run": told["run"]} if kind is Refused and "run" in told else {}
    hint = told.get("hint", "").replace("--runner spark", "--runner glue")
    return kind(told.get("what", "the job has failed"), where=told.get("where", ""), hint=hint, **of_run)


def runs_of(table: Document) -> list[RunReport]:
    """The runs of one table of the document that `up` and `down` print."""
    return [_run(table["table"], table["direction"], version) for version in table.get("versions", ())]


def undo_of(document: Document) -> UndoReport:
    """The report of the document that `undo` prints."""
    left = document.get("left", {})
    run = _run(document["table"], document["direction"], document)
    return UndoReport(
        run=replace(run, rehearsal=run.status == "dry-run"),
        at=document["at"],
        left=left.get("items", 0),
        not_restored_at=left.get("file", ""),
        first_not_restored=tuple(_left_item(one) for one in left.get("first", ())),
        error=told_error(document),
        partly=document.get("restored", {}).get("partly", 0),
        missing=document.get("missing_parts", 0),
    )


def _left_item(told: Document) -> NotRestored:
    attributes, restored = (tuple(told.get(name, ())) for name in ("attributes", "restored"))
    return NotRestored(told["key"], attributes, told.get("why", ""), restored)


def prepared_of(document: Document) -> PreparedRef:
    """The reference in the document that `prepare` prints."""
    names = ("url", "rows", "sha256", "script_checksum", "created")
    return PreparedRef(**{name: document[name] for name in names})


def in_full(
    run: RunReport, state: State, storage: Storage, scripts: Sequence[Script], key_names: tuple[str, ...], dry_run: bool
) -> RunReport:
    """A report with what a person is shown of a run here, and what no log may hold."""
    record = state.run(run.table, run.run)
    ids = [one.run for one in phases(record)] if record else [run.run, run.run + INSERTED_ROWS]
    path = next((script.path for script in scripts if script.sequence == run.version), "")
    dead_letters = storage.read(dead_letters_of(run.table, run.run)) if run.dead_letters else None
    return replace(
        run,
        journal=record is not None and record.journal,
        samples=samples_under(storage, [samples_of(run.table, one) for one in ids]),
        first_dead_letter=first_of(dead_letters or b"", path),
        key_names=key_names,
        rehearsal=dry_run,
    )


def _run(table: str, direction: Any, told: Document) -> RunReport:
    error = told.get("error")
    return RunReport(
        table=table,
        direction=direction,
        version=told["version"],
        name=told.get("name", ""),
        run=told["run"],
        status=told["status"],
        counts=Counts(**_known(Counts._fields, told["counts"])),
        consumed=Units(**_known(Units._fields, told.get("consumed", {}))),
        seconds=told.get("seconds", 0.0),
        error=error.get("what", "the run has failed") if error else "",
        dead_letters=told.get("dead_letters", ""),
        uncovered=told.get("uncovered_since", ""),
        cost=_cost(told["cost"]) if "cost" in told else None,
    )


def _known(names: Sequence[str], told: Document) -> Document:
    """Of what another release may tell, what this one knows."""
    return {name: told[name] for name in names if name in told}


def _cost(told: Document) -> Cost:
    usd, requests = told.get("usd"), told.get("s3_requests", {})
    prices = ((usd["low"], usd["high"]), usd.get("as_of", "")) if usd else (None, "")
    amounts = (told.get("wcu", 0.0), told.get("wcu_most", 0.0), told.get("rcu", 0.0))
    return Cost(*amounts, requests.get("put", 0), requests.get("get", 0), told.get("export_bytes", 0), *prices)


def dead_letters_in(document: Document) -> int:
    """How many items are dead in all that a document tells of."""
    told = [version for table in document.get("tables", ()) for version in table["versions"]]
    told += [document] if "counts" in document else []
    return sum(int(one["counts"]["dead"]) for one in told)
