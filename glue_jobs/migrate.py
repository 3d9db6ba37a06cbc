"""The Glue job that migrates tables: runs one command of dynamodt on the Spark that Glue has started.

Arguments: --stage NAME, --project s3://.../project.zip, --owner ACCOUNT (of its bucket), --region REGION (the job's),
--command "up --table users --to 3" (dynamodt's own words), --by NAME and --commit HASH (of the caller, for the
history), and of a trigger: --automatic true.

The script exits with the command's code (1, 2 or 3), so that Glue reports FAILED; the error is printed last. A run with
dead letters prints a line `dynamodt: dead letters: 3`, which a metric filter counts.
"""

import sys

from awsglue.utils import getResolvedOptions
from pyspark import SparkContext

from dynamodt.cli.job import carry_out

SparkContext.getOrCreate()  # Glue's own, before another one is created
given = [name for name in ("by", "commit", "automatic") if f"--{name}" in sys.argv]
names = ["stage", "owner", "project", "region", "command", *given]
code = carry_out(getResolvedOptions(sys.argv, names), "--runner", "spark")
if code:  # Glue may report a failure for SystemExit(0)
    sys.exit(code)
