"""Where Lookback is to run."""

from __future__ import annotations

from enum import StrEnum


class Place(StrEnum):
    """A kind of place, which `dispatcher.settings.commented` has a settings file for."""

    LAPTOP = "laptop"
    HOST = "host"
    CLOUD = "cloud"
