"""The schemas of a result, all made from the one record model. Avro's is in `sinks.avro`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple, get_args

import pyarrow as pa

from sinks.record import IDS, SCHEMA_VERSION, ResultRecord

FIELDS: Final = tuple(ResultRecord.model_fields)

_values: Final[Callable[[Mapping[str, Any]], tuple[Any, ...]]] = itemgetter(*FIELDS)

_SQL: Final = {str: "TEXT", int: "INTEGER", float: "REAL"}
_ARROW: Final = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_JSON: Final = {str: "string", int: "integer", float: "number"}


class Meaning(NamedTuple):
    """What a field is: `kind` is str, int (64 bit) or float (64 bit); `unit` a VOUnit, or ""."""

    name: str
    kind: type
    nullable: bool
    description: str
    unit: str
    ucd: str


def meanings() -> Iterator[Meaning]:
    """Every field of a result, in order."""
    for name, field in ResultRecord.model_fields.items():
        vo: Any = field.json_schema_extra
        yield Meaning(
            name, _plain(name), _nullable(name), field.description or "", vo["unit"], vo["ucd"]
        )


def sql_columns() -> str:
    """Columns of an SQL table, the result key first and primary."""
    columns = [
        f"{each.name} {_SQL[each.kind]}" + ("" if each.nullable else " NOT NULL")
        for each in meanings()
    ]
    return ", ".join(columns) + ", PRIMARY KEY (result_id)"


def arrow_schema() -> pa.Schema:
    """Arrow (and so Parquet) schema; what each field is stands in its metadata."""
    return pa.schema(
        [
            pa.field(
                each.name,
                _ARROW[each.kind],
                nullable=each.nullable,
                metadata={"description": each.description, "unit": each.unit, "ucd": each.ucd},
            )
            for each in meanings()
        ],
        metadata={"lookback_schema_version": str(SCHEMA_VERSION)},
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema of `ResultRecord.to_json`. Fields that it does not name are allowed.

    A field that may be null may also be absent: a row of an older version lacks the newer ones.
    """
    fields = list(meanings())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:lookback:result:{SCHEMA_VERSION}",
        "title": "Result",
        "type": "object",
        "properties": {each.name: _property(each) for each in fields},
        "required": [each.name for each in fields if not each.nullable],
    }


def _property(of: Meaning) -> dict[str, Any]:
    plain = "string" if of.name in IDS else _JSON[of.kind]
    digits = {"pattern": "^-?[0-9]+$"} if of.name in IDS else {}
    return {
        "type": ["null", plain] if of.nullable else plain,
        **digits,
        "description": of.description,
        "unit": of.unit,
        "ucd": of.ucd,
    }


def values(record: ResultRecord) -> tuple[Any, ...]:
    """The record's values in field order. Much faster than `model_dump`."""
    return _values(record.__dict__)


def markdown_table() -> str:
    """Every field with its type and meaning: `docs/results.md` holds this table."""
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for each in meanings():
        kind = each.kind.__name__ + (", or null" if each.nullable else "")
        rows.append(f"| `{each.name}` | {kind} | {each.description} |")
    return "\n".join(rows) + "\n"


def observatory_table() -> str:
    """Every field with its type, unit and UCD: `docs/schema.md` holds this table."""
    rows = ["| field | type | in JSON | unit | UCD |", "|---|---|---|---|---|"]
    for each in meanings():
        null = ", or null" if each.nullable else ""
        text = "string" if each.name in IDS else _JSON[each.kind]
        kinds = f"{_ARROW[each.kind]}{null} | {text}{null}"
        rows.append(f"| `{each.name}` | {kinds} | {each.unit} | `{each.ucd}` |")
    return "\n".join(rows) + "\n"


def _plain(name: str) -> type:
    """The Python type of a field without null, annotations and enums."""
    annotation: Any = ResultRecord.model_fields[name].annotation
    while not (isinstance(annotation, type) and issubclass(annotation, str | int | float)):
        annotation = get_args(annotation)[0]
    return next(plain for plain in (str, int, float) if issubclass(annotation, plain))


def _nullable(name: str) -> bool:
    return type(None) in get_args(ResultRecord.model_fields[name].annotation)
