"""The log of this process: one line per incident, and no secret in it."""

from dispatcher.logs.chain import (
    Format,
    FromLibraries,
    Level,
    conceal,
    configure,
    redacted,
    uncaught,
)

__all__ = ["Format", "FromLibraries", "Level", "conceal", "configure", "redacted", "uncaught"]
