"""Where writer schemas come from: a folder, a registry, and what happens when it fails."""

import asyncio
import json

import pytest
from aiohttp import web

from ingest import schemas as tested
from ingest.errors import DecodeError
from ingest.schemas import MemorySchemas, open_schemas

LARGE = {
    "type": "record",
    "name": "thing",
    "fields": [{"name": f"f{n}", "type": "int", "doc": "x" * 80} for n in range(3000)],
}


@pytest.fixture
async def registry():
    """A registry that counts its questions. It answers with what `answers` holds."""
    asked, answers = [], {}

    async def answer(request):
        asked.append(request.path)
        given = answers.get(request.match_info["id"], web.HTTPNotFound())
        if callable(given):
            return await given(request)
        raise given

    app = web.Application()
    app.router.add_get("/schemas/ids/{id}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, reuse_address=True).start()
    schemas = open_schemas(None, f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield schemas, asked, answers
    await schemas.close()
    await runner.cleanup()


async def in_parts(request):
    """A large schema that arrives bit by bit."""
    body = json.dumps({"schema": json.dumps(LARGE)}).encode()
    response = web.StreamResponse()
    await response.prepare(request)
    for at in range(0, len(body), len(body) // 5 + 1):
        await response.write(body[at : at + len(body) // 5 + 1])
        await asyncio.sleep(0.01)
    return response


def text(given):
    async def answer(_):
        return web.Response(text=given)

    return answer


async def test_schemas_come_from_the_first_that_has_them(tmp_path):
    schema = {"type": "record", "name": "lsst.v9_9.alert", "fields": [{"name": "x", "type": "int"}]}
    (tmp_path / "9" / "9").mkdir(parents=True)
    (tmp_path / "9" / "9" / "lsst.v9_9.alert.avsc").write_text(json.dumps(schema))
    schemas = open_schemas(tmp_path, "http://127.0.0.1:9")
    assert (await schemas.get(909))["name"] == "lsst.v9_9.alert"
    with pytest.raises(DecodeError, match=r"910.*registry.*910") as caught:
        await schemas.get(910)
    assert caught.value.reason == "unknown_schema"
    await schemas.close()


async def test_a_large_schema_is_read_to_its_end_and_asked_for_once(registry):
    schemas, asked, answers = registry
    answers["1100"] = in_parts
    found = await asyncio.gather(*(schemas.get(1100) for _ in range(3)))
    assert len(found[0]["fields"]) == 3000
    assert found[0] is found[1] is found[2]
    assert asked == ["/schemas/ids/1100"]


async def test_a_number_that_failed_is_not_asked_for_again_at_once(registry, monkeypatch):
    schemas, asked, answers = registry
    for _ in range(3):
        with pytest.raises(DecodeError, match="404"):
            await schemas.get(7)
    assert len(asked) == 1
    monkeypatch.setattr(tested, "_SILENCE_S", 0.0)
    answers["7"] = in_parts
    assert (await schemas.get(7))["name"] == "thing"


async def test_a_broken_connection_is_tried_again(registry):
    schemas, asked, answers = registry

    async def breaks_twice(request):
        if len(asked) < 3:
            request.transport.close()
        return await in_parts(request)

    answers["7"] = breaks_twice
    assert (await schemas.get(7))["name"] == "thing"
    assert len(asked) == 3


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": 7}',
        '{"schema": "7"}',
        json.dumps({"schema": json.dumps({**LARGE, "fields": [{"name": "x", "type": "thing"}]})}),
        " " * (4 * 1024 * 1024 + 1),
    ],
    ids=["nothing", "half", "list", "none", "number", "no record", "recursive", "too large"],
)
async def test_an_answer_that_is_no_schema_is_an_unknown_one(registry, body):
    schemas, _, answers = registry
    answers["7"] = text(body)
    with pytest.raises(DecodeError) as caught:
        await schemas.get(7)
    assert caught.value.reason == "unknown_schema"


async def test_forged_numbers_do_not_fill_the_memory(registry):
    schemas, *_ = registry
    for number in range(300):
        with pytest.raises(DecodeError):
            await schemas.get(number)
    (part,) = schemas._parts
    assert len(part._failed) == 256


@pytest.mark.parametrize("content", ["{", '{"type": "record", "name": "r"}', "[]"])
async def test_a_file_that_is_no_schema_is_an_unknown_one(tmp_path, content):
    (tmp_path / "1" / "0").mkdir(parents=True)
    (tmp_path / "1" / "0" / "lsst.v1_0.alert.avsc").write_text(
        content.replace('"r"}', '"r", "fields": [{"name": "f", "type": "r"}]}')
    )
    with pytest.raises(DecodeError) as caught:
        await open_schemas(tmp_path, None).get(100)
    assert caught.value.reason == "unknown_schema"


def test_given_schemas_are_checked_as_any():
    with pytest.raises(DecodeError, match="recursive"):
        MemorySchemas({1: {**LARGE, "fields": [{"name": "x", "type": "thing"}]}})
