"""What can go wrong between a source and a stamp.

    IngestError
    ├── SourceError          a source cannot be opened or read
    │   └── SourceUnavailable    not now: the same call may succeed later
    ├── AddressRefused       an address is not on the allow list
    ├── DecodeError          these bytes are not an event; carries a reason code
    └── NotApplicable        an event for which no redshift can be asked; carries a reason code

`DecodeError` ends in a dead letter, `NotApplicable` in a result that says so.
"""

from __future__ import annotations


class IngestError(Exception):
    """Root of the errors of this package."""


class SourceError(IngestError):
    """A source cannot be opened or read. The message says what to do."""


class SourceUnavailable(SourceError):
    """The source does not answer right now; nothing is lost, try again."""


class AddressRefused(IngestError):
    """An address that an event names is not on the allow list."""


class ReasonedError(IngestError):
    """An error with a `reason` code (a word for counters) and a `detail` (a sentence)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DecodeError(ReasonedError):
    """The bytes are not an event that this service can read."""


class NotApplicable(ReasonedError):
    """The event is good, but there is nothing the model can be asked about it."""
