"""A file of JSON lines that survives crashes: appended, synced, its torn end cut off."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from sinks.errors import NoRoom, SinkError, SinkRefused, is_full


class Journal:
    """Append-only JSON lines. Not safe for several writers: each run has its own folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    def open(self) -> None:
        """Open for appending; a last line without its end was never acknowledged: cut it off.

        Raises:
            SinkRefused: the file cannot be opened.
        """
        try:
            self._file = FileIO(self.path, "a+")
            self._cut_torn_line(self._file)
        except OSError as error:
            raise self._refusal(error) from error

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write the objects as one block and wait for the disk.

        Raises:
            NoRoom: the disk is full.
            SinkRefused: the file cannot be written.
        """
        if self._file is None:
            raise SinkRefused(f"{self.path} is not open")
        block = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        before = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(block) != len(block):
                raise OSError(errno.ENOSPC, "not all bytes were taken")  # noqa: TRY301 - handled as one below
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)
            raise self._refusal(error) from error

    def read(self) -> Iterator[dict[str, Any]]:
        """All lines, from the first.

        Raises:
            SinkRefused: a line is not JSON: the file was changed by something else.
        """
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return  # being written just now
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise SinkRefused(
                        f"{self.path} line {number} is not JSON ({error}): restore the file, "
                        "or give another output folder"
                    ) from error

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    @staticmethod
    def _cut_torn_line(file: FileIO) -> None:
        end = file.seek(0, os.SEEK_END)
        step, start = 65536, end
        while start > 0:
            start = max(0, start - step)
            file.seek(start)
            newline = file.read(min(step, end - start)).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
        file.truncate(0)

    def _refusal(self, error: OSError) -> SinkError:
        why = f"{self.path} cannot be written ({error.strerror or error})"
        if is_full(error):
            return NoRoom(f"{why}: make room on the disk")
        return SinkRefused(f"{why}: check the folder and its permissions, then run again")
