"""Redshifts out: the result record, its schemas, and one file per destination."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit, urlunsplit

from sinks.access import Access as Access
from sinks.deadletters import DeadLetterFile, DeadLetterSink
from sinks.errors import SinkRefused
from sinks.jsonl import JsonLinesSink
from sinks.sink import Sink
from sinks.sqlite import SqliteSink

_KNOWN = (
    "known are the endings .sqlite, .jsonl (files), .parquet, .hats (folders), and the addresses "
    "postgresql://, kafka:// and s3://"
)


def open_sink(location: str | Path, folder: Path = Path(), access: Access | None = None) -> Sink:
    """The sink at `location`: a name in `folder`, or an address. It still has to be `open`ed.

    Raises:
        SinkRefused: no sink has this ending or address, or an option of it is not known.
    """
    access = access or Access()
    if isinstance(location, str) and "://" in location:
        return _at_address(location, access)
    path = folder / location
    match path.suffix:
        case ".sqlite" | ".db":
            return SqliteSink(path)
        case ".jsonl":
            return JsonLinesSink(path)
        case ".parquet":
            from sinks.parquet import ParquetSink

            return ParquetSink(path)
        case ".hats":
            from sinks.hats import HatsSink

            return HatsSink(path)
    raise SinkRefused(f"{path.name}: no sink has this ending; {_KNOWN}")


def _at_address(location: str, access: Access) -> Sink:
    address = _parsed(location)
    match address.scheme:
        case "postgresql" | "postgres":
            from sinks.postgres import PostgresSink

            dsn, options = _split_options(location, {"table", "outbox"})
            return PostgresSink(
                dsn, options.get("table", "results"), outbox=options.get("outbox") != "false"
            )
        case "kafka":
            return _kafka(location, access)
        case "s3" if address.path.rstrip("/").endswith(".hats"):
            from sinks.hats import HatsSink

            return HatsSink(location.rstrip("/"), s3=access.aws)
        case "s3":
            from sinks.s3 import S3ResultsSink

            return S3ResultsSink(address.netloc, address.path.strip("/"), client=access.aws)
    raise SinkRefused(f"{address.scheme}://: no sink has this address; {_KNOWN}")


def _kafka(location: str, access: Access) -> Sink:
    from sinks.kafka import KafkaSink
    from sinks.registry import SchemaRegistry

    known = {"format", "registry", "transactional_id", "idempotent", "compression", "remember"}
    servers, topic, options = _servers_and_topic(location, known)
    registry = options.get("registry")
    try:
        return KafkaSink(
            servers,
            topic,
            client=access.kafka,
            form=_one_of("format", options.get("format", "json"), ("json", "avro")),
            registry=SchemaRegistry(registry, login=access.registry) if registry else None,
            transactional_id=options.get("transactional_id"),
            idempotent=options.get("idempotent") != "false",
            compression=_one_of("compression", options.get("compression", "zstd"), _COMPRESSIONS),
            remember=int(options.get("remember", "200000")),
        )
    except ValueError as error:
        raise SinkRefused(f"kafka://{servers}/{topic}: {error}") from error


_Choice = TypeVar("_Choice", bound=str)

_COMPRESSIONS: Final[tuple[Literal["zstd", "lz4", "gzip", "snappy"], ...]] = (
    "zstd",
    "lz4",
    "gzip",
    "snappy",
)


def _one_of(name: str, given: str, choices: tuple[_Choice, ...]) -> _Choice:
    for choice in choices:
        if given == choice:
            return choice
    raise SinkRefused(f"{name}={given}: choose one of {', '.join(choices)}")


def open_dead_letters(location: str, folder: Path, access: Access | None = None) -> DeadLetterSink:
    """The dead letters at `location`: a file in `folder`, or an address.

    Raises:
        SinkRefused: dead letters cannot be kept there.
    """
    access = access or Access()
    scheme = _parsed(location).scheme if "://" in location else ""
    match scheme:
        case "":
            return DeadLetterFile(folder / location)
        case "postgresql" | "postgres":
            from sinks.deadletters.table import DeadLetterTable

            dsn, options = _split_options(location, {"table"})
            return DeadLetterTable(dsn, options.get("table", "dead_letters"))
        case "kafka":
            from sinks.deadletters.topic import DeadLetterTopic

            servers, topic, _ = _servers_and_topic(location, set())
            return DeadLetterTopic(servers, topic, client=access.kafka)
        case "sqs":
            from sinks.deadletters.queue import DeadLetterQueue

            queue, options = _split_options(location, {"bodies"})
            return DeadLetterQueue(
                queue.removeprefix("sqs://"), client=access.aws, bodies=options.get("bodies")
            )
    raise SinkRefused(f"{scheme}://: dead letters go to a file, postgresql://, kafka:// or sqs://")


def _servers_and_topic(location: str, known: set[str]) -> tuple[str, str, dict[str, str]]:
    plain, options = _split_options(location, known)
    address = urlsplit(plain)
    topic = address.path.strip("/")
    if not address.netloc or not topic:
        raise SinkRefused(f"{plain}: an address in Kafka is kafka://host:port[,host:port]/topic")
    return address.netloc, topic, options


def _parsed(location: str) -> SplitResult:
    try:
        return urlsplit(location)
    except ValueError as error:
        raise SinkRefused(f"an address of a sink cannot be read ({error})") from error


def _split_options(location: str, known: set[str]) -> tuple[str, dict[str, str]]:
    """The address without the options that are ours, and these."""
    address = _parsed(location)
    given = {name: values[-1] for name, values in parse_qs(address.query).items()}
    ours = {name: value for name, value in given.items() if name in known}
    foreign = [each for each in address.query.split("&") if each.split("=")[0] not in known]
    if address.scheme == "kafka" and any(foreign):
        raise SinkRefused(
            f"kafka://...?{foreign[0]}: no such option; known are {', '.join(sorted(known))}"
        )
    return urlunsplit(address._replace(query="&".join(filter(None, foreign)))), ours


def guarantees() -> str:
    """What each sink and each store of dead letters promises: `docs/results.md` holds this."""
    from sinks.deadletters.queue import DeadLetterQueue
    from sinks.deadletters.table import DeadLetterTable
    from sinks.deadletters.topic import DeadLetterTopic
    from sinks.hats import HatsSink
    from sinks.kafka import KafkaSink
    from sinks.parquet import ParquetSink
    from sinks.postgres import PostgresSink
    from sinks.s3 import S3ResultsSink

    rows: dict[str, type[Sink | DeadLetterSink]] = {
        "`*.sqlite`, `*.db`": SqliteSink,
        "`*.jsonl`": JsonLinesSink,
        "`*.parquet`": ParquetSink,
        "`*.hats`, `s3://bucket/name.hats`": HatsSink,
        "`postgresql://`": PostgresSink,
        "`kafka://`": KafkaSink,
        "`s3://bucket/prefix`": S3ResultsSink,
        "dead letters: a file": DeadLetterFile,
        "dead letters: `postgresql://`": DeadLetterTable,
        "dead letters: `kafka://`": DeadLetterTopic,
        "dead letters: `sqs://`": DeadLetterQueue,
    }
    lines = [f"| {where} | {sink.guarantee} |" for where, sink in rows.items()]
    return "\n".join(["| destination | what it promises |", "|---|---|", *lines]) + "\n"
