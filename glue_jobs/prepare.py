"""The Glue job that runs a version's `prepare`, in the driver alone.

Arguments: --stage NAME, --project s3://.../project.zip, --owner ACCOUNT (of its bucket), --region REGION (the job's),
--command "prepare --table users --tNumber 3".
The script exits with the command's code (1, 2 or 3); the error is printed last.
"""

import sys

from awsglue.utils import getResolvedOptions
from pyspark import SparkContext

from dynamodt.cli.job import carry_out

SparkContext.getOrCreate()  # in cluster mode a driver without one has failed (exit code 13)
code = carry_out(getResolvedOptions(sys.argv, ["stage", "owner", "project", "region", "command"]))
if code:
    sys.exit(code)
