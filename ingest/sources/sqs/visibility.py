"""Heartbeats: what we hold stays unseen by others until it is settled."""

from __future__ import annotations

import time
from typing import Final

from ingest.sources.sqs.inflight import InFlight, Message
from ingest.sources.sqs.options import Counts
from ingest.sources.sqs.outage import Outage
from ingest.sources.sqs.queue import Queue

_PAGE: Final = 200  # of one look at what is due: what is settled meanwhile is not refreshed


class Visibility:
    """Refreshes the visibility of messages in flight, at half of its time.

    `visibility_s`: seconds; `max_age_s`: a message that was held longer is not refreshed any more,
    so that the queue hands it out again.
    """

    def __init__(
        self, queue: Queue, inflight: InFlight, counts: Counts, visibility_s: int, max_age_s: float
    ) -> None:
        self._queue = queue
        self._inflight = inflight
        self._counts = counts
        self._visibility_s = visibility_s
        self._max_age_s = max_age_s
        self._outage = Outage(f"visibility of {queue.name}")

    @property
    def tick_s(self) -> float:
        """How long to wait between two refreshes."""
        return min(self._visibility_s / 8, 1.0)

    async def refresh(self) -> None:
        """Refresh what is due. What fails for now is due again at the next call."""
        while due := self._due()[:_PAGE]:
            now = time.monotonic()  # the new time counts from the call, not from its answer
            handles = {each.id: each.handle for each in due}
            failures = await self._queue.change(handles, self._visibility_s)
            for message in due:
                # It may have been deleted, or handed out to us anew, while the call was under way.
                if message not in self._inflight or message.handle != handles[message.id]:
                    continue
                if message.leaving:
                    continue
                if message.id in failures.gone:
                    self._lose(message)
                elif message.id not in failures.pending:
                    self._inflight.refreshed(message, now)
            if failures.pending:
                self._outage.failed(next(iter(failures.pending.values())))
                return
            self._outage.over()

    def _due(self) -> list[Message]:
        now = time.monotonic()
        due = self._inflight.due(now, self.tick_s)
        for message in due:
            if now - message.since > self._max_age_s:
                self._lose(message)
        return [each for each in due if not each.lost]

    def _lose(self, message: Message) -> None:
        self._inflight.let_expire(message)
        message.lost = True
        self._counts.expired += 1
