"""Weights on disk: safetensors with the model's configuration in the header.

Numbers are stored as float16 (half the size, and the error is far below the model's) and
computed in float32. The file's SHA-256 is the identity of the weights: it goes into every result.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict

from workers.errors import WeightsError
from workers.transform import InputTransform

if TYPE_CHECKING:
    from workers.astromae import AstroMAE

SHIPPED: Final = Path(__file__).with_name("models") / "astromae-first-light.safetensors"
_KEY: Final = "lookback"
_MAX_HEADER: Final = 10 * 1024 * 1024


class Config(BaseModel):
    """What must be known beside the tensors to get redshifts out of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    bins: int
    z_max: float
    temperature: float
    """The logits are divided by it: fitted on validation data, so that p(z) is calibrated."""
    magnitudes_alone: bool
    """p(z) is the mean of the whole model's and of that of the fusion with the image hidden."""
    transform: InputTransform
    magnitude_range: tuple[tuple[float, float], ...]
    """Per band: magnitudes outside are flagged, the model has not seen their like."""
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model a file holds, as it stands in every result."""

    name: str
    version: str
    sha256: str
    calibration_id: str


def save(path: Path, model: AstroMAE, config: Config) -> None:
    """Write the weights of `model`."""
    from safetensors.torch import save_file

    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
        for name, tensor in model.state_dict().items()
        # One tensor has two names in the published layout; safetensors keeps each once.
        if not name.startswith("inception_model.conv2d_init.")
    }
    save_file(tensors, path, metadata={_KEY: config.model_dump_json()})


def load(path: Path | None = None) -> tuple[AstroMAE, Config]:
    """Read a file that `save` wrote (None: the shipped weights), in evaluation mode.

    Raises:
        WeightsError: there is no such file, or it is not one of ours.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from workers.astromae import AstroMAE

    path = path or SHIPPED
    config = read_config(path)
    model = AstroMAE(outputs=config.bins)
    try:
        tensors = {
            name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()
        }
        for part in ("weight", "bias"):
            first = tensors[f"inception_model.vis_inception.0.{part}"]
            tensors[f"inception_model.conv2d_init.{part}"] = first
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise _not_ours(path, error) from error
    return model.eval(), config


def read_config(path: Path) -> Config:
    """The configuration in the header of a weights file, without its tensors.

    The header is a JSON object behind its length (safetensors' own format description).

    Raises:
        WeightsError: there is no such file, or it is not one of ours.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _MAX_HEADER)))
        return Config.model_validate_json(header["__metadata__"][_KEY])
    except OSError as error:
        raise WeightsError(
            f"weights {path}: {error.strerror}; check workers.weights in the settings"
        ) from error
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _not_ours(path, error) from error


def _not_ours(path: Path, error: Exception) -> WeightsError:
    why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return WeightsError(
        f"weights {path} are damaged, or of another release, or not a Lookback weights file "
        f"({why}); `lookback train` writes them"
    )


def identify(path: Path | None = None) -> Identity:
    """Name, version and hash of a weights file, without loading it (and without torch).

    Raises:
        WeightsError: there is no such file, or it is not one of ours.
    """
    path = path or SHIPPED
    config = read_config(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Identity(config.name, config.version, sha256, f"temperature-{config.temperature:.2f}")
