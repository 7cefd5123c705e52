"""The sky cut into leaves: HEALPix pixels, nested numbering, ICRS."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

COLUMN: Final = "_healpix_29"
DEEPEST: Final = 11
"""Leaves are split down to this order (1.7 arcmin), no further: more rows than wanted that lie
closer together than that are one object seen often, and stay one leaf."""

_ORDER: Final = 29
_LEAF: Final = re.compile(r"dataset/Norder=(\d+)/Dir=\d+/Npix=(\d+)/")

Pixels = NDArray[np.int64]


class Leaf(NamedTuple):
    """A HEALPix pixel whose rows lie in one folder."""

    order: int
    pixel: int

    @classmethod
    def of(cls, path: str) -> Leaf | None:
        """The leaf that a part with this path belongs to; None if it is no part's path."""
        found = _LEAF.search(path)
        return cls(int(found[1]), int(found[2])) if found else None

    @property
    def folder(self) -> str:
        """Where HATS wants it."""
        group = self.pixel // 10_000 * 10_000
        return f"dataset/Norder={self.order}/Dir={group}/Npix={self.pixel}"

    @property
    def first(self) -> int:
        """Its first pixel of order 29."""
        return self.pixel << 2 * (_ORDER - self.order)

    @property
    def end(self) -> int:
        """One past its last pixel of order 29."""
        return (self.pixel + 1) << 2 * (_ORDER - self.order)

    @property
    def share(self) -> float:
        """Of the whole sky."""
        return float(0.25**self.order / 12)

    def children(self) -> Iterator[Leaf]:
        """The four leaves of the next order that are as large as this one together."""
        return (Leaf(self.order + 1, 4 * self.pixel + n) for n in range(4))


def healpix_29(ra_deg: Sequence[float], dec_deg: Sequence[float]) -> Pixels:
    """Pixels of order 29 (0.4 milliarcseconds) at these positions (degrees, any turn of ra).

    Raises:
        ValueError: a position is not on the sky.
    """
    # With astropy behind it, half a second: who does not write such catalogues does not wait.
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    ra, dec = np.array(ra_deg, np.float64), np.array(dec_deg, np.float64)
    # cdshealpix gives a pixel for a position that is not a number.
    wrong = ~(np.isfinite(ra) & (np.abs(dec) <= 90))
    if wrong.any():
        n = int(wrong.argmax())
        raise ValueError(f"row {n} at ra {ra[n]} dec {dec[n]} is not on the sky")
    pixels = lonlat_to_healpix(
        Longitude(ra, "deg"), Latitude(dec, "deg"), np.uint8(_ORDER), num_threads=1
    )
    return np.asarray(pixels, np.int64)


class Partitioning:
    """The leaves in use, which never overlap, and the leaf for every place between them."""

    def __init__(self, leaves: Iterable[Leaf], order: int = 0) -> None:
        self._order = order
        self._ends = {leaf.first: leaf for leaf in leaves}
        self._firsts = sorted(self._ends)

    def cut(self, pixels: Pixels) -> Iterator[tuple[Leaf, int, int]]:
        """Sorted pixels of order 29 as runs `start:stop`, each in one leaf."""
        start = 0
        while start < len(pixels):
            leaf = self._at(int(pixels[start]))
            stop = int(np.searchsorted(pixels, leaf.end))
            yield leaf, start, stop
            start = stop

    def _at(self, place: int) -> Leaf:
        before = bisect_right(self._firsts, place)
        if before and place < (leaf := self._ends[self._firsts[before - 1]]).end:
            return leaf
        return self._new(place)

    def _new(self, place: int) -> Leaf:
        """The largest pixel around a free place that holds no leaf yet."""
        for order in range(self._order, _ORDER + 1):
            leaf = Leaf(order, place >> 2 * (_ORDER - order))
            following = bisect_left(self._firsts, leaf.first)
            if following == len(self._firsts) or self._firsts[following] >= leaf.end:
                break
        insort(self._firsts, leaf.first)
        self._ends[leaf.first] = leaf
        return leaf


def split(leaf: Leaf, pixels: Pixels, max_rows: int) -> Iterator[tuple[Leaf, int, int]]:
    """The leaf with its sorted pixels, cut into as many as hold `max_rows` each; none is empty."""
    yield from _split(leaf, pixels, 0, len(pixels), max_rows)


def _split(
    leaf: Leaf, pixels: Pixels, start: int, stop: int, max_rows: int
) -> Iterator[tuple[Leaf, int, int]]:
    if stop - start <= max_rows or leaf.order >= DEEPEST:
        if stop > start:
            yield leaf, start, stop
        return
    for child in leaf.children():
        end = int(np.searchsorted(pixels, child.end))
        yield from _split(child, pixels, start, end, max_rows)
        start = end
