"""A table's way from one version to another: its lease, its runs and their passes, their rate, their end."""
