"""A moment by which something blocking must be done."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        left = self.left_or_zero()
        if not left:
            raise TimeoutError
        return left

    def left_or_zero(self) -> float:
        """Seconds that are left; 0 when none are."""
        return max(0.0, self.at - time.monotonic())
