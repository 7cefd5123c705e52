"""What a person may do to a run from outside: pause, freeze, send again, read again.

Every action answers with one sentence. What takes long goes on by itself and is shown.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dispatcher import logs
from dispatcher.beside import Beside
from dispatcher.credit import Credit
from dispatcher.deadletters import Selection
from dispatcher.errors import DispatcherError, LaneStopped, SettingsError
from dispatcher.health.pulse import Doing
from dispatcher.lane import Lane
from dispatcher.ledger.accounts import TOTAL, account_of
from dispatcher.redrive import LANE, LetterSource
from dispatcher.service import Run
from dispatcher.settings.sections import DeadLetters
from ingest.errors import IngestError
from sinks.deadletters import ErrorClass
from sinks.errors import SinkError

_CREDIT: Final = 64
_BYTES: Final = 64 * 2**20

_LOOK_S: Final = 0.5
_WHILE_IT_LASTS: Final = ("pause", "resume", "redrive")

_log = structlog.get_logger()


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Account(_Wish):
    """Which account is meant."""

    account: str = TOTAL


class Letters(_Wish):
    """Which dead letters are meant; nothing said: all that are not poison."""

    classes: frozenset[ErrorClass] = frozenset()
    reasons: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()


class Night(_Wish):
    """Which night is read again, and for how much."""

    on: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    purse_usd: str | None = Field(None, pattern=r"^\d+(\.\d+)?$")


@dataclass(slots=True)
class Redrive:
    """Dead letters that are sent again beside the live lane."""

    lane: Lane
    state: str = "running"
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """See `Background`."""
        totals = self.lane.totals()
        return {
            "kind": "redrive",
            "title": "dead letters sent again",
            "state": self.state,
            "settled": self.lane.outcomes.total(),
            "of": totals.received,
            "message": self.message or str(totals),
        }


@dataclass(slots=True)
class Replay:
    """An old night that a process of its own reads again, into a folder of its own."""

    title: str
    output: Path
    state: str = "running"
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """See `Background`."""
        return {
            "kind": "replay",
            "title": self.title,
            "state": self.state,
            "settled": None,
            "of": None,
            "message": self.message or f"results go to {self.output}",
        }


@dataclass(slots=True)
class Actions:
    """On one run. `location`: of its source; `settings_file`: as given. `close` after use."""

    run: Run
    location: str | None = None
    settings_file: Path | None = None
    background: list[Redrive | Replay] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def do(self, name: str, wish: Mapping[str, Any]) -> str:
        """Do what a person asks for; returns a sentence.

        Raises:
            SettingsError: it cannot be done; the sentence says why.
        """
        if name in _WHILE_IT_LASTS and self._is_over:
            raise SettingsError("the run is over: begin it again, and then ask")
        try:
            said = await getattr(self, f"_{name}")(wish)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(each) for each in first["loc"])
            raise SettingsError(f"{name}: {where}: {first['msg']}") from error
        except (DispatcherError, SinkError, IngestError) as error:
            raise SettingsError(str(error)) from error
        _log.info("a person has acted", action=name, said=said)
        return str(said)

    @property
    def _is_over(self) -> bool:
        return self.run.lane.doing is Doing.ENDED

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("what a person has asked for went wrong", error=repr(error))

    async def close(self) -> None:
        """Cut off what still goes on: it is safe, and can be asked for again."""
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pause(self, wish: Mapping[str, Any]) -> str:
        _Wish.model_validate(wish)
        self.run.lane.pause()
        return "The source is paused: nothing more is taken, what is under way is finished."

    async def _resume(self, wish: Mapping[str, Any]) -> str:
        _Wish.model_validate(wish)
        self.run.lane.resume()
        return "The source is asked again."

    async def _freeze(self, wish: Mapping[str, Any]) -> str:
        return await self._set_frozen(wish, frozen=True)

    async def _thaw(self, wish: Mapping[str, Any]) -> str:
        return await self._set_frozen(wish, frozen=False)

    async def _set_frozen(self, wish: Mapping[str, Any], *, frozen: bool) -> str:
        account = account_of(Account.model_validate(wish).account)
        async with self.run.pipeline.scheduler.ledger.asked() as store:
            await store.freeze(account, frozen=frozen)
        if frozen:
            return f"{account} is frozen: no call leaves for it from the next second on."
        return f"{account} may be spent again."

    async def _redrive(self, wish: Mapping[str, Any]) -> str:
        wanted = Letters.model_validate(wish)
        if any(each.state == "running" for each in self.background if isinstance(each, Redrive)):
            raise SettingsError("dead letters are being sent again already: wait for their end")
        if self.run.lane.name == LANE:
            raise SettingsError("this run sends dead letters again already")
        selection = Selection(wanted.places, wanted.classes, wanted.reasons)
        source = LetterSource(self.run.letters, selection.sends_again)
        source.redriven = self.run.clerk.redriven
        redrive = Redrive(self._lane(source))
        self.background.append(redrive)
        self._start(self._send_again(redrive, source))
        return "Dead letters are sent again beside the live lane; see below how that goes."

    def _lane(self, source: LetterSource) -> Lane:
        run = self.run
        tolerant = DeadLetters(max_ratio=1.0)  # what dies again stops nobody
        return Lane(
            source=source,
            work=Beside(run.pipeline, LANE),
            checkpoint=run.lane.checkpoint,
            credit=Credit(_CREDIT, _BYTES, run.lane.clock, run.pipeline.queue.affordable),
            clock=run.lane.clock,
            settings=run.settings.model_copy(update={"dead_letters": tolerant}),
            name=LANE,
            committed=run.lane.committed,
        )

    async def _send_again(self, redrive: Redrive, source: LetterSource) -> None:
        self.run.pipeline.listeners.append(source.note)
        try:
            await self._until_over(redrive.lane)
        except (DispatcherError, SinkError, IngestError) as error:
            redrive.state, redrive.message = "failed", logs.redacted(str(error))
            _log.warning("dead letters could not be sent again", error=str(error))
        else:
            redrive.state = "done"
        finally:
            self.run.pipeline.listeners.remove(source.note)

    async def _until_over(self, beside: Lane) -> None:
        """Run a lane beside the first one, which lends it the way to workers and sinks.

        Raises:
            LaneStopped: the first one has ended before it.
        """
        work = asyncio.create_task(beside.run())
        try:
            while not work.done() and not self._is_over:
                await asyncio.wait({work}, timeout=_LOOK_S)
            if not work.done():
                raise LaneStopped("the run has ended first: send the rest again another time")
        finally:
            work.cancel()  # what was answered so far is committed
            await asyncio.wait({work})
        work.result()

    async def _replay(self, wish: Mapping[str, Any]) -> str:
        night = Night.model_validate(wish)
        if self.location is None:
            raise SettingsError("this run has no source that could be read again")
        output = self.run.output / "replays" / night.on
        output.mkdir(parents=True, exist_ok=True)
        given = [self.location, "--on", night.on, "--to", str(output), "--json"]
        if night.purse_usd:
            given += ["--purse-usd", night.purse_usd]
        if self.settings_file:
            given += ["--settings", str(self.settings_file)]
        replay = Replay(f"night of {night.on}", output)
        self.background.append(replay)
        self._start(self._read_again(replay, given))
        return f"The night of {night.on} is read again behind the live lane, into {output}."

    async def _read_again(self, replay: Replay, given: list[str]) -> None:
        """In a process of its own: it has its own positions, and cannot take this one with it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatcher", "replay", *given),
            env={**os.environ, "LOOKBACK_STATUS__PORT": "0"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, code = await _said(process, replay), await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()  # it commits what it has, and goes on there another time
                await process.wait()
        replay.state = "failed" if code else "done"
        replay.message = said if code else f"done; results are in {replay.output}"


async def _said(process: asyncio.subprocess.Process, replay: Replay) -> str:
    """Its last line, when it has ended."""
    said = ""
    if process.stderr is not None:
        async for line in process.stderr:
            said = replay.message = line.decode(errors="replace").strip()
    return said
