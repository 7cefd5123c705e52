"""What is in deploy/, read for tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cfnlint.decode import cfn_yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def resources(template: Path) -> dict[str, Any]:
    """The resources of a CloudFormation template, by name."""
    return dict(cfn_yaml.load(str(template))["Resources"])


def statements(parts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every policy, with the resource it is in; its actions are a list."""
    for name, part in parts.items():
        for each in _statements(part):
            actions = each["Action"]
            yield name, {**each, "Action": [actions] if isinstance(actions, str) else actions}


def _statements(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "Effect" in node:
            yield node
        else:
            for each in node.values():
                yield from _statements(each)
    elif isinstance(node, list):
        for each in node:
            yield from _statements(each)


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]
