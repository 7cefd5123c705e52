"""What a manifest tells of one write: its parts, and where in the sources its rows came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from sinks.hats.sky import COLUMN, Pixels

COLUMNS: Final = [COLUMN, "src_topic", "src_partition", "src_offset"]
"""What of the rows it is made from."""


def entry(path: str, size: int, pixels: Pixels) -> dict[str, Any]:
    """A part of `size` bytes with rows in these sorted pixels; its path is the collection's."""
    return {
        "path": path,
        "rows": len(pixels),
        "bytes": size,
        # As text: JSON readers round such numbers.
        "healpix_29": [str(pixels[0]), str(pixels[-1])],
    }


def of(entries: Sequence[Mapping[str, Any]], rows: pa.Table) -> dict[str, Any]:
    """The manifest of parts that hold these rows."""
    sources = rows.group_by(["src_topic", "src_partition"]).aggregate(
        [("src_offset", "min"), ("src_offset", "max"), ("src_offset", "count")]
    )
    return {
        "rows": len(rows),
        "parts": list(entries),
        "sources": [
            {
                "topic": each["src_topic"],
                "partition": each["src_partition"],
                "first": str(each["src_offset_min"]),
                "last": str(each["src_offset_max"]),
                "rows": each["src_offset_count"],
            }
            for each in sources.to_pylist()
        ],
    }
