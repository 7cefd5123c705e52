"""Policies to compare with: what others do, in the place of the adaptive one."""

from __future__ import annotations

from dataclasses import dataclass

from dispatcher.calls.policy import Adaptive
from dispatcher.calls.sizing import Size


@dataclass(slots=True)
class Fixed(Adaptive):
    """A batch of `fixed_items`, or what is there after `max_age_s`: as most consumers do it."""

    fixed_items: int = 1
    max_age_s: float = 1.0

    def size(self) -> Size:
        """See `Policy.size`."""
        return Size(self.fixed_items, 1)

    def due_in(self, waiting: int, oldest_age_s: float, *, tight: bool) -> float:  # noqa: ARG002
        """See `Policy.due_in`."""
        return self.max_age_s - oldest_age_s

    def ranks(self, items: int, oldest_age_s: float) -> int:  # noqa: ARG002
        """See `Policy.ranks`."""
        return -(-items // self.limits.items)
