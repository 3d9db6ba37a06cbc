"""Guarantee G1 under load: a table is migrated while two processes write to it as fast as they can."""

from __future__ import annotations

import pytest

from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.live_writers import migrate_under_writers


@pytest.mark.slow
@dynamodb_local_in_chaos
def test_live_writes_always_win_and_every_item_is_doubled_exactly_once(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable
) -> None:
    migrate_under_writers(endpoint, bench, make_table(id="N"))
