"""What much simpler estimators make of the same rows. Needs scikit-learn (extra `train`).

A model that is not clearly better than a forest of a minute's training is not worth its weights.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.errors import DataError
from workers.photometry import asinh_magnitudes
from workers.training.cutouts import Cutouts, centre

Floats = NDArray[np.floating]

APERTURES: Final = (1.5, 2.5, 4.0, 6.0, 9.0, 13.0)
"""Radii in pixels (0.396 arcsec), around the middle of the cutout."""

_TREES: Final = 200
_FAINT: Final = 30.0  # stands for "not measured": forests need a number, and this is one apart


def compare(train: Cutouts, test: Cutouts, *, seed: int = 1) -> dict[str, Floats]:
    """Redshifts [n] of the `test` rows from each simple estimator, all trained on `train`.

    forest on magnitudes   extremely randomised trees on u-g, g-r, r-i, i-z and r, as they come
    forest on apertures    the same on magnitudes and colours measured in six apertures
    mean of the training set

    Raises:
        DataError: scikit-learn is not installed.
    """
    return {
        "forest on magnitudes": _forest(
            magnitude_features(train.magnitudes), train.z, magnitude_features(test.magnitudes), seed
        ),
        "forest on apertures": _forest(
            aperture_features(train.images), train.z, aperture_features(test.images), seed
        ),
        "mean of the training set": np.full(len(test), float(train.z.mean())),
    }


def magnitude_features(magnitudes: Floats) -> Floats:
    """Colours and r [n, 5] of ugriz magnitudes [n, 5]; NaN counts as very faint."""
    known = np.nan_to_num(magnitudes.astype(float), nan=_FAINT)
    return np.column_stack([known[:, :-1] - known[:, 1:], known[:, 2]])


def aperture_features(images: NDArray[Any]) -> Floats:
    """Colours and r within each aperture, and how much is between two [n, 9 per aperture - 4].

    `images` [n, 5, s, s] nanomaggies; their middle 32 x 32 pixels count, as for the model.
    """
    magnitudes = asinh_magnitudes(aperture_fluxes(images))  # [n, apertures, 5]
    color = magnitudes[:, :, :-1] - magnitudes[:, :, 1:]
    growth = magnitudes[:, 1:, 1:] - magnitudes[:, :-1, 1:]
    n = len(magnitudes)
    return np.concatenate(
        [color.reshape(n, -1), magnitudes[:, :, 2], growth.reshape(n, -1)], axis=1
    )


def aperture_fluxes(images: NDArray[Any]) -> Floats:
    """Sums [n, apertures, 5] of the pixels within each radius; pixels in part count in part."""
    inside = _inside(32)
    parts = [
        np.einsum("nbyx,ayx->nab", centre(images[i : i + 512]).astype(float), inside, optimize=True)
        for i in range(0, len(images), 512)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(APERTURES), 5))


def _inside(size: int, fine: int = 10) -> Floats:
    """Share [apertures, size, size] of each pixel inside each aperture."""
    axis = (np.arange(size * fine) + 0.5) / fine - size / 2
    radius = np.hypot(axis[:, None], axis)
    shares = [
        (radius <= each).reshape(size, fine, size, fine).mean(axis=(1, 3)) for each in APERTURES
    ]
    return np.stack(shares)


def _forest(x: Floats, z: Floats, asked: Floats, seed: int) -> Floats:
    """Trained on ln(1 + z), in which errors are alike near and far."""
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError as error:
        raise DataError(
            "comparing with forests needs scikit-learn: pip install 'lookback[train]', "
            "or leave out --train"
        ) from error
    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=3, random_state=seed)
    estimated: Floats = np.expm1(forest.fit(x, np.log1p(z)).predict(asked))
    return estimated
