"""Every event that is traced leaves one tree of spans, whatever became of it."""

import asyncio
import sys
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest
import structlog
from aiohttp import web
from answering import Answering
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import ValidationError

from dispatcher import service
from dispatcher.errors import SettingsError
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import Settings
from dispatcher.settings.traces import Traces
from dispatcher.traces.recorder import within
from ingest.codecs.notice import InlineImage, NewImage
from ingest.errors import SourceUnavailable
from ingest.events import Position
from ingest.sources.memory import MemorySource

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KILLS, LATER = 3.0, 4.0
PASSED = ["take", "decode", "resolve", "wait", "call", "write results.sqlite", "settle"]
MS = {"decode": 1.0, "infer": 4.0, "total": 6.0}


class Collector:
    """What a collector of OTLP over HTTP has been sent."""

    def __init__(self):
        self.spans, self.resources, self.requests = [], [], 0
        self.status = 200

    async def take(self, request):
        self.requests += 1
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for each in sent.resource_spans:
            self.resources.append(told(each.resource.attributes))
            self.spans += [span for scope in each.scope_spans for span in scope.spans]
        return web.Response(status=self.status)

    @property
    def events(self):
        return [each for each in self.spans if each.name == "event"]

    def children(self, span):
        found = [each for each in self.spans if each.parent_span_id == span.span_id]
        return sorted(found, key=lambda each: (each.start_time_unix_nano, each.end_time_unix_nano))

    def steps(self, event):
        """Those that are parts of it: its commit comes later."""
        return [each for each in self.children(event) if each.name != "commit"]


def told(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
async def collector():
    """A collector, and where it is."""
    made, app = Collector(), web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


class Timed(Answering):
    """Says, as the real handler does, what it took; and takes longer, as a network does."""

    def __call__(self, event, context):
        time.sleep(0.01)
        return super().__call__(event, context) | {"ms": MS}


class Headed(MemorySource):
    """Its first event brings the header of a producer that traces."""

    async def take(self, limit):
        return [
            each._replace(headers={"traceparent": PARENT}) if not each.position.offset else each
            for each in await super().take(limit)
        ]


def notice(n, image, bands="ugriz"):
    stamp = InlineImage.of_pixels(image, bands)
    return NewImage(
        id=n, survey="S", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp
    ).to_bytes()


def image_of(mark):
    return np.linspace(mark, mark + 1, 5 * 32 * 32, dtype=np.float32).reshape(5, 32, 32)


def night(*marks):
    """An event for each; its first pixel is the mark."""
    return [notice(n, image_of(mark)) for n, mark in enumerate(marks)]


@pytest.fixture
def run(tmp_path):
    """Runs events to the end, and gives their books."""

    async def ran(bodies, traces, **sections):
        given = {
            "flow": {"items": 24, "fetch": 8},
            "batch": {"items": 8},
            "dead_letters": {"max_ratio": 1.0},
            "workers": {"weights": "galaxies", "ranks": 2, "count": 2},
        }
        settings = Settings(**{**given, **sections}, traces=traces)
        sha256 = service.identify_model("galaxies").weights_sha256
        invoker = InlineInvoker(Timed(sha256, kills=[KILLS], later={LATER: 1}))
        source = Headed({"p": bodies})
        async with service.prepare(
            "memory://", tmp_path / "out", settings, replaying=source, invoker=invoker
        ) as prepared:
            await prepared.lane.run()
            return prepared.totals().outcomes

    return ran


async def test_every_event_leaves_one_tree(run, collector):
    assert await run(night(*[1.0] * 20), {"endpoint": collector.url, "share": 1}) == {"written": 20}
    assert len(collector.events) == 20
    assert len({each.trace_id for each in collector.events}) == 20
    for event in collector.events:
        facts = told(event.attributes)
        assert facts["lookback.outcome"] == "written"
        assert facts["lookback.lane"] == "replay"
        assert facts["lookback.survey"] == "S"
        assert facts["lookback.status"] == "ok"
        assert facts["lookback.position"] == f"memory:p:{facts['lookback.alert_id']}"
        assert len(facts["lookback.result_id"]) == 32
        steps = collector.steps(event)
        assert [each.name for each in steps] == PASSED
        assert {each.trace_id for each in steps} == {event.trace_id}
    (resource,) = {tuple(each.items()) for each in collector.resources}
    assert dict(resource)["service.name"] == "lookback"


async def test_times_are_inside_and_add_up(run, collector):
    before = time.time_ns()
    await run(night(*[1.0] * 20), {"endpoint": collector.url, "share": 1})
    for event in collector.events:
        assert before < event.start_time_unix_nano < event.end_time_unix_nano < time.time_ns()
        steps = collector.steps(event)
        assert steps[0].start_time_unix_nano == event.start_time_unix_nano
        assert steps[-1].end_time_unix_nano == event.end_time_unix_nano
        for one, next_ in pairwise(steps):
            assert one.end_time_unix_nano == next_.start_time_unix_nano, next_.name
        call = next(each for each in steps if each.name == "call")
        assert call.end_time_unix_nano - call.start_time_unix_nano > 10e6
        (infer,) = collector.children(call)
        assert infer.name == "infer"
        assert infer.end_time_unix_nano - infer.start_time_unix_nano == pytest.approx(4e6, abs=2e3)
        assert call.start_time_unix_nano < infer.start_time_unix_nano
        assert infer.end_time_unix_nano < call.end_time_unix_nano
        assert told(infer.attributes)["lookback.worker.total_ms"] == 6.0


async def test_a_commit_is_told_when_it_is_done(run, collector):
    dead = b"not an event"
    traces = {"endpoint": collector.url, "share": 1}
    sinks = {"commit_s": 0.05}  # some in the middle of the night, the last at its end
    outcomes = await run([*night(*[1.0] * 60), dead], traces, sinks=sinks)
    assert outcomes == {"written": 60, "dead": 1}
    assert len(collector.events) == 61
    ends = set()
    for event in collector.events:
        *_, settle, commit = collector.children(event)
        assert (settle.name, commit.name) == ("settle", "commit")
        assert abs(commit.start_time_unix_nano - settle.end_time_unix_nano) < 1e6
        assert commit.end_time_unix_nano > commit.start_time_unix_nano
        ends.add(commit.end_time_unix_nano // 10_000_000)
    assert len(ends) > 1, "each with the commit that it was part of"


async def test_what_could_not_be_committed_is_told_of_when_it_was(run, collector, monkeypatch):
    refused, commit = [0, 0], Headed.commit

    async def refuse(self, progress):
        if refused:
            refused.pop()
            raise SourceUnavailable("not now")
        await commit(self, progress)

    monkeypatch.setattr(Headed, "commit", refuse)
    await run(night(1.0), {"endpoint": collector.url, "share": 1}, sinks={"commit_s": 0.05})
    assert not refused
    (event,) = collector.events
    assert [each.name for each in collector.children(event)] == [*PASSED, "commit"]


async def test_a_call_says_what_it_was_and_leads_to_its_batch(run, collector):
    await run(
        night(*[1.0] * 20),
        {"endpoint": collector.url, "share": 1},
        spend={"price": "aws-lambda/us-east-1/x86_64", "night_usd": 1},
    )
    batches = {each.span_id: each for each in collector.spans if each.name == "batch"}
    together = defaultdict(list)
    for call in (each for each in collector.spans if each.name == "call"):
        assert call.kind == Span.SPAN_KIND_CLIENT
        (link,) = call.links
        assert batches[link.span_id].trace_id == link.trace_id != call.trace_id
        together[link.span_id].append(told(call.attributes))
    for span_id, calls in together.items():
        shared = told(batches[span_id].attributes)
        assert len(calls) == shared["lookback.items"]
        assert {each["lookback.group"] for each in calls} == {shared["lookback.group"]}
        ranks = min(2, len(calls))
        assert {each["lookback.rank"] for each in calls} == set(range(ranks))
        assert {each["lookback.attempt"] for each in calls} == {1}
        assert all(each["lookback.cost_usd_pico"] > 0 for each in calls)
    assert sum(map(len, together.values())) == 20
    paid = {told(each.attributes)["lookback.cost_usd_pico"] for each in collector.events}
    assert paid <= {each["lookback.cost_usd_pico"] for calls in together.values() for each in calls}


async def test_what_dies_or_cannot_be_asked_has_a_trace_too(run, collector):
    one_band = notice(100, np.ones((1, 32, 32), dtype=np.float32), "g")
    bodies = [*night(1.0, KILLS, LATER), b"not an event", one_band, night(1.0)[0]]
    outcomes = await run(bodies, {"endpoint": collector.url, "share": 1})
    assert outcomes == {"written": 2, "dead": 2, "not_applicable": 1, "duplicate": 1}
    by_offset = {
        int(told(each.attributes)["lookback.position"].rpartition(":")[2]): each
        for each in collector.events
    }
    names = {n: [s.name for s in collector.steps(e)] for n, e in by_offset.items()}
    asked_twice = [*PASSED[:3], "wait", "call", "wait", "call", *PASSED[-2:]]
    assert names[0][: len(PASSED) - 2] == PASSED[:-2]
    assert names[0][-2:] == PASSED[-2:], "asked again or not, because of its neighbour"
    assert Counter(names[1])["call"] >= 2
    assert names[1][-2:] == ["write deadletters.jsonl", "settle"]
    assert names[2][: len(asked_twice) - 2] == asked_twice[:-2]
    assert names[3] == ["take", "decode", "write deadletters.jsonl", "settle"]
    assert names[4] == ["take", "decode", "resolve", "write results.sqlite", "settle"]
    assert names[5] == ["take", "decode", "settle"], "a copy waits for the answer to the first"
    dead = told(by_offset[1].attributes)
    assert (dead["lookback.outcome"], dead["lookback.reason"]) == ("dead", "function_error")
    assert by_offset[1].status.code == by_offset[3].status.code == Status.STATUS_CODE_ERROR
    assert by_offset[0].status.code == by_offset[4].status.code == Status.STATUS_CODE_UNSET
    lost = [each for each in collector.children(by_offset[1]) if each.name == "call"]
    assert {each.status.message for each in lost} == {"function_error"}
    attempts = [told(each.attributes).get("lookback.attempt") for each in lost]
    assert attempts == sorted(attempts)
    assert attempts[-1] == len(lost)


async def test_the_trace_of_the_survey_goes_on(run, collector):
    await run(night(1.0, 1.0), {"endpoint": collector.url, "share": 1})
    _, trace_id, span_id, _ = PARENT.split("-")
    by_parent = {each.parent_span_id.hex(): each for each in collector.events}
    assert by_parent[span_id].trace_id.hex() == trace_id
    assert told(by_parent[span_id].attributes)["lookback.position"] == "memory:p:0"
    assert by_parent[""].trace_id.hex() != trace_id
    assert all(each.kind == Span.SPAN_KIND_CONSUMER for each in collector.events)


async def test_a_sink_that_nobody_waits_for_is_in_the_trace_as_well(run, collector):
    sinks = {"best_effort": ["copy.jsonl"]}
    flow = {"items": 8, "fetch": 8}
    traces = {"endpoint": collector.url, "share": 1}
    await run(night(*[1.0] * 48), traces, sinks=sinks, flow=flow)
    written = Counter()
    for event in collector.events:
        names = Counter(each.name for each in collector.children(event))
        assert names["write results.sqlite"] == 1
        written[names["write copy.jsonl"]] += 1
    assert written.keys() <= {0, 1}
    assert written[1] >= 40, "at its end a run does not wait for it"


async def test_a_share_is_the_same_events_every_time(run, collector):
    await run(night(*[1.0] * 60), {"endpoint": collector.url, "share": 0.25})
    traced = {told(each.attributes)["lookback.position"] for each in collector.events}
    every = [Position("memory", "p", n) for n in range(60)]
    assert traced == {str(each) for each in every if within(0.25, each)}
    assert 5 < len(traced) < 26


def test_a_share_is_as_large_as_it_says():
    for partition in ("0", "1"):
        chosen = sum(within(0.25, Position("alerts", partition, n)) for n in range(20_000))
        assert chosen == pytest.approx(5000, abs=250), "four standard deviations"


@pytest.mark.parametrize("off", [{}, {"share": 1}, {"share": 0}])
async def test_off_leaves_no_trace(run, collector, off, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    given = off | ({"endpoint": collector.url} if off.get("share") == 0 else {})
    assert (await run(night(*[1.0] * 4), given))["written"] == 4
    assert collector.requests == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "{collector}"])
async def test_a_collector_that_takes_nothing_costs_one_line(run, collector, url):
    collector.status = 400
    endpoint = url.format(collector=collector.url)
    with structlog.testing.capture_logs() as lines:
        began = time.monotonic()
        assert (await run(night(*[1.0] * 8), {"endpoint": endpoint, "share": 1}))["written"] == 8
        assert time.monotonic() - began < 5
    (line,) = [each for each in lines if "traces" in each["event"]]
    assert line["endpoint"] == f"{endpoint}/v1/traces"
    assert "incident" not in line


async def test_a_collector_that_hangs_holds_the_end_up_for_two_seconds(run):
    async with deaf() as (port, callers):
        began = time.monotonic()
        endpoint = f"http://127.0.0.1:{port}"
        assert (await run(night(1.0), {"endpoint": endpoint, "share": 1}))["written"] == 1
        assert 1.5 < time.monotonic() - began < 4
        assert len(callers) == 1


@asynccontextmanager
async def deaf():
    """A server that never answers; its port, and who has called."""
    callers = []

    async def hold(_, writer):
        callers.append(writer)

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], callers
        server.close()
        for each in callers:
            each.close()
            await each.wait_closed()


async def test_without_opentelemetry_it_is_said_what_to_install(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "dispatcher.traces.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"pip install 'lookback\[traces\]'"):
        await run(night(1.0), {"endpoint": "http://127.0.0.1:4318"})


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://host", "http://me:secret@host"])
def test_what_is_no_address_of_a_collector_is_refused(endpoint):
    with pytest.raises(ValidationError):
        Traces(endpoint=endpoint)
