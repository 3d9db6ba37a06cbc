"""Whole runs with an unusual network or unusual credentials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.model.pages import Counts
from tests import networks
from tests.emulators import Endpoint
from tests.networks import CA, tls_before
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.proxy import Proxy

pytestmark = pytest.mark.endpoints("ministack")
DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2}\n'


@pytest.mark.parametrize("no_proxy", ["", "localhost"])
def test_a_run_behind_a_proxy_with_a_private_ca(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    """Every connection of both clients to the endpoint is a tunnel of the proxy, except with NO_PROXY."""
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number, "n": number} for number in range(60)))
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with tls_before(endpoint.url) as front, networks.proxy(user="me:secret") as passed:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{passed.port}")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(CA))
        if no_proxy:
            monkeypatch.setenv("NO_PROXY", no_proxy)
        behind = replace(bench.stage, connection=replace(endpoint.connection, endpoint_url=front.url))
        assert replace(bench, stage=behind).run(table, DOUBLE) == Counts(read=60, changed=59, unchanged=1)
        assert front.connections >= 2  # of the wire, and of botocore
        assert len(passed.tunnels) == (0 if no_proxy else front.connections)
    assert [item["n"] for item in bench.tables.items(table)] == [2 * number for number in range(60)]


def test_credentials_that_expire_end_a_run_that_continues_with_others(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    bad_line.tables.put(table, *({"id": number, "n": 1} for number in range(30)))
    proxy.always["BatchExecuteStatement"] = "expired"
    report = bad_line.failed(table, DOUBLE)
    assert "ExpiredTokenException" in str(report.error) and "renew them" in report.error.hint  # type: ignore[union-attr]
    (run,) = report.versions
    assert (run.counts.dead, run.dead_letters) == (0, "")
    assert proxy.calls["BatchExecuteStatement"] <= 2  # those in flight, and no try more
    proxy.always.clear()
    assert bad_line.run(table, DOUBLE).changed == 30
    assert {item["n"] for item in bad_line.tables.items(table)} == {2}
