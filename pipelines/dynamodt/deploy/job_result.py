"""Converts the answer of a job in AWS to the reports of a local command: `cli.json_output` in reverse.

The values of items, which the answer lacks since it is logged, are read from the stage's storage. A job may run another
release: unknown fields are ignored, and only those without which a report would be wrong (versions, runs, statuses,
counts) are required.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dynamodt import __version__
from dynamodt.deploy.packages import build
from dynamodt.errors import CostReached, DeadLetters, DynamodtError, Refused, RunFailed, UsageError, suggest
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import Cost, NotRestored, RunReport, UndoReport
from dynamodt.model.runs import EARLIER_PHASE, INSERTED_ROWS, MAX_USD, PreparedRef, Script
from dynamodt.runs.dead_letters import first_dead_letter, samples_under
from dynamodt.state.object_keys import DEAD_LETTERS_FILE, SAMPLES, object_key
from dynamodt.state.runs import phases

if TYPE_CHECKING:
    from dynamodt.runs.context import Project

Document = dict[str, Any]
RELEASE, BUILD = "release", "build"
_KINDS: dict[int, type[DynamodtError]] = {2: UsageError, 3: Refused}


def of_this_release(document: Document) -> Document:
    """The document with the release and the build that have written it."""
    return {**document, RELEASE: __version__, BUILD: build()}


def other_release(document: Document) -> str:
    """The note about a job of another release or build than this command's; empty if both are the same, or the document
    names neither."""
    release = document.get(RELEASE, __version__)
    if release != __version__:
        return f"the job runs release {release} of dynamodt, and this command is {__version__}"
    if RELEASE not in document or document.get(BUILD) == build():
        return ""
    return f"the job runs another build of dynamodt {release} than this command"


@contextmanager
def explain_unreadable(where: str) -> Iterator[None]:
    """Raises RunFailed for a document of an unknown form; `where` is the job's run."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        shown = suggest("status") + " and " + suggest("history") + " show what was done; "
        hint = shown + suggest("deploy") + " updates the job"
        what = f"the job's result cannot be read ({type(error).__name__}: {error})"
        raise RunFailed(what, where=where, hint=hint) from error


def error_in(document: Document, dead: bool = False) -> DynamodtError | None:
    """The error of a document, with the exit code that it had in the job; `dead`: the run has left dead letters."""
    error = document.get("error")
    if error is None:
        return None
    kind = _KINDS.get(error.get("exit_code", 1), DeadLetters if dead else RunFailed)
    kind = CostReached if error.get("limit") == MAX_USD else kind
    of_run = {"run": error["run"]} if kind is Refused and "run" in error else {}
    hint = error.get("hint", "").replace("--runner spark", "--runner glue")
    return kind(error.get("what", "the job has failed"), where=error.get("where", ""), hint=hint, **of_run)


def runs_of(table: Document) -> list[RunReport]:
    """The runs of one table, from the document of `up` and `down`."""
    return [_run(real_name(table), table["direction"], version) for version in table.get("versions", ())]


def undo_of(document: Document) -> UndoReport:
    """The report from the document of `undo`."""
    left = document.get("left", {})
    run = _run(real_name(document), document["direction"], document)
    return UndoReport(
        run=replace(run, rehearsal=run.status == "dry-run"),
        at=document["at"],
        not_restored=left.get("items", 0),
        not_restored_at=left.get("file", ""),
        first_not_restored=tuple(_not_restored(one) for one in left.get("first", ())),
        error=error_in(document),
        partly=document.get("restored", {}).get("partly", 0),
        missing=document.get("missing_parts", 0),
    )


def _not_restored(item: Document) -> NotRestored:
    attributes, restored = (tuple(item.get(name, ())) for name in ("attributes", "restored"))
    return NotRestored(item["key"], attributes, item.get("why", ""), restored)


def prepared_of(document: Document) -> PreparedRef:
    """The reference from the document of `prepare`."""
    names = ("url", "rows", "sha256", "script_checksum", "created")
    return PreparedRef(**{name: document[name] for name in names})


def in_full(project: Project, run: RunReport, scripts: Sequence[Script], key_names: tuple[str, ...]) -> RunReport:
    """A report with the parts that are displayed but must not be logged: samples, and the first dead letter."""
    record = project.state.run(run.table, run.run)
    ids = (
        [one.run for one in phases(record)]
        if record
        else [run.run + phase for phase in ("", f"{EARLIER_PHASE}1", INSERTED_ROWS)]
    )
    path = next((script.path for script in scripts if script.sequence == run.version), "")
    dead_letters = project.storage.read(object_key(run.table, run.run, DEAD_LETTERS_FILE)) if run.dead_letters else None
    return replace(
        run,
        journal=record is not None and record.journal,
        samples=samples_under(project.storage, [object_key(run.table, one, SAMPLES) for one in ids]),
        first_dead_letter=first_dead_letter(dead_letters or b"", path),
        key_names=key_names,
        rehearsal=project.options.dry_run,
    )


def real_name(document: Document) -> str:
    """The table's real name, which a document has only where it differs."""
    return str(document.get("table_name") or document["table"])


def _run(table: str, direction: Any, document: Document) -> RunReport:
    error = document.get("error")
    return RunReport(
        table=table,
        direction=direction,
        version=document["version"],
        name=document.get("name", ""),
        run=document["run"],
        status=document["status"],
        counts=Counts(**_known(Counts._fields, document["counts"])),
        consumed=Units(**_known(Units._fields, document.get("consumed", {}))),
        seconds=document.get("seconds", 0.0),
        error=error.get("what", "the run has failed") if error else "",
        dead_letters=document.get("dead_letters", ""),
        accepted=document.get("accepted", 0),
        uncovered=document.get("uncovered_since", ""),
        cost=_cost(document["cost"]) if "cost" in document else None,
    )


def _known(names: Sequence[str], document: Document) -> Document:
    return {name: document[name] for name in names if name in document}


def _cost(document: Document) -> Cost:
    usd, requests = document.get("usd"), document.get("s3_requests", {})
    prices = ((usd["low"], usd["high"]), usd.get("as_of", "")) if usd else (None, "")
    amounts = (document.get("wcu", 0.0), document.get("wcu_most", 0.0), document.get("rcu", 0.0))
    return Cost(*amounts, requests.get("put", 0), requests.get("get", 0), document.get("export_bytes", 0), *prices)


def dead_letters_in(document: Document) -> int:
    """The number of dead letters in all runs of a document, without those that are accepted."""
    runs = [version for table in document.get("tables", ()) for version in table["versions"]]
    runs += [document] if "counts" in document else []
    return sum(int(run["counts"]["dead"]) - int(run.get("accepted", 0)) for run in runs)
