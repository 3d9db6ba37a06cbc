"""Commands that run in a deployed Glue job, on both of its sides: here, and inside of it."""
