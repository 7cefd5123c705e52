"""What a store of held estimates must do, and what it tells of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dispatcher.errors import SettingsError
from sinks.record import ResultRecord, Review, Status
from sinks.sink import Stored

_REDSHIFT: Final = (
    "z_median",
    "z_mean",
    "z_mode",
    "z_err68_low",
    "z_err68_high",
    "z_err95_low",
    "z_err95_high",
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says of one estimate; with `standing` waiting it is a note, and no decision.

    An empty `note` leaves the one that is there. `when`: unix seconds.
    """

    standing: Review
    by: str
    note: str
    when: float


@dataclass(frozen=True, slots=True)
class Held:
    """One estimate that was held back: the record as it was estimated, and what was decided.

    Times are unix seconds. `t_published`: when every required sink had it. `pz` (a sketch) and
    `stamp` (JSON, as the page draws it) are what a person looks at; lists leave them out.
    """

    record: ResultRecord
    t_held: float
    standing: Review = Review.WAITING
    by: str | None = None
    note: str | None = None
    t_decided: float | None = None
    t_published: float | None = None
    pz: str | None = None
    stamp: str | None = None

    def after(self, decision: Decision) -> Held:
        """With the decision, or the note.

        Raises:
            SettingsError: it is decided already.
        """
        if self.standing is not Review.WAITING:
            raise SettingsError(
                f"{self.by} has {self.standing} {self.record.result_id} already: the first "
                "decision stands"
            )
        note = decision.note or self.note
        if decision.standing is Review.WAITING:
            return replace(self, by=decision.by, note=note)
        return replace(
            self, standing=decision.standing, by=decision.by, note=note, t_decided=decision.when
        )

    def reviewed(self) -> ResultRecord:
        """What was estimated, and how it stands."""
        standing = {
            "review": self.standing.value,
            "review_by": self.by,
            "review_note": self.note,
            "t_reviewed": self.t_decided,
        }
        return self.record.model_copy(update=standing)

    def published(self, now: float) -> ResultRecord:
        """The row for the sinks. One that is rejected has no redshift, and says who and why."""
        row = self.reviewed().model_copy(update={"t_published": now})
        if self.standing is not Review.REJECTED:
            return row
        reason = f"rejected by {self.by}" + (f": {self.note}" if self.note else "")
        rejected = {"status": Status.REJECTED.value, "reason": reason}
        return row.model_copy(update=dict.fromkeys(_REDSHIFT) | rejected)


class ReviewStore(Protocol):
    """Keeps what is held by its result key. Several processes may decide at once.

    All but `open` raise SinkUnavailable if it is locked or full, and SinkRefused if it can not be
    used as things are: to the run it is one more place where rows are stored.
    """

    name: str

    async def open(self) -> None:
        """Get ready.

        Raises:
            SinkRefused: it cannot be used as things are.
        """

    async def hold(self, held: Sequence[Held]) -> None:
        """Keep these; durable when it returns.

        What a person said of a key that is known stands. If its row was published, it will be
        again: whoever sends an event again may have lost it.
        """

    async def decide(self, result_id: str, decision: Decision) -> Held:
        """Keep a decision or a note; returns how it stands then.

        Raises:
            SettingsError: nothing of this key is held, or it is decided already.
        """

    async def due(self, limit: int) -> list[Held]:
        """What is decided and not yet published, the first decision first."""

    async def published(self, result_ids: Collection[str], now: float) -> None:
        """Every required sink has their rows."""

    async def listing(
        self, standing: Review | None, offset: int, limit: int
    ) -> tuple[int, list[Held]]:
        """How many stand so (None: all), and some of them.

        What waits longest comes first, and of what is decided the latest.
        """

    async def find(self, result_id: str) -> Held | None:
        """One, with all that is known of it."""

    async def counts(self) -> Counter[Review]:
        """How many stand how."""

    async def forget(self, before: float) -> int:
        """Let go of what every sink has had since before then (unix seconds); returns how many."""

    def scan(self) -> AsyncIterator[Stored]:
        """What no sink has to have yet: everything that is not published."""

    async def close(self) -> None:
        """Let go of files."""


def unknown(result_id: str) -> SettingsError:
    """Nothing of this key is held."""
    return SettingsError(
        f"no estimate {result_id} was held for review here: `lookback review list` shows those "
        "that were"
    )


def stored(held: Held) -> Stored:
    """As a row of a sink."""
    row = held.record
    return Stored(row.result_id, row.src_topic, row.src_partition, row.src_offset, row.status)
