"""What to try next: commands that a person can copy, in the form they started with (dynamodt or make)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from shlex import join, quote
from typing import NamedTuple

from dynamodt.control.requests import PROGRAM, Request, RunOptions, caution_words, command_line, command_words
from dynamodt.model import TableReport, TakeOver, UndoReport

_BY_MAKE = "DYNAMODT_MAKE"
_INSTALLED = ".venv/bin/"
_VERBS = "up|down|undo|retry|prepare|init|create|history|status|runs|local|stamp|adopt"
_COMMAND = re.compile(rf"(?<![\w./-]){PROGRAM} (?=(?:{_VERBS})\b)")


class NextStep(NamedTuple):
    command: str
    why: str


def next_steps(request: Request, report: TableReport, environment: Mapping[str, str] = os.environ) -> list[NextStep]:
    """Two or three commands that make sense after this table's `up` or `down`."""
    steps = _after(replace(_as_move(request, report), tables=(report.table,), json=False, interactive=False), report)
    return [NextStep(as_typed(asked, environment), why) for asked, why in steps]


def after_preparation(request: Request) -> list[NextStep]:
    """What comes after `prepare`: the version that joins the data."""
    up = replace(request, verb="up", number=None, to=request.number, json=False, interactive=False)
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
    status = replace(plain, verb="status", tables=(undo.run.table,), run="", options=RunOptions())
    return [NextStep(as_typed(status), f"{undo.run.table} is at version {undo.at}")]


def rehearsal(request: Request) -> Request:
    """The dry run of `up` for the request's tables."""
    options = replace(request.options, dry_run=True)
    return replace(request, verb="up", name="", json=False, interactive=False, options=options)


def as_typed(request: Request, environment: Mapping[str, str] = os.environ) -> str:
    """The command line that asks for this request, in the form that the person has started with."""
    return _make_form(request) if environment.get(_BY_MAKE) else command_line(request)


def with_typed_commands(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A hint whose commands can be copied: with make, the program is not on the PATH but in .venv."""
    return _COMMAND.sub(_INSTALLED + r"\g<0>", text) if environment.get(_BY_MAKE) else text


def _as_move(request: Request, report: TableReport) -> Request:
    """`retry` goes on as `up` or `down` would."""
    if request.verb != "retry":
        return request
    return replace(request, verb=report.direction, run="", options=replace(request.options, doubtful=""))


def _after(request: Request, report: TableReport) -> list[tuple[Request, str]]:
    options = replace(request.options, dry_run=False)
    plain = replace(request, to=None, options=replace(options, max_errors=0))
    status = replace(plain, verb="status", tables=(), options=RunOptions()), "what is applied, what is pending"
    if report.error is not None or any(run.status == "failed" for run in report.versions):
        rehearsal = replace(request, options=replace(options, dry_run=True))
        return [(rehearsal, "try it without writing"), status]
    if request.options.dry_run:
        return [(replace(request, options=options), "write it"), status] if report.versions else [status]
    steps = [_preparation(plain, report)] if report.unprepared else []
    steps += [(replace(plain, verb="up"), _pending(report))] if report.at < report.latest else []
    steps.append(status)
    return steps + ([(replace(plain, verb="down"), f"take version {report.at} back")] if report.at else [])


def _preparation(plain: Request, report: TableReport) -> tuple[Request, str]:
    asked = replace(plain, verb="prepare", number=report.unprepared, options=RunOptions())
    return asked, f"first gather the data that version {report.unprepared} joins"


def _pending(report: TableReport) -> str:
    first = report.at + 1
    if first == report.latest:
        return f"version {first}, the last one"
    return f"versions {first} to {report.latest}"


def _make_form(request: Request) -> str:
    """`make run ...` for the two verbs it has, the installed program for the rest."""
    if request.verb == "prepare":
        return f"make prepare TABLE={quote(request.tables[0])} VERSION={request.number}" + (
            "" if request.stage == "local" else f" STAGE={quote(request.stage)}"
        )
    if request.verb not in ("up", "down"):
        return join([_INSTALLED + PROGRAM, *command_words(request)])
    pairs = {
        "TABLE": " ".join(request.tables),
        "VERSION": "" if request.to is None else str(request.to),
        "DIRECTION": "down" if request.verb == "down" else "",
        "STAGE": "" if request.stage == "local" else request.stage,
        "RUNNER": "" if request.options.runner == "direct" else request.options.runner,
        "DRY": "1" if request.options.dry_run else "",
        "ARGS": _extra_arguments(request.options),
    }
    return "make run " + " ".join(f"{name}={quote(value)}" for name, value in pairs.items() if value)


def _extra_arguments(options: RunOptions) -> str:
    words = ["--max-errors", str(options.max_errors)] if options.max_errors else []
    words += caution_words(options)
    return join(words + (["--", *options.beam_args] if options.beam_args else []))
