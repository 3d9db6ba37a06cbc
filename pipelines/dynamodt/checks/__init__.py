"""`dynamodt check`: tests the properties of a version on a sample of items and on variants of them, without writing to
the table."""
