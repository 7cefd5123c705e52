"""A recipe: everything that decides what comes out of a training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from workers.errors import RecipeError

_SHIPPED: Final = Path(__file__).with_name("recipes")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pretraining(_Part):
    """Masked autoencoding of the encoder."""

    labelled: tuple[str, ...] = ()
    """Datasets with redshifts, of which only the training rows are seen."""
    unlabelled: tuple[str, ...] = ()
    """Datasets without, of which all rows are seen."""
    epochs: PositiveInt
    batch: PositiveInt = 128
    mask: float = Field(0.75, gt=0, lt=1)
    rate: float = 1e-3
    decay: float = 0.05


class Source(_Part):
    """A dataset with redshifts that a model is fine-tuned on."""

    data: str
    share: float
    """Of the rows of an epoch."""
    like: str | None = None
    """Draw rows so that their redshifts are distributed as those of this dataset."""
    judge: bool = True
    """Its validation rows choose the best epoch and the calibration."""
    z_least: float = 0.0
    """Rows nearer than this are left out: the model is not for them."""


class FineTuning(_Part):
    """Everything behind the frozen encoder."""

    sources: tuple[Source, ...]
    bins: PositiveInt = 400
    z_max: float = 6.0
    epochs: PositiveInt
    epoch_rows: PositiveInt
    batch: PositiveInt = 256
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


class Domain(_Part):
    """What tells rows that the model is for from others."""

    outside: tuple[str, ...] = ()
    """Datasets of what the model is not for."""
    nearer: float = 0.0
    """Rows of the sources nearer than this are outside, too."""
    rows: PositiveInt = 6_000
    """At most so many good ones of each source, and twice as many of each foreign dataset."""
    epochs: PositiveInt = 20


class Recipe(_Part):
    """One training run, start to end: pre-training, fine-tuning, or both."""

    name: str
    version: str
    seed: int
    softening: tuple[float, float, float, float, float]
    """Nanomaggies, ugriz: pixels become asinh(x / softening)."""
    half: bool = False
    """Matrix products in bfloat16."""
    pretraining: Pretraining | None = None
    finetuning: FineTuning | None = None
    domain: Domain | None = None


def shipped() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(each.stem for each in _SHIPPED.glob("*.toml"))


def load(recipe: Path | str) -> Recipe:
    """Read a shipped recipe by its name, or a TOML file.

    Raises:
        RecipeError: there is none, or a key is wrong.
    """
    path = Path(recipe) if Path(recipe).suffix == ".toml" else _SHIPPED / f"{recipe}.toml"
    if not path.exists():
        raise RecipeError(
            f"no recipe {recipe}: give a .toml file, or one of: {', '.join(shipped())}"
        )
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"recipe {path}: {error}") from error
