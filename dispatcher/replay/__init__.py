"""What a replay reads: asked for by date, times or offsets, found once, and kept until it is done.

The ranges are found when a replay begins and kept in `replay.json` of its folder, so that the same
command goes on with the same events, whatever was written to the source since.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from dispatcher.errors import SettingsError
from dispatcher.night import utc
from dispatcher.service import STATE_FILE
from dispatcher.settings import Settings
from dispatcher.sources import open_again, where
from ingest.events import Partition
from ingest.sources import Source
from ingest.sources.span import Archive, Range, Ranges, Span

PLAN_FILE: Final = "replay.json"
_KAFKA: Final = "kafka://"
_MOST_NIGHTS: Final = 400


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks to be read again: a location, and a night (`on`) or a span of it."""

    location: str
    on: date | None = None
    span: Span = field(default_factory=Span)

    def resolved(self, noon_utc_h: float) -> Wanted:
        """The same without a date: the topics of that night, or the times from noon to noon (UTC).

        Topics that are named after the night are those of the date, or of all dates between the
        times.

        Raises:
            SettingsError: it is not said which night is meant.
        """
        _, _, topics = self.location.removeprefix(_KAFKA).partition("/")
        if self.location.startswith(_KAFKA) and "%" in topics and not topics.startswith("^"):
            location = _of_nights(self.location, list(self._nights()))
            return Wanted(location, None, self.span)
        if self.on is None:
            return self
        noon = datetime(self.on.year, self.on.month, self.on.day, tzinfo=UTC).timestamp()
        noon += 3600 * noon_utc_h
        return Wanted(self.location, None, replace(self.span, from_time=noon, to_time=noon + 86400))

    def _nights(self) -> Iterator[date]:
        since, until = self.span.from_time, self.span.to_time
        if self.on is not None:
            yield self.on
        elif since is None or until is None:
            raise SettingsError(
                f"{self.location} has a topic for every night: say which, with --on 2026-11-20 or "
                "with --from and --to"
            )
        else:
            first, last = (datetime.fromtimestamp(each, UTC).date() for each in (since, until))
            if (last - first).days > _MOST_NIGHTS:
                raise SettingsError(
                    f"--from {first} --to {last} is more than {_MOST_NIGHTS} nights: replay a part"
                )
            yield from (first + timedelta(days=n) for n in range((last - first).days + 1))

    def to_json(self) -> dict[str, Any]:
        """For `replay.json`: what a second command is compared with."""
        return {
            "location": where(self.location),
            "from_time": self.span.from_time,
            "to_time": self.span.to_time,
            "offsets": {name: list(each) for name, each in sorted(self.span.offsets.items())},
        }


def _of_nights(location: str, nights: list[date]) -> str:
    servers, slash, topics = location.removeprefix(_KAFKA).partition("/")
    names = [night.strftime(name) for name in topics.split(",") for night in nights]
    return f"{_KAFKA}{servers}{slash}{','.join(dict.fromkeys(names))}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one replay reads, until it is done. `finished`: when it was (ISO 8601)."""

    wanted: dict[str, Any]
    ranges: Ranges = field(default_factory=lambda: MappingProxyType({}))
    finished: str | None = None

    @property
    def events(self) -> int:
        """How many there are; of a compacted topic, at most."""
        return sum(each.size for each in self.ranges.values())

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The plan of the replay in `folder`; None if none began there.

        Raises:
            SettingsError: it cannot be read.
        """
        path = folder / PLAN_FILE
        try:
            kept = json.loads(path.read_text())
            ranges = {
                Partition(source, name): Range(int(first), int(end))
                for source, name, first, end in kept["ranges"]
            }
            return cls(kept["wanted"], ranges, kept["finished"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{path} cannot be read ({error}): give another folder with --into"
            ) from error

    def keep(self, folder: Path) -> None:
        """Write it where `load` finds it; a crash leaves the old one or the new one."""
        kept = {
            "wanted": self.wanted,
            "finished": self.finished,
            "ranges": [[*partition, *each] for partition, each in self.ranges.items()],
        }
        draft = folder / f"{PLAN_FILE}.new"
        with draft.open("w") as file:
            file.write(json.dumps(kept) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / PLAN_FILE)


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay that is about to run in `folder`.

    `limited`: it has money of its own, and ends when that is spent.
    """

    source: Source
    plan: Plan
    folder: Path
    limited: bool = False

    def finish(self) -> None:
        """All of it is done: say so where the same command will look."""
        replace(self.plan, finished=utc(time.time())).keep(self.folder)


async def find(wanted: Wanted, settings: Settings) -> tuple[Archive, Plan]:
    """The source of a replay, limited to what is wanted, as it is now.

    Raises:
        SourceError: it cannot be read, or knows no such times or partitions.
        SettingsError: it keeps nothing to be read again.
    """
    source = open_archive(wanted, settings)
    ranges = await source.find(wanted.span)
    source.limit(ranges)
    return source, Plan(wanted.to_json(), ranges)


async def resume(wanted: Wanted, folder: Path, settings: Settings) -> tuple[Archive, Plan]:
    """The source of the replay in `folder`, and its plan: kept there from now on.

    Raises:
        SourceError, SettingsError: as of `find`; the folder belongs to something else.
    """
    plan = Plan.load(folder)
    if plan is None:
        if (folder / STATE_FILE).exists():
            raise SettingsError(
                f"{folder} holds the state of a run that is no replay: give another folder "
                "with --into"
            )
        source, plan = await find(wanted, settings)
        plan.keep(folder)
        return source, plan
    if plan.wanted != wanted.to_json():
        raise SettingsError(
            f"{folder} holds another replay ({described(plan.wanted)}): give another folder with "
            "--into"
        )
    source = open_archive(wanted, settings)
    source.limit(plan.ranges)
    return source, plan


def open_archive(wanted: Wanted, settings: Settings) -> Archive:
    """The source at a location, to be read again.

    Raises:
        SourceError: there is nothing there.
        SettingsError: it keeps nothing to be read again.
    """
    source = open_again(wanted.location, settings)
    if not isinstance(source, Archive):
        raise SettingsError(f"{wanted.location} cannot be read a second time")
    return source


def described(wanted: dict[str, Any]) -> str:
    """What a replay reads, for a person."""
    times = [
        f"{word} {datetime.fromtimestamp(wanted[key], UTC):%Y-%m-%dT%H:%M:%SZ}"
        for word, key in (("from", "from_time"), ("to", "to_time"))
        if wanted[key] is not None
    ]
    offsets = [f"{name}:{first}-{end}" for name, (first, end) in wanted["offsets"].items()]
    return " ".join([wanted["location"], *times, *offsets])
