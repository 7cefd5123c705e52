"""Whether the broker answers: said once when it stops, and once when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import errors

from ingest.errors import SourceError

_log = structlog.get_logger()

_SILENT_S: Final = 15.0
_FAILING_S: Final = 60.0

_ADVICE: Final[dict[type[BaseException], str]] = {
    errors.AuthenticationFailedError: "check user, password and SASL mechanism",
    errors.SaslAuthenticationFailed: "check user, password and SASL mechanism",
    errors.AuthenticationMethodNotSupported: "check the SASL mechanism",
    errors.UnsupportedSaslMechanismError: "check the SASL mechanism",
    errors.GroupAuthorizationFailedError: "let this user read the consumer group, or change it",
    errors.TopicAuthorizationFailedError: "let this user read and describe the topics",
    errors.InvalidGroupIdError: "give the consumer group a name that the broker takes",
    errors.InvalidSessionTimeoutError: "take a session timeout that the broker allows",
    errors.InconsistentGroupProtocolError: "take a group of its own: others read it differently",
}


def refused(error: BaseException, servers: str) -> SourceError | None:
    """The error to stop with, where only a person can help; None where time may."""
    advice = _ADVICE.get(type(error))
    if advice is None:
        return None
    return SourceError(f"the broker at {servers} refuses ({described(error)}): {advice}")


def described(error: BaseException) -> str:
    """Its name and, where it has one, its text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class Contact:
    """What is known of the broker's health from what the consumer gets of it.

    aiokafka tries again by itself for as long as a broker is gone, so silence is told and waited
    out. Only a consumer that fails at every poll for a minute is given up.
    """

    def __init__(self, servers: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._servers = servers
        self._monotonic = monotonic
        self._silent_since: float | None = None
        self._failing_since: float | None = None
        self._said = False

    def sign(self) -> None:
        """It answered."""
        if self._said:
            _log.info(
                "the Kafka broker answers again",
                ended="broker_gone",
                subject=self._servers,
                servers=self._servers,
            )
        self._silent_since = self._failing_since = None
        self._said = False

    def silence(self) -> None:
        """It was asked, nothing failed, and nothing came: not even that there is nothing."""
        self._failing_since = None
        now = self._monotonic()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > _SILENT_S:
            self._say("no answer")

    def failure(self, error: BaseException) -> SourceError | None:
        """A poll failed. Returns the error to stop with, where waiting does not help."""
        now = self._monotonic()
        self._say(described(error))
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > _FAILING_S:
            return SourceError(
                f"the consumer of {self._servers} fails at every poll ({described(error)}): "
                "see the log, and start it again"
            )
        return refused(error, self._servers)

    def _say(self, what: str) -> None:
        if not self._said:
            _log.warning(
                "the Kafka broker does not answer; it is tried again",
                incident="broker_gone",
                subject=self._servers,
                servers=self._servers,
                error=what,
            )
        self._said = True
