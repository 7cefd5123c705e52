"""The desk: holds back what a person is to look at, and publishes what was decided.

A held estimate is settled when the store has it, so that nobody who thinks it over holds up the
source. What is decided goes to every sink on the same road as all other rows, and only then counts
as published: a crash in between writes it a second time, under the same key.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final

import structlog

from dispatcher.breaker import Breaker
from dispatcher.clock import Clock
from dispatcher.conclusions import Conclusion, Decided, Writable
from dispatcher.errors import LaneStopped, SettingsError
from dispatcher.outlet import Outlet
from dispatcher.review.decisions import STATES, item, made, said, state_of
from dispatcher.review.memory import MemoryReview
from dispatcher.review.sqlite import FILE, SqliteReview
from dispatcher.review.store import Held, ReviewStore
from dispatcher.settings import Settings
from dispatcher.status.recent import drawn, whole
from dispatcher.writer import Writer
from sinks.errors import SinkError, SinkRefused, SinkUnavailable
from sinks.record import ResultRecord, Review

_LOOK_S: Final = 1.0
_AT_ONCE: Final = 500
_LAST_S: Final = 5.0

_log = structlog.get_logger()


@dataclass(slots=True)
class Desk:
    """Of one run. `policy` is that of the settings; `listeners` are told of published rows."""

    store: ReviewStore
    policy: str
    clock: Clock
    writer: Writer
    batch: int
    listeners: list[Callable[[ResultRecord], None]] = field(default_factory=list)
    _counts: Counter[Review] = field(default_factory=Counter)
    _under_way: dict[str, Decided] = field(default_factory=dict)
    _stored: list[Decided] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _running: bool = False
    _away: bool = False

    def __post_init__(self) -> None:
        self.writer.on_published = self._published
        if self.policy == "hold":
            name, breaker = self.store.name, Breaker(self.clock)
            self.writer.review = Outlet(name, self.hold, breaker, self.batch)

    @property
    def waiting(self) -> int:
        """How many wait, as far as was looked last."""
        return self._counts[Review.WAITING]

    async def hold(self, conclusions: Sequence[Writable]) -> None:
        """Keep the rows of these until a person has decided."""
        now = self.clock.now()
        await self.store.hold(
            [_held(each, now) for each in conclusions if isinstance(each, Conclusion)]
        )

    # What a person asks for and decides.

    async def decide(self, result_id: str, decision: str, by: str, note: str) -> str:
        """Approve, reject or annotate an estimate that waits; returns a sentence.

        Raises:
            SettingsError: it does not wait, or it is not said who decides what.
        """
        with _asked():
            wish = made(decision, by, note, self.clock.now())
            held = await self.store.decide(result_id, wish)
            self._news.set()
        when = f"within {self._within_s()} s" if self._running else "by the next run of this folder"
        return said(held, wish, when)

    async def listing(self, state: str, offset: int, limit: int) -> dict[str, Any]:
        """Estimates in a state (waiting, approved, rejected; empty: all), without pictures.

        Raises:
            SettingsError: there is no such state, or the store cannot be read now.
        """
        with _asked():
            total, found = await self.store.listing(state_of(state), offset, limit)
        return {"total": total, "items": [item(each) for each in found]}

    async def whole(self, result_id: str) -> dict[str, Any] | None:
        """Everything about one estimate that is or was held, as `Recent.whole`; None: it is not.

        Raises:
            SettingsError: the store cannot be read now.
        """
        with _asked():
            held = await self.store.find(result_id)
        if held is None:
            return None
        return whole(held.reviewed(), held.pz, json.loads(held.stamp) if held.stamp else None)

    async def counts(self) -> dict[str, Any]:
        """The policy, and how many stand how: as far as was looked last if the store is away."""
        try:
            self._counts = await self.store.counts()
        except SinkError as error:
            self._say_away(error)
        return {
            "policy": self.policy,
            **{name: self._counts[each] for name, each in STATES.items()},
        }

    # What is decided is published.

    async def run(self) -> None:
        """Publish what is decided, as soon as it is, until cancelled.

        Raises:
            LaneStopped: the store refuses.
        """
        self._running = True
        try:
            while True:
                await self.look()
                await self._wait(_LOOK_S)
        finally:
            self._running = False

    async def run_alone(self) -> None:
        """`run`, after the end of a lane: the writer is not kept running by that any more."""
        self._under_way.clear()  # what the end of the lane cut off is written again
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.writer.run(lambda _: None))
                tasks.create_task(self.run())
        except* LaneStopped as stopped:
            why = "; ".join(map(str, _leaves(stopped)))
            _log.error("what is decided will be published by the next run", why=why)

    async def finish(self) -> None:
        """Publish what is decided by now: the writer is about to stop.

        What a sink does not take in time is published by the next run.
        """
        try:
            async with asyncio.timeout(_LAST_S):
                while await self.look():
                    self.writer.hurry()
                    await self._wait(_LOOK_S / 20)
        except TimeoutError:
            pass

    async def look(self) -> bool:
        """Publish what was decided since; whether anything is on its way to the sinks.

        Raises:
            LaneStopped: the store refuses.
        """
        async with self._looking:
            try:
                await self._note_published()
                self._counts = await self.store.counts()
                for each in await self.store.due(_AT_ONCE):
                    self._publish(each)
            except SinkUnavailable as error:
                self._say_away(error)
            except SinkRefused as error:
                raise LaneStopped(str(error)) from error
            else:
                self._say_away(None)
        return bool(self._under_way)

    def _within_s(self) -> int:
        """How long it takes from a decision to the sinks: some wait for company."""
        return ceil(_LOOK_S + max((each.linger_s for each in self.writer.results), default=0.0))

    def _publish(self, held: Held) -> None:
        key = held.record.result_id
        if key not in self._under_way:
            self._under_way[key] = decided = Decided(held.published(self.clock.now()))
            self.writer.publish(decided)

    def _published(self, rows: Sequence[Decided]) -> None:
        self._stored += rows
        self._news.set()
        for listener in self.listeners:
            for each in rows:
                listener(each.row)

    async def _note_published(self) -> None:
        if stored := list(self._stored):
            keys = [each.row.result_id for each in stored]
            await self.store.published(keys, self.clock.now())
            del self._stored[: len(stored)]
            for key in keys:
                self._under_way.pop(key, None)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    def _say_away(self, error: SinkError | None) -> None:
        about = {"subject": self.store.name, "sink": self.store.name}
        if error and not self._away:
            what = "the estimates held for review cannot be read: those decided on wait"
            _log.warning(what, incident="sink_down", error=str(error), **about)
        elif not error and self._away:
            _log.info("the estimates held for review can be read again", ended="sink_down", **about)
        self._away = error is not None


async def open_desk(
    stack: AsyncExitStack, output: Path, settings: Settings, clock: Clock, writer: Writer
) -> Desk:
    """The desk of a run, open until `stack` is left. What an earlier run held is there, too.

    Raises:
        SinkRefused: its file cannot be used.
    """
    path, policy = output / FILE, settings.review.policy
    store = SqliteReview(path) if policy == "hold" or path.exists() else MemoryReview()
    await store.open()
    stack.push_async_callback(store.close)
    return Desk(store, policy, clock, writer, settings.sinks.batch)


def _held(conclusion: Conclusion, now: float) -> Held:
    if not isinstance(conclusion.row, ResultRecord):
        raise TypeError("only results are held for review")
    stamp = json.dumps(drawn(conclusion.stamp)) if conclusion.stamp else None
    return Held(conclusion.row, now, pz=conclusion.pz, stamp=stamp)


def _leaves(group: BaseExceptionGroup[LaneStopped]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except SinkError as error:
        raise SettingsError(str(error)) from error
