"""The schemas of a result, all made from the one record model."""

from __future__ import annotations

from typing import Any, Final, get_args

import pyarrow as pa

from sinks.record import SCHEMA_VERSION, ResultRecord

FIELDS: Final = tuple(ResultRecord.model_fields)

_SQL: Final = {str: "TEXT", int: "INTEGER", float: "REAL"}
_ARROW: Final = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def sql_columns() -> str:
    """Columns of an SQL table, the result key first and primary."""
    columns = [
        f"{name} {_SQL[_plain(name)]}" + ("" if _nullable(name) else " NOT NULL") for name in FIELDS
    ]
    return ", ".join(columns) + ", PRIMARY KEY (result_id)"


def arrow_schema() -> pa.Schema:
    """Arrow (and so Parquet) schema; the meaning of each field is in its metadata."""
    return pa.schema(
        [
            pa.field(
                name,
                _ARROW[_plain(name)],
                nullable=_nullable(name),
                metadata={"description": field.description or ""},
            )
            for name, field in ResultRecord.model_fields.items()
        ],
        metadata={"lookback_schema_version": str(SCHEMA_VERSION)},
    )


def values(record: ResultRecord) -> tuple[Any, ...]:
    """The record's values in field order. Much faster than `model_dump`."""
    fields = record.__dict__
    return tuple(fields[name] for name in FIELDS)


def markdown_table() -> str:
    """Every field with its type and meaning: `docs/results.md` holds this table."""
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, field in ResultRecord.model_fields.items():
        kind = _plain(name).__name__ + (", or null" if _nullable(name) else "")
        rows.append(f"| `{name}` | {kind} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def _plain(name: str) -> type:
    """The Python type of a field without null, annotations and enums."""
    annotation: Any = ResultRecord.model_fields[name].annotation
    while not (isinstance(annotation, type) and issubclass(annotation, str | int | float)):
        annotation = get_args(annotation)[0]
    return next(plain for plain in (str, int, float) if issubclass(annotation, plain))


def _nullable(name: str) -> bool:
    return type(None) in get_args(ResultRecord.model_fields[name].annotation)
