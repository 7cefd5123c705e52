"""From a delivery to a question for the model, or to a conclusion that needs no model.

Two steps. `identify` is taken event by event, in the order of the source, because it decides
which of two copies is the first. `resolve` may wait for a network or a disk, so many events
can be in it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dispatcher.books import Outcome
from dispatcher.checkpoint import Checkpoint
from dispatcher.clock import Clock
from dispatcher.conclusions import Clerk, Conclusion
from dispatcher.errands import Errand, Identified, Question
from dispatcher.settings import Ingest
from ingest.codecs import Decoder
from ingest.errors import DecodeError, NotApplicable
from ingest.events import Event
from ingest.stamps.resolve import Resolver

_MJD_UNIX: Final = 40587.0 + 37 / 86400  # the unix epoch as MJD (TAI)


@dataclass(frozen=True, slots=True)
class Intake:
    """Decode, filter, drop what was seen before, then resolve the stamp: in this order.

    Filtering comes before the look at seen keys, so that widening a filter later does not
    find its events marked as seen.
    """

    decoder: Decoder
    resolver: Resolver
    checkpoint: Checkpoint
    clerk: Clerk
    clock: Clock
    settings: Ingest
    _copies: dict[str, list[Conclusion]] = field(default_factory=dict)

    async def identify(self, errand: Errand) -> Identified | Conclusion | None:
        """Which event this is, and whether it is asked for and new. Never raises for bad input.

        None: it is a copy of one that is under way, and waits for its answer (`settled`).
        """
        try:
            event = await self.decoder.decode(errand.delivery)
        except DecodeError as error:
            return self.clerk.dead(errand, error)
        surveys = self.settings.surveys
        if surveys and event.survey not in surveys:
            return self.clerk.passed_over(errand, Outcome.FILTERED)
        key = event.key(self.clerk.model.key)
        position = errand.delivery.position
        if self.checkpoint.first_seen(key, position) != position:
            copy = self.clerk.passed_over(errand, Outcome.DUPLICATE)
            if not self.checkpoint.is_open(key):
                return copy
            # If it were settled before the first copy is, and that one moved to a dispatcher which
            # takes it for a duplicate of this one, nobody would answer.
            self._copies.setdefault(key, []).append(copy)
            return None
        if stale := self._staleness(event):
            return self.clerk.dead(errand, stale, event)
        return Identified(errand, event, key)

    def settled(self, conclusions: Sequence[Conclusion]) -> list[Conclusion]:
        """These are stored. Returns the copies that waited for that: they are settled, too."""
        keys = [each.row.result_id for each in conclusions if each.row and each.row.result_id]
        self.checkpoint.close_keys(keys)
        return [copy for key in keys for copy in self._copies.pop(key, ())]

    def _staleness(self, event: Event) -> DecodeError | None:
        """Why an event is too old to be answered; None if it is not."""
        limit_h = self.settings.stale_after_h
        if limit_h is None or event.mjd_tai is None:
            return None
        age_h = (self.clock.now() / 86400 + _MJD_UNIX - event.mjd_tai) * 24
        if age_h <= limit_h:
            return None
        return DecodeError("stale", f"taken {age_h:.1f} h ago, the limit is {limit_h:g} h")

    async def resolve(self, identified: Identified) -> Question | Conclusion:
        """Find the stamp. Never raises for bad input."""
        errand, event = identified.errand, identified.event
        try:
            stamp = await self.resolver.resolve(event)
        except NotApplicable as why:
            return self.clerk.not_applicable(errand, event, why)
        except DecodeError as error:
            return self.clerk.dead(errand, error, event)
        return Question(errand, event, stamp, identified.key)
