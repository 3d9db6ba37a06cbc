"""Beam connectors for DynamoDB, for any pipeline: no state table, no lease and no version."""

from __future__ import annotations

from dynamodt.io.export import ExportChange, ExportItems, ReadAllFromDynamoDBExport, ReadFromDynamoDBExport
from dynamodt.io.read import ReadAllFromDynamoDB, ReadFromDynamoDB
from dynamodt.io.segments import ReadRequest
from dynamodt.io.write import FailedWrite, WriteError, WriteOutcome, WriteToDynamoDB
from dynamodt.state.journal import UnreadableLine

__all__ = [
    "ExportChange",
    "ExportItems",
    "FailedWrite",
    "ReadAllFromDynamoDB",
    "ReadAllFromDynamoDBExport",
    "ReadFromDynamoDB",
    "ReadFromDynamoDBExport",
    "ReadRequest",
    "UnreadableLine",
    "WriteError",
    "WriteOutcome",
    "WriteToDynamoDB",
]
