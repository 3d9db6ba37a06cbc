"""The Glue job that moves tables: one command of dynamodt, over the Spark that Glue has started.

Arguments: --stage NAME, --project s3://.../project.zip, --command "up --table users --to 3" (dynamodt's own words).

The command's code (1, 2 or 3) is the script's, so that Glue sees a job FAILED; its error is the last thing that is
printed. A run that leaves dead letters prints a line `dynamodt: dead letters: 3`, for a metric filter to count.
"""

import sys

from awsglue.utils import getResolvedOptions
from pyspark import SparkContext

from dynamodt.cli.job import carry_out

SparkContext.getOrCreate()  # Glue's own, before anything else might make one
code = carry_out(getResolvedOptions(sys.argv, ["stage", "project", "command"]), "--runner", "spark")
if code:  # SystemExit of a success has been taken for a failure
    sys.exit(code)
