"""What the sinks need to get at destinations that are not files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Access:
    """Arguments for the clients: `kafka` for aiokafka, `aws` for aiobotocore.

    `registry`: user and password of the schema registry, where it wants any.
    """

    kafka: Mapping[str, Any] = field(default_factory=dict)
    aws: Mapping[str, Any] = field(default_factory=dict)
    registry: tuple[str, str] | None = None
