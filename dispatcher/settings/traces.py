"""The section about traces: where they go, and of how many events there are some."""

from __future__ import annotations

from pydantic import Field

from dispatcher.settings.sections import Section


class Traces(Section):
    """Traces of events, end to end, in OpenTelemetry's form."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$",
        description="URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318 "
        "(unset: no traces)",
    )
    share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the events that are traced; the position decides, so that an event "
        "that comes again is traced again",
    )
