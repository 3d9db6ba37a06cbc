"""dynamodt's own table and storage: leases, splits, workers, runs, the journal and object keys."""
