"""The seeds that a fuzzer tries."""

from __future__ import annotations

import os


def seeds_to_try(default: str) -> list[int]:
    """Those of `DYNAMODT_SEEDS`, such as `7` or `0-299,20260131`, or the default ones."""
    return [seed for words in os.environ.get("DYNAMODT_SEEDS", default).split(",") for seed in _seeds(words)]


def _seeds(words: str) -> range:
    first, _, last = words.partition("-")
    return range(int(first), int(last or first) + 1)
