"""Held estimates in memory: the twin for tests, and for a run that holds nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace

from dispatcher.review.store import Decision, Held, stored, unknown
from sinks.record import Review
from sinks.sink import Stored


class MemoryReview:
    """A `ReviewStore` that nothing outlives."""

    name = "review in memory"

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    async def open(self) -> None:
        """Nothing to get ready."""

    async def hold(self, held: Sequence[Held]) -> None:
        """See `ReviewStore.hold`."""
        for each in held:
            key = each.record.result_id
            self._held[key] = replace(self._held.get(key, each), t_published=None)

    async def decide(self, result_id: str, decision: Decision) -> Held:
        """See `ReviewStore.decide`."""
        if result_id not in self._held:
            raise unknown(result_id)
        self._held[result_id] = self._held[result_id].after(decision)
        return self._held[result_id]

    async def due(self, limit: int) -> list[Held]:
        """See `ReviewStore.due`."""
        due = [each for each in self._unpublished() if each.standing is not Review.WAITING]
        return sorted(due, key=lambda each: each.t_decided or 0.0)[:limit]

    async def published(self, result_ids: Collection[str], now: float) -> None:
        """See `ReviewStore.published`."""
        for key in result_ids:
            self._held[key] = replace(self._held[key], t_published=now)

    async def listing(
        self, standing: Review | None, offset: int, limit: int
    ) -> tuple[int, list[Held]]:
        """See `ReviewStore.listing`."""
        found = [each for each in self._held.values() if standing in (None, each.standing)]
        found.sort(key=lambda each: (-(each.t_decided or 0.0), each.t_held))
        shown = [replace(each, pz=None, stamp=None) for each in found[offset : offset + limit]]
        return len(found), shown

    async def find(self, result_id: str) -> Held | None:
        """See `ReviewStore.find`."""
        return self._held.get(result_id)

    async def counts(self) -> Counter[Review]:
        """See `ReviewStore.counts`."""
        return Counter(each.standing for each in self._held.values())

    async def forget(self, before: float) -> int:
        """See `ReviewStore.forget`."""
        old = [key for key, each in self._held.items() if (each.t_published or before) < before]
        for key in old:
            del self._held[key]
        return len(old)

    async def scan(self) -> AsyncIterator[Stored]:
        """See `ReviewStore.scan`."""
        for each in self._unpublished():
            yield stored(each)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _unpublished(self) -> list[Held]:
        return [each for each in self._held.values() if each.t_published is None]
