"""ministack as a program, with additions to its CloudFormation that infra/template.yaml needs. The template is
unchanged.

| ministack lacks | the addition |
| --- | --- |
| `DeletionPolicy`: a stack that is deleted, or drops a resource, deletes it | what the template retains stays |
| a change set shows nothing if only a Condition changes | it shows the resources that the Condition adds and removes |
| a failed update that is rolled back deletes the earlier resources | nothing is deleted |
| AWS::Glue::Job, Trigger and Workflow | made by its own Glue |
| a bucket's encryption and tags | set as by their own calls |
| a table's point-in-time recovery, encryption and tags | set as by their own calls |
| a template is parsed at each of its uses, in a third of a second | it is parsed once |
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ministack.app import main
from ministack.services import cloudformation as service
from ministack.services import dynamodb, glue, s3
from ministack.services.cloudformation import changesets, engine, handlers, provisioners, stacks

Answer = tuple[int, dict[str, str], Any]
Made = tuple[str, dict[str, str]]
_delete_resource = stacks._delete_resource
_resolve_for_change_set = changesets._resolve_props_for_diff
_create_bucket = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]["create"]
_create_table = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]["create"]


_parse = lru_cache(maxsize=8)(engine._parse_template)


def _parsed(text: str) -> dict[str, Any]:
    return copy.deepcopy(_parse(text))


def _delete_unless_retained(kind: str, name: str, properties: dict[str, Any], stack: str, resource: str) -> None:
    found = service._stacks[stack]
    policy = found["_template"].get("Resources", {}).get(resource, {}).get("DeletionPolicy", "Delete")
    retained = policy.startswith("Retain") and found["StackStatus"] in ("DELETE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
    if not retained and found["StackStatus"] != "UPDATE_ROLLBACK_IN_PROGRESS":
        _delete_resource(kind, name, properties, stack, resource)


def _resolve_with_conditions(template: dict[str, Any], parameters: dict[str, Any], *rest: Any) -> dict[str, Any]:
    resolved: dict[str, Any] = _resolve_for_change_set(template, parameters, *rest)
    conditions = engine._evaluate_conditions(template, parameters)
    there = {
        name: one for name, one in resolved.get("Resources", {}).items() if conditions.get(one.get("Condition"), True)
    }
    return {"Resources": there}


def _checked(answer: Answer) -> None:
    status, _, body = answer
    if status >= 400:
        raise ValueError(json.loads(body)["message"])


def _of_glue(create: Callable[[dict[str, Any]], Answer]) -> Callable[[str, dict[str, Any], str], Made]:
    def made(_resource: str, properties: dict[str, Any], _stack: str) -> Made:
        _checked(create(properties))
        if "Command" in properties:  # its Glue forgets these two
            glue._jobs[properties["Name"]].update(_also(properties))
        return properties["Name"], {}

    return made


def _also(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: properties[key] for key in ("ExecutionProperty", "ExecutionClass") if key in properties}


def _update_job(name: str, _old: dict[str, Any], new: dict[str, Any], _stack: str) -> Made:
    _checked(glue._update_job({"JobName": name, "JobUpdate": new}))
    glue._jobs[name].update(_also(new))
    return name, {}


def _update_trigger(name: str, _old: dict[str, Any], new: dict[str, Any], _stack: str) -> Made:
    _checked(glue._update_trigger({"Name": name, "TriggerUpdate": new}))
    return name, {}


def _unchanged(name: str, *_: Any) -> Made:
    return name, {}


def _bucket(resource: str, properties: dict[str, Any], stack: str) -> Made:
    made: Made = _create_bucket(resource, properties, stack)
    s3._bucket_tags[made[0]] = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", ())}
    for rule in properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", ()):
        default = rule["ServerSideEncryptionByDefault"]
        s3._bucket_encryption[made[0]] = (
            f'<ServerSideEncryptionConfiguration xmlns="{s3.S3_NS}"><Rule><ApplyServerSideEncryptionByDefault>'
            f"<SSEAlgorithm>{default['SSEAlgorithm']}</SSEAlgorithm>"
            f"<KMSMasterKeyID>{default['KMSMasterKeyID']}</KMSMasterKeyID>"
            "</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        )
    return made


def _table(resource: str, properties: dict[str, Any], stack: str) -> Made:
    made: Made = _create_table(resource, properties, stack)
    recovery = properties.get("PointInTimeRecoverySpecification", {})
    dynamodb._pitr_settings[made[0]] = str(recovery.get("PointInTimeRecoveryEnabled")).lower() == "true"
    table = dynamodb._tables[made[0]]
    dynamodb._tags[table["TableArn"]] = list(properties.get("Tags", ()))
    encryption = properties.get("SSESpecification", {})
    if encryption:
        named = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": encryption["KMSMasterKeyId"]}
        table["SSEDescription"] = dynamodb._sse_description_from_spec(named)
    return made


def fill_gaps() -> None:
    """Adds the behaviour of the table above to the emulator's CloudFormation."""
    stacks._delete_resource = _delete_unless_retained
    changesets._resolve_props_for_diff = _resolve_with_conditions
    for module in (changesets, engine, handlers):
        module._parse_template = _parsed
    kinds = provisioners._RESOURCE_HANDLERS
    kinds["AWS::S3::Bucket"]["create"] = _bucket
    kinds["AWS::DynamoDB::Table"]["create"] = _table
    kinds["AWS::Glue::Job"] = {
        "create": _of_glue(glue._create_job),
        "update": _update_job,
        "delete": lambda name, _: glue._delete_job({"JobName": name}),
    }
    kinds["AWS::Glue::Trigger"] = {
        "create": _of_glue(glue._create_trigger),
        "update": _update_trigger,
        "delete": lambda name, _: glue._delete_trigger({"Name": name}),
    }
    kinds["AWS::Glue::Workflow"] = {
        "create": _of_glue(glue._create_workflow),
        "update": _unchanged,
        "delete": lambda name, _: glue._delete_workflow({"Name": name}),
    }


if __name__ == "__main__":
    fill_gaps()
    main()
