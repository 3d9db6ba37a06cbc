"""AWS's prices of what a run takes, in US dollars, for the common regions; a region that is not here has no price.

From the AWS Price List, which the pages https://aws.amazon.com/dynamodb/pricing/on-demand/ and
https://aws.amazon.com/s3/pricing/ show: the offers AmazonDynamoDB (`WriteRequestUnits`, `ReadRequestUnits`,
`ExportDataSize-Bytes`, `IncrementalExportDataSize-Bytes`) and AmazonS3 (`Requests-Tier1`, `Requests-Tier2`) of
https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/OFFER/current/REGION/index.json, as copies of them say.
`as_of` is the day for which DynamoDB's prices of units are known; S3's were last seen unchanged between September 2024
and September 2026. The price of an export is None where no copy names it.

Not in it: provisioned and reserved capacity, replicated writes of global tables, the table class Standard-IA, free
tiers, savings plans and credits, data transfer, KMS, the point-in-time recovery that exports need, taxes.
"""

from __future__ import annotations

from typing import NamedTuple

MILLION = 1_000_000
THOUSAND = 1_000
GB = 1 << 30


class Prices(NamedTuple):
    """Of one region, standard table class, on demand."""

    as_of: str
    write: float  # a million write request units
    read: float  # a million read request units
    put: float  # a thousand PUT requests to S3 Standard
    get: float  # a thousand GET requests
    full_export: float | None = None  # a GB of the table
    incremental_export: float | None = None  # a GB of the changes


PRICES = {
    "us-east-1": Prices("2026-05-13", 0.625, 0.125, 0.005, 0.0004, 0.10),
    "us-east-2": Prices("2026-09-11", 0.625, 0.125, 0.005, 0.0004, 0.10, 0.10),
    "us-west-2": Prices("2026-10-04", 0.625, 0.125, 0.005, 0.0004),
    "eu-west-1": Prices("2026-09-11", 0.705, 0.1415, 0.005, 0.0004),
    "eu-central-1": Prices("2026-09-11", 0.7625, 0.1525, 0.0054, 0.00043),
    "ap-southeast-2": Prices("2026-08-13", 0.71, 0.1425, 0.0055, 0.00044),
}
