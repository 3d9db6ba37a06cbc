"""What a job in AWS has answered to its command: a row of the state table for each of its runs, written at its end."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from dynamodt.aws.rows import RowKey, Rows

_MOST_CHARACTERS = 300_000  # of the 400 KB that an item may have
_SHORT = ("error", "release", "build")


class JobAnswer(NamedTuple):
    """The JSON object that the command's `--json` prints, and its exit code."""

    document: dict[str, Any]
    exit_code: int


class AnswerRows:
    """The answers of a stage's jobs. Every method raises ServiceError when the state table cannot be used."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def read(self, job_run: str) -> JobAnswer | None:
        """What a run has answered, strongly consistent; None before its end, or when it has died."""
        row = self._rows.get(_key(job_run))
        return None if row is None else JobAnswer(json.loads(row["document"]), int(row["exit_code"]))

    def write(self, job_run: str, answer: JobAnswer) -> None:
        """Keep what a run answers. Of a document beyond what a row can hold, the error and the release are kept."""
        text = json.dumps(answer.document)
        if len(text) > _MOST_CHARACTERS:
            text = json.dumps({name: answer.document[name] for name in _SHORT if name in answer.document})
        self._rows.put(_key(job_run), {"document": text, "exit_code": answer.exit_code})


def _key(job_run: str) -> RowKey:
    return f"JOB#{job_run}", "ANSWER"
