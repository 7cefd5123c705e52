"""What a worker, or whoever trains one, can fail with.

WorkerError
├── WeightsError     a weights file cannot be used
├── WrongWeights     the job asks for other weights than this function carries
├── WireError        a partition or a verdict does not have the agreed form
├── PayloadError     what an invocation points at may not, or cannot, be read
├── RecipeError      a training recipe does not exist or has wrong keys
└── DataError        a training or evaluation data set is not there or is not one
"""

from __future__ import annotations


class WorkerError(Exception):
    """Root of the errors of this package."""


class WeightsError(WorkerError):
    """A weights file cannot be used. The message says what to do."""


class WrongWeights(WorkerError):
    """The job asks for other weights than this function carries."""


class WireError(WorkerError):
    """A partition or a verdict does not have the form that `workers.wire` writes."""


class PayloadError(WorkerError):
    """What an invocation points at may not be read, cannot be read, or is something else."""


class RecipeError(WorkerError):
    """A training recipe does not exist, or does not have the right keys."""


class DataError(WorkerError):
    """A data set is not there, or does not have the documented layout."""
