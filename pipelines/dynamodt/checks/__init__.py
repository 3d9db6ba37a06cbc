"""Tests the properties of a version on a sample of items and on variants of them: `dynamodt check`. It only reads."""
