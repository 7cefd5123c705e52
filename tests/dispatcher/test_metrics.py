"""Metrics say what the books say, and only what the catalogue describes."""

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dispatcher import service
from dispatcher.incidents import FAULTS
from dispatcher.invokers import InlineInvoker
from dispatcher.metrics import METRICS, Kind, RunCollector, registry
from dispatcher.settings import load
from ingest.sources.night import NightArchive

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
    text = generate_latest(registry(run)).decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert {name.removesuffix("_total") for name in METRICS} <= families.keys()
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
    if metric.unit:
        assert metric.name.removesuffix("_total").endswith(_UNITS[metric.unit])


def test_every_fault_names_a_metric_that_there_is():
    assert {each.metric for each in FAULTS.values()} <= METRICS.keys()
