"""Version files that are right, and ones that are wrong: what `check` must pass, and what it must catch."""
