"""A settings file to begin with: every setting, explained, and those set that a place needs."""

from __future__ import annotations

import textwrap
from typing import Any, Final

from dispatcher.places import Place
from dispatcher.settings import Settings, section_of, toml

_WIDTH: Final = 96

_HEAD: Final = {
    Place.LAPTOP: "Lookback on a laptop: files in, files out, nothing to start first.",
    Place.HOST: "Lookback on one host: a broker for events, PostgreSQL for results and money.",
    Place.CLOUD: "Lookback with functions of AWS Lambda as workers (deploy/cloud.yaml makes them).",
}
_DATABASE: Final = "postgresql://lookback@localhost/lookback"
_SET: Final[dict[Place, dict[str, Any]]] = {
    Place.LAPTOP: {"sinks.required": ("results.sqlite", "results.parquet")},
    Place.HOST: {
        "kafka.group": "lookback",
        "sinks.required": (_DATABASE,),
        "sinks.dead_letters": _DATABASE,
        "spend.ledger": _DATABASE,
        "status.port": 8077,
    },
    Place.CLOUD: {
        "aws.region": "us-east-1",
        "workers.engine": "lambda",
        "workers.count": 100,
        "workers.deadline_s": 90.0,
        "functions.name": "lookback",
        "functions.account": "123456789012",
        "functions.bucket": "s3://bucket-of-the-stack",
        "spend.price": "aws-lambda/us-east-1/x86_64",
        "spend.night_usd": 5,
        "spend.month_usd": 50,
        "status.port": 8077,
    },
}


def commented(place: Place) -> str:
    """TOML: what is set, and everything else as a comment with its default."""
    chosen = _SET[place]
    parts = [
        f"# {_HEAD[place]}",
        "# What begins with #key = is the default; take the # away to change it.",
        "# The environment wins: LOOKBACK_BATCH__ITEMS=32 is batch.items.",
        "# Secrets are better there.",
    ]
    for section, field in Settings.model_fields.items():
        parts.append(f"\n[{section}]")
        for key, each in section_of(field.annotation).model_fields.items():
            text = textwrap.wrap(str(each.description), _WIDTH)
            parts += [f"# {line}" for line in text]
            if (name := f"{section}.{key}") in chosen:
                parts.append(f"{key} = {toml(chosen[name])}")
            elif each.default is None or each.default_factory:
                parts.append(f"#{key} =")
            else:
                parts.append(f"#{key} = {toml(each.default)}")
    return "\n".join(parts) + "\n"
