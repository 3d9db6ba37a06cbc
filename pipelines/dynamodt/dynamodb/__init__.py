"""DynamoDB: the wire, reads, batch writes, statements and a table's description."""
