"""A service that does not answer: waiting longer and longer, and saying so once."""

from __future__ import annotations

import random
from typing import Final

import structlog

_EXPIRED: Final = ("ExpiredToken", "RequestExpired", "InvalidClientTokenId")
"""Codes of AWS: somebody has to renew the credentials."""

_log = structlog.get_logger()


class Outage:
    """The outages of one service, `name` in the log. Waits are in seconds."""

    def __init__(self, name: str, first_s: float = 0.25, longest_s: float = 30.0) -> None:
        self._name = name
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0
        self._fault = "broker_gone"

    def failed(self, error: Exception | str) -> float:
        """A call failed. Returns how long to wait before the next."""
        if not self._failures:
            expired = any(code in f"{error}" for code in _EXPIRED)
            self._fault = "credentials" if expired else "broker_gone"
            _log.warning(
                "does not answer, and is asked again",
                incident=self._fault,
                subject=self._name,
                service=self._name,
                error=f"{error}",
            )
        # 2 ** 16 is beyond every wait, and an outage of days must not make a number of megabytes.
        wait_s: float = min(self._first_s * 2 ** min(self._failures, 16), self._longest_s)
        self._failures += 1
        # Jitter, or all the readers of a queue would come back in the same moment.
        return wait_s * random.uniform(0.5, 1.0)  # noqa: S311 (nothing secret)

    def over(self) -> None:
        """A call succeeded."""
        if self._failures:
            _log.info(
                "answers again",
                ended=self._fault,
                subject=self._name,
                service=self._name,
                failed_calls=self._failures,
            )
            self._failures = 0
