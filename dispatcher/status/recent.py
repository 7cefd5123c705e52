"""The latest results, to be looked at: rows, and of the last some hundred their stamps."""

from __future__ import annotations

import base64
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any, Final

import numpy as np

from dispatcher.conclusions import Conclusion
from dispatcher.ledger.view import exact
from ingest.events import Stamp
from sinks.record import ResultRecord
from workers.density import unsketch
from workers.quality import Quality

_STAMPS: Final = 1000
"""So many are kept: 20 kB each."""
_SOFTENING: Final = 0.02
"""Of the brightest pixel: where the stretch turns from linear to logarithmic."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One result. `number`: in the order in which they were written, from 0."""

    number: int
    row: ResultRecord
    pz: str | None


class Recent:
    """The last `most` results of a run: a listener of its pipeline."""

    def __init__(self, most: int) -> None:
        self._seen: deque[Seen] = deque(maxlen=most)
        self._stamps: OrderedDict[str, Stamp] = OrderedDict()
        self._count = 0

    def note(self, conclusion: Conclusion) -> None:
        """Be told of a settled errand."""
        row = conclusion.row
        if not isinstance(row, ResultRecord) or not self._seen.maxlen:
            return
        self._seen.append(Seen(self._count, row, conclusion.pz))
        self._count += 1
        if conclusion.stamp is not None:
            self._stamps[row.result_id] = conclusion.stamp
            if len(self._stamps) > _STAMPS:
                self._stamps.popitem(last=False)

    def page(
        self, offset: int, limit: int, status: str, search: str, upto: int | None = None
    ) -> dict[str, Any]:
        """Rows for a list, the latest first; `search`: a part of an id, lower case.

        `upto`: number of the latest row that counts, so that a list stands still under a reader.
        """
        found = self._seen if not (status or search) else self._matching(status, search)
        newer = 0 if upto is None else sum(1 for _ in _newer(found, upto))
        rows = islice(reversed(found), newer + offset, newer + offset + limit)
        return {"total": len(found) - newer, "results": [brief(each) for each in rows]}

    def _matching(self, status: str, search: str) -> deque[Seen]:
        return deque(
            each
            for each in self._seen
            if (not status or each.row.status == status)
            and (not search or search in _searched(each.row))
        )

    def whole(self, result_id: str) -> dict[str, Any] | None:
        """Everything that is known of one; None if it is not among them (any more)."""
        for each in reversed(self._seen):
            if each.row.result_id == result_id:
                stamp = self._stamps.get(result_id)
                return whole(each.row, each.pz, drawn(stamp) if stamp else None)
        return None

    def renew(self, row: ResultRecord) -> None:
        """Be told of a row that a person has decided on: it takes the place of the one before."""
        for place, each in enumerate(self._seen):
            if each.row.result_id == row.result_id:
                self._seen[place] = replace(each, row=row)


def whole(row: ResultRecord, pz: str | None, stamp: dict[str, Any] | None) -> dict[str, Any]:
    """One result with everything that is known of it; `stamp` as `drawn` gives it."""
    return {
        "record": row.to_json(),
        "quality": flags(row.quality_flag),
        "pz": _curve(pz),
        "stamp": stamp,
    }


def _newer(found: deque[Seen], number: int) -> Iterator[Seen]:
    return takewhile(lambda each: each.number > number, reversed(found))


def brief(seen: Seen) -> dict[str, Any]:
    """One row of a list."""
    row = seen.row
    cost = row.cost_usd_pico
    return {
        "seq": seen.number,
        **{name: getattr(row, name) for name in _BRIEF},
        "cost_usd": None if cost is None else exact(cost),
        "review": row.review,
    }


_BRIEF: Final = (
    "result_id",
    "survey",
    "alert_id",
    "object_id",
    "status",
    "z_median",
    "z_err68_low",
    "z_err68_high",
    "quality_flag",
    "out_of_domain",
    "t_published",
)


def flags(bits: int | None) -> list[str]:
    """Names of quality flags."""
    return [each.name.lower() for each in Quality(bits or 0) if each.name]


def drawn(stamp: Stamp) -> dict[str, Any]:
    """Pixels for a canvas: a byte each, stretched together so that colours are kept."""
    image = np.nan_to_num(np.asarray(stamp.image, np.float64))
    brightest = max(float(np.percentile(image, 99.8)), 1e-12)
    softened = np.arcsinh(np.clip(image, 0, None) / (_SOFTENING * brightest))
    scaled = 255 * softened / np.arcsinh(1 / _SOFTENING)
    pixels = np.clip(scaled, 0, 255).astype(np.uint8)
    return {
        "bands": "ugriz",
        "width": pixels.shape[2],
        "height": pixels.shape[1],
        "pixels": [base64.b64encode(each.tobytes()).decode("ascii") for each in pixels],
    }


def _curve(sketch: str | None) -> dict[str, list[float]] | None:
    if sketch is None:
        return None
    z, p = unsketch(sketch)
    return {"z": z, "p": p}


def _searched(row: ResultRecord) -> str:
    return f"{row.result_id} {row.alert_id} {row.object_id or ''} {row.src_partition}".lower()
