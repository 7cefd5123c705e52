"""Results as a HATS catalogue that LSDB opens while it is being written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import pyarrow as pa

from sinks.errors import SinkError, SinkUnavailable
from sinks.hats import catalogue, manifest, parts
from sinks.hats.catalogue import Catalogue
from sinks.hats.sky import COLUMN, Leaf, Partitioning
from sinks.hats.store import Found, failing, open_store
from sinks.keys import KeyIndex
from sinks.record import ResultRecord
from sinks.sink import Stored

_AT_ONCE: Final = 8
_REFRESH_S: Final = 60.0
_READ_PARTS: Final = 256
_READ_BYTES: Final = 32 << 20


class _Part(NamedTuple):
    leaf: Leaf
    name: str
    keys: list[str]
    rows: pa.Table


class HatsSink:
    """One part per write and leaf, in a HATS collection on disk or in an S3 bucket.

    A part is named after the keys it holds. What counts is the parts, so a crash between the
    parts of one write leaves a smaller write, no damage: `open` reads which keys are held, and
    what a restarted run repeats is only written where it is missing.

    For readers the files are valid at every moment: a leaf is listed after its first part is
    there, and before `write` returns. The number of rows in `hats.properties` is as of the last
    new leaf, of the last minute that had a write, or of `open` and `close`.

    One writer at a time. On disk a lock sees to that; for a bucket you do.
    """

    linger_s: ClassVar[float] = 10.0
    guarantee: ClassVar[str] = (
        "Rows are in Parquet parts that are synced to the disk (or stored by S3) before a write "
        "is acknowledged; a key is held once, after any crash, as long as one process at a time "
        "writes to the catalogue."
    )

    def __init__(
        self,
        location: str | Path,
        *,
        s3: Mapping[str, Any] | None = None,
        order: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is touched before `open`.

        Args:
            location: a folder, or `s3://bucket/prefix`.
            s3: `endpoint_url`, `region_name`, `aws_access_key_id`, `aws_secret_access_key`; what
                is not given comes from the environment.
            order: HEALPix order of new leaves (0: a twelfth of the sky each).
            clock: monotonic, seconds.
        """
        self._store = open_store(location, s3)
        self.name = self._store.name
        self._order = order
        self._clock = clock
        self._lock = threading.Lock()  # Taken in threads: a cancelled write still ends first.
        self._pool: ThreadPoolExecutor | None = None
        self._begun: list[_Part] = []
        self._keys = KeyIndex()
        self._known = False

    async def open(self) -> None:
        """See `Sink.open`."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        with self._lock, failing(self._store):
            self._store.lock()
            try:
                self._load()
            except BaseException:
                self._keys.close()
                self._store.unlock()
                raise
            self._pool = ThreadPoolExecutor(_AT_ONCE, "hats")

    def _load(self) -> None:
        """Learn what is held; from the parts, which alone know."""
        self._known = False
        generation = catalogue.current(self._store)
        self._catalogue = Catalogue(self._store, generation or catalogue.following(None))
        self._store.tidy(self._catalogue.generation)
        self._begun = []
        self._rows: Counter[Leaf] = Counter()
        self._size = 0
        self._keys.open(self._held())
        self._leaves = Partitioning(self._rows, self._order)
        self._tell_untold()
        self._publish()
        if generation is None:
            catalogue.point(self._store, self._catalogue.generation)
        self._known = True

    def _held(self) -> Iterator[str]:
        """Every key, and on the way the sizes. In a bucket, the wait is for answers: read many."""
        found = [(leaf, file) for leaf, files in self._catalogue.parts().items() for file in files]
        self._size = sum(file.size for _, file in found)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while found:
                # As many as fit the memory: what is compacted is large.
                size = accumulate(file.size for _, file in found[:_READ_PARTS])
                window = max(1, sum(each < _READ_BYTES for each in size))
                leaves, files = zip(*found[:window], strict=True)
                for leaf, keys in zip(leaves, pool.map(self._keys_in, files), strict=True):
                    self._rows[leaf] += len(keys)
                    for piece in keys.chunks:
                        yield from piece.to_pylist()
                del found[:window]

    def _keys_in(self, file: Found) -> pa.ChunkedArray:
        batches = parts.read(self._store, file.path, ["result_id"])
        return pa.chunked_array([batch[0] for batch in batches], pa.string())

    def _tell_untold(self) -> None:
        """A crash between parts and their manifest leaves parts that count and are not told of."""
        told = self._catalogue.told()
        for files in self._catalogue.parts().values():
            for file in files:
                if file.path not in told:
                    batches = parts.read(self._store, file.path, manifest.COLUMNS)
                    rows = pa.Table.from_batches(batches)
                    entry = manifest.entry(file.path, file.size, rows[COLUMN].to_numpy())
                    self._catalogue.note(
                        f"found-{parts.digest([file.path])}", manifest.of([entry], rows)
                    )

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`."""
        if records:
            await asyncio.to_thread(self._write, records)

    def _write(self, records: Sequence[ResultRecord]) -> None:
        with self._lock, failing(self._store):
            if self._pool is None:
                raise SinkUnavailable(f"{self.name} is not open")
            # An attempt that failed may have stored some parts, or may do so yet. Only the same
            # parts under the same names, whatever batches come now, double nothing.
            if not self._known:  # there was no room for the keys: they are learnt from the parts
                self._finish()
            self._follow()
            self._finish()
            by_key = {each.result_id: each for each in reversed(records)}
            fresh = self._keys.fresh(by_key)
            if fresh:
                self._begun = self._cut(parts.table([by_key[key] for key in fresh]))
                self._finish()
            if len(self._rows) > self._listed or self._clock() - self._published > _REFRESH_S:
                self._publish()

    def _follow(self) -> None:
        """Where there is no lock, the catalogue may have been compacted between two writes."""
        moved = (
            not self._store.exclusive
            and catalogue.current(self._store) != self._catalogue.generation
        )
        if moved or not self._known:  # Or the last attempt to learn what is held broke off.
            self._load()

    def _cut(self, rows: pa.Table) -> list[_Part]:
        """One part for each leaf that has rows."""
        cut = []
        for leaf, start, stop in self._leaves.cut(rows[COLUMN].to_numpy()):
            mine = rows.slice(start, stop - start)
            keys = mine["result_id"].to_pylist()
            cut.append(_Part(leaf, f"part-{parts.digest(keys)}", keys, mine))
        return cut

    def _finish(self) -> None:
        """Store the parts that were begun: they count from then on. Then tell of them."""
        begun, pool = self._begun, self._pool
        if not begun or pool is None:
            return
        stored = [pool.submit(self._put, part) for part in begun]
        lacking: SinkError | None = None
        try:
            # Before they are stored, as what is begun is finished first in any case.
            if self._known:
                self._keys.add([key for part in begun for key in part.keys])
        except SinkError as error:
            self._known, lacking = False, error  # of the parts is told in any case
        finally:
            wait(stored)  # All of them, also when one fails: none may go on behind our back.
        entries = [each.result() for each in stored]
        rows = pa.concat_tables(part.rows for part in begun)
        self._catalogue.note(
            f"batch-{parts.digest(part.name for part in begun)}", manifest.of(entries, rows)
        )
        self._begun = []
        self._rows.update({part.leaf: len(part.keys) for part in begun})
        self._size += sum(each["bytes"] for each in entries)
        if lacking:
            raise lacking

    def _put(self, part: _Part) -> dict[str, Any]:
        data = parts.encode(part.rows)
        path = self._catalogue.part(part.leaf, part.name)
        self._store.put(path, data)
        return manifest.entry(path, data.size, part.rows[COLUMN].to_numpy())

    def _publish(self) -> None:
        self._catalogue.publish(self._rows, self._size)
        self._listed, self._published = len(self._rows), self._clock()

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`. Part by part, and large parts piece by piece."""
        with failing(self._store):
            for file in await asyncio.to_thread(self._files):
                batches = parts.read(self._store, file.path, list(Stored._fields))
                while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                    for row in batch.to_pylist():
                        yield Stored(**row)

    def _files(self) -> list[Found]:
        generation = catalogue.current(self._store)
        found = Catalogue(self._store, generation).parts() if generation else {}
        return [file for files in found.values() for file in files]

    async def close(self) -> None:
        """See `Sink.close`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._pool is None:
                return
            self._pool.shutdown()
            self._pool = None
            self._keys.close()
            try:
                with failing(self._store):
                    self._publish()
            finally:
                self._store.unlock()
