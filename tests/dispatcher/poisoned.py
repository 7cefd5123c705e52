"""The real handler in a real worker, which does not survive to look at certain stamps."""

import os
import signal

from workers.estimator import Estimator

POISON = 666.0
"""The first pixel of a stamp that ends the process that gives it to the model."""

_estimate = Estimator.estimate


def _estimate_or_die(self, images, magnitudes):
    if (images[:, 0, 0, 0] == POISON).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return _estimate(self, images, magnitudes)


if "AWS_LAMBDA_RUNTIME_API" in os.environ:  # a worker, not the test that reads `POISON`
    Estimator.estimate = _estimate_or_die
    from workers.handler import handler  # noqa: F401 - what the runtime calls
