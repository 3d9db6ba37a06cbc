"""The data plane: a Beam pipeline that reads, transforms, writes and records pages of items."""
