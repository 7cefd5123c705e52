"""The files by which HATS readers find the rows, and the manifests that tell how they came.

    results.hats/                      the collection: what readers are given
        collection.properties          names the generation that counts, in one small file
        generation-00000001/           a catalogue
            hats.properties            columns, number of rows, dates (`properties`: the same)
            partition_info.csv         the leaves that have rows
            manifests/BATCH.json       one for each write
            dataset/_common_metadata   the schema
            dataset/Norder=k/Dir=d/Npix=n/part-KEYS.parquet

What counts is the parts: every part that lies in a leaf of the current generation, and nothing
else. A manifest is written after its parts and only tells about them.

Layout: HATS 1.0, https://www.ivoa.net/documents/Notes/HATS/ (a leaf that is a folder:
`hats_npix_suffix=/`; a collection: `collection.properties`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sinks.errors import SinkRefused
from sinks.hats import parts
from sinks.hats.sky import COLUMN, Leaf
from sinks.hats.store import Found, Store

_POINTER: Final = "collection.properties"
_GENERATION: Final = "generation-"
_AT_ONCE: Final = 8
_KEY: Final = "hats_primary_table_url"


def generations(store: Store) -> list[str]:
    """Every generation that is there, finished or not, in order."""
    return [each for each in store.folders() if each.startswith(_GENERATION)]


def current(store: Store) -> str | None:
    """The generation that readers are sent to; None in an empty store.

    Raises:
        SinkRefused: something else lies there.
    """
    try:
        with store.open(_POINTER) as file:
            text = file.read().decode()
    except FileNotFoundError:
        if any(each.path in ("hats.properties", "properties") for each in store.files()):
            raise SinkRefused(
                f"{store.name} is a HATS catalogue that something else wrote: give another name"
            ) from None
        return None
    if (found := _parsed(text).get(_KEY)) is None:
        raise SinkRefused(
            f"{store.name}/{_POINTER} does not name a generation ({_KEY}): write there the name of "
            "the last folder that is whole, or give another name"
        )
    return found


def point(store: Store, generation: str) -> None:
    """Send readers to this generation: from here on, and all at once."""
    lines = {"obs_collection": _title(store), _KEY: generation}
    store.put(_POINTER, _properties("HATS Collection", lines))


def following(generation: str | None) -> str:
    """Name of the generation after this one."""
    number = int(generation.removeprefix(_GENERATION)) if generation else 0
    return f"{_GENERATION}{number + 1:08d}"


class Catalogue:
    """One generation."""

    def __init__(self, store: Store, generation: str) -> None:
        self.generation = generation
        self._store = store

    def parts(self) -> dict[Leaf, list[Found]]:
        """The parts of every leaf."""
        found: dict[Leaf, list[Found]] = {}
        for file in self._store.files(f"{self.generation}/dataset"):
            if leaf := Leaf.of(file.path):
                found.setdefault(leaf, []).append(file)
        return found

    def part(self, leaf: Leaf, name: str) -> str:
        """Path of a part."""
        return f"{self.generation}/{leaf.folder}/{name}.parquet"

    def publish(self, rows: Mapping[Leaf, int], size: int) -> None:
        """Write all that readers need besides the parts, which must be there.

        Args:
            rows: in each leaf that has any.
            size: of all parts, bytes.
        """
        schema = pa.BufferOutputStream()
        pq.write_metadata(parts.SCHEMA, schema)
        self._put("dataset/_common_metadata", schema.getvalue())
        leaves = "".join(f"{leaf.order},{leaf.pixel}\n" for leaf in sorted(rows))
        self._put("partition_info.csv", f"Norder,Npix\n{leaves}".encode())
        described = _properties("HATS catalog", _description(_title(self._store), rows, size))
        self._put("hats.properties", described)
        self._put("properties", described)

    def note(self, batch: str, manifest: Mapping[str, Any]) -> None:
        """Write a manifest; after its parts."""
        text = json.dumps({"batch": batch, "written": _now("seconds"), **manifest}, indent=1)
        self._put(f"manifests/{batch}.json", text.encode())

    def forget(self, batch: str) -> None:
        """Remove a manifest."""
        self._store.delete(f"{self.generation}/manifests/{batch}.json")

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Every manifest, by the name of its batch."""
        files = self._store.files(f"{self.generation}/manifests")
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # In a bucket, the wait is for answers.
            texts = list(pool.map(self._read, files))
        names = (PurePosixPath(file.path).stem for file in files)
        return dict(zip(names, map(json.loads, texts), strict=True))

    def _read(self, file: Found) -> bytes:
        with self._store.open(file.path) as stream:
            return bytes(stream.read())

    def told(self) -> set[str]:
        """Paths of the parts that some manifest tells of."""
        return {part["path"] for each in self.manifests().values() for part in each["parts"]}

    def _put(self, name: str, data: bytes | pa.Buffer) -> None:
        self._store.put(f"{self.generation}/{name}", data)


def _description(title: str, rows: Mapping[Leaf, int], size: int) -> dict[str, Any]:
    return {
        "obs_collection": title,
        "dataproduct_type": "object",
        "hats_nrows": sum(rows.values()),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": COLUMN,
        "hats_col_healpix_order": 29,
        "hats_npix_suffix": "/",
        "hats_max_rows": max(rows.values(), default=0),
        "hats_order": max((leaf.order for leaf in rows), default=0),
        "moc_sky_fraction": f"{sum(leaf.share for leaf in rows):.8f}",
        "hats_builder": f"lookback {version('lookback')}",
        "hats_creation_date": _now("minutes"),
        "hats_estsize": size // 1024,
        "hats_release_date": "2025-08-22",
        "hats_version": "v1.0",
    }


def _title(store: Store) -> str:
    """What readers call the catalogue: the last part of its place, without the ending."""
    return PurePosixPath(store.name).stem


def _now(precision: str) -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "UTC"


def _properties(title: str, lines: Mapping[str, Any]) -> bytes:
    return "".join([f"#{title}\n", *(f"{key}={value}\n" for key, value in lines.items())]).encode()


def _parsed(text: str) -> dict[str, str]:
    pairs: Iterable[list[str]] = (
        line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#"
    )
    return {key.strip(): value.strip() for key, value in pairs}
