"""A moment by which something blocking must be done."""

from __future__ import annotations

import time
from typing import NamedTuple


class Deadline(NamedTuple):
    """A moment on the monotonic clock, and when the wait for it began."""

    at: float
    since: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        now = time.monotonic()
        return tuple.__new__(cls, (now + seconds, now))  # thrice as fast as `cls(...)`

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
