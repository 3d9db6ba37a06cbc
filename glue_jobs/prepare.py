"""The Glue job that gathers a version's data from outside: nothing of it is divided among workers.

Arguments: --stage NAME, --project s3://.../project.zip, --command "prepare --table users --tNumber 3".
The command's code (1, 2 or 3) is the script's; its error is the last thing that is printed.
"""

import sys

from awsglue.utils import getResolvedOptions
from pyspark import SparkContext

from dynamodt.cli.job import carry_out

SparkContext.getOrCreate()  # Spark's cluster mode takes a driver without one for a failed one (exit code 13)
code = carry_out(getResolvedOptions(sys.argv, ["stage", "project", "command"]))
if code:
    sys.exit(code)
