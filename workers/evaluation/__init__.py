"""What a model is worth: metrics, calibration, comparisons, pictures; and its estimates as a file.

Not part of the function image. `docs/evaluation.md` says what every figure means.
"""
