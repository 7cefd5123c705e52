"""The same on real servers: processes are killed, and all sinks together hold every event once."""

import pytest

from delivery.servers import durable_broker, kafka_night, restarts_of, sqs_night
from dispatcher.reconcile import reconcile
from dispatcher.settings import load

pytestmark = pytest.mark.timeout(200)


async def test_a_group_of_dispatchers_is_killed_on_a_broker(tansu, tmp_path):
    night = await kafka_night(tansu, 1, tmp_path, dispatchers=2)
    assert night.seen["kill"]


async def test_a_dispatcher_is_killed_on_a_broker_that_keeps_its_books(kafka, tmp_path):
    night = await kafka_night(kafka, 2, tmp_path, dispatchers=1)
    assert night.seen["kill"]
    report = await reconcile(night.location, tmp_path / "d0", load(night.settings))
    assert report.findings == []
    assert report.totals.received == night.sky.events


async def test_a_broker_is_killed_too(aws, tmp_path):
    async with durable_broker(aws) as broker:
        more = [restarts_of(broker)] * 6
        night = await kafka_night(broker.address, 5, tmp_path, dispatchers=2, more=more)
    assert night.seen["broker restart"]


async def test_dispatchers_are_killed_on_a_queue(aws, tmp_path):
    night = await sqs_night(aws, 3, tmp_path, dispatchers=2)
    assert night.seen["kill"]
