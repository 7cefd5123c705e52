"""The state of a run on disk: whole or not there, whenever the run is stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def keep(state: Any, path: Path) -> None:
    """Store tensors and plain values; `recall` reads them."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def recall(path: Path) -> Any:
    """What `keep` stored: tensors and plain values, nothing that runs."""
    return torch.load(path, weights_only=True)
