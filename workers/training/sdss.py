"""Datasets made of SDSS files: real quasars, and what is rendered from real photometry.

| file | rows | pixels |
|---|---|---|
| `quasars.npz` | cutouts of quasars with spectroscopic redshifts | real |
| `rendered-quasars.npz` | quasars of DR5's catalogue, on real sky | SIMULATED |
| `galaxies.npz` | galaxies of the photometry with redshifts, on real sky | SIMULATED |
| `stars.npz` | stars drawn from the stellar locus, on real sky; without a redshift | SIMULATED |
| `unlabelled.npz` | cutouts without a redshift | real |
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from workers.errors import DataError
from workers.training import stars
from workers.training.cutouts import Cutouts, open_npz
from workers.training.population import Population
from workers.training.render import Step, render, unseen

Array = NDArray[Any]
Progress = Callable[[str], None]

SIZE: Final = 64
"""Pixels a side: room for networks that look at more than the model does, and for shifts."""

_FAR: Final = 2.5
_SAME_ARCSEC: Final = 2.0
_CHUNK: Final = 500  # rows rendered at once


def prepare(
    folder: Path,
    out: Path,
    seed: int,
    *,
    galaxies: int | None = None,
    quasars: int = 14_000,
    stars: int = 16_000,
    on_progress: Progress = print,
    step: Step = unseen,
) -> dict[Path, int]:
    """Make all datasets in `out` from the SDSS files in `folder`; `galaxies` None: all there are.

    A dataset that is there is left as it is. `step` is told of the rows that are rendered.
    Returns the rows of each that was made.

    Raises:
        DataError: a file is missing, or is not what it should be.
    """
    makers: dict[str, Callable[[], Cutouts]] = {
        "quasars": lambda: real_quasars(folder),
        "unlabelled": lambda: unlabelled(folder),
        "stars": lambda: rendered_stars(folder, stars, seed, step),
        "rendered-quasars": lambda: rendered_quasars(folder, quasars, seed, step),
        "galaxies": lambda: rendered_galaxies(folder, galaxies, seed, step),
    }
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[Path, int] = {}
    for name, make in makers.items():
        path = out / f"{name}.npz"
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{path.name}")
            made = make()
            made.save(unfinished)
            unfinished.replace(path)
            rows[path] = len(made)
            on_progress(f"{path}: {len(made)} rows")
    return rows


def real_quasars(folder: Path) -> Cutouts:
    """The real quasar cutouts with spectroscopic redshifts."""
    with open_npz(folder / "quasars_ugriz64.npz") as stored:
        n = len(stored["z"])
        return Cutouts(
            stored["images"],
            stored["mag"].astype(np.float32),
            stored["z"].astype(np.float32),
            _objects(stored["ra"], stored["dec"]),
            np.full(n, "quasar"),
            np.zeros(n, dtype=bool),
        )


def unlabelled(folder: Path) -> Cutouts:
    """Real cutouts without a redshift: for masked pre-training, and as sky."""
    with open_npz(folder / "unlabelled_ugriz64.npz") as stored:
        n = len(stored["images"])
        return Cutouts(
            stored["images"],
            np.full((n, 5), np.nan, np.float32),
            np.full(n, np.nan, np.float32),
            np.arange(n),
            np.full(n, "object"),
            np.zeros(n, dtype=bool),
        )


def rendered_galaxies(folder: Path, n: int | None, seed: int, step: Step = unseen) -> Cutouts:
    """`n` (None: all) galaxies with real magnitudes and redshifts on real sky: SIMULATED."""
    rng = np.random.default_rng(seed)
    rows = np.load(_there(folder / "galaxy_photometry.npy"), allow_pickle=False)
    rows = rows[rows["spec_class"] == b"GALAXY"]
    magnitudes, z = np.column_stack([rows[band] for band in "ugriz"]), rows["redshift"]
    good = np.isfinite(magnitudes).all(1) & (z > 0.003) & (magnitudes > 10).all(1)
    good &= (magnitudes < 26).all(1)
    picked = rng.permutation(np.flatnonzero(good))[:n]
    magnitudes, z = magnitudes[picked], z[picked]
    radii = Population.load().radii(magnitudes, rng)
    return _rendered(folder, magnitudes, radii, z, picked, "galaxy", rng, step)


def rendered_quasars(folder: Path, n: int, seed: int, step: Step = unseen) -> Cutouts:
    """`n` point sources with the magnitudes and redshifts of real quasars (SDSS DR5): SIMULATED.

    Far ones (z >= 2.5), of which the catalogue has few, are taken first, up to three quarters of
    `n`. A quasar that is also among the real cutouts is left out: its photometry in training
    would give the held-out ones away.
    """
    rng = np.random.default_rng(seed)
    magnitudes, z = _quasar_catalogue(folder)
    far = rng.permutation(np.flatnonzero(z >= _FAR))[: 3 * n // 4]
    near = rng.permutation(np.flatnonzero(z < _FAR))[: n - len(far)]
    picked = np.concatenate([far, near])
    return _rendered(folder, magnitudes[picked], None, z[picked], picked, "quasar", rng, step)


def rendered_stars(folder: Path, n: int, seed: int, step: Step = unseen) -> Cutouts:
    """`n` stars on real sky, without a redshift: SIMULATED."""
    rng = np.random.default_rng(seed)
    magnitudes = stars.sample(n, rng)
    nowhere = np.full(n, np.nan)
    return _rendered(folder, magnitudes, None, nowhere, np.arange(n), "star", rng, step)


def sky_frames(images: Array) -> Array:
    """Sky [m, 5, s, s] out of cutouts [n, 5, s, s]: their corners, moved together.

    The object of a cutout is in its middle, so its four corners (a quarter of a side each) hold
    sky and, as real sky does, now and then a neighbour.
    """
    half, quarter = images.shape[-1] // 2, images.shape[-1] // 4
    rolled = np.roll(images, (half, half), axis=(2, 3))
    middle = rolled[:, :, quarter : quarter + half, quarter : quarter + half]
    around = (quarter, quarter)
    frames = np.pad(middle, ((0, 0), (0, 0), around, around), mode="symmetric")
    kept: Array = frames[np.isfinite(frames).all(axis=(1, 2, 3))]
    return kept


def _rendered(
    folder: Path,
    magnitudes: Array,
    radii: Array | None,
    z: Array,
    group: Array,
    kind: str,
    rng: np.random.Generator,
    step: Step,
) -> Cutouts:
    sky = sky_frames(unlabelled(folder).images)
    images = np.empty((len(z), 5, SIZE, SIZE), np.float16)
    for start in range(0, len(z), _CHUNK):
        part = slice(start, start + _CHUNK)
        size = None if radii is None else radii[part]
        light = render(magnitudes[part], size, rng, size=SIZE, step=step)
        frames = sky[rng.integers(len(sky), size=len(light))].astype(np.float32)
        mirrored = rng.random(len(light))[:, None, None, None] < 0.5
        images[part] = light + np.where(mirrored, frames, frames[..., ::-1])
    return Cutouts(
        images,
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
    with open_npz(folder / "quasars_ugriz64.npz") as stored:
        real = SkyCoord(stored["ra"], stored["dec"], unit="deg")
    _, separation, _ = places.match_to_catalog_sky(real)
    among: NDArray[np.bool_] = separation.arcsec < _SAME_ARCSEC
    return among


def _objects(ra: Array, dec: Array) -> Array:
    """A number for each object: rows within 2 arcsec of each other are images of the same one.

    The files' own groups tell repeats of an image only. A second image of a held-out object in
    training would give its redshift away.
    """
    places = SkyCoord(ra, dec, unit="deg")
    one, other, _, _ = places.search_around_sky(places, _SAME_ARCSEC * units.arcsec)
    pairs = coo_matrix((np.ones(len(one)), (one, other)), shape=(len(ra), len(ra)))
    return connected_components(pairs, directed=False)[1].astype(np.int64)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} does not exist: check the path given with --data")
    return path
