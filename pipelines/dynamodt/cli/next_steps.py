"""What to try next: commands that a person can copy, in the form they started with (dynamodt or make)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from shlex import join, quote
from typing import NamedTuple

from dynamodt.model.reports import RunReport, TableReport, TakeOver, UndoReport
from dynamodt.runs.options import GLUE, PROGRAM, TOLD, Request, RunOptions, command_line, command_words, option_words

_BY_MAKE = "DYNAMODT_MAKE"
_INSTALLED = ".venv/bin/"
_OF_A_STAGE = "|".join(
    (
        "up",
        "down",
        "undo",
        "retry",
        "prepare",
        "init",
        "create",
        "history",
        "status",
        "runs",
        "stamp",
        "adopt",
        "deploy",
        "destroy",
        *TOLD,
    )
)
_COMMAND = re.compile(rf"(?<![\w./-]){PROGRAM} (?=(?:{_OF_A_STAGE}|local)\b)")
_UNSTAGED = re.compile(rf"(?<![\w./-])({PROGRAM} (?:{_OF_A_STAGE}))\b(?![^;()`\n]* --(?:stage|help)\b)")


class NextStep(NamedTuple):
    command: str
    why: str


def next_steps(request: Request, report: TableReport, environment: Mapping[str, str] = os.environ) -> list[NextStep]:
    """Two or three commands that make sense after this table's `up` or `down`."""
    steps = _after(replace(_as_move(request, report), tables=(report.table,), json=False, interactive=False), report)
    return [NextStep(as_typed(asked, environment), why) for asked, why in steps]


def after_preparation(request: Request) -> list[NextStep]:
    """What comes after `prepare`: the version that joins the data."""
    up = replace(request, command="up", number=None, to=request.number, json=False, interactive=False)
    return [NextStep(as_typed(rehearsal(up)), "try it without writing"), NextStep(as_typed(up), "write it")]


def after_take_over(request: Request, taken: TakeOver) -> list[NextStep]:
    """What comes after `stamp` or `adopt`: a look at it, and the versions that are pending."""
    if taken.dry_run and taken.records:
        again = replace(request, json=False, interactive=False, options=RunOptions())
        return [NextStep(as_typed(again), "record it")]
    plain = Request("status", request.stage, request.tables)
    steps = [NextStep(as_typed(plain), "what is applied, what is pending")]
    rehearsed = NextStep(as_typed(rehearsal(plain)), "try what is pending without writing")
    return [*steps, rehearsed] if taken.at < taken.latest else steps


def after_undo(request: Request, undo: UndoReport) -> list[NextStep]:
    """What comes after `undo`: in earnest, or to where the table stands now."""
    plain = replace(request, json=False, interactive=False)
    if undo.run.status == "dry-run":
        options = replace(request.options, dry_run=False)
        return [NextStep(as_typed(replace(plain, options=options)), "take it back")]
    status = replace(plain, command="status", tables=(undo.run.table,), run="", options=RunOptions())
    return [NextStep(as_typed(status), f"{undo.run.table} is at version {undo.at}")]


def after_deploy(request: Request, dry_run: bool) -> list[NextStep]:
    """What comes after `deploy`: in earnest, or a first look at what is pending, and the job that does it."""
    plain = Request("deploy", request.stage)
    if dry_run:
        return [NextStep(as_typed(plain), "deploy it")]
    on_glue = Request("up", request.stage, options=RunOptions(runner=GLUE))
    return [
        NextStep(as_typed(replace(plain, command="status")), "what is applied, what is pending"),
        NextStep(as_typed(rehearsal(on_glue)), "try what is pending in the job, without writing"),
        NextStep(as_typed(on_glue), "apply it there"),
    ]


def rehearsal(request: Request) -> Request:
    """The dry run of `up` for the request's tables."""
    options = replace(request.options, dry_run=True)
    return replace(request, command="up", name="", json=False, interactive=False, options=options)


def as_typed(request: Request, environment: Mapping[str, str] = os.environ) -> str:
    """The command line that asks for this request, in the form that the person has started with."""
    return _make_form(request) if environment.get(_BY_MAKE) else command_line(request)


def with_typed_commands(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A hint whose commands can be copied: with make, the program is not on the PATH but in .venv."""
    return _COMMAND.sub(_INSTALLED + r"\g<0>", text) if environment.get(_BY_MAKE) else text


def with_stage(text: str, stage: str) -> str:
    """A text whose commands are for the stage: what refuses, or tells, knows of no other than the default one."""
    return text if stage == "local" else _UNSTAGED.sub(rf"\g<1> --stage {quote(stage)}", text)


def _as_move(request: Request, report: TableReport) -> Request:
    """`retry` goes on as `up` or `down` would."""
    if request.command != "retry":
        return request
    return replace(request, command=report.direction, run="", options=replace(request.options, doubtful=""))


def _after(request: Request, report: TableReport) -> list[tuple[Request, str]]:
    options = replace(request.options, dry_run=False)
    plain = replace(request, to=None, options=replace(options, max_errors=0, wait_lock=""))
    status = replace(plain, command="status", tables=(), options=RunOptions()), "what is applied, what is pending"
    if report.error is not None or any(run.status == "failed" for run in report.versions):
        rehearsal = replace(request, options=replace(options, dry_run=True))
        return [*_onward(request, report), (rehearsal, "try it without writing"), status]
    if request.options.dry_run:
        return [(replace(request, options=options), "write it"), status] if report.versions else [status]
    steps = [_preparation(plain, report)] if report.unprepared else []
    steps += [(replace(plain, command="up"), _pending(report))] if report.at < report.latest else []
    steps.append(status)
    return [*steps, *_way_back(plain, report)]


def _onward(request: Request, report: TableReport) -> list[tuple[Request, str]]:
    """What becomes of the run that was left half done, if one was."""
    left = next((run for run in report.versions if run.status in ("failed", "stopped")), None)
    if left is None or request.options.dry_run:
        return []
    steps = [(request, "go on with it")] if left.status == "stopped" else []
    steps += [(_of_run(request, "retry", left), "mended? replay its dead letters")] if left.dead_letters else []
    undoable = left.journal and left.counts.changed
    return steps + ([(_of_run(request, "undo", left), "take back what it has done")] if undoable else [])


def _way_back(plain: Request, report: TableReport) -> list[tuple[Request, str]]:
    what = f"take version {report.at} back"
    if report.at and report.reversible:
        return [(replace(plain, command="down", options=_without_choices(plain.options)), what)]
    last = report.versions[-1] if report.versions else None
    return [(_of_run(plain, "undo", last), what)] if report.at and last is not None and last.journal else []


def _of_run(request: Request, command: str, run: RunReport) -> Request:
    options = replace(_without_choices(request.options), max_errors=0)
    return replace(request, command=command, run=run.run, to=None, options=options)


def _without_choices(options: RunOptions) -> RunOptions:
    """Without what was chosen for one version's run alone."""
    return replace(options, journal=None, source="", export="", catch_up="", wait_lock="")


def _preparation(plain: Request, report: TableReport) -> tuple[Request, str]:
    asked = replace(plain, command="prepare", number=report.unprepared, options=RunOptions())
    return asked, f"first gather the data that version {report.unprepared} joins"


def _pending(report: TableReport) -> str:
    first = report.at + 1
    if first == report.latest:
        return f"version {first}, the last one"
    return f"versions {first} to {report.latest}"


def _make_form(request: Request) -> str:
    """`make run ...` for the two verbs it has, the installed program for the rest."""
    if request.command == "prepare":
        return f"make prepare TABLE={quote(request.tables[0])} VERSION={request.number}" + (
            ("" if request.stage == "local" else f" STAGE={quote(request.stage)}")
            + ("" if request.options.runner == "direct" else f" RUNNER={quote(request.options.runner)}")
        )
    if request.command == "deploy":
        pairs = {"STAGE": request.stage, "DRY": "1" if request.options.dry_run else ""}
        return "make deploy " + " ".join(f"{name}={quote(value)}" for name, value in pairs.items() if value)
    if request.command not in ("up", "down"):
        return join([_INSTALLED + PROGRAM, *command_words(request)])
    pairs = {
        "TABLE": " ".join(request.tables),
        "VERSION": "" if request.to is None else str(request.to),
        "DIRECTION": "down" if request.command == "down" else "",
        "STAGE": "" if request.stage == "local" else request.stage,
        "RUNNER": "" if request.options.runner == "direct" else request.options.runner,
        "DRY": "1" if request.options.dry_run else "",
        "ARGS": _extra_arguments(request.options),
    }
    return "make run " + " ".join(f"{name}={quote(value)}" for name, value in pairs.items() if value)


def _extra_arguments(options: RunOptions) -> str:
    return join(option_words(options) + (["--", *options.beam_args] if options.beam_args else []))
