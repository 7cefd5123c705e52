"""What is measured: each sink, where it writes to, in which batches, and beside whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.sinks import bare
from benchmarks.sinks.bare import Side


class Case(NamedTuple):
    """`address` is what `open_sink` gets: {at} is the destination, {name} is new each time."""

    destination: str
    address: str
    batch: int
    rows: int
    peer: Callable[[str, str], Side]
    all_sky: bool = False
    many: int = 1_000_000


CASES: Final = {
    "postgres": Case("postgres", "{at}?table=results_{name}", 1000, 40_000, bare.Copy),
    "postgres_plain": Case(
        "postgres", "{at}?table=results_{name}&outbox=false", 1000, 40_000, bare.Copy
    ),
    "kafka_json": Case("kafka", "kafka://{at}/results-{name}", 1000, 30_000, bare.Producer),
    "kafka_avro": Case(
        "kafka", "kafka://{at}/results-{name}?format=avro", 1000, 30_000, bare.AvroProducer
    ),
    "hats": Case("disk", "{at}/{name}.hats", 5000, 100_000, bare.Arrow),
    "hats_all_sky": Case("disk", "{at}/{name}.hats", 5000, 100_000, bare.Arrow, all_sky=True),
    "parquet": Case("disk", "{at}/{name}.parquet", 5000, 100_000, bare.Arrow),
    "sqlite": Case("disk", "{at}/{name}.sqlite", 1000, 40_000, bare.Insert),
    "jsonl": Case("disk", "{at}/{name}.jsonl", 1000, 100_000, bare.Lines),
    "s3": Case("aws", "s3://results/{name}", 1000, 1000, bare.Put, many=10_000),
}
TARGETS: Final = {"postgres": 20_000, "hats": 50_000, "kafka_json": 10_000, "kafka_avro": 10_000}
QUICK: Final = (
    "postgres",
    "postgres_plain",
    "kafka_json",
    "kafka_avro",
    "hats",
    "hats_all_sky",
    "sqlite",
)
