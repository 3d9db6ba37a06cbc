"""Right and wrong version files: `check` must report no fault of the former, and the stated fault of each of the
latter."""
