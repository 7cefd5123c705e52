"""The live roads from end to end: topics and queues in, results out, on real servers."""

import asyncio
import json
import uuid
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from answering import Answering
from parts.aws import ACCESS

from dispatcher import service
from dispatcher.errors import SettingsError
from dispatcher.invokers import InlineInvoker
from dispatcher.metrics import RunCollector
from dispatcher.reconcile import reconcile
from dispatcher.settings import load
from ingest.codecs.notice import InlineImage, NewImage

EVENTS = 60


def body(n):
    image = np.random.default_rng(n).normal(size=(5, 32, 32))
    stamp = InlineImage.of_pixels(image)
    return NewImage(
        id=n, survey="S", object=f"o{n % 7}", ra=1.0, dec=1.0, magnitudes=(20.0,) * 5, stamp=stamp
    ).to_bytes()


BODIES = [b"rubbish", *[body(n) for n in range(EVENTS)], body(3)]  # the last one is a duplicate
EXPECTED = {"written": EVENTS, "dead": 1, "duplicate": 1}


@pytest.fixture
def name():
    return f"night-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def topic(kafka, name):
    """A topic that holds the night."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for n, each in enumerate(BODIES):
            await producer.send_and_wait(name, each, key=str(n).encode())
    return f"kafka://{kafka}/{name}"


@pytest.fixture
async def queue(aws, name, monkeypatch):
    """A queue that holds the night."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ACCESS["aws_secret_access_key"])
    async with get_session().create_client("sqs", endpoint_url=aws, **ACCESS) as client:
        url = (await client.create_queue(QueueName=name))["QueueUrl"]
        for each in BODIES:
            await client.send_message(QueueUrl=url, MessageBody=each.decode())
        await client.create_queue(QueueName=f"{name}-dead")
        yield f"sqs://{name}"
        left = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        assert left["Attributes"]["ApproximateNumberOfMessages"] == "0"
        assert left["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"


@pytest.fixture
def prepare(tmp_path, name, aws):
    """Prepares a run that reads to the end."""

    @asynccontextmanager
    async def prepared(location, **sections):
        (tmp_path / "lookback.toml").write_text(
            f'[kafka]\nuntil_end = true\ngroup = "{name}"\n'
            "[sqs]\nuntil_empty = true\nwait_s = 1\n"
            f'[aws]\nendpoint = "{aws}"\nregion = "us-east-1"\n'
            + "".join(
                f"[{section}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in given.items())
                for section, given in sections.items()
            )
        )
        settings = load(tmp_path / "lookback.toml")
        answering = Answering(service.identify_model("galaxies").weights_sha256)
        invoker = InlineInvoker(answering)
        async with service.prepare(location, tmp_path / "out", settings, invoker=invoker) as run:
            yield run

    return prepared


async def proof(location, tmp_path):
    return await reconcile(location, tmp_path / "out", load(tmp_path / "lookback.toml"))


async def test_a_topic_is_answered_once_and_proved(prepare, topic, tmp_path):
    async with prepare(topic) as run:
        lane = asyncio.create_task(run.lane.run())
        while not run.lane.custody.assignments:
            await asyncio.sleep(0.01)
        names = {each.name for each in RunCollector(run).collect() if each.samples}
        assert {"lookback_source_waiting", "lookback_source_lost"} <= names
        await lane
        assert run.totals().outcomes == EXPECTED
    report = await proof(topic, tmp_path)
    assert report.findings == []
    assert report.totals.outcomes == EXPECTED
    async with prepare(topic) as run:
        await run.lane.run()
        assert run.lane.outcomes.total() == 0, "the group's commit says that all is settled"
        assert run.totals().outcomes == EXPECTED, "and carries the books"


async def test_results_and_offsets_in_one_transaction(prepare, topic, kafka, name, tmp_path):
    results = f"kafka://{kafka}/{name}-results?transactional_id={name}"
    async with prepare(topic, sinks={"required": [results]}) as run:
        await run.lane.run()
        assert run.totals().outcomes == EXPECTED
    assert (await proof(topic, tmp_path)).findings == []
    async with AIOKafkaConsumer(
        f"{name}-results",
        bootstrap_servers=kafka,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    ) as consumer:
        found = [await consumer.getone() for _ in range(EVENTS)]
        assert not await consumer.getmany(timeout_ms=200)
    values = [json.loads(each.value) for each in found]
    assert {each["alert_id"] for each in values} == {str(n) for n in range(EVENTS)}
    assert {each.key for each in found} == {f"o{n}".encode() for n in range(7)}


async def test_a_transactional_sink_is_alone(prepare, topic, queue, kafka):
    results = f"kafka://{kafka}/x?transactional_id=x"
    with pytest.raises(SettingsError, match="only required sink"):
        async with prepare(topic, sinks={"required": [results, "results.sqlite"]}):
            pass
    with pytest.raises(SettingsError, match="not in Kafka"):
        async with prepare(queue, sinks={"required": [results]}):
            pass
    async with prepare(queue) as run:
        await run.lane.run()


async def test_a_queue_is_answered_once_and_proved(prepare, queue, tmp_path):
    async with prepare(queue, sinks={"dead_letters": f"{queue}-dead"}) as run:
        await run.lane.run()
        assert run.totals().outcomes == EXPECTED
    report = await proof(queue, tmp_path)
    assert report.findings == []
    assert report.totals.outcomes == EXPECTED


async def test_every_destination_at_once(prepare, topic, kafka, aws, postgres, name, tmp_path):
    async with get_session().create_client("s3", endpoint_url=aws, **ACCESS) as client:
        await client.create_bucket(Bucket=name)
    sinks = {
        "required": [
            *("results.sqlite", "results.jsonl", "results.parquet", "results.hats"),
            f"{postgres}?table={name.replace('-', '_')}",
            f"kafka://{kafka}/{name}-out?format=avro",
        ],
        "best_effort": [f"kafka://127.0.0.1:1/{name}"],
        "dead_letters": f"kafka://{kafka}/{name}-dead",
    }
    async with prepare(topic, sinks=sinks) as run:
        await run.lane.run()
        assert run.totals().outcomes == EXPECTED
        *required, away = run.pipeline.writer.results
        assert [each.written for each in required] == [EVENTS] * 6
        assert away.written == 0
    report = await proof(topic, tmp_path)
    assert report.findings == []
    assert report.totals.outcomes == EXPECTED
