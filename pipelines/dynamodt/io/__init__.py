"""Beam connectors for DynamoDB, for any pipeline: no state table, no lease and no version."""

from __future__ import annotations

from dynamodt.io.export import (
    ExportChange,
    ExportItems,
    ReadAllFromDynamoDBExport,
    ReadFromDynamoDBExport,
    UnreadableLine,
)
from dynamodt.io.read import ReadAllFromDynamoDB, ReadFromDynamoDB
from dynamodt.io.requests import ReadRequest

__all__ = [
    "ExportChange",
    "ExportItems",
    "ReadAllFromDynamoDB",
    "ReadAllFromDynamoDBExport",
    "ReadFromDynamoDB",
    "ReadFromDynamoDBExport",
    "ReadRequest",
    "UnreadableLine",
]
