"""What a sink can say other than "stored".

SinkError
├── SinkUnavailable    not now: the same rows may be taken later
│   ├── NoRoom               its disk is full
│   └── CredentialsExpired   they have to be renewed
└── SinkRefused        not ever: wrong schema, no permission; says what to do
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SinkError(Exception):
    """Root of the errors of this package."""


class SinkUnavailable(SinkError):
    """The rows were not stored; try again."""


class NoRoom(SinkUnavailable):
    """The disk is full; nothing was stored. The rows may be written again once there is room."""


class CredentialsExpired(SinkUnavailable):
    """The credentials have expired; nothing was stored. New ones are asked for each time."""


class SinkRefused(SinkError):
    """The rows will never be stored as things are. The message says what to do."""


def is_full(error: Exception) -> bool:
    """Whether the system, or SQLite, says with this that there is no room on a disk."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _FULL
