"""One version, checked on its input items, on variants of them, and in another process."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final

from dynamodt.checks.examples import Judge, Replacer, SeenFault, smallest_item
from dynamodt.checks.other_process import OtherProcess, VersionInputs
from dynamodt.checks.properties import Trial, by_chance, collisions, effect_of, same_result
from dynamodt.checks.subject import CallLimit, HangError, Observed, Outcome, first_rows
from dynamodt.errors import ScriptError
from dynamodt.model.reports import Fault, Finding, Level, VersionCheck
from dynamodt.model.runs import Script
from dynamodt.model.tables import Image, TableSpec
from dynamodt.pipeline.author_output import labelled
from dynamodt.pipeline.process import without_output
from dynamodt.script.codec import image_bytes, key_text
from dynamodt.script.diff import key_of
from dynamodt.script.load import parse

if TYPE_CHECKING:
    from dynamodt.checks.variants import Variant

_ROWS = 10_000  # of items(), at most
_CHUNK = 100
_NOTIFY_SECONDS = 2.0
_BEFORE: Final = "it depends on the items before it"
_HERE_ALONE: Final = (
    "use no random value, no hash() of a text (zlib.crc32 is stable), no list of a set without sorted(), no name of "
    "the machine, and no local time (datetime.fromtimestamp(seconds, tz=UTC) is the same everywhere)"
)
_CAUSES: Final = (  # in the order of `other_process._Request.alike`
    ("it depends on the time, or its zone", "take the time out of it, or let prepare(context) give one moment to all"),
    (_BEFORE, "keep nothing between items: no counter, no cache of results"),
    ("it depends on the order of attributes", "DynamoDB keeps no order of an item's or a map's attributes: sort names"),
    ("it depends on the current folder", "open files by Path(__file__).parent: a worker runs in another folder"),
)
_KINDS = 16  # of faults, whose variants are made smaller
_SECONDS_FOR_VARIANTS = 30
_CONFIDENT = 3.0  # the rule of three: 1 - 0.95 ** (1 / n) is nearly 3 / n


class VersionTrial:
    """Checks one version. `check` returns the result, and the items as they are after the version."""

    def __init__(
        self, asked: VersionInputs, elsewhere: OtherProcess, notify: Callable[[str], None] = lambda text: None
    ) -> None:
        self._asked = asked
        self._elsewhere = elsewhere
        self._notify = notify
        self._limit = CallLimit(asked.seconds)
        self._met: dict[str, SeenFault] = {}
        self._made: list[tuple[Image, Observed]] = []
        self._variants = 0
        self._hangs = False

    def check(self, images: Sequence[Image]) -> tuple[VersionCheck, list[Image]]:
        """Check the version. Its log lines are labelled with table and number, and shown once for each item of the
        sample."""
        with labelled(self._asked.script):
            return self._checked(images)

    def _checked(self, images: Sequence[Image]) -> tuple[VersionCheck, list[Image]]:
        script = self._asked.script
        try:
            rows = self._rows() if script.has_items else []
            trial = self._opened() if script.has_up else None
        except (ScriptError, HangError) as error:
            return replace(self._empty(len(images)), findings=(self._of_life(error, "loading it"),)), list(images)
        if trial is None:
            return self._of_rows(rows, images), [*images, *rows]
        self._on_items(trial, images)
        with without_output():
            if not self._hangs:
                self._in_another_process(trial, images)
            self._on_variants(trial, images)
            found = self._result(trial, rows)
        unended = self._unended(trial)
        if unended:
            found = replace(found, findings=(*unended, *found.findings), bound=None)
        return found, self._after(rows)

    # ------------------------------------------------------------ loading

    def _opened(self) -> Trial:
        asked = self._asked
        with self._limit.guarded():
            up = asked.open("up", self._limit)
            return Trial(up, asked.open("down", self._limit) if asked.script.has_down else None)

    def _unended(self, trial: Trial) -> list[Finding]:
        """The faults of the version's `finish_bundle`, and a `teardown` that hangs: a run would fail with them."""
        found = []
        for side in filter(None, (trial.up, trial.down)):
            try:
                with self._limit.guarded():
                    side.close()
            except (ScriptError, HangError) as error:
                found.append(self._of_life(error, "its end"))
        return found

    def _of_life(self, error: BaseException, when: str) -> Finding:
        if isinstance(error, ScriptError):
            return Finding("fault", "loads", error.what, str(error.hint), error.where)
        return Finding("fault", "hangs", f"{when} {error}", "", self._asked.script.path)

    def _empty(self, items: int) -> VersionCheck:
        script = self._asked.script
        prepared = "" if not script.has_prepare else "missing" if self._asked.prepared is None else "used"
        return VersionCheck(
            script.sequence, script.name, script.path, items, self._asked.derived,
            declared_idempotent=script.idempotent, prepared=prepared,
        )  # fmt: skip

    # ------------------------------------------------------------ rows of items()

    def _rows(self) -> list[Image]:
        """The version's rows. Rows that differ in a second call, or in another process, are a fault."""
        asked = self._asked
        table = asked.target or asked.table
        with self._limit.guarded():
            rows = first_rows(asked.script, table, self._limit, _ROWS)
            with without_output():
                again = first_rows(asked.script, table, self._limit, _ROWS)
        there = self._elsewhere.rows(asked, _ROWS)
        if again != rows or (there is not None and there != rows):
            what = "items() gives other rows each time" if again != rows else "items() gives other rows elsewhere"
            hint = "return the same rows each time: sort them, and use no time or random value in them"
            self._meet(Fault("deterministic", "rows", what, hint, asked.script.path), rows[0] if rows else {}, 1)
        return rows

    def _of_rows(self, rows: Sequence[Image], images: Sequence[Image]) -> VersionCheck:
        effect = replace(effect_of((), self._asked.table), inserted=len(rows), kind="expanding" if rows else "none")
        findings = self._findings(None)
        return replace(
            self._empty(len(images)), findings=findings, effect=effect, deterministic=not findings, reversible="yes"
        )

    # ------------------------------------------------------------ items of the sample

    def _meet(self, fault: Fault, image: Image, items: int) -> None:
        met = self._met.setdefault(fault.kind, SeenFault(fault, image))
        met.items += items
        self._hangs = self._hangs or fault.name == "hangs"

    def _on_items(self, trial: Trial, images: Sequence[Image]) -> None:
        notified = time.monotonic()
        for start in range(0, len(images), _CHUNK):
            if time.monotonic() - notified >= _NOTIFY_SECONDS:
                notified = time.monotonic()
                self._notify(f"version {self._asked.script.sequence}: tried on {start:,} of {len(images):,} items")
            with self._limit.guarded():
                for image in images[start : start + _CHUNK]:
                    faults, observed = trial.faults(image)
                    self._made.append((image, observed))
                    for fault in faults:
                        self._meet(fault, image, 1)
                    if self._hangs:
                        return
        own = trial.up.reads_own_output
        if own is not None:
            fault = Fault("input", "reads its own output", own.what, str(own.hint), own.where)
            writing = [image for image, made in self._made if made.outcome is not None and made.outcome.inserted]
            self._meet(fault, (writing or images)[0], len(writing) or 1)
        fault_, items = collisions(self._outcomes(), self._asked.table)
        if fault_ is not None:
            self._meet(fault_, fault_.images[0][1], items)

    def _outcomes(self) -> list[tuple[Image, Outcome]]:
        return [(image, observed.outcome) for image, observed in self._made if observed.outcome is not None]

    def _in_another_process(self, trial: Trial, images: Sequence[Image]) -> None:
        """A result that differs in another process, at another time or in another order is a fault."""
        if not images or any(met.fault.name == "deterministic" for met in self._met.values()):
            return
        there = self._there(images)
        differing = [n for n, one in enumerate(there) if not same_result(self._made[n][1], one)]
        if not differing:
            return
        first = differing[0]
        why, hint = self._cause(images, first)
        image, observed, other = *self._made[first], there[first]
        if why != _BEFORE:
            image, observed, other, invented = self._smallest_there(trial, image, observed, other)
        fault = by_chance(self._asked.script, "transform_up", image, observed, other, why, hint)
        self._meet(fault, image, len(differing))
        self._met[fault.kind].invented = why != _BEFORE and invented
        self._met[fault.kind].base = images[first]

    def _there(self, images: Sequence[Image]) -> list[Observed]:
        """The results of the version for the items in the other process. An error that only the shifted clock causes
        does not count: a service refuses requests that are signed in the future."""
        there = self._elsewhere.observed(self._asked, images) or []
        failed = [n for n, one in enumerate(there) if one.raised is not None and self._made[n][1].raised is None]
        if failed:
            self._elsewhere.close()
            now = self._elsewhere.observed(self._asked, images, alike=1) or there
            there = [now[n] if n in failed else one for n, one in enumerate(there)]
        return there

    def _smallest_there(
        self, trial: Trial, image: Image, here: Observed, there: Observed
    ) -> tuple[Image, Observed, Observed, bool]:
        """The smallest item whose result differs in the other process, with both results, and whether its values are
        replaced."""
        found = [(image, here, there)]

        def shows(candidate: Image) -> bool:
            with self._limit.guarded():
                here = trial.up.observe(candidate)
            others = self._elsewhere.observed(self._asked, [candidate])
            if here.outcome is None or not others or others[0].outcome is None or same_result(here, others[0]):
                return False
            found.append((candidate, here, others[0]))
            return True

        small = smallest_item(image, self._asked.table.key_names, shows)
        invented = shows(Replacer([image]).image(small))
        return *found[-1], invented

    def _cause(self, images: Sequence[Image], number: int) -> tuple[str, str]:
        """The reason why a result differs in the other process, found by further tries with fewer differences."""
        for alike, (why, hint) in enumerate(_CAUSES, 1):
            self._elsewhere.close()
            there = self._elsewhere.observed(self._asked, images, alike=alike)
            if there is not None and same_result(self._made[number][1], there[number]):
                return why, hint
        return "it differs in another process", _HERE_ALONE

    # ------------------------------------------------------------ variants

    def _on_variants(self, trial: Trial, images: Sequence[Image]) -> None:
        from dynamodt.checks import variants

        script, table = self._asked.script, self._asked.table
        bases = variants.bases(images, table) or [_assumed(script, table)]
        strategy = variants.variants(bases, table)
        with self._limit.guarded():
            new = self._new_kinds(trial, [] if self._hangs else variants.drawn(strategy, self._examples()))
            for kind, met in list(new.items())[:_KINDS]:
                if met.fault.name != "hangs":
                    small = variants.smallest(strategy, partial(_shows, trial, kind), self._asked.examples)
                    if small is not None:
                        faults = (fault for fault in trial.faults(small.image)[0] if fault.kind == kind)
                        fault = next(faults, met.fault)
                        of, why = small.base if images else {}, _why(small.deviations)
                        new[kind] = replace(met, fault=fault, image=small.image, why=why, base=of)
        self._met.update(new)
        if images and not self._hangs:
            self._on_a_large_item(trial, images)

    def _on_a_large_item(self, trial: Trial, images: Sequence[Image]) -> None:
        """A warning for a version that would make the widest item too large if its longest text were longer."""
        from dynamodt.checks import variants

        widest = max(images, key=image_bytes)
        large = variants.large(widest, self._asked.table)
        if large is None or any(met.fault.name == "size" for met in self._met.values()):
            return
        with self._limit.guarded():
            raised = trial.up.observe(large).raised
        if raised is not None and raised.name == "size":
            fault = Fault("size", "of a large item", raised.text, raised.hint, raised.line)
            why = f"an item has {image_bytes(large):,} bytes before"
            self._met[fault.kind] = SeenFault(fault, widest, base=widest, why=why)

    def _new_kinds(self, trial: Trial, drawn: Sequence[Variant]) -> dict[str, SeenFault]:
        """The kinds of faults that variants show and no item of the sample shows."""
        new: dict[str, SeenFault] = {}
        for variant in drawn:
            self._variants += 1
            for fault in trial.faults(variant.image)[0]:
                if fault.grave and fault.kind not in self._met and fault.kind not in new:
                    new[fault.kind] = SeenFault(fault, variant.image, why=_why(variant.deviations), base=variant.base)
            if any(met.fault.name == "hangs" for met in new.values()):
                break
        return new

    def _examples(self) -> int:
        """The number of variants: fewer for a slow version."""
        seconds = max(1e-6, (self._micros() or 0.0) * 8e-6)
        return max(1, min(self._asked.examples, int(_SECONDS_FOR_VARIANTS / seconds)))

    # ------------------------------------------------------------ the result

    def _micros(self) -> float | None:
        times = [observed.nanoseconds for _, observed in self._made]
        return median(times) / 1000 if times else None

    def _result(self, trial: Trial, rows: Sequence[Image]) -> VersionCheck:
        outcomes = self._outcomes()
        effect = effect_of(outcomes, self._asked.table)
        if rows:
            kind = {"": "expanding", "none": "expanding", "contracting": "both"}.get(effect.kind, effect.kind)
            effect = replace(effect, inserted=effect.inserted + len(rows), kind=kind)
        findings = self._findings(trial)
        by_name = {finding.name: finding.level for finding in reversed(findings) if finding.items}
        ran = bool(outcomes)
        return replace(
            self._empty(len(self._made)),
            variants=self._variants,
            findings=findings,
            effect=effect,
            deterministic="deterministic" not in by_name if ran else None,
            idempotent=self._idempotent(trial, outcomes) if ran else None,
            reversible=self._reversible(by_name) if ran or not self._asked.script.has_down else "",
            micros=self._micros(),
            bound=self._bound(findings),
        )

    def _idempotent(self, trial: Trial, outcomes: Sequence[tuple[Image, Outcome]]) -> bool | None:
        if "deterministic" in {met.fault.name for met in self._met.values()}:
            return None
        with self._limit.guarded():
            found = [trial.idempotent(outcome) for _, outcome in outcomes[:_CHUNK]]
        return all(found) if None not in found else False

    def _reversible(self, by_name: Mapping[str, Level]) -> str:
        if not self._asked.script.has_down or self._asked.script.target_table:
            return "none"
        failed = any(met.items > 0 and met.fault.kind.startswith("transform_down") for met in self._met.values())
        if by_name.get("reversible") == "fault" or failed:
            return "no"
        return "lossy" if by_name.get("reversible") == "warning" else "yes"

    def _bound(self, findings: Iterable[Finding]) -> float | None:
        """The share of items that, with 95 % certainty, is not exceeded by items with a fault; None if the sample has a
        fault, or the check is doubtful."""
        items = len(self._made)
        doubtful = self._asked.derived or (self._asked.script.has_prepare and self._asked.prepared is None)
        if not items or doubtful or any(finding.level == "fault" for finding in findings):
            return None
        return min(1.0, _CONFIDENT / items)

    def _findings(self, trial: Trial | None) -> tuple[Finding, ...]:
        asked = self._asked
        doubtful = asked.derived or (asked.script.has_prepare and asked.prepared is None)
        judge = Judge(asked.table, lambda image: [] if trial is None else trial.faults(image)[0], doubtful)
        with self._limit.guarded():
            return tuple(judge.findings(self._met.values(), [image for image, _ in self._made]))

    def _after(self, rows: Sequence[Image]) -> list[Image]:
        """The table's items after the version, without those that become dead letters."""
        table = self._asked.table
        found: dict[str, Image] = {}
        for _, outcome in self._outcomes():
            found.update(outcome.items)
        if self._asked.target is None:
            for row in rows:
                found.setdefault(key_text(key_of(table, row)), row)
        return list(found.values())


def _shows(trial: Trial, kind: str, variant: Variant) -> bool:
    return trial.shows(variant.image, kind)


def _why(deviations: Sequence[object]) -> str:
    return " and ".join(map(str, deviations))


_VALUES: Final = {"S": {"S": "a"}, "N": {"N": "1"}, "B": {"B": "AA=="}}


def _assumed(script: Script, table: TableSpec) -> Image:
    """An item with the attributes that a script names, for a table without items."""
    named = {
        node.value
        for node in ast.walk(parse(script.text, script.path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
    image: Image = {name: {"S": "a"} for name in sorted(named)}
    return image | {attribute.name: dict(_VALUES[attribute.type]) for attribute in table.key}
