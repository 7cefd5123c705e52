"""What can be chosen about reading from Kafka, and where a partition begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self

from ingest.errors import SourceError

_JOIN_S: Final = 10.0  # what a rebalance needs besides the keeper's time
_MIB: Final = 1 << 20
_OFFSET: Final = re.compile(r"offset:(\d{1,18})")


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How a group's member reads.

    `start`: where a partition begins of which the group has no commit: "earliest", "latest", an
    ISO 8601 time (UTC where it names no zone) or "offset:N". `until_end`: read up to where the
    partitions end when they are first assigned, then be exhausted. `instance_id`: static
    membership; the group waits `session_timeout_s` for a member that restarts under the same one.
    `revoke_s`: the keeper's time to finish before a partition goes to another member.
    `rollover_grace_h`: for how many hours after midnight (UTC) the topic of the night before is
    read. `buffer_mib` and `fetch_mib`: the most that one fetch brings, of all partitions and of
    one. `refresh_s`: how soon a new topic or partition is seen. `commit_s`, `open_s`, `leave_s`:
    the longest that a commit, opening and leaving take.
    """

    group: str = "lookback"
    start: str = "earliest"
    until_end: bool = False
    instance_id: str | None = None
    session_timeout_s: float = 45.0
    revoke_s: float = 20.0
    rollover_grace_h: float = 12.0
    buffer_mib: float = 64.0
    fetch_mib: float = 1.0
    refresh_s: float = 30.0
    commit_s: float = 10.0
    open_s: float = 15.0
    leave_s: float = 5.0

    def arguments(self) -> dict[str, Any]:
        """What they are in aiokafka's words."""
        rebalance_ms = _ms(max(self.session_timeout_s, self.revoke_s + _JOIN_S))
        return {
            "group_id": self.group,
            "group_instance_id": self.instance_id,
            "enable_auto_commit": False,
            # A position that is gone must be told, not jumped over.
            "auto_offset_reset": "none",
            # What a producer took back was never an event.
            "isolation_level": "read_committed",
            "session_timeout_ms": _ms(self.session_timeout_s),
            "heartbeat_interval_ms": _ms(min(3.0, self.session_timeout_s / 3)),
            # aiokafka's default is the session timeout, and a join waits for as long as a request.
            "rebalance_timeout_ms": rebalance_ms,
            "request_timeout_ms": rebalance_ms + 10_000,
            "fetch_max_bytes": round(self.buffer_mib * _MIB),
            "max_partition_fetch_bytes": round(self.fetch_mib * _MIB),
            "metadata_max_age_ms": _ms(self.refresh_s),
        }


@dataclass(frozen=True, slots=True)
class Start:
    """`KafkaOptions.start`, read. `at`: milliseconds since 1970, or an offset."""

    kind: Literal["earliest", "latest", "time", "offset"]
    at: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it.

        Raises:
            SourceError: it is none of the four.
        """
        if text == "earliest":
            return cls("earliest")
        if text == "latest":
            return cls("latest")
        if match := _OFFSET.fullmatch(text):
            return cls("offset", int(match[1]))
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise SourceError(
                f'a Kafka source cannot start at "{text}": give "earliest", "latest", "offset:N" '
                'or a time such as "2026-11-28T02:00:00Z"'
            ) from None
        return cls("time", _ms((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
