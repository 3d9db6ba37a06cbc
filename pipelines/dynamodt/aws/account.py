"""Whose credentials these are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained

if TYPE_CHECKING:
    from dynamodt.model import Connection


def account_id(connection: Connection) -> str:
    """The account that the connection's credentials are of. Raises ServiceError when they are not valid."""
    with explained("GetCallerIdentity", f"region {connection.region}"):
        return str(client(connection, "sts").get_caller_identity()["Account"])
