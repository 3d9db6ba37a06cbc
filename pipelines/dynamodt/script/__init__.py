"""A version file: read, checked, loaded and applied; items, diffs and versions."""
