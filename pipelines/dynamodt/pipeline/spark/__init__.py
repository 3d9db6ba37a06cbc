"""Beam's own Spark runner on an existing Spark: Glue's, or one started on this machine."""
