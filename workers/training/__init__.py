"""Training and evaluation of the model. Not part of the function image."""

from workers.training.evaluate import evaluate
from workers.training.run import train

__all__ = ["evaluate", "train"]
