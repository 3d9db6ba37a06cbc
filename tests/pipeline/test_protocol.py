"""The protocol of guarantees G1, G2, G3 and G5, explored exhaustively: the conditions hold in every state of every
interleaving of two owners, an application, a message that is lost or late or whose answer is lost, and an undo. A build
tries the scenes of `QUICK`, and `make test-chaos` all of them. The last test shows the purpose of the
conditions in `NEEDED`: without any one of them a scene fails. Other tests cover the conditions that it does not name,
such as `tests/unit/test_conflicts.py` and `tests/pipeline/test_moved.py`."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

from dynamodt.export.request import folder_of
from dynamodt.model.runs import ExportSource
from dynamodt.pipeline import migrate
from dynamodt.pipeline.ownership import SplitOwnership
from dynamodt.pipeline.write_page import PageWriter
from dynamodt.state import split_rows
from tests.explorer import EXPLORED, Explored, acting, explore
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB
from tests.inline import without_signatures, without_threads
from tests.protocol_exports import ARN, SPEC, exported
from tests.protocol_without import REMOVALS
from tests.protocol_world import Scene, World, items_of

S = Scene
EXPORTED = ("move", "fan", "lone")  # a scan would read their insertions
UNDONE = [  # by one owner, and a replay without dead letters
    S((kind,), act=act, then="retry", undo="once", export=kind in EXPORTED)
    for kind, act in (
        ("update", "add"),
        ("fan", "touch"),
        ("update", "delete"),
        ("move", "drop"),
        ("delete", "create"),
    )
]
QUICK = [
    *UNDONE,
    S(("update",), export=False),
    S(("update",), act="add", gone=True, export=False),
    S(("move",), act="note", gone=True),
    S(("move",), act="edit", then="retry", undo="once"),
    S(("target",), export=False),
    S(("fan",)),
    S(("delete",), undo="once", export=False),
    S(("move",), fault="late", undo="crash"),
    S(("delete", "freed"), gone=True, splits=2),
    *(S((kind,) * 3, fault="repeated", undo="once") for kind in ("move", "fan")),
    *(S((kind,), act="note", gone=True, export=kind != "target") for kind in ("lone", "fan", "target")),
    S(("lone",), act="taken", gone=True),
    S(("extra",), act="extra", gone=True, export=False),
    S(("delete", "alike"), gone=True, splits=2),
]
THOROUGH = [
    S(("update",), act="note", gone=True, export=False),
    S(("sees",), act="note", gone=True, export=False),
    S(("delete",), export=False),
    S(("move",)),
    S(("lone",)),
    S(("update",), undo="once", export=False),
    S(("target",), undo="once", export=False),
    S(("fan",), act="takes", fault="twice", then="retry", undo="once"),
    S(("move",), act="takes", fault="twice", then="retry", undo="once"),
    S(("fan",), act="again", fault="twice", then="window", undo="once"),
    S(("update",), act="note", export=False),
    S(("update",), act="add", export=False),
    S(("update",), act="create"),
    S(("update",), fault="reset", export=False),
    S(("update", "update"), export=False),
    S(("update", "update"), page=2, export=False),
    S(("update",), act="delete", export=False),
    S(("update",), act="replace", export=False),
    S(("update",), act="unstamp", stamp=True, export=False),
    S(("update",), fault="lost", export=False),
    S(("update",), fault="late", rows=True, export=False),
    S(("move",), act="delete"),
    S(("lone",), act="taken"),
    *(S((kind,), act="taken", gone=True, export=kind != "target") for kind in ("move", "fan", "target")),
    S(("extra",), act="extra", undo="once", export=False),
    S(("update",), fault="reset", rows=True, gone=True, export=False),
    *(S(("delete", "alike"), fault=fault, gone=True) for fault in ("late", "twice")),
    *(S(("delete", kind), fault="late", undo="crash") for kind in ("alike", "alikes")),
    S(("move", "alike"), fault="twice", undo="crash"),
    S(("move", "alike"), gone=True, undo="crash"),
    S(("move", "freed"), gone=True, undo="crash"),
    S(("update",), act="returns", gone=True, undo="once", export=False),
    *(S((kind, "alike"), gone=True, splits=2, undo="once") for kind in ("delete", "move")),
    S(("update", "freed"), page=2),
    S(("move",), fault="reset"),
    S(("move",), fault="late"),
    S(("fan",), fault="reset"),
    S(("fan",), fault="late"),
    S(("move",), undo="once"),
    S(("fan",), undo="once"),
    S(("lone",), undo="once"),
    S(("update",), act="note", undo="once", export=False),
    S(("update",), undo="crash", export=False),
    S(("move",), undo="crash"),
    S(("update",), act="add", dead=3, export=False),  # after the claim
    S(("update",), act="note", dead=6, export=False),  # after the intent
    S(("update", "update"), page=2, act="add", dead=7, export=False),  # between two statements
    S(("move",), dead=7),
    S(("update",), act="same", export=False),
    S(("update",), act="note", stamp=True, export=False),
    S(("update",), act="add", stamp=True, export=False),
    S(("update",), act="same", stamp=True, export=False),
    S(("update", "update"), undo="once", export=False),
    S(("lone",), act="drop"),
    S(("target",), act="drop", export=False),
    *(
        S((kind,), act=act, gone=True, undo=undo, export=kind in EXPORTED)
        for kind in ("lone", "fan", "target")
        for act, undo in (("add", ""), ("delete", ""), ("replace", ""), ("delete", "once"))
    ),
    *(
        S((kind, kind), fault=fault, rows=rows, gone=True, export=kind in EXPORTED)
        for kind in ("update", "delete", "lone", "move", "fan")
        for rows, fault in ((False, "late"), (False, "reset"), (False, "twice"), (True, "late"), (True, "reset"))
    ),
    *(
        S(("target",), fault=fault, rows=rows, gone=True, export=False)
        for rows, fault in ((False, "late"), (False, "reset"), (False, "twice"), (True, "late"), (True, "reset"))
    ),
    *(
        S((kind,), fault=fault, rows=rows, undo="crash", export=kind in EXPORTED)
        for kind in ("update", "delete", "target", "lone")
        for rows, fault in ((False, "late"), (False, "reset"), (False, "twice"), (True, "late"), (True, "reset"))
    ),
    S(("update", "freed"), page=2, act="delete", gone=True, undo="once"),
    *(S((kind, "freed"), gone=True, splits=2, undo="once") for kind in ("delete", "move")),
    S(("move", "meets"), gone=True, splits=2, undo="once"),
    *(S(("delete", "freed"), act=act, gone=True, splits=2) for act in ("note", "add", "delete")),
    *(S(("delete", "freed"), fault=fault, gone=True, splits=2) for fault in ("reset", "late")),
    *(S((kind,), act="takes", fault="twice", then="retry", corrected=True, undo="once") for kind in ("fan", "move")),
    S(("move",), fault="twice", undo="crash"),
    S(("move",), fault="late", rows=True, undo="crash"),
    *(S((kind, kind), fault="repeated", gone=True, export=kind in EXPORTED) for kind in ("update", "delete", "lone")),
    *(S((kind,), act="note", fault="repeated", gone=True, export=False) for kind in ("update", "delete")),
    S(("update",), act="note", fault="late", undo="crash", export=False),
    S(("update",), act="add", fault="late", undo="crash", export=False),
    S(("outdated",), act="note", gone=True, export=False),
    S(("spread",), act="extra", gone=True),
    S(("once",), act="done", stamp=True, gone=True, undo="once", export=False),
    S(("delete",), act="delete", gone=True, undo="once", export=False),
    *(S(("delete",), act="delete", fault=fault, gone=True, undo="once", export=False) for fault in ("reset", "twice")),
    S(("delete",), act="delete", fault="late", undo="crash", export=False),
    *(S(("move",), act=act, fault="reset", undo="crash") for act in ("delete", "replace", "drop")),
    *(S(("pair",), act=act, then="retry", undo="crash") for act in ("delete", "replace")),
    S(("move",), act="edit", gone=True, undo="crash"),
    *(S(("move",), act="edit", fault=fault, undo="crash") for fault in ("reset", "late", "repeated")),
    *(
        S(("move", kind), act="edit", then="retry", undo=undo)
        for kind in ("freed", "meets")
        for undo in ("once", "crash")
    ),
    S(("delete",), fault="repeated", then="retry", undo="once", export=False),
    S(("delete",), act="create", fault="reset", then="retry", undo="once", export=False),
    *(S(("row", kind), act="touch", gone=True, undo="once", export=False) for kind in ("row", "clash")),
    *(S(("row",), act=act, gone=True, export=False) for act in ("taken", "drop", "touch")),
    *(S(("row",), act=act, fault="reset", gone=True, export=False) for act in ("", "drop", "taken")),
    S(("row",), act="takes", fault="twice", then="replay", undo="once", export=False),
    *(S(("row",), fault=fault, undo="crash", export=False) for fault in ("late", "twice")),
    *(S(("picky",), act="flips", fault="twice", then=then, export=False) for then in ("retry", "replay")),
    S(("delete", "freed"), fault="reset", gone=True, splits=2, idempotent=True),
    S(("move",), fault="reset", undo="crash", idempotent=True),
    *(S(("update",), act=act, fault="repeated", gone=True, export=False, idempotent=True) for act in ("same", "add")),
    S(("delete",), act="delete", gone=True, undo="once", export=False, idempotent=True),
    *(S(("fan",), act=act, gone=True, guard=True) for act in ("extra", "note")),
    S(("update",), act="note", gone=True, undo="once", export=False, guard=True),
    S(("update",), act="add", gone=True, export=False, guard=True),
    S(("extra",), act="extra", gone=True, export=False, guard=True),
    S(("delete",), act="note", gone=True, export=False, guard=True),
    S(("spread",), act="extra", fault="twice", undo="crash"),
    S(("spread",), act="extra", fault="late", gone=True),
    S(("fan",), act="takes-adds", fault="twice", then="replay", undo="once"),
]
NEEDED = [
    ("claims_condition", S(("update",), export=False), "transformed twice|fenced by none"),
    ("recorded_intents", S(("update",), export=False), "transformed twice"),
    ("intents_of_new_changes", S(("update",), act="add", export=False), "transformed twice"),
    ("recognition", S(("update",), export=False), "transformed twice"),
    ("refusal_to_guess", S(("update",), act="add", export=False), "transformed twice"),
    ("guard_of_updates", S(("update",), act="add", export=False), "a live write is lost"),
    ("guard_of_updates", S(("update",), act="add", fault="late", undo="crash", export=False), "a live write is lost"),
    (
        "page_of_checkpoints",
        S(("update", "update"), fault="late", rows=True, gone=True, export=False),
        "the second owner has not finished",
    ),
    (
        "page_of_intents",
        S(("update", "update"), fault="late", rows=True, gone=True, export=False),
        "twice|fenced by none",
    ),
    ("source_of_insertions", S(("move",), act="note"), "a live write is lost"),
    *(
        ("check_of_sources", S((kind,), act="note", gone=True, export=kind == "lone"), "made of an item")
        for kind in ("lone", "target")
    ),
    ("guard_beside_insertions", S(("fan",), act="note", gone=True), "made of an item"),
    *(
        ("free_key_of_insertions", S((kind,), act="taken", gone=True, export=kind != "target"), "is lost")
        for kind in ("lone", "move", "fan", "target")
    ),
    ("absence_of_new_attributes", S(("extra",), act="extra", gone=True, export=False), "a live write is lost"),
    ("recognition_of_own_rows", S(("update",), fault="reset", rows=True, gone=True, export=False), "fenced by none"),
    ("absence_of_own_item", S(("delete", "alike"), fault="late", gone=True), "lost: 1"),
    ("sources_at_taken_keys", S(("delete", "alike"), gone=True, splits=2), "lost: 1"),
    ("rows_of_removed_items", S(("delete", "alikes"), fault="late", undo="crash"), "lost by the undo"),
    ("absence_of_rows", S(("lone",), act="drop"), "inserted again"),
    ("rows_of_undo", S(("delete",), act="delete", fault="reset", undo="once", export=False), "deleted, and back"),
    ("moved_items_that_were_put_back", S(("pair",), act="delete", then="retry", undo="crash"), "deleted, and back"),
    (
        "rows_of_refused_transactions",
        S(("fan",), act="takes", fault="twice", then="retry", undo="once"),
        "transformed twice",
    ),
    (
        "rows_of_earlier_transactions",
        S(("fan",), act="takes", fault="twice", then="retry", undo="once"),
        "transformed twice",
    ),
    (
        "rows_of_earlier_transactions",
        S(("fan",), act="again", fault="twice", then="window", undo="once"),
        "transformed twice",
    ),
    (
        "rows_in_undo",
        S(("fan",), act="takes", fault="twice", then="retry", undo="once"),
        "neither restored nor reported",
    ),
    ("rows_in_undo", S(("move",), act="takes", fault="twice", then="retry", undo="once"), "lost by the undo"),
    ("insertions_that_are_met", S(("delete", "freed"), gone=True, splits=2), "lost"),
    ("rows_read_last", S(("move",)), "counted as what it is not"),
    ("token_of_intents", S(("update",), undo="once", export=False), "neither restored|fenced by none"),
    ("token_of_checkpoints", S(("update", "update"), undo="once", export=False), "neither restored|fenced by none"),
    *(
        (name, S(("update",), export=False), fault)
        for name, fault in (
            ("attempt_of_claims", "fenced by none"),
            ("absence_of_first_claim", "transformed twice"),
            ("page_of_claims", "fenced by none"),
            ("intent_of_claims", "transformed twice|fenced by none"),
            ("token_of_claims", "transformed twice|fenced by none"),
            ("intents_of_previous_owners", "transformed twice|fenced by none"),
            ("counts_of_intents", "the balance does not hold"),
            ("splits_that_are_done", "transformed twice"),
            ("doubts_that_are_written", "transformed twice"),
        )
    ),
    ("owner_of_claims", S(("update",), act="add", dead=3, export=False), "twice|fenced by none"),
    ("doubts_that_are_unclear", S(("update",), act="add", gone=True, export=False), "transformed twice"),
    ("sources_that_are_deleted", S(("move",), act="taken", gone=True), "lost: 0"),
    (
        "changes_of_earlier_phases",
        S(("fan",), act="takes", fault="twice", then="retry", undo="once"),
        "transformed twice",
    ),
    (
        "items_that_are_only_updated",
        S(("update", "freed"), page=2, act="delete", gone=True, undo="once"),
        "there twice after the undo",
    ),
    ("equal_items_of_deletions", S(("move", "alike"), gone=True, splits=2, undo="once"), "lost by the undo"),
    ("last_pages_first", S(("move", "freed"), gone=True, undo="crash"), "not restored without need"),
    ("owners_of_notes", S(("update",), act="returns", gone=True, undo="once", export=False), "neither restored"),
    *(
        (name, S(("move", kind), gone=True, splits=2, undo="once"), fault)
        for name, kind, fault in (
            ("own_items_at_taken_keys", "freed", "not restored without need"),
            ("own_items_that_are_equal", "alike", "lost by the undo"),
            ("sources_that_wait", "freed", "not restored without need"),
            ("items_that_follow", "freed", "not restored without need"),
        )
    ),
    ("parts_of_periods", S(("update",), undo="once", export=False), "neither restored nor reported"),
    *(
        (name, S(("once",), act="done", stamp=True, gone=True, undo="once", export=False), "a live write is lost")
        for name in ("notes_of_pages", "void_keys_in_undo")
    ),
    ("guard_of_deletions", S(("outdated",), act="note", gone=True, export=False), "changed before"),
    ("absence_of_new_attributes_beside_insertions", S(("spread",), act="extra", gone=True), "a live write is lost"),
    *(
        (name, S(("delete",), act="delete", gone=True, undo="once", export=False), "deleted, and back")
        for name in ("confirmed_deletions", "doubt_about_deletions", "notes_of_pages", "unconfirmed_deletions_in_undo")
    ),
    ("removal_once", S(("delete", "alikes"), fault="late", undo="crash"), "lost by the undo"),
    ("recognition_after_refusals", S(("update",), fault="repeated", gone=True, export=False), "twice"),
    ("stamp_that_is_missing", S(("update",), act="unstamp", stamp=True, gone=True, export=False), "transformed twice"),
    ("rows_of_doubtful_transactions", S(("fan",), fault="reset", gone=True), "transformed twice"),
    (
        "doubt_about_refused_deletions",
        S(("delete",), fault="repeated", then="retry", undo="once", export=False),
        "lost by the undo",
    ),
    ("deletion_that_counts", S(("delete",), fault="reset", gone=True, export=False), "counted as what it is not"),
    (
        "doubt_about_replaced_items",
        S(("delete",), act="create", fault="reset", then="retry", undo="once", export=False),
        "lost by the undo",
    ),
    (
        "own_rows_after_refusals",
        S(("fan",), act="takes", fault="twice", then="retry", undo="once"),
        "transformed twice",
    ),
    ("values_at_taken_keys", S(("move",), act="taken", gone=True), "lost: 0"),
    ("guard_of_undo", UNDONE[0], "a live write is lost"),
    ("values_that_were_written", UNDONE[0], "a live write is lost"),
    ("items_that_were_inserted", UNDONE[1], "a live write is lost"),
    ("items_that_were_deleted", UNDONE[2], "deleted, and back"),
    ("moved_items_that_were_deleted", UNDONE[3], "inserted again"),
    ("keys_taken_since_deletions", UNDONE[4], "a live item is lost by the undo"),
    ("splits_that_are_undone", S(("same",), undo="once", export=False), "has not finished"),
    ("last_pages_of_undo", S(("update",), undo="once", export=False), "has not finished"),
    ("rows_of_items", S(("row",), act="taken", gone=True, export=False), "ended by an error|nobody says so"),
    ("other_rows_of_items", S(("row", "clash"), gone=True, undo="once", export=False), "nothing was put"),
    ("equal_rows_of_items", S(("row",), fault="reset", gone=True, export=False), "a dead letter without need"),
    ("items_at_keys_of_rows", S(("row",), act="taken", gone=True, export=False), "nobody says so"),
    ("guard_of_changed_attributes", S(("update",), act="add", gone=True, export=False, guard=True), "a live write"),
    ("whole_guard_beside_insertions", S(("fan",), act="note", gone=True, guard=True), "made of an item"),
    ("guard_of_items", S(("sees",), act="note", gone=True, export=False), "made of an item"),
    (
        "absence_with_guard_of_changed_attributes",
        S(("extra",), act="extra", gone=True, export=False, guard=True),
        "a live write is lost",
    ),
    ("values_of_refused_updates", S(("picky",), act="flips", fault="twice", then="replay", export=False), "twice"),
]


class Suspended(SplitOwnership):
    """Its split may be taken over right after each check of the owner, so that no check protects a write."""

    def check_owner(self) -> None:
        pass


@lru_cache
def exported_items(kinds: int, splits: int) -> tuple[FakeObjects, ExportSource]:
    """An export of the items of a scene, a file for each split."""
    table, objects = FakeDynamoDB(SPEC), FakeObjects()
    table.put(*items_of(Scene(("update",) * kinds)))
    return objects, ExportSource("bucket", folder_of(exported(table, objects, files=splits)).key, ARN)


@pytest.fixture
def scripts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scripts. Without threads, polls and random numbers a schedule determines all events."""
    without_threads(monkeypatch)
    without_signatures(monkeypatch)
    monkeypatch.setattr(migrate, "SplitOwnership", Suspended)
    monkeypatch.setattr(split_rows.secrets, "token_hex", lambda size: acting())
    monkeypatch.setattr(random, "random", lambda: 0.5)
    monkeypatch.setitem(PageWriter.__init__.__kwdefaults__, "dice", random.random)
    return tmp_path_factory.mktemp("transforms")


def explored(folder: Path, scene: Scene) -> Explored:
    objects, source = exported_items(len(scene.kinds), scene.splits) if scene.export else (None, None)
    return explore(lambda: World(scene, folder, objects, source))


@pytest.mark.slow
@pytest.mark.parametrize("scene", [*QUICK, *(pytest.param(s, marks=pytest.mark.chaos) for s in THOROUGH)], ids=str)
def test_every_interleaving(scripts: Path, scene: Scene, record_property: Callable[[str, object], None]) -> None:
    found = explored(scripts, scene)
    record_property(EXPLORED, [str(scene), found.interleavings, found.states, found.ends])
    assert found.interleavings > 100


@pytest.mark.chaos
@pytest.mark.parametrize(("name", "scene", "fault"), NEEDED, ids=[name for name, _, _ in NEEDED])
def test_each_condition_is_needed(
    scripts: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    scene: Scene,
    fault: str,
) -> None:
    REMOVALS[name](monkeypatch)
    with pytest.raises(AssertionError, match=fault):
        explored(scripts, scene)
