"""What a version is, tried on a sample of items and on variants of them: `dynamodt check`. It only reads."""
