"""What an invocation is charged for, and how a function platform says so.

A platform ends the log of an invocation with a REPORT line (AWS Lambda developer guide, "Viewing
logs for Lambda functions"), fields between tabs:

    REPORT RequestId: 6f1e  Duration: 812.30 ms  Billed Duration: 1713 ms  Memory Size: 1769 MB
    Max Memory Used: 311 MB  Init Duration: 900.12 ms

Since August 2025 the start-up of a cold environment is part of the billed duration. A function with
SnapStart is restored instead: that has a billed duration of its own.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

_REPORT = re.compile(r"^REPORT RequestId:[^\n]*$", re.MULTILINE)
_FIELD = re.compile(r"(?:^|\t)\s*([A-Z][A-Za-z ]+): ([^\t\n]+)")


@dataclass(frozen=True, slots=True)
class Bill:
    """What the platform charges one invocation for.

    `billed_ms`: milliseconds, rounded up, start-up of a cold worker included; `init_ms`: that part.
    `max_memory_mb`: the most that the worker ever had, None if that is not known. `memory_mb`: what
    the function was given, None where that is no quantity. `certain`: the platform said it; False
    where it is only what the worker measured. `writes`, `reads`: requests to the object store that
    its payload took.
    """

    billed_ms: int
    init_ms: int = 0
    max_memory_mb: int | None = None
    memory_mb: int | None = None
    certain: bool = True
    writes: int = 0
    reads: int = 0

    @classmethod
    def since(cls, started: float, init_s: float = 0.0, max_memory_mb: int | None = None) -> Bill:
        """Of an invocation that began at `started` (monotonic s) and ends now, as Lambda counts."""
        billed_s = time.monotonic() - started
        return cls(math.ceil(1000 * billed_s), math.ceil(1000 * init_s), max_memory_mb)

    @classmethod
    def of_tail(cls, tail: str) -> Bill | None:
        """What the last REPORT line of a log says; None if there is none, or it says nothing."""
        lines = _REPORT.findall(tail)
        if not lines:
            return None
        said = {name: value.split()[0] for name, value in _FIELD.findall(lines[-1])}
        try:
            restored = _up(said.get("Billed Restore Duration", "0"))
            return cls(
                billed_ms=_up(said["Billed Duration"]) + restored,
                init_ms=_up(said.get("Init Duration", "0")) or restored,
                max_memory_mb=_up(said["Max Memory Used"]) if "Max Memory Used" in said else None,
                memory_mb=_up(said["Memory Size"]) if "Memory Size" in said else None,
            )
        except (KeyError, ValueError):
            return None

    def report(self, request: str, status: str = "") -> str:
        """The REPORT line that a platform would write; `status`: such as "timeout"."""
        fields = [
            f"REPORT RequestId: {request}",
            f"Duration: {self.billed_ms - self.init_ms:.2f} ms",
            f"Billed Duration: {self.billed_ms} ms",
            f"Memory Size: {self.memory_mb} MB",
            *([f"Max Memory Used: {self.max_memory_mb} MB"] if self.max_memory_mb else []),
            *([f"Init Duration: {self.init_ms:.2f} ms"] if self.cold else []),
            *([f"Status: {status}"] if status else []),
        ]
        return "\t".join(fields) + "\t\n"

    @property
    def cold(self) -> bool:
        """Whether a worker was started for it."""
        return self.init_ms > 0


def _up(value: str) -> int:
    return math.ceil(float(value))
