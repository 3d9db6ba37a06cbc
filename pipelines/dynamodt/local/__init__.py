"""The embedded stage: an AWS emulator on this machine, its process, its tables and its data."""
