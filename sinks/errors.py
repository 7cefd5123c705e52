"""What a sink can say other than "stored".

SinkError
├── SinkUnavailable    not now: the same rows may be taken later
└── SinkRefused        not ever: wrong schema, no permission, no space; says what to do
"""

from __future__ import annotations


class SinkError(Exception):
    """Root of the errors of this package."""


class SinkUnavailable(SinkError):
    """The rows were not stored; try again."""


class SinkRefused(SinkError):
    """The rows will never be stored as things are. The message says what to do."""
