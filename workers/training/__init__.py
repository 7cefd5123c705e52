"""Training and evaluation of the model. Not part of the function image."""

from workers.training.run import train

__all__ = ["train"]
