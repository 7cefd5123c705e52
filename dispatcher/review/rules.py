"""The rules: which estimates a person should look at, from what their record says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dispatcher.settings.review import Review as ReviewSettings
from sinks.record import ResultRecord, Review
from workers.quality import Quality

_STANDING: Final = {"mark": Review.MARKED, "hold": Review.WAITING}


@dataclass(frozen=True, slots=True)
class Examiner:
    """Looks at every estimate of a run. `adrift`: whether the alarm of drift is on now."""

    settings: ReviewSettings
    adrift: Callable[[], bool]

    def __call__(self, record: ResultRecord) -> ResultRecord:
        """The record, with what the policy makes of it: as it was, marked, or waiting."""
        standing = _STANDING.get(self.settings.policy)
        if standing is None or record.z_median is None:
            return record
        if not (found := list(dict.fromkeys(rules(record, self.settings, self.adrift())))):
            return record
        return record.model_copy(update={"review": standing.value, "review_rules": " ".join(found)})


def rules(record: ResultRecord, settings: ReviewSettings, adrift: bool) -> Iterator[str]:
    """Names of the rules that pick an estimate. What is not known picks nothing."""
    flags = Quality(record.quality_flag or 0)
    yield from (each for each in settings.flags if flags & Quality[each.upper()])
    if _above(record.out_of_domain, settings.out_of_domain):
        yield "out_of_domain"
    if _above(_width(record), settings.width):
        yield "width"
    if _above(record.z_median, settings.z_above):
        yield "z_above"
    if _above(settings.host_prob, record.host_prob):
        yield "host_prob"
    if settings.drift and adrift:
        yield "drift"
    if _draw(record.result_id) < settings.share:
        yield "share"


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _width(record: ResultRecord) -> float | None:
    """Half the 68 % interval over 1 + z."""
    low, high, z = record.z_err68_low, record.z_err68_high, record.z_median
    if low is None or high is None or z is None:
        return None
    return (high - low) / 2 / (1 + z)


def _draw(result_id: str) -> float:
    """A number in [0, 1) that is always the same for a key."""
    digest = hashlib.blake2b(result_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
