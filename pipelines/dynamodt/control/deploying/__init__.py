"""dynamodt in AWS: one stack a stage, and what its jobs are made of."""
