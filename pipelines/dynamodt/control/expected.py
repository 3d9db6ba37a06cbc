"""Where a deploy has put the application, as whoever has started this command says, held against the stage.

The plugin of the Serverless Framework sets both variables. Data is migrated where the application was deployed, or
not at all: a profile of another account in dynamodt.toml, or another region, would change another stage's tables.
"""

from __future__ import annotations

import os

from dynamodt.aws.account import account_id
from dynamodt.control.toml_values import FILE_NAME, place
from dynamodt.errors import Refused
from dynamodt.model import Stage

ACCOUNT, REGION = "DYNAMODT_EXPECTED_ACCOUNT", "DYNAMODT_EXPECTED_REGION"


def check_expected(stage: Stage) -> None:
    """Raises Refused where the stage is in another account or region than these variables say, ServiceError where its
    account cannot be told. Without them nothing is asked."""
    account, region = os.environ.get(ACCOUNT, ""), os.environ.get(REGION, "")
    if not account and not region:
        return
    if stage.embedded:
        hint = f"name the stage of {FILE_NAME} that is there (custom.dynamodt.stages), or set AWS_ENDPOINT_URL"
        what = f"the embedded stage is on this machine, and the service in account {account or '?'}, {region or '?'}"
        raise Refused(what, where=f"stage {stage.name}", hint=hint)
    if region and stage.connection.region != region:
        what = f"the service was deployed to {region}, and this stage is in {stage.connection.region}"
        raise Refused(what, where=place("stages", stage.name, "region"), hint="remove the key, or correct it")
    found = account_id(stage.connection) if account else ""
    if found != account:
        what = f"the service was deployed to account {account}, and this stage is in account {found}"
        hint = "remove `profile` and `role_arn` of the stage, or name those of that account"
        raise Refused(what, where=place("stages", stage.name), hint=hint)
