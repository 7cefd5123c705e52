"""The S3 sink: one object a result, found by its name; what S3 says and what it means."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from parts.aws import ACCESS
from rows import record
from test_contract import SESSION, new_bucket, scanned

from sinks.errors import SinkRefused, SinkUnavailable
from sinks.s3 import S3ResultsSink


@asynccontextmanager
async def opened(*arguments, **options):
    sink = S3ResultsSink(*arguments, **options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def contents(bucket, aws):
    """Every object's name and bytes."""
    async with SESSION.create_client("s3", **aws) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        names = [each["Key"] async for page in pages for each in page.get("Contents", ())]
        found = {}
        for name in names:
            answer = await client.get_object(Bucket=bucket, Key=name)
            found[name] = await answer["Body"].read()
        return found


async def test_a_result_is_an_object_named_after_its_key(aws):
    bucket, client = await new_bucket(aws)
    key = "c0ffee" + 26 * "0"
    async with opened(bucket, "/some/where/", client=client) as sink:
        assert sink.name == f"s3://{bucket}/some/where"
        await sink.write([record(1), record(1, z_median=0.2), record(2, result_id=key)])
    found = await contents(bucket, client)
    assert set(found) == {f"some/where/00/{1:032x}.json", f"some/where/c0/{key}.json"}
    assert json.loads(found[f"some/where/00/{1:032x}.json"])["z_median"] == 0.2


async def test_results_may_lie_at_the_top(aws):
    bucket, client = await new_bucket(aws)
    async with opened(bucket, client=client) as sink:
        await sink.write([record(1)])
        assert len(await scanned(sink)) == 1
    assert list(await contents(bucket, client)) == [f"00/{1:032x}.json"]


async def test_a_scan_reads_all_pages_and_passes_over_what_is_not_its_own(aws, monkeypatch):
    monkeypatch.setattr("sinks.s3._PAGE", 10)
    bucket, client = await new_bucket(aws)
    others = ["r/readme.json", "r/00/notes.txt", "r/00/more/00.json", "rest/00/00.json", "r/"]
    async with SESSION.create_client("s3", **client) as other:
        for name in others:
            await other.put_object(Bucket=bucket, Key=name, Body=b"{}")
    async with opened(bucket, "r", client=client) as sink:
        await sink.write([record(n) for n in range(45)])
        assert [each.src_offset for each in await scanned(sink)] == list(range(45))


async def test_an_object_that_is_no_result_is_named(aws):
    bucket, client = await new_bucket(aws)
    async with SESSION.create_client("s3", **client) as other:
        await other.put_object(Bucket=bucket, Key="00/00.json", Body=b"{}")
    async with opened(bucket, client=client) as sink:
        with pytest.raises(SinkRefused, match=r"/00/00\.json is not a result"):
            await scanned(sink)


async def test_a_bucket_that_is_not_there_is_refused(aws):
    with pytest.raises(SinkRefused, match=r"s3://missing-bucket.*NoSuchBucket.*check bucket"):
        await S3ResultsSink("missing-bucket", client={"endpoint_url": aws, **ACCESS}).open()


async def test_a_name_that_no_bucket_can_have_is_refused(aws):
    with pytest.raises(SinkRefused, match="check bucket"):
        await S3ResultsSink("not a bucket", client={"endpoint_url": aws, **ACCESS}).open()


async def test_a_server_that_is_not_there_may_come():
    client = {"endpoint_url": "http://127.0.0.1:1", **ACCESS}
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1:1"):
        await S3ResultsSink("bucket", client=client).open()


class Moody:
    """Speaks enough S3 to answer as it is told: (status, code), "hang" or "cut", by turns."""

    def __init__(self):
        self.answers, self.puts = [], Counter()
        self.at_once = self.most_at_once = 0

    async def handle(self, request):
        if request.method == "GET":
            return web.Response(
                text="<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            )
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.put(request)
        finally:
            self.at_once -= 1

    async def put(self, request):
        await request.read()
        self.puts[request.path] += 1
        answer = self.answers.pop(0) if self.answers else 200
        if answer == "hang":
            await asyncio.sleep(5)
        if answer == "cut":
            request.transport.abort()
        if isinstance(answer, tuple):
            status, code = answer
            text = f"<Error><Code>{code}</Code><Message>told to</Message></Error>"
            return web.Response(status=status, text=text)
        await asyncio.sleep(0.002)
        return web.Response(headers={"ETag": '"e"'})


@pytest.fixture
async def moody():
    told, app = Moody(), web.Application()
    app.router.add_route("*", "/{path:.*}", told.handle)
    async with TestServer(app) as server:
        told.client = {"endpoint_url": str(server.make_url("")), **ACCESS}
        yield told


LATER = [
    (503, "SlowDown"),
    (500, "InternalError"),
    (400, "RequestTimeout"),
    (429, "TooManyRequests"),
    (409, "OperationAborted"),
    "hang",
]


@pytest.mark.parametrize("answer", LATER, ids=str)
async def test_what_passes_by_is_told_at_once_and_the_next_write_goes_through(moody, answer):
    async with opened("bucket", client=moody.client, timeout_s=0.3) as sink:
        moody.answers = [200, answer]
        with pytest.raises(SinkUnavailable, match="s3://bucket"):
            await sink.write([record(n) for n in range(3)])
        assert max(moody.puts.values()) == 1, "retries are the caller's"
        await sink.write([record(n) for n in range(3)])
        assert len(moody.puts) == 3


async def test_connections_that_are_cut_are_made_anew(moody):
    async with opened("bucket", client=moody.client) as sink:
        moody.answers = ["cut"] * 6  # aiohttp itself tries again on a connection that was used
        with pytest.raises(SinkUnavailable, match="s3://bucket"):
            await sink.write([record(n) for n in range(3)])
        moody.answers = []
        await sink.write([record(n) for n in range(3)])
        assert len(moody.puts) == 3


@pytest.mark.parametrize(
    "answer", [(403, "AccessDenied"), (404, "NoSuchBucket"), (400, "EntityTooLarge")], ids=str
)
async def test_what_stays_is_refused_with_advice(moody, answer):
    async with opened("bucket", client=moody.client) as sink:
        moody.answers = [answer]
        with pytest.raises(SinkRefused, match=rf"s3://bucket.*{answer[1]}.*s3:PutObject"):
            await sink.write([record(1)])


async def test_requests_at_once_are_bounded_and_as_many_as_they_may_be(moody):
    async with opened("bucket", client=moody.client, parallel=20) as sink:
        await sink.write([record(n) for n in range(200)])
    assert len(moody.puts) == 200
    assert moody.most_at_once == 20
