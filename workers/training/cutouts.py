"""The dataset layout, and how the training sets are made from SDSS data.

A dataset is one npz file: `images` [n, 5, s, s] nanomaggies (ugriz, s >= 32), `magnitudes`
[n, 5], `z` [n], `group` [n] (rows of one object share it; a split never parts them), `kind` [n]
("galaxy" or "quasar"), `simulated` [n]. No pickles.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from workers.errors import DataError
from workers.training.population import Population
from workers.training.render import render

Array = NDArray[Any]
STAMP: Final = 32
_SAME_ARCSEC: Final = 2.0


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
            DataError: there is none, or it lacks an array.
        """
        with _npz(path) as stored:
            wanted = [each.name for each in fields(cls)]
            if missing := set(wanted) - set(stored):
                raise DataError(f"{path} is not a data set: it lacks the arrays {sorted(missing)}")
            arrays = [stored[name] for name in wanted]
        if len({len(each) for each in arrays}) > 1:
            raise DataError(f"{path} is not a data set: its arrays are of different length")
        return cls(*arrays)

    @classmethod
    def join(cls, parts: Sequence[Cutouts]) -> Cutouts:
        """All rows of all parts."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


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


def real_quasars(folder: Path) -> Cutouts:
    """The 2,006 real quasar cutouts with spectroscopic redshifts."""
    with _npz(folder / "quasars_ugriz64.npz") as stored:
        n = len(stored["z"])
        return Cutouts(
            centre(stored["images"]),
            stored["mag"].astype(np.float32),
            stored["z"].astype(np.float32),
            stored["group"].astype(np.int64),
            np.full(n, "quasar"),
            np.zeros(n, dtype=bool),
        )


def rendered_galaxies(folder: Path, n: int, seed: int) -> Cutouts:
    """`n` galaxies with real magnitudes and redshifts, rendered on real sky: SIMULATED."""
    rng = np.random.default_rng(seed)
    rows = np.load(_there(folder / "galaxy_photometry.npy"), allow_pickle=False)
    rows = rows[rows["spec_class"] == b"GALAXY"]
    magnitudes, z = np.column_stack([rows[band] for band in "ugriz"]), rows["redshift"]
    good = np.isfinite(magnitudes).all(1) & (z > 0.003) & (magnitudes > 10).all(1)
    good &= (magnitudes < 26).all(1)
    picked = rng.permutation(np.flatnonzero(good))[:n]
    magnitudes, z = magnitudes[picked], z[picked]
    radii = Population.load().radii(magnitudes, rng)
    images = render(magnitudes, radii, rng, size=STAMP) + real_sky(folder, len(picked), rng)
    return _simulated(images, magnitudes, z, picked, "galaxy")


def rendered_quasars(folder: Path, n: int, seed: int) -> Cutouts:
    """`n` point sources with the magnitudes and redshifts of real quasars (SDSS DR5): SIMULATED.

    Half of them have z >= 2.5, where the catalogue has few. A quasar that is also among the real
    cutouts is left out: its photometry in training would give the held-out ones away.
    """
    rng = np.random.default_rng(seed)
    magnitudes, z = _quasar_catalogue(folder)
    far, near = np.flatnonzero(z >= 2.5), np.flatnonzero(z < 2.5)
    picked = np.concatenate([rng.permutation(far)[: n // 2], rng.permutation(near)[: n - n // 2]])
    magnitudes, z = magnitudes[picked], z[picked]
    images = render(magnitudes, None, rng, size=STAMP) + real_sky(folder, len(picked), rng)
    return _simulated(images, magnitudes, z, picked, "quasar")


def unlabelled(folder: Path) -> NDArray[np.float32]:
    """Real cutouts without a redshift [n, 5, 32, 32]: for masked pre-training."""
    with _npz(folder / "unlabelled_ugriz64.npz") as stored:
        return centre(stored["images"])


def real_sky(folder: Path, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """`n` frames [n, 5, 32, 32] of real sky: the corners of cutouts, moved together.

    The object of a cutout is in its middle, so its four corners (16 pixels each) hold sky and,
    as real sky does, now and then a neighbour.
    """
    with _npz(folder / "unlabelled_ugriz64.npz") as stored:
        frames = stored["images"].astype(np.float32)
    corners = centre(np.roll(frames, (32, 32), axis=(2, 3)))
    finite = corners[np.isfinite(corners).all(axis=(1, 2, 3))]
    sky = finite[rng.integers(len(finite), size=n)]
    flipped: NDArray[np.float32] = np.where(
        rng.random(n)[:, None, None, None] < 0.5, sky, sky[..., ::-1]
    )
    return flipped


def centre(images: Array) -> NDArray[np.float32]:
    """The middle 32x32 pixels, float32, not finite values as zero."""
    y, x = images.shape[-2:]
    top, left = (y - STAMP) // 2, (x - STAMP) // 2
    cut = images[..., top : top + STAMP, left : left + STAMP].astype(np.float32)
    return np.nan_to_num(cut, copy=False, posinf=0.0, neginf=0.0)


def _simulated(images: Array, magnitudes: Array, z: Array, group: Array, kind: str) -> Cutouts:
    return Cutouts(
        images.astype(np.float32),
        magnitudes.astype(np.float32),
        z.astype(np.float32),
        group.astype(np.int64),
        np.full(len(z), kind),
        np.ones(len(z), dtype=bool),
    )


def _quasar_catalogue(folder: Path) -> tuple[Array, Array]:
    """Magnitudes and redshifts of the catalogue, without the quasars of `real_quasars`."""
    with gzip.open(_there(folder / "quasar_photometry_dr5.tab.gz"), "rt") as text:
        header = text.readline().split()[1:]
        rows = [line.split() for line in text]
    table = np.array([row[1:] for row in rows], dtype=float)
    columns = [header.index(name) for name in ("z", *(f"{band}_mag" for band in "ugriz"))]
    z, magnitudes = table[:, columns[0]], table[:, columns[1:]]
    good = ((magnitudes > 10) & (magnitudes < 27)).all(axis=1) & (z > 0.05) & (z < 5.9)
    good &= ~_among_real([row[0] for row in rows], folder)
    return magnitudes[good], z[good]


def _among_real(names: Sequence[str], folder: Path) -> NDArray[np.bool_]:
    """Which of the quasars named `hhmmss.ss+ddmmss.s` lie within 2 arcsec of a real cutout."""
    places = SkyCoord([f"{n[:2]}h{n[2:4]}m{n[4:9]}s {n[9:12]}d{n[12:14]}m{n[14:]}s" for n in names])
    with _npz(folder / "quasars_ugriz64.npz") as stored:
        real = SkyCoord(stored["ra"], stored["dec"], unit="deg")
    _, separation, _ = places.match_to_catalog_sky(real)
    among: NDArray[np.bool_] = separation.arcsec < _SAME_ARCSEC
    return among


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} does not exist: check the path given with --data")
    return path


@contextmanager
def _npz(path: Path) -> Iterator[Mapping[str, Array]]:
    try:
        with _there(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored
    except (ValueError, BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not an npz file ({error})") from error
