"""Weights on disk: safetensors with the model's configuration in the header.

The shipped ones are stored as float16 (half the size, and the error is far below the model's);
all are computed in float32. The file's SHA-256 is the identity of the weights: it goes into every
result.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from workers.errors import WeightsError
from workers.transform import InputTransform

_MODELS: Final = Path(__file__).with_name("models")
DEFAULT: Final = "galaxies"
_KEY: Final = "lookback"
_FIRST_NAME: Final = "inception_model.vis_inception.0."
_SECOND_NAME: Final = "inception_model.conv2d_init."
_MAX_HEADER: Final = 10 * 1024 * 1024


class Config(BaseModel):
    """What must be known beside the tensors to get redshifts out of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    bins: int
    """Of p(z); 1: the model gives a redshift alone, as the published one does."""
    z_max: float
    temperature: float
    """The logits are divided by it: fitted on validation data, so that p(z) is calibrated."""
    calibration: tuple[float, ...] = ()
    """Recalibrated cumulative probability at equally spaced model ones, 0 to 1; empty: as it is."""
    magnitudes_alone: bool
    """p(z) is the mean of the whole model's and of that of the fusion with the image hidden."""
    transform: InputTransform
    magnitude_range: tuple[tuple[float, float], ...]
    """Per band: magnitudes outside are flagged, the model has not seen their like."""
    reference: dict[str, Any] = {}
    """How estimates of held-out rows are distributed: what `workers.drift` compares with."""
    recipe: dict[str, Any] = {}
    """What the weights came out of."""

    @property
    def calibration_id(self) -> str | None:
        """How p(z) was recalibrated, in a word; None for a model that gives no p(z)."""
        if self.bins == 1:
            return None
        table = "-pit" if self.calibration else ""
        return f"temperature-{self.temperature:.2f}{table}"


def shipped() -> dict[str, Path]:
    """The models that come with this package, by name."""
    files = sorted(_MODELS.glob("astromae-*.safetensors"))
    return {path.stem.removeprefix("astromae-"): path for path in files}


def find(weights: Path | str | None) -> Path:
    """The file of a shipped model (None: the default one), or of a path.

    Raises:
        WeightsError: there is no such file, and no such model.
    """
    known = shipped()
    if str(weights or DEFAULT) in known:
        return known[str(weights or DEFAULT)]
    path = Path(weights or DEFAULT)
    if path.is_file():
        return path
    raise WeightsError(
        f"there are no weights {path}: give a file, or one of the shipped models, "
        f"{' or '.join(known)}"
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model a file holds, as it stands in every result."""

    name: str
    version: str
    sha256: str
    calibration_id: str | None


def save(path: Path, tensors: Mapping[str, NDArray[Any]], config: Config, *, half: bool) -> None:
    """Write weights; `half`: floating-point numbers as float16, in half the space."""
    from safetensors.numpy import save_file

    kept = {
        name: np.asarray(_stored(tensor, half=half), order="C")
        for name, tensor in tensors.items()
        # One tensor has two names in the published layout; it is kept once.
        if not name.startswith(_SECOND_NAME)
    }
    save_file(kept, path, metadata={_KEY: config.model_dump_json()})


def load(path: Path | str | None = None) -> tuple[dict[str, NDArray[Any]], Config]:
    """Tensors (float32) and configuration of a file that `save` wrote, or of a shipped model.

    The tensors of the out-of-domain score, if there are any, begin with `domain.`.

    Raises:
        WeightsError: there is no such file, or it is not one of ours.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = find(path)
    config = read_config(path)
    try:
        tensors = {name: _wide(tensor) for name, tensor in load_file(path).items()}
        for part in ("weight", "bias"):
            tensors[_SECOND_NAME + part] = tensors[_FIRST_NAME + part]
    except (SafetensorError, KeyError) as error:
        raise _not_ours(path, error) from error
    return tensors, config


def _stored(tensor: NDArray[Any], *, half: bool) -> NDArray[Any]:
    return tensor.astype(np.float16) if half and tensor.dtype.kind == "f" else tensor


def _wide(tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor.astype(np.float32) if tensor.dtype.kind == "f" else tensor


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


def identify(path: Path | str | None = None) -> Identity:
    """Name, version and hash of a weights file or a shipped model, without loading it.

    Raises:
        WeightsError: there is no such file, or it is not one of ours.
    """
    path = find(path)
    config = read_config(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Identity(config.name, config.version, sha256, config.calibration_id)
