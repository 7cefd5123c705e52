"""Result records as Parquet parts: columns, order, encoding, names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinks import schema
from sinks.errors import SinkRefused
from sinks.hats.sky import COLUMN, healpix_29
from sinks.hats.store import Store
from sinks.record import ResultRecord

SCHEMA: Final = pa.schema(
    [
        pa.field(
            COLUMN,
            pa.int64(),
            nullable=False,
            metadata={
                "description": "HEALPix pixel of ra, dec: order 29, nested, ICRS",
                "unit": "",
                "ucd": "pos.healpix",
            },
        ),
        *schema.arrow_schema(),
    ],
    metadata=schema.arrow_schema().metadata,
)

PLAIN: Final = pa.schema([pa.field(each.name, each.type, each.nullable) for each in SCHEMA])
"""Of the parts: what the fields mean stands once, in `_common_metadata`. In every part it would
be half of a small one."""

_FIELDS: Final = schema.FIELDS
_values: Final = itemgetter(*_FIELDS)
# Nearly every row has its own: a dictionary of them would be built for nothing.
_OWN: Final = {"result_id", "alert_id", "object_id", "host_id", "input_ref"}
_ENCODING: Final[dict[str, Any]] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": [
        field.name for field in SCHEMA if field.type == pa.string() and field.name not in _OWN
    ],
    "column_encoding": {COLUMN: "DELTA_BINARY_PACKED"},
    "sorting_columns": [pq.SortingColumn(0)],
    "store_schema": False,  # Parquet's own says it all.
}
_ROWS_READ: Final = 65_536


def table(records: Sequence[ResultRecord]) -> pa.Table:
    """The records as columns, in the order of their places on the sky.

    Raises:
        SinkRefused: a record's position is not on the sky.
    """
    try:
        pixels = healpix_29([each.ra for each in records], [each.dec for each in records])
    except ValueError as error:
        raise SinkRefused(
            f"a HATS catalogue takes results with a position only ({error}): "
            "find out where that event comes from"
        ) from error
    order = np.argsort(pixels, kind="stable")
    # One flat list, taken apart by stride: a third of the time of `zip`, which makes the garbage
    # collector look at every row, and of going through all rows once a column.
    rows = (records[n].__dict__ for n in order.tolist())
    flat = list(chain.from_iterable(map(_values, rows)))
    arrays = [
        pa.array(flat[n :: len(_FIELDS)], field.type) for n, field in enumerate(list(PLAIN)[1:])
    ]
    return pa.Table.from_arrays([pa.array(pixels[order]), *arrays], schema=PLAIN)


def encode(part: pa.Table) -> pa.Buffer:
    """A whole Parquet file."""
    stream = pa.BufferOutputStream()
    pq.write_table(part, stream, **_ENCODING)
    return stream.getvalue()


def writer(stream: Any) -> pq.ParquetWriter:
    """Writes a Parquet file of the same kind table by table, each a row group or more."""
    return pq.ParquetWriter(stream, PLAIN, **_ENCODING)


def digest(names: Iterable[str]) -> str:
    """32 hex digits that stand for these names in any order."""
    return hashlib.blake2b("\n".join(sorted(names)).encode(), digest_size=16).hexdigest()


def read(store: Store, path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a part, piece by piece.

    Raises:
        SinkRefused: its columns are not this release's, nor those of an older one.
    """
    with store.open(path) as file:
        part = pq.ParquetFile(file)
        check(part.schema_arrow, f"{store.name}: {path}")
        yield from part.iter_batches(_ROWS_READ, columns=columns)


def check(found: pa.Schema, where: str) -> None:
    """Evolution is add-only: an older part lacks columns that may be null, and that is all.

    Raises:
        SinkRefused: it is otherwise.
    """
    lacking = [field for field in SCHEMA if field.name not in found.names]
    foreign = [
        field.name
        for field in found
        if field.name not in SCHEMA.names or SCHEMA.field(field.name).type != field.type
    ]
    if foreign or not all(field.nullable for field in lacking):
        names = ", ".join(foreign + [field.name for field in lacking])
        raise SinkRefused(
            f"{where} was written by another release (columns that differ: {names}): "
            "give another output folder"
        )
