"""Exports of the fake table, and jobs that read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dynamodt.export.request import Export, ExportRequest, folder_of
from dynamodt.export.stand_in import StandInExports
from dynamodt.model.runs import ExportSource, Job
from tests.pipeline.conftest import Bench

FILES = 4  # the stand-in's files
ARN = "arn:aws:dynamodb:local:0:table/things"


@dataclass
class Exporter:
    """The table's exports, and the jobs that read them."""

    bench: Bench
    now: float = 1_700_000_000.0
    number: int = 0

    def describe_table(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        return {"Table": {"TableArn": ARN, "TableId": "i-1"}}

    def export(self, since: Export | None = None) -> Export:
        """A full export, or the changes since one."""
        self.number += 1
        exports = StandInExports(self, self.bench.dynamodb, self.bench.objects, "bucket", "p", self._clock)
        moment = since and (since.at or since.until)
        made = exports.request(ExportRequest(self.bench.dynamodb.spec, f"token {self.number}", since=moment))
        self.bench.dynamodb.calls.clear()
        return made

    def _clock(self) -> float:
        self.now += 1
        return self.now

    def job(self, export: Export, text: str, **source: Any) -> Job:
        """Reads a full export."""
        return self.bench.job(text, splits=FILES, source=ExportSource("bucket", folder_of(export).key, ARN, **source))

    def window(self, job: Job, number: int, export: Export, **source: Any) -> Job:
        """The phase of the same run that reads an incremental export."""
        assert job.export is not None
        folder = folder_of(export).key
        source = {"created_only": not job.script.idempotent, **source}
        return replace(
            job,
            run=f"{job.base_run}/incremental{number}",
            source=ExportSource("bucket", folder, ARN, incremental=True, **source),
        )


def by_id(bench: Bench) -> dict[int, Any]:
    return {int(item["id"]): item["n"] for item in bench.items()}
