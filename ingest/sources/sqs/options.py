"""How a queue is read, and what is counted while it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_RANGES: Final = {
    "wait_s": (1, 20),  # a poll that does not wait asks some of the servers only
    "visibility_s": (1, 43_200),
    "receivers": (1, 64),
    "max_outstanding": (1, 120_000),  # what a standard queue hands out before it refuses
    "max_age_h": (0, 12),
    "retry_s": (0, 900),
    "max_bytes": (1, 1 << 31),
    "leave_s": (0, 60),
}


@dataclass(frozen=True, slots=True)
class SqsOptions:
    """How a queue is read.

    `wait_s`: of a long poll. `visibility_s`: how long others do not see what we hold, after our
    last sign of life. `receivers`: polls at the same time. `max_outstanding`: messages that are
    held at most, waiting ones among them. `max_age_h`: no message is held longer (SQS takes it
    back after 12 hours). `until_empty`: the source is exhausted when nothing is held and the queue
    was empty for one whole poll. `retry_s`: when a message comes again whose object could not be
    fetched, doubled with each try, up to five minutes. `max_bytes`: of the objects that one
    message leads to. `leave_s`: how long `close` waits for polls that are under way.

    Raises:
        ValueError: naming the option that is out of its range.
    """

    wait_s: int = 20
    visibility_s: int = 60
    receivers: int = 2
    max_outstanding: int = 2000
    max_age_h: float = 11.0
    until_empty: bool = False
    retry_s: int = 5
    max_bytes: int = 16 * 1024**2
    leave_s: float = 5.0

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: give {least} to {most}")


@dataclass(slots=True)
class Counts:
    """Messages so far.

    `received`: for the first time in this run. `redelivered`: SQS had handed them out before.
    `deleted`: settled, and gone from the queue. `expired`: their visibility ended while they were
    held, so that they may be elsewhere by now. `passed_over`: said nothing of a new image, such as
    S3's test. `repeated`: came again after they had been deleted. `returned`: handed back.
    """

    received: int = 0
    redelivered: int = 0
    deleted: int = 0
    expired: int = 0
    passed_over: int = 0
    repeated: int = 0
    returned: int = 0
