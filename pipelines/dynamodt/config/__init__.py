"""`dynamodt.toml` and the environment, as stages."""
