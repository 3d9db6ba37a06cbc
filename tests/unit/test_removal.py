"""The resources that a removal deletes or keeps: each table, bucket and key by evidence of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.deploy.buckets import OwnObjects
from dynamodt.deploy.removal import Evidence, FoundBucket, FoundKey, FoundTable, Neighbour, Origin, plan
from dynamodt.deploy.resources import DeployedBucket

MADE, TAGGED, FOUND = Origin("prod", True), Origin("prod", False), Origin("", False)
UNTAGGED, SHOPS, RETAGGED = Origin("", True), Origin("shop", False), Origin("shop", True)
KEY, HERE = "arn:aws:kms:r:1:key/k", DeployedBucket("files", "below/")
TABLE = FoundTable("state", MADE, KEY, (), ())
OWN = OwnObjects(*HERE)
FILES = FoundBucket(HERE, MADE, KEY, own=OWN)
ENCRYPTING = FoundKey(KEY, MADE, False)
ALL = Evidence("prod", TABLE, FILES, (ENCRYPTING,), ())


def kept(found: Evidence) -> list[str]:
    """The reasons of the kept resources; asserts that none of them is among the removed ones."""
    made = plan(found)
    names = {text.partition(":")[0] for text in made.removed} & {text.partition(":")[0] for text in made.kept}
    assert not names
    return list(made.kept)


def neighbour(
    bucket: DeployedBucket = DeployedBucket("other", ""), state_table: str = "other", key: str = ""
) -> Neighbour:
    return Neighbour("the stack dynamodt-shop", bucket, state_table, key)


@pytest.mark.parametrize("origin", [MADE, TAGGED, UNTAGGED])
def test_the_stage_s_own_resources_are_deleted(origin: Origin) -> None:
    found = replace(
        ALL,
        state_table=TABLE._replace(origin=origin),
        bucket=FILES._replace(origin=origin),
        keys=(ENCRYPTING._replace(origin=origin),),
    )
    made = plan(found)
    assert (made.state_table, made.objects, made.bucket, made.keys, made.kept) == ("state", OWN, "files", (KEY,), ())
    evidence = "of the stack" if origin.of_stack else "its tag names this stage"
    assert len(made.removed) == 3 and all(text.endswith(evidence) for text in made.removed)


@pytest.mark.parametrize(
    ("origin", "why"),
    [(FOUND, "no tag dynamodt:stage"), (SHOPS, "names the stage shop"), (RETAGGED, "names the stage shop")],
)
def test_each_resource_of_another_stage_stays(origin: Origin, why: str) -> None:
    """A tag of another stage overrides the stack's list: the other stage has created a new resource under the old
    name."""
    for found in (
        replace(ALL, state_table=TABLE._replace(origin=origin), keys=()),
        replace(ALL, bucket=FILES._replace(origin=origin), keys=()),
        replace(ALL, keys=(ENCRYPTING._replace(origin=origin),)),
    ):
        (reason,) = kept(found)
        assert why in reason
        assert len(plan(found).removed) == len([found.state_table, found.bucket, *found.keys]) - 1


def test_a_state_table_with_the_history_of_other_tables_stays_and_so_does_its_key() -> None:
    found = replace(ALL, state_table=TABLE._replace(strangers=("orders", "posts")))
    table, key = kept(found)
    assert "orders, posts" in table and "state table state, which is kept" in key
    assert plan(found).state_table == "" and plan(found).keys == () and plan(found).bucket == "files"


def test_a_state_table_with_a_live_lease_stays() -> None:
    found = replace(ALL, state_table=TABLE._replace(active=("users",)), keys=())
    assert "a run is active on users" in kept(found)[0]


def test_a_state_table_shared_with_another_stage_stays() -> None:
    found = replace(ALL, neighbours=(neighbour(state_table="state"),), keys=())
    assert "the stack dynamodt-shop" in kept(found)[0] and plan(found).bucket == "files"


def test_a_bucket_with_other_objects_loses_only_the_prefix() -> None:
    found = replace(ALL, bucket=FILES._replace(strangers=("photos/1",)))
    made = plan(found)
    assert (made.objects, made.bucket, made.keys) == (OWN, "", ())
    assert made.removed[0].startswith("objects below s3://files/below/")
    assert "photos/1" in made.kept[0] and "bucket files, which is kept" in made.kept[1]


def test_a_bucket_without_anything_of_the_stages_own_only_stays() -> None:
    made = plan(replace(ALL, bucket=FILES._replace(strangers=("photos/1",), own=None)))
    assert made.objects is None and not any("objects below" in text for text in made.removed)
    assert "photos/1" in made.kept[0]


@pytest.mark.parametrize("prefix", ["below/", "", "below/further/"])
def test_a_bucket_where_another_stages_prefix_lies_within_this_ones_or_around_it_stays_whole(prefix: str) -> None:
    found = replace(ALL, neighbours=(neighbour(bucket=DeployedBucket("files", prefix)),))
    assert "dynamodt-shop" in kept(found)[0]
    assert (plan(found).objects, plan(found).bucket, plan(found).keys) == (None, "", ())


def test_a_bucket_with_files_of_other_tables_below_the_same_prefix_stays_whole() -> None:
    found = replace(ALL, bucket=FILES._replace(tables=("orders",)))
    assert "orders" in kept(found)[0] and plan(found).objects is None


def test_a_prefix_beside_the_stage_s_does_not_keep_its_objects() -> None:
    """Objects below the other prefix keep the bucket."""
    assert plan(replace(ALL, neighbours=(neighbour(bucket=DeployedBucket("files", "beside/")),))).objects == OWN


def test_a_bucket_out_of_reach_stays() -> None:
    found = replace(ALL, bucket=FoundBucket(HERE, FOUND, "", (), (), "the bucket is not in r, but in s"), keys=())
    assert "not in r, but in s" in kept(found)[0]


def test_what_belongs_to_a_bucket_out_of_reach_stays() -> None:
    """Its objects are known by the state table, and are encrypted with the key."""
    found = replace(ALL, bucket=FoundBucket(HERE, FOUND, "", out_of_reach="s3:ListBucket is not granted"))
    bucket, table, key = kept(found)
    assert "not granted" in bucket and "cannot be read" in table and "which is kept" in key
    assert "may encrypt the bucket files" in kept(replace(found, state_table=None))[-1]


def test_a_key_that_the_caller_may_not_read_stays() -> None:
    (key,) = kept(replace(ALL, keys=(ENCRYPTING._replace(denied=True),)))
    assert "kms:DescribeKey" in key


def test_a_key_that_dynamodt_toml_names_stays_unless_the_stack_has_made_it() -> None:
    named = ENCRYPTING._replace(origin=TAGGED, named=True)
    assert "kms_key" in kept(replace(ALL, keys=(named,)))[0]
    assert plan(replace(ALL, keys=(named._replace(origin=MADE),))).keys == (KEY,)


def test_a_key_that_others_need_stays() -> None:
    assert "dynamodt-shop" in kept(replace(ALL, neighbours=(neighbour(key=KEY),)))[0]
    assert "encrypts users" in kept(replace(ALL, keys=(ENCRYPTING._replace(tables=("users",)),)))[0]
    assert "the bucket former" in kept(replace(ALL, keys=(ENCRYPTING._replace(bucket="former"),)))[0]


def test_missing_resources_are_not_listed() -> None:
    made = plan(Evidence("prod", None, None, (), ()))
    assert (made.removed, made.kept) == ((), ())


def test_an_orphaned_key_is_deleted_alone() -> None:
    assert plan(Evidence("prod", None, None, (ENCRYPTING._replace(origin=TAGGED),), ())).keys == (KEY,)
