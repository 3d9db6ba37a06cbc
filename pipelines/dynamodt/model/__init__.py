"""The values that travel between the parts: plain, immutable, picklable."""
