"""The function, with a stamp that kills it: one whose magnitudes are all 99."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers import handler as function
from workers.estimator import Estimates

_estimates = function._estimates  # noqa: SLF001 - what looks at the items


def _deadly(images: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> Estimates:
    if (magnitudes == 99).all(axis=1).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return _estimates(images, magnitudes)


function._estimates = _deadly  # noqa: SLF001


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """See `workers.handler.handler`."""
    return function.handler(event, context)
