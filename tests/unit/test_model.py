"""The few values with methods; all values that are sent to workers can be pickled."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.model.pages import Counts, Units
from dynamodt.model.runs import Job, PreparedRef, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec

counts = st.builds(Counts, *[st.integers(0, 10**12)] * 6)
endings = st.lists(st.integers(0, 10**12), min_size=5, max_size=5)


@given(counts, counts, counts)
def test_counts_add_up_in_any_order(a: Counts, b: Counts, c: Counts) -> None:
    assert a.plus(b) == b.plus(a)
    assert a.plus(b).plus(c) == a.plus(b.plus(c))
    assert a.plus(Counts()) == a
    assert a.plus(b).vanished == a.vanished + b.vanished


@given(endings, endings)
def test_the_sum_of_balanced_counts_is_balanced(one: list[int], other: list[int]) -> None:
    a, b = (Counts(sum(ended), *ended) for ended in (one, other))
    assert a.balanced and b.balanced and a.plus(b).balanced


@given(endings, st.integers(0, 5), st.integers(1, 9))
def test_a_missing_item_breaks_the_balance(ended: list[int], place: int, astray: int) -> None:
    even = Counts(sum(ended), *ended)
    assert not even._replace(**{Counts._fields[place]: even[place] + astray}).balanced


def test_a_hint_s_command_reaches_what_the_stage_reaches() -> None:
    here = Connection("eu-west-1", profile="my profile", endpoints=(("KMS", "https://kms.example"),))
    keyed = (
        "aws kms enable-key --key-id k1 --region eu-west-1 --profile 'my profile' --endpoint-url https://kms.example"
    )
    assert here.aws_command("kms enable-key", "--key-id", "k1") == keyed
    assert Connection("us-east-1").aws_command("glue list-jobs") == "aws glue list-jobs --region us-east-1"


def test_units_add_up() -> None:
    assert Units(1.5, 2).plus(Units(0.5, 3)) == Units(2.0, 5)


def test_a_key_s_names_keep_their_order() -> None:
    assert TableSpec("t", (KeyAttribute("pk", "S"), KeyAttribute("a", "N"))).key_names == ("pk", "a")


def test_a_job_can_be_pickled_and_not_be_changed() -> None:
    table = TableSpec("users", (KeyAttribute("id", "S"),))
    stage = Stage("local", Connection("us-east-1"), StorageSpec("s3://b"), tables={"users": table.key})
    script = Script("users", 1, "a", "transforms/users/v1_a.py", "sequence = 1", "c0ffee")
    job = Job("run", stage, table, script, "up", 4, prepared=PreparedRef("url", 1, "sha", "c0ffee", "now"))
    assert pickle.loads(pickle.dumps(job)) == job
    with pytest.raises(FrozenInstanceError):
        job.run = "another"  # type: ignore[misc]
