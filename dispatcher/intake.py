"""From a delivery to a question for the model, or to a conclusion that needs no model.

Two steps. `identify` is taken event by event, in the order of the source, because it decides
which of two copies is the first. `resolve` may wait for a network or a disk, so many events
can be in it at once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dispatcher.books import Outcome
from dispatcher.checkpoint import Checkpoint
from dispatcher.conclusions import Clerk, Conclusion
from dispatcher.errands import Errand, Identified, Question
from ingest.codecs import Decoder
from ingest.errors import DecodeError, NotApplicable
from ingest.stamps.resolve import Resolver


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
    surveys: Collection[str] = ()

    async def identify(self, errand: Errand) -> Identified | Conclusion:
        """Which event this is, and whether it is asked for and new. Never raises for bad input."""
        try:
            event = await self.decoder.decode(errand.delivery)
        except DecodeError as error:
            return self.clerk.dead(errand, error)
        if self.surveys and event.survey not in self.surveys:
            return self.clerk.passed_over(errand, Outcome.FILTERED)
        key = event.key(self.clerk.model.key)
        position = errand.delivery.position
        if self.checkpoint.first_seen(key, position) != position:
            return self.clerk.passed_over(errand, Outcome.DUPLICATE)
        return Identified(errand, event, key)

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
