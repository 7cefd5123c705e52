"""Many small parts become one part a leaf; leaves that are too full are split.

A new generation of the catalogue is built beside the current one, and one small file then sends
readers to it. Who opened the catalogue before goes on reading the old generation, which stays
until the next compaction. So a reader sees all rows of the one or of the other.

A crash leaves the old generation in force and the new one unfinished; the next compaction keeps
of that what is finished (a leaf is, when its manifest is there) and does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinks.errors import SinkRefused
from sinks.hats import catalogue, manifest, parts
from sinks.hats.catalogue import Catalogue
from sinks.hats.sky import COLUMN, Leaf, Pixels, split
from sinks.hats.store import Found, Store, failing, open_store

_PASS_ROWS: Final = 200_000
"""Rows in memory at once, about 1 kB each while they are sorted."""
_GROUP_ROWS: Final = 100_000


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    generation: str
    rows: int
    leaves: int
    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int


def compact(
    location: str | Path,
    *,
    max_rows: int = 1_000_000,
    s3: Mapping[str, Any] | None = None,
    keep_previous: bool = True,
    step: Callable[[int], None] = lambda _: None,
) -> Compacted:
    """Merge the parts of every leaf, and split leaves of more than `max_rows`.

    No sink may write meanwhile: on disk both take the same lock, so whoever comes second is
    refused. For a bucket you see to it; parts that appear meanwhile are noticed, but for those
    that come in the very moment of the change.

    Args:
        location: as of the sink.
        max_rows: that one leaf should hold at most.
        s3: as of the sink.
        keep_previous: leave the old generation for those who read it now; else they fail.
        step: is told of the leaves that are done.

    Raises:
        SinkRefused: there is no catalogue, or somebody writes to it.
        SinkUnavailable: the bucket does not answer; what is finished is kept for the next try.
    """
    store = open_store(location, s3)
    with failing(store):
        if catalogue.current(store) is None:
            raise SinkRefused(f"{store.name} holds no results yet: there is nothing to compact")
        store.lock()
        try:
            return _Compaction(store, max_rows).run(keep_previous=keep_previous, step=step)
        finally:
            store.unlock()


class _Compaction:
    def __init__(self, store: Store, max_rows: int) -> None:
        self._store = store
        self._max_rows = max_rows
        self._old = Catalogue(store, catalogue.current(store) or "")
        self._new = Catalogue(store, catalogue.following(self._old.generation))
        self._before = self._old.parts()

    def run(self, *, keep_previous: bool, step: Callable[[int], None]) -> Compacted:
        for generation in catalogue.generations(self._store):
            if generation not in (self._old.generation, self._new.generation):
                self._store.delete_folder(generation)
        finished = self._resume()
        for leaf, files in self._before.items():
            if (name := self._name(leaf, files)) not in finished:
                entries = list(self._merge(leaf, files, name))
                finished[name] = {"rows": sum(each["rows"] for each in entries), "parts": entries}
                self._new.note(name, finished[name])
            step(1)
        return self._change(finished, keep_previous=keep_previous)

    def _name(self, leaf: Leaf, files: Sequence[Found]) -> str:
        """Of the manifest of what becomes of a leaf: with other parts, another name."""
        made_from = parts.digest([*(each.path for each in files), f"max_rows {self._max_rows}"])
        return f"leaf-{leaf.order}-{leaf.pixel}-{made_from}"

    def _resume(self) -> dict[str, Any]:
        """What an interrupted compaction finished and is still right; the rest is removed."""
        self._store.tidy(self._new.generation)
        wanted = {self._name(leaf, files) for leaf, files in self._before.items()}
        manifests = self._new.manifests()
        for name in manifests.keys() - wanted:
            self._new.forget(name)
        finished = {name: manifests[name] for name in manifests.keys() & wanted}
        told = {part["path"] for each in finished.values() for part in each["parts"]}
        for files in self._new.parts().values():
            for file in files:
                if file.path not in told:
                    self._store.delete(file.path)
        return finished

    def _merge(self, leaf: Leaf, files: Sequence[Found], name: str) -> Iterator[dict[str, Any]]:
        """Write what becomes of a leaf."""
        pixels = self._pixels(files)
        for piece, start, stop in split(leaf, pixels, self._max_rows):
            if piece == leaf and len(files) == 1:
                path = f"{self._new.generation}/{files[0].path.split('/', 1)[1]}"
                self._store.link(files[0].path, path)
                size = files[0].size
            else:
                path = self._new.part(piece, f"merged-{parts.digest([name])}")
                size = self._write(path, files, piece, pixels[start:stop])
            yield manifest.entry(path, size, pixels[start:stop])

    def _pixels(self, files: Sequence[Found]) -> Pixels:
        batches = (
            batch[0].to_numpy()
            for file in files
            for batch in parts.read(self._store, file.path, [COLUMN])
        )
        return np.sort(np.concatenate(list(batches)))

    def _write(self, path: str, files: Sequence[Found], piece: Leaf, pixels: Pixels) -> int:
        """The rows of a piece, sorted; as many at once as fit the memory. Its size in bytes."""
        # Where one pixel has rows on both sides of an edge, they all go to one side.
        edges = np.unique(np.append(pixels[::_PASS_ROWS], piece.end)).tolist()
        rows = 0
        with self._store.create(path) as stream:
            with parts.writer(stream) as writer:
                for first, end in pairwise(edges):
                    between = [(COLUMN, ">=", first), (COLUMN, "<", end)]
                    table = pa.concat_tables(self._some(file, between) for file in files)
                    writer.write_table(table.sort_by(COLUMN), _GROUP_ROWS)
                    rows += len(table)
            size: int = stream.tell()
        if rows != len(pixels):
            raise self._disturbed()
        return size

    def _some(self, file: Found, between: list[tuple[str, str, int]]) -> pa.Table:
        with self._store.open(file.path) as stream:
            return pq.read_table(stream, schema=parts.PLAIN, filters=between)

    def _change(self, finished: Mapping[str, Any], *, keep_previous: bool) -> Compacted:
        """Make the new generation whole and send readers to it."""
        entries = [part for each in finished.values() for part in each["parts"]]
        rows: Counter[Leaf] = Counter()
        for each in entries:
            if leaf := Leaf.of(each["path"]):
                rows[leaf] += each["rows"]
        size = sum(each["bytes"] for each in entries)
        self._new.publish(rows, size)
        if self._old.parts() != self._before:
            raise self._disturbed()
        catalogue.point(self._store, self._new.generation)
        if not keep_previous:
            self._store.delete_folder(self._old.generation)
        old = [file for files in self._before.values() for file in files]
        return Compacted(
            generation=self._new.generation,
            rows=rows.total(),
            leaves=len(rows),
            parts_before=len(old),
            parts_after=len(entries),
            bytes_before=sum(file.size for file in old),
            bytes_after=size,
        )

    def _disturbed(self) -> SinkRefused:
        return SinkRefused(
            f"{self._store.name} was written to while it was compacted, so nothing was changed: "
            "stop the run that writes there, then compact again"
        )
