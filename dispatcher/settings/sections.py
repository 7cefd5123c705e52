"""The sections of the settings: every setting, with its unit, its default and the reason for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

ITEMS_PER_INVOCATION = 160
"""Items whose pixels, in base64, fit into the 6 MB of a function's invocation, with some room."""


class Section(BaseModel):
    """Some settings that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Ingest(Section):
    """What is read, and from where."""

    surveys: tuple[str, ...] = Field(
        (), description="surveys to answer; events of others are filtered (empty: all)"
    )
    schemas: Path | None = Field(
        None, description="folder with LSST writer schemas (<major>/<minor>/*.avsc)"
    )
    registry: str | None = Field(
        None, description="URL of a schema registry, asked before the folder"
    )
    frames: Path | None = Field(
        None, description="folder with survey frames (FITS, WCS) to cut stamps from by position"
    )
    allow: tuple[str, ...] = Field(
        (),
        description="prefixes of addresses that an event's stamp may lie at "
        "(a folder, s3://bucket/prefix, https://host/path); empty: none",
    )
    stale_after_h: float | None = Field(
        None,
        gt=0,
        description="hours since the image was taken after which an event is a dead letter of "
        "class stale (unset: never)",
    )
    max_event_mib: float = Field(
        16.0, gt=0, description="MiB; a larger event, packed or unpacked, is a dead letter"
    )


class _KafkaAccess(Section):
    """How to get into a Kafka cluster."""

    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="security protocol of the brokers"
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, where the protocol has SASL"
    )
    username: str | None = Field(None, description="for PLAIN and SCRAM")
    password: SecretStr | None = Field(
        None, description="for PLAIN and SCRAM; better from the environment than from a file"
    )
    ca: Path | None = Field(None, description="file with certificates to trust (default: system's)")
    certificate: Path | None = Field(None, description="file with our own certificate, for mTLS")
    key: Path | None = Field(None, description="file with its key")
    token_url: str | None = Field(
        None, description="for OAUTHBEARER: where tokens come from (client credentials)"
    )
    client_id: str | None = Field(None, description="for OAUTHBEARER")
    client_secret: SecretStr | None = Field(None, description="for OAUTHBEARER")
    scope: str | None = Field(None, description="for OAUTHBEARER")


class Kafka(_KafkaAccess):
    """Events from Kafka (`lookback run kafka://broker:9092/topic`)."""

    group: str = Field("lookback", description="consumer group; another name starts over")
    start: str = Field(
        "earliest",
        description="where a partition begins that the group has no commit of: earliest, latest, "
        "a time (ISO 8601, UTC) or offset:N",
    )
    until_end: bool = Field(
        False, description="end where the topics ended at the start, instead of following them"
    )
    instance_id: str | None = Field(
        None, description="static membership: a restart within the session moves no partition"
    )
    session_timeout_s: float = Field(
        45.0, gt=0, description="seconds without a heartbeat after which a member is dead"
    )
    revoke_s: float = Field(
        20.0, gt=0, description="seconds to finish what is open of a partition that moves away"
    )
    rollover_grace_h: float = Field(
        12.0, ge=0, description="hours after UTC midnight that yesterday's topic is still read"
    )


class KafkaOut(_KafkaAccess):
    """Results and dead letters to Kafka (`sinks.required = ["kafka://broker:9092/topic"]`)."""

    registry_username: str | None = Field(
        None, description="of the schema registry that a sink's address names (?registry=URL)"
    )
    registry_password: SecretStr | None = Field(None, description="of the schema registry")


class Aws(Section):
    """SQS and S3. Credentials come from where AWS's own tools take them."""

    region: str | None = Field(None, description="region (default: AWS_REGION)")
    endpoint: str | None = Field(None, description="URL of a server that speaks SQS and S3")


class Sqs(Section):
    """Events from SQS (`lookback run sqs://queue`)."""

    wait_s: int = Field(20, ge=0, le=20, description="seconds of a long poll")
    visibility_s: int = Field(
        60, ge=2, le=43200, description="seconds a message is ours; extended at half life"
    )
    receivers: int = Field(2, ge=1, description="receive calls at the same time")
    max_outstanding: int = Field(
        2000, ge=1, le=120_000, description="messages held at once at most"
    )
    until_empty: bool = Field(
        False, description="end when the queue is empty, instead of following it"
    )


class Batch(Section):
    """How much is sent at once. Within these, what costs least per item is sent."""

    items: int = Field(
        96,
        ge=1,
        le=4096,
        description=f"items for one worker at most; {ITEMS_PER_INVOCATION} are what fits into an "
        "invocation of 6 MB, more need functions.bucket",
    )
    max_bytes: int = Field(
        4_500_000, gt=0, description="bytes of pixels; base64 adds a third, the limit is 6 MB"
    )
    overhead: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="share of a call's cost that does not depend on its size, below which it is "
        "large enough",
    )
    linger_s: float = Field(
        0.05, ge=0, description="seconds an idle worker waits for company where calls are free"
    )


class Workers(Section):
    """Who answers."""

    engine: Literal["local", "lambda", "dask"] = Field(
        "local",
        description="processes of this machine, functions ([functions]) or a cluster ([dask])",
    )
    count: int = Field(
        default_factory=lambda: max(1, len(os.sched_getaffinity(0))),
        ge=1,
        description="workers at the same time at most; the default is one per core of this "
        "machine, each runs one thread",
    )
    rendezvous: str | None = Field(
        None,
        description="host:port at which workers on other machines reach this one, to meet as a "
        "group; its port is listened at (unset: workers of this machine only)",
    )
    ranks: int | None = Field(
        None,
        ge=0,
        description="workers that share one batch as a group (never more than `count`); 0: as few "
        "as the objective of the lane allows, each more is money (unset: 2 on this machine; "
        "elsewhere 0 with `rendezvous`, else 1)",
    )
    deadline_s: float = Field(
        60.0, gt=0, description="seconds one invocation may take before its worker is stopped"
    )
    attempts: int = Field(
        3, ge=1, description="times an item is sent at least before it becomes a dead letter"
    )
    weights: str = Field(
        "galaxies", description="a shipped model (galaxies or quasars), or a safetensors file"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of matrix products; bfloat16 is faster where the processor has it, and "
        "changes redshifts by a thousandth of 1 + z at most",
    )


class Functions(Section):
    """Functions of AWS Lambda (`workers.engine = "lambda"`)."""

    name: str = Field("lookback", description="name or ARN of the function")
    alias: str = Field("live", description="alias or version: the code that a run is pinned to")
    account: str | None = Field(
        None, pattern=r"^\d{12}$", description="account that the function must be of"
    )
    bucket: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?$",
        description="s3://bucket/folder for what does not fit into an invocation of 6 MB; it is "
        "deleted when the call has ended (unset: batches are kept small enough)",
    )
    weights: Literal["image", "bucket"] = Field(
        "image",
        description="where functions have the weights from: their image, or functions.bucket, from "
        "where the first rank of a group reads them and gives them to the others",
    )
    endpoint: str | None = Field(
        None, description="URL of a platform that speaks Lambda's Invoke API (`lookback platform`)"
    )


class Dask(Section):
    """A cluster of Dask (`workers.engine = "dask"`)."""

    scheduler: str | None = Field(
        None, description="address of its scheduler, such as tcp://login1:8786 or tls://..."
    )


class Flow(Section):
    """How much may be under way."""

    items: int = Field(384, ge=1, description="events between source and sinks at most")
    mib: float = Field(256.0, gt=0, description="MiB of events between source and sinks at most")
    fetch: int = Field(32, ge=1, description="events asked of the source at once")
    stuck_s: float = Field(
        600.0, gt=0, description="seconds an event may be open before a line in the log names it"
    )
    keys: int = Field(
        5_000_000, ge=0, description="events remembered, so that a second copy costs no inference"
    )
    grace_s: float = Field(
        25.0, gt=0, description="seconds to finish what is under way when told to stop"
    )


class Sinks(Section):
    """Where results go."""

    required: tuple[str, ...] = Field(
        ("results.sqlite",),
        min_length=1,
        description="sinks that must have a result before its event is settled: files in the "
        "output folder (*.sqlite, *.jsonl, *.parquet, *.hats), postgresql://, kafka://, s3://",
    )
    best_effort: tuple[str, ...] = Field(
        (), description="sinks that get results too, but hold nothing up: what they miss is counted"
    )
    dead_letters: str = Field(
        "deadletters.jsonl",
        description="file in the output folder, postgresql://, kafka:// or sqs://",
    )
    batch: int = Field(1000, ge=1, description="records written at once at most")
    linger_s: float | None = Field(
        None,
        ge=0,
        description="seconds a write waits for company, while there is room for more events "
        "(default: 10 for *.hats, 5 for *.parquet, 0 for others)",
    )
    commit_s: float = Field(1.0, gt=0, description="seconds between commits of the position")


class DeadLetters(Section):
    """When bad input is no longer bad luck."""

    max_ratio: float = Field(
        0.5, gt=0, le=1, description="share of dead letters at which the lane stops itself"
    )
    max_in_a_row: int = Field(
        200, ge=1, description="dead letters in a row at which the lane stops itself"
    )
    after: int = Field(
        100,
        ge=1,
        description="events before the share is looked at (at the end of a run it always is)",
    )


class Status(Section):
    """The status page, the metrics and the health of a running dispatcher."""

    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of page, /metrics, /live and /ready; 0: none (unset: 8077, or another "
        "that is free)",
    )
    host: str = Field(
        "127.0.0.1",
        description="address it is on; in a container, where only the network around it can reach "
        "that, 0.0.0.0",
    )
    token: SecretStr | None = Field(
        None,
        description="what a person gives to pause, freeze, redrive, replay or review from the page "
        "(unset: it only shows); better in the environment",
    )
    playbook: str = Field(
        "docs/playbook.md",
        description="where the page sends people for an incident: the address of the playbook on "
        "your site of the documentation",
    )
    recent: int = Field(5000, ge=0, description="results that the page can look back at")
    stalled_s: float = Field(
        60.0, gt=0, description="seconds without a turn of the lane's loop after which it is dead"
    )


class Log(Section):
    """What is written to standard error."""

    format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="json: one object a line; console: for people; auto: console on a terminal",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="what is less than this is not written; the status page knows of it all the "
        "same",
    )
