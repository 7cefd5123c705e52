"""One dead letter, and the classes that say what can be done about it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson


class ErrorClass(StrEnum):
    """Why a letter is dead, as far as it matters for what to do next."""

    MALFORMED = "malformed"
    """The bytes are broken: mend the sender or fetch them again; the same bytes die again."""
    NOT_FOR_US = "not_for_us"
    """Sound, but this service is not set up for it: change the settings, then redrive."""
    TRANSIENT = "transient"
    """Something else was missing or busy at that time: redrive once it is there."""
    POISON = "poison"
    """It costs workers: redrive only after a mend of the worker."""
    STALE = "stale"
    """Too old to be of use when its turn came."""


_CODES: Final = {
    ErrorClass.MALFORMED: (
        "bad_datum",
        "bad_notice",
        "bad_schema",
        "bad_stamp",
        "bad_sync",
        "not_avro",
        "too_large",
        "truncated",
        "unreadable",
    ),
    ErrorClass.NOT_FOR_US: ("address_refused", "unknown_format"),
    ErrorClass.TRANSIENT: (
        "platform_failed",
        "refused",
        "throttled",
        "tried_in_vain",
        "unknown_schema",
    ),
    ErrorClass.POISON: (
        "bad_input",
        "function_error",
        "kills_worker",
        "no_answer",
        "not_finite",
        "times_out",
    ),
    ErrorClass.STALE: ("stale",),
}

CLASSES: Final[Mapping[str, ErrorClass]] = MappingProxyType(
    {code: each for each, codes in _CODES.items() for code in codes}
)
"""The class of every reason code of this release."""


def class_of(reason: str) -> ErrorClass:
    """The class of a reason code.

    A code that is not known here is poison: it comes from a worker or a file of another release,
    and an error at this point would stop a night because of one letter. Poison is the class that
    is never sent again without being asked for.
    """
    return CLASSES.get(reason, ErrorClass.POISON)


class Place(NamedTuple):
    """Where an event stands in its source: the identity of its letter."""

    src_topic: str
    src_partition: str
    src_offset: int

    def __str__(self) -> str:
        return f"{self.src_topic}:{self.src_partition}:{self.src_offset}"

    def key(self) -> bytes:
        """A name of the place that no other place has, whatever colons its parts hold."""
        return orjson.dumps([self.src_topic, self.src_partition, str(self.src_offset)])

    def to_json(self) -> dict[str, str]:
        """The place as a letter's JSON gives it: the 64-bit offset as a string."""
        return {**self._asdict(), "src_offset": str(self.src_offset)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Place:
        """The place that JSON with (at least) its three fields names."""
        return cls(found["src_topic"], found["src_partition"], int(found["src_offset"]))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that could not be answered.

    `reason` is a code (see `docs/events.md`), `detail` a sentence, `attempts` how often a worker
    was asked, `body` what the survey sent: of a packet out of a container of many, its record byte
    for byte in a container of its own; of a line or file over its limit, the beginning.
    `cost_usd_pico`: what its part of the calls cost, null where none was made. `redriven` is how
    often the event had been sent again before it died this time. `t_dead` is in unix seconds.
    """

    src_topic: str
    src_partition: str
    src_offset: int
    reason: str
    detail: str
    attempts: int
    body: bytes
    run_id: str
    t_dead: float
    cost_usd_pico: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    survey: str | None = None
    alert_id: str | None = None
    result_id: str | None = None
    redriven: int = 0

    @property
    def place(self) -> Place:
        """Where the event stands in its source: the letter's identity."""
        return Place(self.src_topic, self.src_partition, self.src_offset)

    @property
    def error_class(self) -> ErrorClass:
        """What can be done about it; follows from `reason`."""
        return class_of(self.reason)

    def says_what(self, other: DeadLetter) -> bool:
        """Whether it differs from `other` by run and time only: a restart's repetition."""
        return replace(self, run_id=other.run_id, t_dead=other.t_dead) == other

    def about(self) -> dict[str, Any]:
        """For JSON: all but the body; the offset as a string, the class written out."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "body"}
        return {
            **told,
            **self.place.to_json(),
            "headers": dict(self.headers),
            "error_class": self.error_class.value,
        }

    def to_json(self) -> dict[str, Any]:
        """For JSON: `about`, and the body in base64."""
        return {**self.about(), "body": base64.b64encode(self.body).decode("ascii")}

    @classmethod
    def from_json(cls, found: Mapping[str, Any], body: bytes | None = None) -> DeadLetter:
        """What `to_json` was called on; with `body`, what `about` was called on.

        Fields that an older release did not write have their defaults, those of a newer one are
        passed over. `error_class` is not read: it follows from the reason.

        Raises:
            KeyError, TypeError, ValueError: this is no dead letter.
        """
        known = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        given = base64.b64decode(found["body"], validate=True) if body is None else body
        return cls(**{**known, "body": given, "src_offset": int(found["src_offset"])})
