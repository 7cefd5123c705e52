"""What a function is, as it is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.invokers.local import HANDLER

ACCOUNT: Final = "000000000000"
_CORE_MB: Final = 1769
"""MB of memory that come with one core (AWS Lambda developer guide, "Configure memory")."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of one published version, behind one alias.

    `memory_mb`: enforced; `timeout_s`: after it the environment is killed; `concurrency`: the
    environments that may be busy at once (reserved concurrency).
    """

    name: str = "lookback"
    version: str = "1"
    alias: str = "live"
    handler: str = HANDLER
    memory_mb: int = _CORE_MB
    timeout_s: float = 60.0
    concurrency: int = 4
    architecture: str = "x86_64"
    region: str = "us-east-1"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """Without a qualifier."""
        return f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{self.name}"

    @property
    def cores(self) -> int:
        """Whole cores that its memory pays for, one at least."""
        return max(1, self.memory_mb // _CORE_MB)

    def answers_to(self, name: str, qualifier: str | None) -> bool:
        """Whether it is what is meant."""
        known = qualifier in (None, "$LATEST", self.version, self.alias)
        return known and name in (self.name, self.arn, f"{self.arn}:{qualifier}")

    def configuration(self) -> dict[str, Any]:
        """What GetFunctionConfiguration answers."""
        return {
            "FunctionName": self.name,
            "FunctionArn": f"{self.arn}:{self.version}",
            "Version": self.version,
            "Handler": self.handler,
            "MemorySize": self.memory_mb,
            "Timeout": round(self.timeout_s),
            "EphemeralStorage": {"Size": 512},
            "Architectures": [self.architecture],
            "PackageType": "Image",
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "Environment": {"Variables": dict(self.environment)},
        }
