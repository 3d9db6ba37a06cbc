"""For tools that still read this file. The metadata is in pyproject.toml."""

from setuptools import setup

setup()
