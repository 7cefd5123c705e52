"""The dataset layout: cutouts with magnitudes and redshifts, in one npz file. No pickles.

| array | shape | what |
|---|---|---|
| `images` | [n, 5, s, s] | nanomaggies, ugriz, 0.396 arcsec a pixel, s >= 32, object central |
| `magnitudes` | [n, 5] | ugriz; NaN where unknown |
| `z` | [n] | redshift; NaN in rows without one, which serve pre-training and as sky |
| `group` | [n] | integers; rows of one object share it, and a split never parts them |
| `kind` | [n] | text as "galaxy" (optional) |
| `simulated` | [n] | true where pixels are rendered, not observed (optional: false) |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from workers.errors import DataError

Array = NDArray[Any]
STAMP: Final = 32
_BANDS: Final = 5


@dataclass(frozen=True, slots=True)
class Cutouts:
    """Rows of a dataset; see the module's docstring for shapes and units."""

    images: Array
    magnitudes: Array
    z: Array
    group: Array
    kind: Array
    simulated: Array

    def __len__(self) -> int:
        return len(self.z)

    @property
    def stamps(self) -> NDArray[np.float32]:
        """What the model sees: the middle 32x32 pixels [n, 5, 32, 32]."""
        return centre(self.images)

    def rows(self, which: Array) -> Cutouts:
        """The rows that `which` (indices or mask) picks."""
        return Cutouts(*(getattr(self, each.name)[which] for each in fields(self)))

    def save(self, path: Path) -> None:
        """Write the npz file."""
        np.savez(path, **{each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Cutouts:
        """Read the npz file.

        Raises:
            DataError: there is none, or it is not laid out like this.
        """
        with open_npz(path) as stored:
            wanted = {each.name for each in fields(cls)}
            found = {name: stored[name] for name in wanted & set(stored)}
        if missing := wanted - set(found) - {"kind", "simulated"}:
            raise DataError(f"{path} is not a data set: it lacks the arrays {sorted(missing)}")
        n = len(found["z"]) if found["z"].ndim else 0
        found.setdefault("kind", np.full(n, "object"))
        found.setdefault("simulated", np.zeros(n, dtype=bool))
        cutouts = cls(**found)
        if fault := cutouts.fault():
            raise DataError(f"{path} is not a data set: {fault}")
        return cutouts

    def fault(self) -> str | None:
        """What is wrong with the layout, in words."""
        lengths = {each.name: np.shape(getattr(self, each.name))[:1] for each in fields(self)}
        if len(set(lengths.values())) > 1:
            return "its arrays are of different length"
        if self.images.ndim != 4 or self.images.shape[1] != _BANDS:
            return f"images have the shape {self.images.shape}, not (n, 5, s, s)"
        if min(self.images.shape[2:]) < STAMP:
            return f"images of {self.images.shape[2:]} pixels are smaller than {STAMP}"
        if self.magnitudes.shape[1:] != (_BANDS,):
            return f"magnitudes have the shape {self.magnitudes.shape}, not (n, 5)"
        return None

    @classmethod
    def join(cls, parts: Sequence[Cutouts]) -> Cutouts:
        """All rows of all parts. Groups are numbers within a part: they are told apart."""
        first = np.cumsum([0, *(_span(each) for each in parts[:-1])])
        apart = [p.group - _least(p) + start for p, start in zip(parts, first, strict=True)]
        joined = {
            f.name: np.concatenate([getattr(p, f.name) for p in parts])
            for f in fields(cls)
            if f.name != "group"
        }
        return cls(group=np.concatenate(apart), **joined)


@dataclass(frozen=True, slots=True)
class Split:
    """Train, validation and test rows; no group is in two of them."""

    train: Cutouts
    validation: Cutouts
    test: Cutouts


def split(cutouts: Cutouts, seed: int) -> Split:
    """70 / 10 / 20 per cent of the groups."""
    groups = np.unique(cutouts.group)
    place = np.random.default_rng(seed).permutation(len(groups)) / len(groups)
    at = place[np.searchsorted(groups, cutouts.group)]
    return Split(
        cutouts.rows(at < 0.7), cutouts.rows((at >= 0.7) & (at < 0.8)), cutouts.rows(at >= 0.8)
    )


def centre(images: Array) -> NDArray[np.float32]:
    """The middle 32x32 pixels, float32, not finite values as zero."""
    y, x = images.shape[-2:]
    top, left = (y - STAMP) // 2, (x - STAMP) // 2
    cut = images[..., top : top + STAMP, left : left + STAMP].astype(np.float32)
    return np.nan_to_num(cut, copy=False, posinf=0.0, neginf=0.0)


@contextmanager
def open_npz(path: Path) -> Iterator[Mapping[str, Array]]:
    """The arrays of an npz file.

    Raises:
        DataError: there is none, or it is not an npz file of plain arrays.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: check the path given with --data")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored
    except (ValueError, BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not an npz file ({error})") from error


def _span(cutouts: Cutouts) -> int:
    return int(np.ptp(cutouts.group)) + 1 if len(cutouts) else 0


def _least(cutouts: Cutouts) -> int:
    return int(cutouts.group.min()) if len(cutouts) else 0
