"""Redshifts out: the result record, its schemas, and one file per destination."""

from __future__ import annotations

from pathlib import Path

from sinks.deadletters import DeadLetterFile, DeadLetterSink
from sinks.errors import SinkRefused
from sinks.jsonl import JsonLinesSink
from sinks.parquet import ParquetSink
from sinks.sink import Sink
from sinks.sqlite import SqliteSink


def open_sink(path: Path) -> Sink:
    """The sink that the ending of `path` stands for. It still has to be `open`ed.

    Raises:
        SinkRefused: no sink has this ending.
    """
    match path.suffix:
        case ".sqlite" | ".db":
            return SqliteSink(path)
        case ".jsonl":
            return JsonLinesSink(path)
        case ".parquet":
            return ParquetSink(path)
    raise SinkRefused(
        f"{path.name}: no sink has this ending; known are .sqlite (a file), .jsonl (a file) and "
        ".parquet (a folder of parts)"
    )


def open_dead_letters(path: Path) -> DeadLetterSink:
    """The dead-letter file at `path`. It still has to be `open`ed."""
    return DeadLetterFile(path)
