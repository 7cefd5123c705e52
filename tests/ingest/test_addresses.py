"""Stamps that lie elsewhere: what is allowed is read to its end, all else says why not."""

import asyncio
import io
from contextlib import suppress

import numpy as np
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import AddressRefused, DecodeError, SourceError
from ingest.events import Event, StampAddress
from ingest.stamps.address import Fetcher
from ingest.stamps.resolve import Resolver

STAMP = np.random.default_rng(1).normal(0, 1, (5, 40, 40)).astype(np.float32)


def npz():
    file = io.BytesIO()
    np.savez(file, image=STAMP)
    return file.getvalue()


def event(url):
    return Event("S", 1, 150.0, 20.0, "r", stamp=StampAddress(url))


async def reason_of(fetching):
    with pytest.raises(DecodeError) as caught:
        await fetching
    return caught.value.reason


async def in_parts(request, body, parts=4):
    """An answer that does not come at once."""
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    step = len(body) // parts + 1
    for at in range(0, len(body), step):
        await response.write(body[at : at + step])
        await asyncio.sleep(0.02)
    return response


@pytest.fixture
async def server():
    """`/bucket/...` is an S3 of path style; everything lies at `a.npz` and `large`."""

    async def answer(request):
        match request.path.rsplit("/", 1)[1]:
            case "a.npz" | "100% a?b.npz":
                return await in_parts(request, npz())
            case "large":
                return await in_parts(request, bytes(1 << 20))
            case "cut":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b"only this")
                request.transport.close()
                return response
        text = "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"
        return web.Response(status=404, text=text, content_type="application/xml")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    """The server as the S3 that AWS's tools find."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": server,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": str(tmp_path / "absent"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "absent"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return "s3://bucket/stamps"


async def test_an_object_that_comes_in_parts_is_read_to_its_end(s3):
    resolver = Resolver(allow=[s3])
    found = await resolver.resolve(event(f"{s3}/a.npz"))
    np.testing.assert_array_equal(found.image, STAMP[:, 4:36, 4:36])
    named = await resolver.resolve(event(f"{s3}/100% a?b.npz"))
    np.testing.assert_array_equal(named.image, STAMP[:, 4:36, 4:36])
    await resolver.close()


async def test_an_object_that_cannot_be_read_says_why(s3):
    fetcher = Fetcher([s3, "s3://b"], 1 << 16)
    with pytest.raises(DecodeError, match="NoSuchKey") as caught:
        await fetcher.fetch(f"{s3}/absent")
    assert caught.value.reason == "unreadable"
    assert await reason_of(fetcher.fetch(f"{s3}/large")) == "too_large"
    assert await reason_of(fetcher.fetch(f"{s3}/cut")) == "unreadable"
    assert await reason_of(fetcher.fetch("s3://b/no bucket has one letter")) == "unreadable"
    await fetcher.close()


async def test_no_credentials_make_an_object_unreadable(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fetcher = Fetcher([s3], 1 << 16)
    assert await reason_of(fetcher.fetch(f"{s3}/a.npz")) == "unreadable"
    await fetcher.close()


async def test_an_npz_is_told_by_its_first_bytes(server, tmp_path):
    """A signed address has its signature behind the name; a file may have any name."""
    (tmp_path / "stamp").write_bytes(npz())
    resolver = Resolver(allow=[server, str(tmp_path)])
    for url in (f"{server}/a.npz?X-Amz-Signature=00", str(tmp_path / "stamp")):
        found = await resolver.resolve(event(url))
        np.testing.assert_array_equal(found.image, STAMP[:, 4:36, 4:36])
    await resolver.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://[x",
        "/stamps/a\0.npz",
        "file:///stamps/a%00.npz",
        "https://host/stamps/.\t./secret",
        "https://host/stamps/\n",
        "https://host/stamps/\x7f",
    ],
)
async def test_what_is_no_address_is_a_bad_notice(url):
    resolver = Resolver(allow=["/stamps", "https://host/stamps", "https://"])
    assert await reason_of(resolver.resolve(event(url))) == "bad_notice"


@pytest.mark.parametrize("prefix", ["https://[x", "/stamps\0"])
def test_a_prefix_that_is_none_is_an_error_of_the_settings(prefix):
    with pytest.raises(SourceError, match=r"ingest\.allow"):
        Fetcher([prefix], 1)


async def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    fetcher = Fetcher([str(tmp_path)], 10)
    (tmp_path / "large").write_bytes(bytes(11))
    assert await reason_of(fetcher.fetch(str(tmp_path / "circle"))) == "unreadable"
    assert await reason_of(fetcher.fetch(str(tmp_path))) == "unreadable"
    assert await reason_of(fetcher.fetch(str(tmp_path / ("x" * 5000)))) == "unreadable"
    assert await reason_of(fetcher.fetch(str(tmp_path / "\udcff"))) == "unreadable"
    assert await reason_of(fetcher.fetch(str(tmp_path / "large"))) == "too_large"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from(["", "file://", "https://", "ftp:", "https://[", "//", "~", "/"]),
    end=st.text(max_size=12),
)
async def test_no_address_raises_anything_else(start, end):
    with suppress(DecodeError, AddressRefused):
        await Fetcher(["/no/such/folder", "https://host/stamps"], 10).fetch(start + end)
