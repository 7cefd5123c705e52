"""The peer: a function that works as CAI's executor does, by its published code.

Each invocation imports torch, loads the checkpoint and runs CAI's loop over one file of 25 MB
(1,278 images), in batches of 512; its predictions are thrown away. The download of checkpoint and
file is left out, so the peer is faster than the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def handler(event: Mapping[str, Any], _: object) -> dict[str, int]:
    """Answer how many images were looked at."""
    import torch

    from benchmarks import cai
    from workers.astromae import AstroMAE
    from workers.weights import load

    torch.set_num_threads(1)
    tensors, _config = load()
    file = np.load(event["file"], allow_pickle=False)
    model = AstroMAE.of(tensors)
    images, magnitudes = (torch.from_numpy(file[name]) for name in ("images", "magnitudes"))
    cai.loop(model, images, magnitudes)
    return {"images": len(images)}
