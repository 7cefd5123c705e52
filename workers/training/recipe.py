"""A recipe: everything that decides what comes out of a training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from workers.errors import RecipeError

_SHIPPED: Final = Path(__file__).with_name("recipes")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Part):
    """How many rows of what."""

    galaxies: PositiveInt
    quasars: PositiveInt
    """Simulated ones; the real ones are all taken."""


class Pretraining(_Part):
    """Masked autoencoding of the encoder."""

    epochs: int
    batch: int = 128
    mask: float = 0.75
    rate: float = 1e-3
    decay: float = 0.05


class FineTuning(_Part):
    """Everything behind the frozen encoder."""

    epochs: int
    epoch_rows: int
    galaxy_share: float = 0.3
    real_quasar_share: float = 0.3
    batch: int = 256
    rate: float = 8e-4
    decay: float = 0.02
    average: float = 0.99
    """Decay per step of the moving average of the weights."""
    label_width: float = 1.5
    """Standard deviation of the smoothed label, in bins."""
    magnitude_noise: float = 0.03
    hidden_magnitudes: float = 0.05
    """Share of the rows whose magnitudes are measured in the image, as for events without any."""
    hidden_images: float = 0.5
    """Share of the rows whose image the fusion does not see."""
    dropout: float = 0.3
    """Share of the image's features that a row's fusion does not see."""


class Recipe(_Part):
    """One training run, start to end."""

    name: str
    version: str
    seed: int
    bins: int
    z_max: float
    threads: int = 1
    data: Data
    pretraining: Pretraining
    finetuning: FineTuning


def load(recipe: Path | str) -> Recipe:
    """Read a shipped recipe by its name, or a TOML file.

    Raises:
        RecipeError: there is none, or a key is wrong.
    """
    path = Path(recipe) if Path(recipe).suffix == ".toml" else _SHIPPED / f"{recipe}.toml"
    if not path.exists():
        shipped = ", ".join(sorted(each.stem for each in _SHIPPED.glob("*.toml")))
        raise RecipeError(f"no recipe {recipe}: give a .toml file, or one of: {shipped}")
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"recipe {path}: {error}") from error
