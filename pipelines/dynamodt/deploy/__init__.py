"""dynamodt in AWS: one stack per stage, what its jobs are made of, and the commands that run in them."""
