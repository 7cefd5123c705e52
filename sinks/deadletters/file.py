"""Dead letters in a file of JSON lines: the embedded default."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import orjson

from sinks.deadletters.letter import DeadLetter, Place
from sinks.errors import NoRoom, SinkError, SinkRefused, is_full
from sinks.journal import Journal


class DeadLetterFile:
    """Dead letters as JSON lines, only ever appended to.

    The last line of a place counts: a letter, or `"removed": true` with the three fields of the
    place and nothing else. What a restarted run repeats word for word is not appended. In memory
    is where each held line stands (some 300 bytes a letter), never a body.

    Opening and scanning change nothing, so that a file can be looked at while its service writes.
    The first change cuts a torn end off, and rewrites a file that is mostly dead lines.
    """

    guarantee: ClassVar[str] = (
        "A write or removal that returned survives a crash of process and machine (fsync); one "
        "that a crash cut off may be there in part, in whole lines. One writer at a time."
    )

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._journal = Journal(path)
        self._held: _Held | None = None
        # Of threads, not of tasks: a cancelled task leaves its thread behind, still writing.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """See `DeadLetterSink.open`."""
        try:
            self._path.open("ab").close()
        except OSError as error:
            raise _refusal(self._path, error) from error

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterSink.write`."""
        await asyncio.to_thread(self._write, {each.place: each for each in letters}.values())

    def _write(self, letters: Collection[DeadLetter]) -> None:
        with self._lock:
            held = self._mended()
            with self._reading() as file:
                fresh = [each for each in letters if not held.repeats(each, file)]
            self._append(held, [each.to_json() for each in fresh])

    async def remove(self, places: Collection[Place]) -> None:
        """See `DeadLetterSink.remove`."""
        await asyncio.to_thread(self._remove, set(places))

    def _remove(self, places: Collection[Place]) -> None:
        with self._lock:
            held = self._mended()
            stones = [{**each.to_json(), "removed": True} for each in places if each in held.lines]
            self._append(held, stones)

    async def scan(self) -> AsyncGenerator[DeadLetter, None]:
        """See `DeadLetterSink.scan`. From one open file: a rewriting meanwhile does not disturb."""
        with self._reading() as file:
            held = _Held(self._path)
            await asyncio.to_thread(held.read_on, file)
            for line in held.lines.values():
                yield await asyncio.to_thread(held.letter, file, line)

    async def close(self) -> None:
        """See `DeadLetterSink.close`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._journal.close()
            self._held = None

    def _append(self, held: _Held, lines: Sequence[dict[str, Any]]) -> None:
        if lines:
            self._journal.append(lines)
            with self._reading() as file:
                held.read_on(file)

    def _mended(self) -> _Held:
        """What is held, once the file is fit to be appended to."""
        if self._held is None:
            held = self._read()
            if held.mostly_dead:
                self._rewrite(held)
                held = self._read()
            self._journal.open()
            self._held = held
        return self._held

    def _read(self) -> _Held:
        held = _Held(self._path)
        with self._reading() as file:
            held.read_on(file)
        return held

    def _reading(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise _refusal(self._path, error) from error

    def _rewrite(self, held: _Held) -> None:
        """Leave only the lines that count. Aside and renamed: a crash leaves the old file."""
        aside = self._path.with_name(f"{self._path.name}.rewriting")
        try:
            with self._reading() as file, aside.open("wb") as copy:
                for start, length in held.lines.values():
                    file.seek(start)
                    copy.write(file.read(length))
                copy.flush()
                os.fsync(copy.fileno())
            shutil.copymode(self._path, aside)
            aside.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise _refusal(self._path, error) from error


_Line = tuple[int, int]
"""Where a line begins, and how long it is, in bytes."""


@dataclass(slots=True)
class _Held:
    """Where in the file the line of each held letter stands."""

    path: Path
    lines: dict[Place, _Line] = field(default_factory=dict)
    end: int = 0

    @property
    def mostly_dead(self) -> bool:
        """Whether more bytes of the file are dead than count."""
        return 2 * sum(length for _, length in self.lines.values()) < self.end

    def read_on(self, file: BinaryIO) -> None:
        """Take in the whole lines behind those known already."""
        file.seek(self.end)
        for line in file:
            if not line.endswith(b"\n"):
                return  # torn, or being written just now
            with self._blaming_the_file(self.end):
                found = orjson.loads(line)
                place = _place(found)
            # Taken out first, so that the order is always that of the file.
            self.lines.pop(place, None)
            if not found.get("removed"):
                self.lines[place] = self.end, len(line)
            self.end += len(line)

    def letter(self, file: BinaryIO, line: _Line) -> DeadLetter:
        """The letter of a line."""
        start, length = line
        file.seek(start)
        with self._blaming_the_file(start):
            return DeadLetter.from_json(orjson.loads(file.read(length)))

    def repeats(self, letter: DeadLetter, file: BinaryIO) -> bool:
        """Whether a letter of this place is held that says the same."""
        line = self.lines.get(letter.place)
        return line is not None and letter.says_what(self.letter(file, line))

    @contextmanager
    def _blaming_the_file(self, start: int) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise SinkRefused(
                f"{self.path} holds at byte {start} what is no dead letter ({error!r}): "
                "restore the file, or give another output folder"
            ) from error


def _place(found: Any) -> Place:
    """The place of a line, its names kept once in memory however many lines bear them."""
    topic, partition, offset = Place.from_json(found)
    return Place(sys.intern(topic), sys.intern(partition), offset)


def _sync_folder(folder: Path) -> None:
    """Make a renaming last: the name is in the folder, not in the file."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _refusal(path: Path, error: OSError) -> SinkError:
    why = f"{path} cannot be used for dead letters ({error.strerror or error})"
    if is_full(error):
        return NoRoom(f"{why}: make room on the disk")
    return SinkRefused(f"{why}: check the folder and its permissions, then run again")
