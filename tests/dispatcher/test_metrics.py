"""Metrics say what the books say."""

import urllib.request

import pytest
from parts.process import free_port
from prometheus_client.parser import text_string_to_metric_families

from dispatcher import metrics, service
from dispatcher.errors import SettingsError
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import load
from ingest.sources.night import NightArchive


@pytest.fixture
async def run(tmp_path):
    with NightArchive(tmp_path / "night.sqlite") as archive:
        for n in range(30):
            archive.add(f"p{n % 2}", b"rubbish")
    (tmp_path / "lookback.toml").write_text("[dead_letters]\nmax_ratio = 1.0\n")
    settings = load(tmp_path / "lookback.toml")
    location = str(tmp_path / "night.sqlite")
    invoker = InlineInvoker(lambda event, context: {})
    async with service.prepare(location, tmp_path / "out", settings, invoker=invoker) as made:
        await made.lane.run()
        yield made


async def test_what_is_scraped_is_what_the_books_say(run):
    port = free_port()
    with metrics.serve(run, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        with pytest.raises(SettingsError, match="choose another"), metrics.serve(run, port):
            pass
    families = {each.name: each for each in text_string_to_metric_families(text)}
    of_topics = {name for name in metrics.METRICS if name.startswith("lookback_source_")}
    names = {name.removesuffix("_total") for name in metrics.METRICS.keys() - of_topics}
    assert families.keys() == names
    settled = {
        (each.labels["source"], each.labels["partition"], each.labels["outcome"]): each.value
        for each in families["lookback_settled"].samples
    }
    source = run.lane.source.name
    assert settled == {(source, f"p{n}", "dead"): 15.0 for n in (0, 1)}
    (unbalanced,) = families["lookback_unbalanced_partitions"].samples
    assert unbalanced.value == 0
    written = {e.labels["sink"]: e.value for e in families["lookback_sink_written"].samples}
    assert written == {"results.sqlite": 0, "deadletters.jsonl": 30}
