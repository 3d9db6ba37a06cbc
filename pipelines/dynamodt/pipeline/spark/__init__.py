"""Beam's own Spark runner inside a Spark that exists already: Glue's, or one started on this machine."""
