"""Files as a source: a folder, a glob, an Avro container, JSON or JSON lines.

Each file is a partition, named by its path below the archive; the events in it are counted from
zero. What is read: `.avro` (a packet, a framed message, or a container of many packets, which
come out one by one), `.json` (one notice), `.jsonl` (a notice a line). Files with other endings
and hidden files are passed over; a folder that holds nothing else is an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from ingest.codecs import ocf
from ingest.errors import DecodeError, SourceError
from ingest.events import Delivery, Partition, Position
from ingest.progress import Progress
from ingest.sources import Keeper
from ingest.sources.span import Range, Ranges, Span

MAX_FILE: Final = 2 * 1024**3
"""Largest file that is read as a whole (JSON lines are read line by line)."""

MAX_BLOCK: Final = 256 * 1024**2
"""Largest block of a container, unpacked: a block is a megabyte or two in what surveys send."""

MAX_LINE: Final = 64 * 1024**2

_NOTHING: Final = Range(0, 0)

_Bodies = Iterator[tuple[bytes, str | None]]  # body, and why it cannot be read


class ArchiveSource:
    """Files below a folder or matching a glob, in the order of their names."""

    ordered = True

    def __init__(self, location: str) -> None:
        self._files = _files(location)
        self.name = f"archive:{Path(location).name}"
        self._ranges: Ranges | None = None
        self._ahead: Iterator[Delivery] = iter(())
        self._exhausted = False

    async def find(self, span: Span) -> Ranges:
        """See `Archive.find`. Reads all files once, to count what is in them.

        Raises:
            SourceError: there is no such partition, or times are asked for: files know none. When
                one was last copied or unpacked is not when its events were seen.
        """
        if span.timed:
            raise SourceError(
                f"{self.name} is files, and those do not say when their events were written: "
                "leave the times away, or give --offsets FILE:FIRST-END"
            )
        return span.among(await asyncio.to_thread(self._whole))

    def _whole(self) -> Ranges:
        return {
            Partition(self.name, name): Range(0, sum(1 for _ in _read(path)))
            for name, path in self._files
        }

    def limit(self, ranges: Ranges) -> None:
        """See `Archive.limit`."""
        self._ranges = ranges

    async def open(self, keeper: Keeper) -> None:
        """See `Source.open`. Files are read when their turn comes."""
        wanted = {name: self._range(name) for name, _ in self._files}
        for name, each in wanted.items():
            if each:
                first = keeper.assign(Partition(self.name, name))
                wanted[name] = each._replace(first=max(first, each.first))
        self._ahead = self._deliveries(wanted)

    def _range(self, name: str) -> Range | None:
        if self._ranges is None:
            return Range(0, sys.maxsize)
        return self._ranges.get(Partition(self.name, name))

    async def take(self, limit: int) -> list[Delivery]:
        """See `Source.take`."""
        taken = await asyncio.to_thread(lambda: list(islice(self._ahead, limit)))
        self._exhausted = len(taken) < limit
        return taken

    def hold(self, partitions: Collection[Partition]) -> None:
        """See `Source.hold`. An archive is read in order: what is next must come."""

    async def commit(self, progress: Mapping[Partition, Progress]) -> None:
        """See `Source.commit`: an archive keeps nothing."""

    @property
    def exhausted(self) -> bool:
        """See `Source.exhausted`."""
        return self._exhausted

    async def close(self) -> None:
        """Nothing is kept open between files."""

    def _deliveries(self, wanted: Mapping[str, Range | None]) -> Iterator[Delivery]:
        for partition, path in self._files:
            first, end = wanted[partition] or _NOTHING
            if first >= end:
                continue
            for offset, (body, unreadable) in enumerate(islice(_read(path), end)):
                if offset >= first:
                    headers = {"unreadable": unreadable} if unreadable else {}
                    position = Position(self.name, partition, offset)
                    yield Delivery(position, body, time.time(), headers)


def _files(location: str) -> list[tuple[str, Path]]:
    """Partition names and paths, sorted by name."""
    try:
        root, found = _found(Path(location))
        files = sorted(
            (str(each.relative_to(root)), each)
            for each in found
            if each.suffix in _READERS and each.is_file() and not _is_hidden(each.relative_to(root))
        )
    except (OSError, ValueError) as error:
        raise SourceError(f"{location} cannot be looked through ({error})") from error
    if not files:
        raise SourceError(
            f"{location} holds no events: files that end in {', '.join(_READERS)} are looked for"
        )
    return files


def _found(path: Path) -> tuple[Path, Iterable[Path]]:
    """The folder that names are counted from, and what lies at `path`."""
    if path.is_dir():
        return path, path.rglob("*")
    if path.is_file():
        return path.parent, [path]
    root = Path(*takewhile(lambda part: not any(mark in part for mark in "*?["), path.parts))
    return root, root.glob(str(path.relative_to(root)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read(path: Path) -> _Bodies:
    """The events of one file. A file that cannot be read is one event that cannot be read."""
    try:
        if path.suffix != ".jsonl" and path.stat().st_size > MAX_FILE:
            yield b"", f"the file has more than {MAX_FILE} bytes"
            return
        yield from _READERS[path.suffix](path)
    except OSError as error:
        yield b"", f"{path}: {error.strerror}"


def _whole(path: Path) -> _Bodies:
    yield path.read_bytes(), None


def _packets(path: Path) -> _Bodies:
    data = path.read_bytes()
    try:
        container = ocf.read(data)
        count = container.count()
    except DecodeError:
        count = 1  # whatever it is, it is one event; decoding will say what is wrong with it
    if count == 1:
        yield data, None
        return
    try:
        for datum, _ in container.records(MAX_BLOCK):
            yield ocf.single(container, datum), None
    except DecodeError as error:
        # What comes behind the damage cannot be told apart any more: one event stands for it.
        yield data, f"the container is damaged from here on ({error})"


def _lines(path: Path) -> _Bodies:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            body = line.strip()
            if len(line) == MAX_LINE:
                yield body[:4096], f"a line has more than {MAX_LINE} bytes"
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
            elif body:
                yield body, None


_READERS: Final[dict[str, Callable[[Path], _Bodies]]] = {
    ".avro": _packets,
    ".json": _whole,
    ".jsonl": _lines,
}
