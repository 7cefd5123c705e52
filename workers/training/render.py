"""Galaxies and quasars rendered from photometry. What comes out is SIMULATED.

A galaxy is a Sersic profile (exponential when blue, de Vaucouleurs when red) of a given half-light
radius, convolved with a seeing disc and sampled in 0.396 arcsec pixels; a quasar is the seeing
disc alone. Fluxes are those of the magnitudes, in nanomaggies (22.5 - 2.5 log10 f). Sky is either
Gaussian, with SDSS's noise, or real sky that the caller brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

Floats = NDArray[np.float32]

Step = Callable[[int], None]
"""Is told that so many more are rendered."""


def unseen(_: int) -> None:
    """Nobody is told."""


PIXEL_ARCSEC: Final = 0.396
OVERSAMPLE: Final = 3

SKY_NOISE: Final = np.array([0.060, 0.024, 0.034, 0.051, 0.180])
"""Typical sky noise of SDSS imaging, nanomaggies per pixel, ugriz."""

ELECTRONS: Final = np.array([160.0, 850.0, 950.0, 700.0, 160.0])
"""Detected electrons per nanomaggy, ugriz: sets the photon noise of the object itself."""

SEEING: Final = np.array([1.15, 1.08, 1.0, 0.95, 0.97])
"""Seeing of each band relative to r."""

RED: Final = 2.22
"""u - r that parts red from blue galaxies (Strateva et al. 2001, AJ 122, 1861)."""


@dataclass(frozen=True, slots=True)
class RenderedGalaxies:
    """Simulated galaxies: images [n, 5, size, size] nanomaggies, magnitudes [n, 5], z [n]."""

    images: Floats
    magnitudes: Floats
    z: Floats


def render_galaxies(n: int, seed: int, *, size: int = 64, step: Step = unseen) -> RenderedGalaxies:
    """Render `n` galaxies of the shipped population on Gaussian sky. Same seed, same pixels."""
    from workers.training.population import Population

    rng = np.random.default_rng(seed)
    drawn = Population.load().sample(n, rng)
    images = render(drawn.magnitudes, drawn.radius_arcsec, rng, size=size, step=step)
    noise = rng.normal(size=images.shape) * SKY_NOISE[:, None, None]
    return RenderedGalaxies(
        (images + noise).astype(np.float32),
        drawn.magnitudes.astype(np.float32),
        drawn.z.astype(np.float32),
    )


def render(
    magnitudes: NDArray[np.floating],
    radius_arcsec: NDArray[np.floating] | None,
    rng: np.random.Generator,
    *,
    size: int = 64,
    step: Step = unseen,
) -> Floats:
    """Images [n, 5, size, size] without sky, photon noise included.

    `magnitudes` [n, 5]; `radius_arcsec` [n] half-light radii, None for point sources.
    """
    out = np.empty((len(magnitudes), 5, size, size), dtype=np.float32)
    grid = _Grid.of(size)
    flux = 10 ** (0.4 * (22.5 - np.asarray(magnitudes, dtype=float)))
    for i, mags in enumerate(np.asarray(magnitudes, dtype=float)):
        seeing = np.clip(rng.lognormal(np.log(1.3), 0.12), 0.9, 2.0) * SEEING
        shift = rng.uniform(-0.5, 0.5, 2)
        spectrum = grid.phase(shift)
        if radius_arcsec is not None:
            index = 4.0 if mags[0] - mags[2] > RED else 1.0
            spectrum = spectrum * grid.sersic(
                index, float(radius_arcsec[i]), rng.uniform(0.35, 1.0), rng.uniform(0, np.pi)
            )
        out[i] = _photon_noise(grid.image(spectrum, seeing) * flux[i][:, None, None], rng)
        step(1)
    return out


def _photon_noise(image: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    variance = np.clip(image, 0, None) / ELECTRONS[:, None, None]
    noisy: NDArray[np.floating] = image + rng.normal(size=image.shape) * np.sqrt(variance)
    return noisy


def _concentration(index: float) -> float:
    """b(n): half of the light is inside the half-light radius (Ciotti & Bertin 1999)."""
    return 2 * index - 1 / 3 + 4 / (405 * index)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Coordinates of the oversampled frame, in space (arcsec) and frequency (1/arcsec)."""

    size: int
    y: NDArray[np.floating]
    x: NDArray[np.floating]
    ky: NDArray[np.floating]
    kx: NDArray[np.floating]

    @classmethod
    def of(cls, size: int) -> _Grid:
        n, step = size * OVERSAMPLE, PIXEL_ARCSEC / OVERSAMPLE
        axis = (np.arange(n) - n // 2) * step
        y, x = np.meshgrid(axis, axis, indexing="ij")
        ky, kx = np.meshgrid(np.fft.fftfreq(n, step), np.fft.rfftfreq(n, step), indexing="ij")
        return cls(size, y, x, ky, kx)

    def phase(self, shift_pixels: NDArray[np.floating]) -> NDArray[np.complexfloating]:
        """Spectrum of a point at the middle of the frame, moved by a part of a pixel."""
        # The middle of an even frame lies between pixels, half an oversampled block off n // 2.
        offset = (np.asarray(shift_pixels) - 0.5 / OVERSAMPLE) * PIXEL_ARCSEC
        moved: NDArray[np.complexfloating] = np.exp(
            -2j * np.pi * (self.ky * offset[0] + self.kx * offset[1])
        )
        return moved

    def sersic(
        self, index: float, radius: float, axis_ratio: float, angle: float
    ) -> NDArray[np.complexfloating]:
        """Spectrum of an elliptical Sersic profile of unit flux; `radius` in arcsec.

        Light that falls outside the frame is lost, as it is in a real cutout.
        """
        b = _concentration(index)
        along = self.x * np.cos(angle) + self.y * np.sin(angle)
        across = -self.x * np.sin(angle) + self.y * np.cos(angle)
        r = np.sqrt(along**2 * axis_ratio + across**2 / axis_ratio)
        # A de Vaucouleurs cusp falls between samples: soften it by half of one.
        r = np.hypot(r, 0.5 * PIXEL_ARCSEC / OVERSAMPLE)
        profile = np.exp(-b * (r / radius) ** (1 / index))
        spectrum: NDArray[np.complexfloating] = np.fft.rfft2(
            np.fft.ifftshift(profile * (self._share_inside(index, radius) / profile.sum()))
        )
        return spectrum

    def _share_inside(self, index: float, radius: float) -> float:
        """Share of the light in a circle of the frame's area.

        The profile ends where SDSS's own models do: at 4 (exponential) or 8 half-light radii.
        """
        end = 4.0 if index == 1 else 8.0
        frame = self.size * PIXEL_ARCSEC / np.sqrt(np.pi) / radius
        inside, total = (
            gammainc(2 * index, _concentration(index) * r ** (1 / index))
            for r in (min(frame, end), end)
        )
        return float(inside / total)

    def image(
        self, spectrum: NDArray[np.complexfloating], seeing_arcsec: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Pixels [5, size, size] of unit flux, seen through discs of the given FWHM [5]."""
        k2 = self.ky**2 + self.kx**2
        sigma = seeing_arcsec / 2.3548
        discs = np.exp(-2 * (np.pi * sigma[:, None, None]) ** 2 * k2)
        n = self.size * OVERSAMPLE
        fine = np.fft.fftshift(np.fft.irfft2(spectrum * discs, s=(n, n)), axes=(1, 2))
        return fine.reshape(5, self.size, OVERSAMPLE, self.size, OVERSAMPLE).sum(axis=(2, 4))
