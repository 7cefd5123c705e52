"""The commands of `lookback`, a few in a file; and how a run is shown to who has begun it.

What a command needs it loads when it runs, so that help and completion come at once.
"""
