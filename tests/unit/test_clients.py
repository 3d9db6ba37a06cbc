"""Clients of one connection, made one after the other."""

from __future__ import annotations

from dynamodt.dynamodb.clients import client
from dynamodt.model.tables import Connection


def test_a_client_of_s3_has_its_transfer_methods_whichever_client_was_made_before() -> None:
    connection = Connection("eu-west-1", "http://127.0.0.1:9", access_key="k", secret_key="s")
    made = [client(connection, service) for service in ("dynamodb", "glue", "s3", "logs")]
    assert hasattr(made[2], "upload_fileobj") and client(connection, "s3") is made[2]
    assert hasattr(client(connection, "s3", attempts=1), "upload_fileobj")
