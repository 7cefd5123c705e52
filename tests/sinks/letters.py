"""Dead letters for the tests, and the stores that they are put into."""

import uuid
from contextlib import aclosing, asynccontextmanager

from aiobotocore.session import get_session
from parts.aws import ACCESS

from sinks.deadletters import DeadLetter
from sinks.deadletters.queue import DeadLetterQueue


def letter(n, **changed):
    fields = {
        "src_topic": "night:n.sqlite",
        "src_partition": "p",
        "src_offset": 2**60 + n,
        "reason": "bad_sync",
        "detail": "the sync marker is missing",
        "attempts": 0,
        "body": bytes(range(256)),
        "run_id": "r",
        "t_dead": 1.5,
        "headers": {"unreadable": "no"},
    }
    return DeadLetter(**{**fields, **changed})


async def held(sink):
    """What the sink holds, by place; each place once."""
    async with aclosing(sink.scan()) as letters:
        found = [each async for each in letters]
    by_place = {each.place: each for each in found}
    assert len(by_place) == len(found), "a place is held twice"
    return by_place


def by_place(*letters):
    return {each.place: each for each in letters}


@asynccontextmanager
async def opened(sink):
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


SESSION = get_session()  # shared: it reads the services' descriptions once


def sqs_at(url):
    return SESSION.create_client("sqs", endpoint_url=url, **ACCESS)


def s3_at(url):
    return SESSION.create_client("s3", endpoint_url=url, **ACCESS)


async def new_queue(url, name, **attributes):
    async with sqs_at(url) as sqs:
        answer = await sqs.create_queue(QueueName=name, Attributes=attributes)
        return answer["QueueUrl"]


def new_name():
    return f"dead_{uuid.uuid4().hex[:12]}"


def queue(address, url, **options):
    # One machine keeps the queue: nothing to listen for.
    client = {"endpoint_url": url, **ACCESS}
    return DeadLetterQueue(address, client=client, **{"wait_s": 0, **options})
