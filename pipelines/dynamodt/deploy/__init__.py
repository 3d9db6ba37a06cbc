"""dynamodt in AWS: one stack per stage, the parts of its jobs, and the commands that run in them."""
