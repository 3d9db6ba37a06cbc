"""infra/template.yaml as a document: a tag of CloudFormation is a mapping, `!Ref X` is {"!Ref": "X"}."""

from __future__ import annotations

from typing import Any

import yaml

from dynamodt.deploy.packages import template


class _Loader(yaml.SafeLoader):
    pass


def _tagged(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {f"!{tag}": loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {f"!{tag}": loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _tagged)


def document() -> dict[str, Any]:
    """The whole template."""
    found: dict[str, Any] = yaml.load(template(), _Loader)
    return found


def resource(name: str) -> dict[str, Any]:
    """The properties of one resource."""
    found: dict[str, Any] = document()["Resources"][name]["Properties"]
    return found
