"""Metrics say what the books say, and only what the catalogue describes."""

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from small_run import preparing

from dispatcher import service
from dispatcher.books import Outcome
from dispatcher.calls.queue import Holder
from dispatcher.incidents import FAULTS
from dispatcher.invokers import InlineInvoker
from dispatcher.ledger.accounts import TOTAL, Purse, Window
from dispatcher.metrics import LABELS, METRICS, Kind, RunCollector, registry
from dispatcher.settings import load
from ingest.events import Partition
from ingest.sources.kafka.reading import Lag
from ingest.sources.night import NightArchive
from sinks.deadletters import ErrorClass
from workers.drift import QUANTITIES

OF_A_TOPIC = {
    "lookback_source_waiting",
    "lookback_source_behind_seconds",
    "lookback_source_lost_total",
}
OF_A_CAP = {"lookback_cap_dollars", "lookback_cap_used_ratio"}
_UNITS = {"s": "seconds", "B": "bytes", "$": "dollars"}


@pytest.fixture
async def run(tmp_path):
    with NightArchive(tmp_path / "night.sqlite") as archive:
        for n in range(30):
            archive.add(f"p{n % 2}", b"rubbish")
    (tmp_path / "lookback.toml").write_text(
        "[dead_letters]\nmax_ratio = 1.0\n[spend]\nnight_usd = 2\n"
    )
    settings = load(tmp_path / "lookback.toml")
    location = str(tmp_path / "night.sqlite")
    invoker = InlineInvoker(lambda event, context: {})
    async with service.prepare(location, tmp_path / "out", settings, invoker=invoker) as made:
        await made.lane.run()
        yield made


async def test_what_is_scraped_is_what_the_books_say(run):
    families = scraped(run)
    assert unsaid(families) == {*OF_A_TOPIC, "lookback_latency_seconds"}, "nothing was written"
    settled = {
        (each.labels["source"], each.labels["partition"], each.labels["outcome"]): each.value
        for each in families["lookback_settled"].samples
    }
    source = run.lane.source.name
    assert settled == {(source, f"p{n}", "dead"): 15.0 for n in (0, 1)}
    assert one(families, "lookback_unbalanced_partitions") == 0
    assert by(families, "lookback_sink_written") == {"results.sqlite": 0, "deadletters.jsonl": 30}
    assert by(families, "lookback_dead_letters")["not_for_us"] == 30
    assert by(families, "lookback_incidents").keys() == FAULTS.keys()
    caps = {
        (each.labels["account"], each.labels["window"]): each.value
        for each in families["lookback_cap_dollars"].samples
    }
    assert caps == {("total", "night"): 2.0}
    assert one(families, "lookback_process_resident_memory_bytes") > 2**20


async def test_a_run_that_writes_says_how_late_it_was(tmp_path):
    async with preparing(tmp_path)() as run:
        await run.lane.run()
        families = scraped(run)
    assert unsaid(families) == OF_A_TOPIC | OF_A_CAP
    latency = by(families, "lookback_latency_seconds")
    assert 0 < latency["0.5"] <= latency["0.98"]
    assert by(families, "lookback_calls").keys() == {"live"}


async def test_a_source_that_is_behind_says_how_far(run, monkeypatch):
    source = run.lane.source
    lag = {Partition("night", "0"): Lag(offsets=12, behind_s=7.5)}
    monkeypatch.setattr(type(source), "lag", lambda _: lag, raising=False)
    monkeypatch.setattr(type(source), "lost_to_retention", 3, raising=False)
    families = scraped(run)
    assert not unsaid(families) & OF_A_TOPIC
    assert one(families, "lookback_source_waiting") == 12
    assert one(families, "lookback_source_behind_seconds") == 7.5
    assert one(families, "lookback_source_lost") == 3


async def test_a_label_has_no_other_values_than_its_bounds(run):
    bounds = {
        "outcome": set(Outcome),
        "class": set(ErrorClass),
        "quantile": {"0.5", "0.98"},
        "by": set(Holder) - {Holder.NOTHING},
        "purse": set(Purse),
        "account": {TOTAL, *Purse},
        "window": set(Window),
        "lane": {"live", "replay", "redrive"},
        "sink": {each.name for each in run.pipeline.writer.outlets},
        "quantity": set(QUANTITIES),
        "fault": set(FAULTS),
        "source": {run.lane.source.name},
        "partition": {each.partition.name for each in run.lane.custody.assignments},
    }
    of_the_process = LABELS.keys() - bounds.keys()
    assert of_the_process == {"version", "model", "weights"}
    for family in RunCollector(run).collect():
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert label in of_the_process or value in bounds[label], (sample.name, label)


async def test_what_the_catalogue_does_not_describe_cannot_be_exposed(run, monkeypatch):
    monkeypatch.setattr(RunCollector, "_health", lambda _: [("mood", 1.0, ())])
    with pytest.raises(KeyError, match="lookback_mood"):
        RunCollector(run).collect()
    monkeypatch.setattr(RunCollector, "_health", lambda _: [("live", 1.0, ("today",))])
    with pytest.raises(ValueError, match="lookback_live has the labels"):
        RunCollector(run).collect()


def scraped(run):
    text = generate_latest(registry(run)).decode()
    return {each.name: each for each in text_string_to_metric_families(text)}


def unsaid(families):
    """Families of the catalogue that have no value."""
    return {name for name in METRICS if not families[name.removesuffix("_total")].samples}


def one(families, name):
    (sample,) = families[name].samples
    return sample.value


def by(families, name):
    return {next(iter(each.labels.values())): each.value for each in families[name].samples}


async def test_nothing_is_exposed_that_the_catalogue_does_not_describe(run):
    for family in RunCollector(run).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metric = METRICS[name]
        assert family.type == metric.kind
        for sample in family.samples:
            assert set(sample.labels) == set(metric.labels), name


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_are_those_of_the_field(metric):
    assert re.fullmatch(r"lookback(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    assert set(metric.labels) <= LABELS.keys()
    if metric.unit:
        assert metric.name.removesuffix("_total").endswith(_UNITS[metric.unit])


def test_every_fault_names_a_metric_that_there_is():
    assert {each.metric for each in FAULTS.values()} <= METRICS.keys()
