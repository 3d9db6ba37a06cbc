"""The tests, by what they need: unit, pipeline, service, e2e."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
