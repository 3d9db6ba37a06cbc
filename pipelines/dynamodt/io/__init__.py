"""Beam connectors for DynamoDB, for any pipeline: no state table, no lease and no version."""
