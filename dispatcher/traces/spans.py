"""Spans in OpenTelemetry's form, and the thread that sends them to a collector.

The only module that needs `lookback[traces]`. Spans are made when all is over, from times that were
written down: a tracer, which measures, is of no use then, and would take ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dispatcher.traces.trail import Facts, Ids, Kind

_PATH: Final = "/v1/traces"
_TIMEOUT_S: Final = 5.0
_QUEUE: Final = 16_384
"""Spans that wait at most; what comes then is dropped. A kilobyte each."""
_DELAY_MS: Final = 1000.0
_KINDS: Final = {
    Kind.INSIDE: trace.SpanKind.INTERNAL,
    Kind.TAKES: trace.SpanKind.CONSUMER,
    Kind.ASKS: trace.SpanKind.CLIENT,
}
_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)

_log = structlog.get_logger()


class Spans:
    """Makes spans and has them sent. `facts`: of the run, with every span."""

    def __init__(self, endpoint: str, facts: Facts) -> None:
        self._exporter = _Exporter(endpoint)
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=_QUEUE, schedule_delay_millis=_DELAY_MS
        )
        self._resource = Resource.create(dict(facts))
        self._scope = InstrumentationScope("lookback")
        self._ids = RandomIdGenerator()
        self._propagator = TraceContextTextMapPropagator()

    def parent_of(self, headers: Mapping[str, str]) -> Ids | None:
        """The span that sent an event, by its header `traceparent` (W3C); None without one."""
        if "traceparent" not in headers:
            return None
        found = self._propagator.extract(headers)
        context = trace.get_current_span(found).get_span_context()
        return Ids(context.trace_id, context.span_id) if context.is_valid else None

    def new(self, trace_id: int | None = None) -> Ids:
        """Ids for a span of a trace; of a new one without."""
        trace_id = trace_id or self._ids.generate_trace_id()
        return Ids(trace_id, self._ids.generate_span_id())

    def send(
        self,
        name: str,
        ids: Ids,
        times: tuple[float, float],
        facts: Facts,
        *,
        parent: Ids | None = None,
        remote: bool = False,
        link: Ids | None = None,
        kind: Kind = Kind.INSIDE,
        error: str | None = None,
    ) -> None:
        """Hand a span over. `times`: start and end (unix s); `remote`: its parent is not ours."""
        status = trace.Status(trace.StatusCode.ERROR if error else trace.StatusCode.UNSET, error)
        span = ReadableSpan(
            name,
            _context(ids),
            _context(parent, remote=remote) if parent else None,
            self._resource,
            facts,
            links=[trace.Link(_context(link))] if link else (),
            kind=_KINDS[kind],
            status=status,
            start_time=round(times[0] * 1e9),
            end_time=round(times[1] * 1e9),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)

    def flush(self) -> None:
        """Send what is left, and nothing after it. Blocks."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def give_up(self) -> None:
        """Send nothing that is left."""
        self._exporter.tell()
        self._exporter.shutdown()


class _Exporter(SpanExporter):
    """Says once that the collector takes nothing, in words that tell what to do."""

    def __init__(self, endpoint: str) -> None:
        self._url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH
        self._sender = OTLPSpanExporter(self._url, timeout=_TIMEOUT_S)
        self._told = self._over = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`."""
        result = self._sender.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.tell()
        return result

    def tell(self) -> None:
        """Say it, unless it was said before."""
        if not self._told:
            self._told = True
            _log.warning(
                "the collector takes no traces: they are lost, and nothing else",
                endpoint=self._url,
                advice="check traces.endpoint and whether a collector listens there",
            )

    def shutdown(self) -> None:
        """See `SpanExporter.shutdown`. What is being tried again is given up."""
        if not self._over:
            self._over = True
            self._sender.shutdown()  # type: ignore[no-untyped-call]


def _context(ids: Ids, *, remote: bool = False) -> trace.SpanContext:
    return trace.SpanContext(ids.trace, ids.span, remote, _SAMPLED)
