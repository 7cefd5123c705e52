"""The published schemas of a result, one Avro and one JSON file for each version of the record.

`python -m sinks.schemas` writes the files of this version, after the record was changed and
`SCHEMA_VERSION` was raised. The files of older versions are never touched again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from sinks.avro import avro_schema
from sinks.record import SCHEMA_VERSION
from sinks.schema import json_schema

FOLDER: Final = Path(__file__).parent


def published_avro(version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """The Avro schema of a version of the record."""
    return _read(f"result.v{version}.avsc")


def published_json(version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """The JSON Schema of a version of the record."""
    return _read(f"result.v{version}.schema.json")


def publish(folder: Path = FOLDER) -> None:
    """Write the schemas of this version."""
    _write(folder / f"result.v{SCHEMA_VERSION}.avsc", avro_schema())
    _write(folder / f"result.v{SCHEMA_VERSION}.schema.json", json_schema())


def _read(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return schema


def _write(path: Path, schema: dict[str, Any]) -> None:
    path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
