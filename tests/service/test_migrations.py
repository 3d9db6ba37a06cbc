"""Whole runs, through the interface behind the command line: the table, the history and the reports afterwards."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.cli.json_output import error_document
from dynamodt.errors import DeadLetters, Fenced, Refused
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableReport
from dynamodt.model.runs import Lease, Script
from dynamodt.model.tables import Item
from dynamodt.pipeline.author_output import Line, captured
from dynamodt.runs import execute
from dynamodt.runs.history import first_record, version_applied_by
from dynamodt.runs.jobs import new_run
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.emulators import dynamodb_local_in_chaos
from tests.service.bench import SPLIT, Bench
from tests.service.conftest import MakeTable

pytestmark = dynamodb_local_in_chaos

CLEAN_UP = """
from dynamodt import without

def transform_up(item):
    return without(item, "name")

def transform_down(item):
    return {**item, "name": f'{item["first"]} {item["last"]}'}
"""
DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2}\n'
NOTHING = "def transform_up(item):\n    return item\n"
IDEMPOTENT = "from dynamodt import Delete, Put\nIDEMPOTENT = True\n"


def people(count: int) -> list[Item]:
    return [{"id": f"u{number:03}", "name": f"First{number} Last{number}", "n": number} for number in range(count)]


def numbered(count: int) -> list[Item]:
    return [{"id": number, "n": number + 1} for number in range(count)]


def states(bench: Bench, table: str) -> list[str]:
    (status,) = operations.status(bench.stage, bench.folder, [table])
    return [version.state for version in status.versions]


# ---------------------------------------------------------------- up, down, and what is remembered


def test_up_to_the_latest_then_nothing_to_do_then_all_the_way_down(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    before = people(60)
    bench.tables.put(table, *before)
    bench.script(table, SPLIT, 1, "split_name")
    bench.script(table, CLEAN_UP, 2, "remove_name")

    (report,) = bench.up(table)
    assert report.error is None and report.at == 2
    assert [run.counts for run in report.versions] == [Counts(read=60, changed=60)] * 2
    after = [{"id": i["id"], "n": i["n"], "first": f"First{i['n']}", "last": f"Last{i['n']}"} for i in before]
    assert bench.tables.items(table) == after
    assert states(bench, table) == ["applied", "applied"]

    (again,) = bench.up(table)
    assert (again.error, again.versions, again.at) == (None, (), 2)

    (back,) = bench.down(table)
    assert back.error is None and back.at == 1 and states(bench, table) == ["applied", "pending"]
    (back,) = bench.down(table, to=0)
    assert back.error is None and back.at == 0 and states(bench, table) == ["pending", "pending"]
    assert bench.tables.items(table) == before


def test_history_has_every_run(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(7))
    bench.script(table, SPLIT, 1, "split_name")
    (report,) = bench.up(table)
    bench.down(table)
    up, down = bench.history(table)
    assert (up.status, up.direction, up.version, up.name) == ("succeeded", "up", 1, "split_name")
    assert (down.status, down.direction, down.version) == ("succeeded", "down", 1)
    assert up.counts == down.counts == Counts(read=7, changed=7)
    assert up.run == report.versions[0].run != down.run
    assert up.by and up.checksum == down.checksum and up.started <= up.ended <= down.started
    assert up.consumed.wcu >= 7 and up.consumed.rcu > 0


def test_a_version_is_recorded_as_applied_once_and_reverted_once(bench: Bench) -> None:
    state = State(bench.stage.connection, bench.stage.state_table)
    script = Script("things", 1, "change", "v1_change.py", "", "")
    record = replace(first_record(script, "up", "ours", 4), status="succeeded", ended="now")
    assert state.leases.take(Lease("things", 1, "ours"), over=Lease("things", 0))
    written = state.record(record, 1, applied=version_applied_by(record))
    other = replace(record, run="theirs")
    with pytest.raises(Refused, match="version 1 was recorded by another run"):
        state.record(other, 1, applied=version_applied_by(other))
    with pytest.raises(Fenced):
        state.record(other, 2)
    assert [run.run for run in state.runs("things")] == ["ours"] and state.applied("things")[1].run == "ours"
    state.record(written, 1, reverted=True)
    with pytest.raises(Refused, match="recorded by another run"):
        state.record(other, 1, reverted=True)
    assert state.applied("things") == {}


def test_a_record_replaces_an_earlier_one_whose_response_was_lost(bench: Bench) -> None:
    """The writer of a record without a response still has the revision from before it."""
    state = State(bench.stage.connection, bench.stage.state_table)
    record = first_record(Script("things", 1, "change", "v1_change.py", "", ""), "up", "ours", 4)
    assert state.leases.take(Lease("things", 1, "ours"), over=Lease("things", 0))
    state.record(record, 1)
    ended = replace(record, status="succeeded", ended="now")
    written = state.record(ended, 1, applied=version_applied_by(ended))
    assert written.revision == 2 and state.runs("things") == [written] and state.applied("things")[1].run == "ours"
    with pytest.raises(Refused, match="recorded by another run"):
        state.record(ended, 1, applied=version_applied_by(ended))
    with pytest.raises(Fenced):
        state.record(replace(written, revision=1, status="failed"), 2)
    assert state.runs("things") == [written]


def test_runs_of_one_second_are_listed_in_their_order() -> None:
    made = [new_run() for _ in range(50)]
    assert made == sorted(made)


def test_up_to_a_version_applies_no_later_one(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(3))
    bench.script(table, SPLIT, 1)
    bench.script(table, CLEAN_UP, 2)
    (report,) = bench.up(table, to=1)
    assert report.error is None and report.at == 1 and bench.applied(table) == [1]
    assert all("name" in item for item in bench.tables.items(table))


def test_an_edited_version_is_reported_and_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(3))
    bench.script(table, SPLIT)
    bench.up(table)
    path = bench.script(table, "# SPDX-License-Identifier: MIT\n" + SPLIT)
    assert states(bench, table) == ["applied"] and bench.up(table)[0].error is None
    bench.script(table, SPLIT + "\nSECOND_THOUGHT = True\n")
    assert states(bench, table) == ["edited"]
    for report in (*bench.up(table), *bench.down(table)):
        assert isinstance(report.error, Refused) and report.error.exit_code == 3
        assert path.name in str(report.error)


def test_an_older_release_that_is_deployed_again_leaves_newer_versions_as_they_are(
    bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(3))
    bench.script(table, SPLIT, 1, "split")
    later = bench.script(table, CLEAN_UP, 2, "clean_up")
    bench.up(table)
    later.unlink()
    (report,) = bench.up(table)
    assert (report.error, report.versions, report.at, report.latest) == (None, (), 2, 1)
    assert "v2_clean_up is applied, and has no file here" in report.notices[0]
    assert report.notices[0] in bench.recorder.notes and not report.reversible
    assert states(bench, table) == ["applied", "missing"]
    (strict,) = bench.up(table, strict=True)
    assert isinstance(strict.error, Refused) and "v2_clean_up" in strict.error.what
    (down,) = bench.down(table)
    assert isinstance(down.error, Refused) and down.at == 2


def test_a_changed_file_beside_an_applied_version_is_reported_and_not_refused(
    bench: Bench, make_table: MakeTable
) -> None:
    """It is reported, and nothing is refused."""
    table = make_table(id="S")
    bench.tables.put(table, *people(3))
    path = bench.beside("shared/ends.py", "def added(item):\n    return {**item, 'seen': 1}\n")
    text = "from ends import added\ntransform_up = lambda item: added(item)\n"
    bench.script(table, f"{text}def transform_down(item):\n    from ends import removed\n    return removed(item)\n")
    (report,) = bench.up(table)
    assert report.error is None
    path.write_text("def removed(item):\n    return {k: v for k, v in item.items() if k != 'seen'}\nadded = None\n")
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert [(one.state, one.changed) for one in status.versions] == [("applied", ("shared/ends.py",))]
    for report in (*bench.up(table), *bench.down(table)):
        assert report.error is None
    assert sum("transforms/shared/ends.py has changed since version 1" in note for note in bench.recorder.notes) == 2
    assert not any("seen" in item for item in bench.tables.items(table))


# ---------------------------------------------------------------- a version that fails


def test_a_failed_version_is_in_the_history_and_not_applied(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(20), {"id": "nameless", "n": 0})
    bench.script(table, "def transform_up(item):\n    return {**item, 'seen': True}\n", 1, "see")
    bench.script(table, SPLIT, 2, "split_name")
    bench.script(table, CLEAN_UP, 3, "remove_name")

    (report,) = bench.up(table)
    assert isinstance(report.error, DeadLetters) and report.error.exit_code == 1
    assert report.at == 1 and bench.applied(table) == [1]
    assert [run.status for run in report.versions] == ["succeeded", "failed"]
    assert [record.status for record in bench.history(table)] == ["succeeded", "failed"]
    assert states(bench, table) == ["applied", "unfinished", "pending"]
    failed = bench.history(table)[1]
    assert failed.counts == report.versions[1].counts and failed.counts.balanced and failed.counts.dead == 1
    assert failed.dead_letters == report.versions[1].dead_letters == report.error.where


def test_dead_letters_have_key_image_error_and_traceback(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S", n="N")
    bench.tables.put(table, *people(5), {"id": "nameless", "n": Decimal("1.5"), "note": "no name"})
    report = bench.failed(table, SPLIT)
    (dead_letter,) = bench.dead_letters(report)
    assert dead_letter["key"] == {"id": {"S": "nameless"}, "n": {"N": "1.5"}}
    assert dead_letter["image"] == {**dead_letter["key"], "note": {"S": "no name"}}
    assert (dead_letter["step"], dead_letter["error"]) == ("transform", "KeyError: 'name'")
    assert f"transforms/{table}/v1_change.py" in dead_letter["traceback"]
    assert 'item["name"].partition(" ")' in dead_letter["traceback"]  # the author's own line
    assert (dead_letter["table"], dead_letter["version"], dead_letter["direction"]) == (table, 1, "up")
    assert dead_letter["run"] == report.versions[0].run


def test_a_corrected_script_continues_where_the_failed_one_stopped(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(20), {"id": "nameless"})
    bench.failed(table, SPLIT)
    counts = bench.run(table, SPLIT.replace('item["name"]', 'item.get("name", "? ?")'))
    assert counts.dead == 0 and counts.read == 21
    assert all({"first", "last"} <= item.keys() for item in bench.tables.items(table))
    assert [(record.status, record.attempts) for record in bench.history(table)] == [("succeeded", 2)]


def test_an_unfinished_run_prevents_another_version(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(40), {"id": 99})
    back = "def transform_down(item):\n    return item\n"
    bench.run(table, NOTHING + back)
    bench.script(table, DOUBLE + back, 2, "double")
    (failed,) = bench.up(table)
    assert isinstance(failed.error, DeadLetters) and failed.versions[0].counts.changed
    items = bench.tables.items(table)
    (report,) = bench.down(table)
    assert isinstance(report.error, Refused) and "up of version 2 (double) is unfinished" in report.error.what
    assert f"dynamodt up --table {table} --to 2" in report.error.hint
    (known,) = report.versions
    assert (known.run, known.status, known.version) == (failed.versions[0].run, "refused", 2)
    assert known.counts == failed.versions[0].counts and error_document(report.error)["run"] == known.run
    assert bench.tables.items(table) == items and bench.applied(table) == [1]


def test_a_run_that_another_process_leaves_unfinished_before_the_lease_is_taken_is_continued(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run fails between the plan and the lease of this one."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(40), {"id": 99, "n": "no number"})
    bench.script(table, 'def transform_up(item):\n    return {**item, "n": item["n"] + 1}\n')
    hold_leases, theirs = execute.hold_leases, list[TableReport]()

    def held_late(*arguments: Any) -> AbstractContextManager[Lease]:
        monkeypatch.setattr(execute, "hold_leases", hold_leases)
        theirs.extend(bench.up(table))
        return hold_leases(*arguments)

    monkeypatch.setattr(execute, "hold_leases", held_late)
    (ours,) = bench.up(table, max_errors=1)
    assert isinstance(theirs[0].error, DeadLetters) and theirs[0].versions[0].counts.changed
    assert ours.error is None and ours.versions[0].run == theirs[0].versions[0].run
    assert ours.versions[0].outcome == "succeeded with 1 dead letter"
    assert bench.tables.items(table)[:-1] == [{"id": n, "n": n + 2} for n in range(40)]


def test_a_failed_table_does_not_stop_another(bench: Bench, make_table: MakeTable) -> None:
    broken, sound = make_table(id="S"), make_table(id="S")
    bench.tables.put(broken, {"id": "nameless"})
    bench.tables.put(sound, *people(4))
    bench.script(broken, SPLIT)
    bench.script(sound, SPLIT)
    reports = {report.table: report for report in bench.up(broken, sound)}
    assert isinstance(reports[broken].error, DeadLetters) and reports[broken].at == 0
    assert reports[sound].error is None and reports[sound].at == 1
    assert bench.tables.items(broken) == [{"id": "nameless"}]
    assert all("first" in item for item in bench.tables.items(sound))


def test_a_run_succeeds_with_at_most_the_tolerated_number_of_dead_letters(bench: Bench, make_table: MakeTable) -> None:
    """With --max-errors a run continues after failures, and applies its version if there are at most that many."""
    table = make_table(id="S")
    bench.tables.put(table, *people(10), {"id": "nameless"}, {"id": "nobody"})
    bench.script(table, SPLIT)
    (report,) = bench.up(table, max_errors=5)
    assert report.error is None and report.versions[0].counts == Counts(read=12, changed=10, dead=2)
    assert (report.at, bench.applied(table)) == (1, [1])
    assert [dead_letter["key"]["id"]["S"] for dead_letter in bench.dead_letters(report)] in (
        ["nameless", "nobody"],
        ["nobody", "nameless"],
    )


# ---------------------------------------------------------------- what a version may do


def test_prepared_data_is_needed_stored_and_used(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, {"id": "1", "country": "AT"}, {"id": "2", "country": "XX"})
    bench.script(
        table,
        """
        def prepare(context):
            for line in (context.folder / "countries.csv").read_text(encoding="utf-8").splitlines():
                yield tuple(line.split(";"))

        def transform_up(item, prepared):
            return {**item, "country_name": prepared.get(item["country"], "unknown")}
        """,
    )
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and report.error.exit_code == 3
    assert report.error.hint == f"dynamodt prepare --table {table} --version 1"
    assert report.versions == () and bench.history(table) == []

    (bench.folder / "transforms" / table / "countries.csv").write_text("AT;Österreich\nDE;Deutschland\n", "utf-8")
    assert bench.prepare(table).rows == 2
    (report,) = bench.up(table)
    assert report.error is None
    assert [item["country_name"] for item in bench.tables.items(table)] == ["Österreich", "unknown"]


def test_rows_of_items_are_inserted_by_up_and_deleted_by_down_if_unchanged(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 3, "n": "mine"}, {"id": 4, "n": 4})
    counts = bench.run(table, 'def items():\n    for n in range(40):\n        yield {"id": n, "n": n}\n')
    assert counts == Counts(read=40, changed=38, unchanged=1, superseded=1)
    assert bench.tables.items(table)[3] == {"id": 3, "n": "mine"}
    bench.tables.put(table, {"id": 7, "n": 7, "used": True})
    (report,) = bench.down(table)
    assert report.error is None and report.versions[0].counts.balanced
    was_there = [{"id": 3, "n": "mine"}, {"id": 4, "n": 4}]
    assert bench.tables.items(table) == [*was_there, {"id": 7, "n": 7, "used": True}]


def test_a_version_never_transforms_its_rows_of_items(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 1, "n": 1})
    counts = bench.run(table, DOUBLE + 'def items():\n    yield {"id": 2, "n": 10}\n')
    assert counts == Counts(read=2, changed=2)
    assert bench.tables.items(table) == [{"id": 1, "n": 2}, {"id": 2, "n": 10}]


def test_down_deletes_rows_of_items_before_it_transforms(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 1, "n": 1})
    halve = 'def transform_down(item):\n    return {**item, "n": item["n"] / 2}\n'
    bench.run(table, DOUBLE + halve + 'def items():\n    yield {"id": 2, "n": 10}\n')
    (report,) = bench.down(table)
    assert report.error is None and report.versions[0].counts == Counts(read=2, changed=2)
    assert bench.tables.items(table) == [{"id": 1, "n": 1}]


def test_a_target_table_gets_the_items_and_the_source_stays(bench: Bench, make_table: MakeTable) -> None:
    source, target = make_table(id="N"), make_table(pk="S", sk="N")
    bench.tables.put(source, *numbered(30))
    bench.tables.put(target, {"pk": "n", "sk": 7, "n": "mine"})
    script = f"""
    TARGET_TABLE = "{target}"
    def transform_up(item):
        return {{"pk": "n", "sk": item["id"], "n": item["n"]}}
    """
    assert bench.run(source, script) == Counts(read=30, changed=29, superseded=1)
    expected = [{"pk": "n", "sk": n, "n": n + 1} for n in range(30)]
    expected[7]["n"] = "mine"
    assert bench.tables.items(target) == expected
    assert bench.tables.items(source) == numbered(30)
    (report,) = bench.down(source)
    assert isinstance(report.error, Refused) and report.at == 1


def test_a_re_key_moves_every_item(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(30), {"id": 1007, "n": "in the way"})
    script = IDEMPOTENT + 'def transform_up(item):\n    return {**item, "id": item["id"] % 1000 + 1000}\n'
    report = bench.failed(table, script, max_errors=1)
    counts = report.versions[0].counts
    assert counts.balanced and (counts.changed, counts.dead) == (29, 1)
    (dead_letter,) = bench.dead_letters(report)
    assert dead_letter["key"] == {"id": {"N": "7"}} and "another item has the new key" in dead_letter["error"]
    moved = [{"id": 1000 + n, "n": n + 1} for n in range(30) if n != 7]
    assert bench.tables.items(table) == [{"id": 7, "n": 8}, *moved[:7], {"id": 1007, "n": "in the way"}, *moved[7:]]


def test_put_delete_and_fan_out(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(pk="S", sk="N")
    orders = [{"pk": f"o{n}", "sk": 0, "lines": [{"n": n}, {"n": -n}]} for n in range(9)]
    bench.tables.put(table, *orders, {"pk": "old", "sk": 0, "expired": True})
    script = """
    def transform_up(item):
        if item.get("expired"):
            return Delete()
        if "lines" not in item:
            return item
        head = {"pk": item["pk"], "sk": 0, "count": len(item["lines"])}
        return [head, *(Put({"pk": item["pk"], "sk": i, **line}) for i, line in enumerate(item["lines"], 1))]
    """
    counts = bench.run(table, IDEMPOTENT + script.replace("\n    ", "\n"))
    assert counts.changed == 10 and counts.dead == 0
    expected = [
        row
        for n in range(9)
        for row in (
            {"pk": f"o{n}", "sk": 0, "count": 2},
            {"pk": f"o{n}", "sk": 1, "n": n},
            {"pk": f"o{n}", "sk": 2, "n": -n},
        )
    ]
    assert bench.tables.items(table) == expected
    (report,) = bench.up(table)
    assert report.versions == ()


def test_a_dofn_class_with_its_life_cycle(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(12))
    log = bench.folder / "life.txt"
    script = f"""
    import apache_beam as beam

    def note(word):
        with open({str(log)!r}, "a") as file:
            file.write(word + "\\n")

    class TransformUp(beam.DoFn):
        def setup(self):
            note("setup")
            self.factor = 3

        def start_bundle(self):
            note("start")

        def process(self, item, prepared):
            yield {{**item, "n": item["n"] * self.factor}}

        def finish_bundle(self):
            note("finish")

        def teardown(self):
            note("teardown")
    """
    assert bench.run(table, script) == Counts(read=12, changed=12)
    assert [item["n"] for item in bench.tables.items(table)] == [3 * (n + 1) for n in range(12)]
    words = log.read_text().split()
    assert words[0] == "setup" and words[-1] == "teardown" and words.count("setup") == words.count("teardown")
    assert words.count("start") == words.count("finish") >= 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_error_of_teardown_is_reported_and_leaves_the_result(
    bench: Bench, make_table: MakeTable, dry_run: bool
) -> None:
    table, lines = make_table(id="N"), list[Line]()
    bench.tables.put(table, {"id": 1})
    text = """
    class TransformUp:
        def process(self, item): return {**item, "seen": item.get("seen", 0) + 1}
        def teardown(self): raise IndexError("no such")
    """
    bench.script(table, "def transform_up(item): return {**item, 'first': True}" if dry_run else text)
    bench.script(table, text, 2)
    with captured(lines.append):
        (report,) = bench.up(table, dry_run=dry_run)
    assert report.error is None and [run.counts for run in report.versions] == [Counts(read=1, changed=1)] * 2
    found = [(line.level, line.table, line.version, line.message.partition(";")[0]) for line in lines]
    why = "TransformUp.teardown fails: IndexError: no such"
    numbers = [2] if dry_run else [1, 2]
    place = f"transforms/{table}/v{{}}_change.py:5"
    assert found == [("WARNING", table, number, f"{place.format(number)}: {why}") for number in numbers]
    assert [run.status for run in bench.history(table)] == ([] if dry_run else ["succeeded", "succeeded"])


def test_an_error_of_teardown_ends_neither_a_plan_nor_the_dry_run_of_a_retry(
    bench: Bench, make_table: MakeTable
) -> None:
    table, lines = make_table(id="N"), list[Line]()
    bench.tables.put(table, {"id": 1})
    text = """
    class TransformUp:
        def process(self, item): return {**item, "n": 1 // item["n"]}
        def teardown(self): raise IndexError("no such")
    """
    mended, asked = text.replace('item["n"]', "1"), RunOptions(dry_run=True)
    bench.failed(table, text)
    with captured(lines.append):
        bench.script(table, mended)
        (forecast,) = operations.forecast(bench.stage, bench.folder, [table], None, asked, 10)
        (run,) = bench.history(table)
        (tried,) = operations.retry(bench.stage, bench.folder, (), run.run, asked, bench.recorder)
    assert forecast.error is None
    assert tried.error is None and tried.versions[0].counts == Counts(read=1, changed=1)
    assert [line.level for line in lines] == ["WARNING"] * 2


# ---------------------------------------------------------------- a dry run


@pytest.mark.parametrize(
    "script",
    [
        "def transform_up(item):\n    return {**item, 'n': item['n'] * 2} if item['n'] % 3 else item\n",
        IDEMPOTENT + "def transform_up(item):\n    return {**item, 'id': item['id'] % 100 + 100}\n",
        IDEMPOTENT + "def transform_up(item):\n    return Delete() if item['n'] % 2 else item\n",
        "def items():\n    yield {'id': 1000, 'n': 1}\n",
    ],
    ids=["update", "re-key", "delete", "items"],
)
def test_a_dry_run_writes_nothing_and_predicts_the_counts(bench: Bench, make_table: MakeTable, script: str) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(25))
    foreseen = bench.succeeded_dry(table, script)
    assert bench.tables.items(table) == numbered(25)
    assert bench.history(table) == [] and bench.applied(table) == []
    assert foreseen.status == "dry-run" and foreseen.consumed.wcu > 0 and foreseen.samples
    assert foreseen.cost is not None and foreseen.cost.usd is None  # an emulator costs nothing

    report = bench.succeeded(table, script)
    assert report.counts.changed == foreseen.counts.changed > 0 and report.cost is None
    # DynamoDB Local charges each table of a transaction with the whole of it.
    most = foreseen.cost.wcu_most * (2 if "items()" in script else 1)
    assert foreseen.cost.wcu == foreseen.consumed.wcu <= report.consumed.wcu <= most
    assert bench.tables.items(table) != numbered(25)


def test_a_dry_run_of_a_failing_version_fails_and_writes_nothing(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *people(8), {"id": "nameless", "n": 0})
    report = bench.failed(table, SPLIT, dry_run=True)
    assert isinstance(report.error, DeadLetters) and len(bench.dead_letters(report)) == 1
    assert bench.history(table) == [] and not any("first" in item for item in bench.tables.items(table))


# ---------------------------------------------------------------- keys of every kind

KEYS: dict[str, tuple[dict[str, str], list[Item]]] = {
    "numeric": ({"id": "N"}, [{"id": Decimal(n) / 8} for n in range(-9, 9)]),
    "digits": ({"id": "N"}, [{"id": Decimal(f"-1234567890123456789012345678901234567{n}")} for n in range(5)]),
    "binary": ({"id": "B"}, [{"id": bytes([n, 0, 255])} for n in range(9)]),
    "composite": ({"pk": "S", "sk": "N"}, [{"pk": f"p{n % 3}", "sk": n} for n in range(9)]),
    "binary-range": ({"pk": "B", "sk": "B"}, [{"pk": b"\x00", "sk": bytes([n])} for n in range(9)]),
    "odd-names": ({"my key": "S", 'the "other"': "S"}, [{"my key": "é'\"", 'the "other"': f"#{n}"} for n in range(9)]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind(bench: Bench, make_table: MakeTable, kind: str) -> None:
    key, rows = KEYS[kind]
    table = make_table(**key)
    before = [{**row, "name": f"A{number} B", "n": number} for number, row in enumerate(rows)]
    bench.tables.put(table, *before)
    assert bench.run(table, SPLIT) == Counts(read=len(rows), changed=len(rows))
    after = sorted(bench.tables.items(table), key=lambda item: item["n"])
    assert after == [{**item, "first": f"A{item['n']}", "last": "B"} for item in before]
    (report,) = bench.down(table)
    assert report.error is None, report.error
    assert sorted(bench.tables.items(table), key=lambda item: item["n"]) == before


def test_an_empty_table(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    assert bench.run(table, SPLIT) == Counts()
    assert bench.applied(table) == [1]


def test_two_stages_keep_their_histories_apart(bench: Bench, make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table(id="S")
    bench.run(table, NOTHING)
    other = replace(bench.stage, state_table=make_table(pk="S", sk="S"))
    assert operations.history(other, bench.folder, [table]) == {table: []}
    assert bench.applied(table) == [1]
