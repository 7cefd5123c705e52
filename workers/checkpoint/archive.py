"""The zip archive that torch.save writes: every entry stored as it is, in one folder."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.checkpoint.inert import Refused, shown

# Of the table of contents; a model of 40,000 tensors needs half of it.
_MAX_READ: Final = 4 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_DAMAGE: Final = (
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


class _SmallReads(io.FileIO):
    """A file of which zipfile cannot take more at once than a table of contents needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _MAX_READ
        if size > _MAX_READ:
            raise Refused("its table of contents is larger than any model's")
        return super().read(size) or b""


class Archive:
    """The entries of a checkpoint, by their names inside its folder."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        self._archive = archive
        self.file_size = file_size
        self._entries: dict[str, zipfile.ZipInfo] = {}
        folders = {each.filename.partition("/")[0] for each in archive.infolist()}
        if len(folders) != 1:
            raise Refused("it is a zip file, but its entries are not in one folder")
        for each in archive.infolist():
            name = each.filename.partition("/")[2]
            _check(each, name)
            if name in self._entries:
                raise Refused(f"it holds the entry {shown(name)} twice")
            self._entries[name] = each
        # Stored entries cannot hold more than the file, unless they lie over each other.
        if sum(each.file_size for each in self._entries.values()) > file_size:
            raise Refused("its entries hold more than the whole file does")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """Bytes of an entry.

        Raises:
            Refused: there is none.
        """
        if name not in self._entries:
            raise Refused(f"the entry {shown(name)} is missing from it")
        return self._entries[name].file_size

    def read(self, name: str, limit: int) -> NDArray[np.uint8]:
        """An entry's bytes, if they are the ones that were written (CRC-32) and at most `limit`.

        Raises:
            Refused: the entry is missing, too large or damaged.
        """
        size = self.size(name)
        if size > limit:
            raise Refused(f"its entry {shown(name)} has {size} bytes, more than {limit}")
        content, done = np.empty(size, np.uint8), 0
        with _damage_is_refused(), self._archive.open(self._entries[name]) as entry:
            while chunk := entry.read(_CHUNK):
                content[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
        if done != size:
            raise Refused(f"its entry {shown(name)} is cut off")
        return content


def _check(entry: zipfile.ZipInfo, name: str) -> None:
    parts = entry.filename.split("/")
    if not name or {"", ".", ".."} & set(parts) or "\\" in name:
        raise Refused(f"it holds the entry {shown(entry.filename)}, which is no name of torch's")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise Refused(f"its entry {shown(name)} is compressed, which torch.save never does")


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive at `path`, open for as long as the context lasts.

    Raises:
        Refused: it is no zip file, a damaged one, or one that torch.save did not write.
        OSError: the file cannot be read.
    """
    with _SmallReads(path) as file:
        with _damage_is_refused():
            archive = zipfile.ZipFile(file)
        with archive:
            yield Archive(archive, file.seek(0, io.SEEK_END))


@contextmanager
def _damage_is_refused() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        said = " ".join(str(error).split())[:150]
        raise Refused(f"it is damaged or not wholly there ({said or type(error).__name__})") from (
            error
        )
