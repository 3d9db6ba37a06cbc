"""Beam's own Spark runner, inside a Spark that is there already: Glue's, or one started on this machine.

`jar` has the Java side built, `context` finds or starts the Spark, `runner` hands the pipeline over to it, and
`harness` is what the executors start to run Python. `docs/adr/009` says why no job server is needed.
"""
