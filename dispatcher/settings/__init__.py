"""Settings: read from one TOML file, then from the environment, which wins.

`LOOKBACK_BATCH__ITEMS=32` is `batch.items`. An unknown key is an error: a misspelt limit must not
be a limit that is not there.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dispatcher import logs
from dispatcher.errors import SettingsError
from dispatcher.ledger.accounts import TOTAL, Caps, Purse
from dispatcher.logs.redaction import secrets_of
from dispatcher.settings.money import Guard, Hedge, Live, Poison, Replay, Retry, Spend
from dispatcher.settings.review import Review
from dispatcher.settings.sections import (
    Aws,
    Batch,
    Dask,
    DeadLetters,
    Flow,
    Functions,
    Ingest,
    Kafka,
    KafkaOut,
    Log,
    Sinks,
    Sqs,
    Status,
    Workers,
)
from dispatcher.settings.traces import Traces

__all__ = ["Aws", "Ingest", "Kafka", "KafkaOut", "Settings", "Sqs", "load", "reference"]


class Settings(BaseSettings):
    """All settings of a run."""

    model_config = SettingsConfigDict(
        env_prefix="LOOKBACK_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    ingest: Ingest = Field(default_factory=lambda: Ingest.model_validate({}))
    kafka: Kafka = Field(default_factory=lambda: Kafka.model_validate({}))
    sqs: Sqs = Field(default_factory=lambda: Sqs.model_validate({}))
    aws: Aws = Field(default_factory=lambda: Aws.model_validate({}))
    kafka_out: KafkaOut = Field(default_factory=lambda: KafkaOut.model_validate({}))
    batch: Batch = Field(default_factory=lambda: Batch.model_validate({}))
    workers: Workers = Field(default_factory=lambda: Workers.model_validate({}))
    functions: Functions = Field(default_factory=lambda: Functions.model_validate({}))
    dask: Dask = Field(default_factory=lambda: Dask.model_validate({}))
    flow: Flow = Field(default_factory=lambda: Flow.model_validate({}))
    spend: Spend = Field(default_factory=lambda: Spend.model_validate({}))
    live: Live = Field(default_factory=lambda: Live.model_validate({}))
    replay: Replay = Field(default_factory=lambda: Replay.model_validate({}))
    hedge: Hedge = Field(default_factory=lambda: Hedge.model_validate({}))
    retry: Retry = Field(default_factory=lambda: Retry.model_validate({}))
    poison: Poison = Field(default_factory=lambda: Poison.model_validate({}))
    guard: Guard = Field(default_factory=lambda: Guard.model_validate({}))
    sinks: Sinks = Field(default_factory=lambda: Sinks.model_validate({}))
    review: Review = Field(default_factory=lambda: Review.model_validate({}))
    status: Status = Field(default_factory=lambda: Status.model_validate({}))
    traces: Traces = Field(default_factory=lambda: Traces.model_validate({}))
    log: Log = Field(default_factory=lambda: Log.model_validate({}))
    dead_letters: DeadLetters = Field(default_factory=lambda: DeadLetters.model_validate({}))

    def caps(self) -> Caps:
        """What may be spent, by account and window."""
        purses = {each.value: getattr(self, each.value).windows() for each in Purse}
        return {TOTAL: self.spend.windows(), **purses}

    def ranks(self) -> int:
        """Workers that share a batch; 0: as few as the objective of the lane allows."""
        if self.workers.ranks is not None:
            return self.workers.ranks
        if self.workers.engine == "local":
            return 2
        return 0 if self.workers.rendezvous else 1

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file: a container is adjusted without a new file."""
        return env_settings, init_settings


def load(path: Path | None) -> Settings:
    """Read the settings file (None: defaults) and the environment. The log masks their secrets.

    Raises:
        SettingsError: the file cannot be read, or a key is unknown or out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise SettingsError(
                f"settings file {path}: {error.strerror}; check the path given with --settings"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings file {path} is not TOML: {error}") from error
    _refuse_unknown_variables()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError(_in_one_line(error)) from error
    logs.conceal(secrets_of(settings))
    return settings


# Read by parts that run outside the dispatcher, or by the tests.
_OTHER_VARIABLES = frozenset({"LOOKBACK_WEIGHTS", "LOOKBACK_PRECISION"})
_FOR_TESTS = "LOOKBACK_TEST_"


def _refuse_unknown_variables() -> None:
    """Pydantic passes over variables it does not know; a misspelt one must not be lost."""
    known = {
        f"LOOKBACK_{section}__{key}".upper()
        for section, field in Settings.model_fields.items()
        for key in section_of(field.annotation).model_fields
    }
    for variable in os.environ:
        if variable.startswith(_FOR_TESTS) or variable in known | _OTHER_VARIABLES:
            continue
        if variable.startswith("LOOKBACK_"):
            raise SettingsError(
                f"environment variable {variable} names no setting; "
                "`lookback settings` lists them all"
            )


def section_of(annotation: Any) -> type[BaseModel]:
    """The model of a section, from the annotation of its field.

    Raises:
        TypeError: it is none.
    """
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        raise TypeError(f"{annotation} is not a section of settings")
    return annotation


def _in_one_line(error: ValidationError) -> str:
    problems = []
    for each in error.errors(include_url=False):
        key = ".".join(str(part) for part in each["loc"])
        if each["type"] == "extra_forbidden":
            problems.append(f"{key} is not a setting")
        else:
            # What was meant to be a password must not end up in a log.
            secret = key.endswith(("password", "secret", "token"))
            got = "" if secret else f" (got {each['input']!r})"
            problems.append(f"{key}: {each['msg']}{got}")
    return "settings: " + "; ".join(problems) + "; `lookback settings` lists all with their units"


class Entry(NamedTuple):
    """One setting, as it is documented."""

    name: str
    default: str
    meaning: str


def entries() -> Iterator[Entry]:
    """All settings, in the order of a settings file."""
    for section, field in Settings.model_fields.items():
        for key, each in section_of(field.annotation).model_fields.items():
            default = "cores" if each.default_factory else toml(each.default)
            yield Entry(f"{section}.{key}", default, str(each.description))


def reference() -> str:
    """All settings as a Markdown table: key, default, meaning. `docs/settings.md` is this."""
    rows = (f"| `{each.name}` | `{each.default}` | {each.meaning} |" for each in entries())
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows]) + "\n"


def toml(value: Any) -> str:
    """A value as it stands in a settings file."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{each}"' for each in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
