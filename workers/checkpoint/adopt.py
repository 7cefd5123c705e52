"""Published weights made ours: the same numbers, in a file that says what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from workers.checkpoint.fit import published
from workers.transform import InputTransform
from workers.weights import Config, Identity, identify, save


def adopt(
    checkpoint: Path,
    to: Path,
    *,
    name: str,
    version: str,
    say: Callable[[str], object] = print,
) -> Identity:
    """Read a published checkpoint (see `published`) and write it as weights, in float32.

    The published model takes pixels and magnitudes as they are and gives a redshift alone, so an
    estimate has neither p(z) nor an interval.

    Raises:
        WeightsError: the checkpoint cannot be used, or `to` cannot be written.
    """
    tensors = published(checkpoint, left_out=say)
    with checkpoint.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    config = Config(
        name=name,
        version=version,
        bins=1,
        z_max=10.0,  # of a grid that is not used
        temperature=1.0,
        magnitudes_alone=False,
        transform=InputTransform(),
        magnitude_range=(),
        recipe={"published": checkpoint.name, "sha256": sha256},
    )
    save(to, tensors, config, half=False)
    return identify(to)
