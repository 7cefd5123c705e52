"""The channel through S3, on a server that speaks it: the bucket, and what can go wrong."""

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import ClientError
from recording import Rank
from servers import s3
from stores import BUCKET, client_of

from fmi.channels.bucket import Bucket
from fmi.channels.s3 import S3
from fmi.errors import ChannelBroken, ProtocolError


@pytest.fixture
async def pair(through_s3, in_threads):
    pair = await meet(through_s3, in_threads)
    yield pair
    for each in pair:
        each.close()


@pytest.fixture
def client(s3_server):
    client = client_of(s3_server)
    yield client
    client.close()


@pytest.fixture
def bucket(s3_server):
    bucket = Bucket(BUCKET, f"alone/{uuid.uuid4()}", s3_server.url, None, 4)
    yield bucket
    bucket.close()


async def meet(transport, in_threads, size=2):
    group = uuid.uuid4().hex
    met = await in_threads(
        *(lambda rank=rank: Rank(transport, group, rank, size) for rank in range(size))
    )
    for each in met:
        if isinstance(each, BaseException):
            raise each
    return met


def keys(client, prefix="fmi/"):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"] for page in pages for each in page.get("Contents", ())]


def test_more_objects_than_a_listing_has(bucket):
    names = [f"messages/{i:012}" for i in range(1100)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: bucket.put(name, b""), names))
    bucket.usage.clear()
    assert bucket.names("messages") == names
    bucket.delete(names)
    assert bucket.names("messages") == []
    assert bucket.usage == {"ListObjectsV2": 3, "DeleteObjects": 2}


async def test_many_messages_are_fetched_with_few_listings(pair, client):
    one, other = pair
    for i in range(100):
        one.send(1, b"%d" % i)
    one.channel._settle(0)
    assert other.receive(100) == [b"%d" % i for i in range(100)]
    assert other.channel.usage["ListObjectsV2"] < 20
    other.close()
    assert keys(client, f"fmi/{other.channel.run.hex()}/1/") == []


async def test_nothing_stays_when_all_have_left(s3_server, in_threads, client):
    prefix = f"of/its/own/{uuid.uuid4()}"
    ranks = await meet(S3(BUCKET, prefix, s3_server.url), in_threads, 3)
    ranks[0].send(1, b"read")
    ranks[1].receive(1)
    ranks[0].send(2, b"not read")
    for each in ranks:
        each.channel.beat(b"")
        each.wait(0)
    assert len(keys(client, prefix)) >= 4
    ranks[2].close()
    ranks[0].send(2, b"too late")
    for each in ranks:
        each.close()
    assert keys(client, prefix) == []


async def test_a_message_costs_three_requests(pair):
    one, other = pair
    one.wait(0)
    for each in (one, other):
        each.channel.usage.clear()
    for i in range(20):
        one.send(1, b"%d" % i)
    other.receive(20)
    for each in (one, other):
        each.channel._settle(0)
    assert one.channel.usage == {"PutObject": 20}
    assert other.channel.usage["GetObject"] < 60
    assert other.channel.usage["DeleteObjects"] <= 20
    assert other.channel.usage["ListObjectsV2"] <= 5


async def test_who_waits_asks_less_and_less(pair):
    one, _ = pair
    one.wait(0)
    one.channel.usage.clear()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        one.wait(0.1)
    assert sum(one.channel.usage.values()) < 30


async def test_a_doubled_message_is_taken_once(pair, client):
    one, other = pair
    one.send(1, b"once")
    assert other.receive(1) == [b"once"]
    other.channel._settle(0)
    one.channel._bucket.put_new(one.channel._key(1, 0, 0), b"a repeated request")
    one.send(1, b"next")
    assert other.receive(1) == [b"next"]
    time.sleep(other.channel.beat_s)
    other.wait(0)
    other.channel._settle(0)
    assert keys(client, f"fmi/{other.channel.run.hex()}/1/") == []


async def test_another_writer_is_noticed(pair, client):
    one, other = pair
    key = f"fmi/{one.channel._key(1, 0, 0)}"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"foreign")
    one.send(1, b"ours")
    with pytest.raises(ProtocolError, match="somebody else writes"):
        one.channel._settle(0)
    with pytest.raises(ProtocolError, match="no message"):
        other.receive(1)


async def test_a_message_that_was_cut_is_noticed(pair, client):
    one, other = pair
    one.send(1, b"whole")
    one.channel._settle(0)
    key = f"fmi/{one.channel._key(1, 0, 0)}"
    whole = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=key, Body=whole[:-1])
    with pytest.raises(ProtocolError, match="not as long"):
        other.receive(1)


def test_a_repeated_request_finds_its_own_object(bucket):
    bucket.put_new("key", b"body")
    bucket.put_new("key", b"body")
    with pytest.raises(ProtocolError, match="somebody else"):
        bucket.put_new("key", b"other")
    assert bucket.get("key") == b"body"


@pytest.mark.parametrize(
    ("code", "calls"), [("PreconditionFailed", 1), ("ConditionalRequestConflict", 3)]
)
def test_a_repeated_request_finds_nothing_any_more(bucket, monkeypatch, code, calls):
    called = []

    def put_object(**given):
        called.append(given)
        raise ClientError({"Error": {"Code": code}}, "PutObject")

    monkeypatch.setattr(bucket._client, "put_object", put_object)
    if calls == 1:
        bucket.put_new("taken", b"already")
    else:
        with pytest.raises(ChannelBroken, match="conflict"):
            bucket.put_new("contended", b"")
    assert len(called) == calls


def test_a_body_that_breaks_off_is_read_again(bucket, monkeypatch):
    bucket.put("key", os.urandom(1 << 20))
    get_object, cut = bucket._client.get_object, [True]

    def flaky(**given):
        answer = get_object(**given)
        if cut.pop() if cut else False:
            answer["ContentLength"] += 1
        return answer

    monkeypatch.setattr(bucket._client, "get_object", flaky)
    assert len(bucket.get("key")) == 1 << 20


def test_what_is_not_there(bucket):
    assert bucket.get("nothing") is None
    assert bucket.names("nowhere") == []
    bucket.delete(["nothing"])
    bucket.delete([])


def test_no_such_bucket(s3_server):
    with pytest.raises(ChannelBroken, match="make the bucket"):
        Rank(S3("no-such-bucket", endpoint_url=s3_server.url), "g", 0, 2)


def test_nobody_at_the_address():
    with pytest.raises(ChannelBroken, match="see that `endpoint_url` is right"):
        Rank(S3(BUCKET, endpoint_url="http://127.0.0.1:1"), "g", 0, 2)


@pytest.mark.parametrize("address", ["nonsense", "ftp//x"])
def test_an_address_that_is_none(address):
    with pytest.raises(ChannelBroken, match="endpoint"):
        Rank(S3(BUCKET, endpoint_url=address), "g", 0, 2)


def test_no_credentials(s3_server, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ChannelBroken, match="AWS_ACCESS_KEY_ID"):
        Rank(S3(BUCKET, endpoint_url=s3_server.url), "g", 0, 2)


async def test_a_server_that_dies(s3_server, in_threads):
    with s3() as server:
        client = boto3.client("s3", endpoint_url=server.url)
        client.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        client.close()
        one, other = await meet(S3(BUCKET, endpoint_url=server.url), in_threads)
        server.kill()
        start = time.monotonic()
        other.channel.beat(b"")
        with pytest.raises(ChannelBroken, match="cannot be reached"):
            one.wait(1)
        other.send(0, b"never arrives")
        with pytest.raises(ChannelBroken, match="cannot be reached"):
            other.close()
        assert time.monotonic() - start < 15
        one.close(0)
