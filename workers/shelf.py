"""The models that a process carries, by the hash of their weights.

A function carries those of its image (LOOKBACK_WEIGHTS; "none": nothing), and learns others from
whoever has them: an address in the job, or another rank of its group. They are kept on disk beside
the process, for as long as the platform keeps that.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from workers.drift import DriftMonitor
from workers.errors import PayloadError, WrongWeights
from workers.estimator import Estimator
from workers.weights import find

NONE: Final = "none"
_MOST: Final = 2
"""Models that a process has loaded: the one in use, and the one it replaces."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model, where its weights lie, and who watches what it says."""

    estimator: Estimator
    path: Path
    monitor: DriftMonitor | None

    @classmethod
    def load(cls, path: Path) -> Model:
        """Load and warm up.

        Raises:
            WeightsError: the file cannot be used.
        """
        precision = os.environ.get("LOOKBACK_PRECISION")
        estimator = Estimator.load(
            path, precision="bfloat16" if precision == "bfloat16" else "float32"
        )
        reference = estimator.reference
        return cls(estimator, path, DriftMonitor(reference) if reference else None)


@cache
def shelf() -> Shelf:
    """The shelf of this process, with what its image carries."""
    named = os.environ.get("LOOKBACK_WEIGHTS")
    made = Shelf()
    if named != NONE:
        made.put(Model.load(find(named)))
    return made


class Shelf:
    """What was loaded last stays; of older ones, one."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}

    def put(self, model: Model) -> None:
        """One more; the oldest must go if they are too many."""
        self._models[model.estimator.sha256] = model
        while len(self._models) > _MOST:
            del self._models[next(iter(self._models))]

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._models

    def any(self) -> str:
        """What was loaded last, by its hash; empty if nothing is."""
        return next(reversed(self._models), "")

    def get(self, sha256: str) -> Model:
        """The model with these weights.

        Raises:
            WrongWeights: this process carries others, or none.
        """
        if sha256 in self._models:
            return self._models[sha256]
        carried = ", ".join(each[:12] for each in self._models) or "none"
        raise WrongWeights(
            f"the job wants weights {sha256[:12]}, this function carries {carried}: deploy the "
            "same weights to both, or set functions.bucket, so that they can be sent"
        )

    def learn(self, raw: bytes | bytearray | memoryview, sha256: str) -> Model:
        """Keep and load weights that came from elsewhere.

        Raises:
            PayloadError: they are not those that were asked for.
            WeightsError: they cannot be used.
        """
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise PayloadError(f"weights came that are not {sha256[:12]}")
        path = _folder() / f"lookback-{sha256}.safetensors"
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(raw)
            Path(file.name).replace(path)  # processes may share the folder: whole or not at all
        model = Model.load(path)
        self.put(model)
        return model


def _folder() -> Path:
    """Where a function may write."""
    return Path(os.environ.get("LOOKBACK_CACHE") or tempfile.gettempdir())
