"""From bytes to events: what is good decodes, what is not says why, nothing else happens."""

import gzip
import io
import json
import time
import tracemalloc
import zlib
from contextlib import suppress

import cramjam
import fastavro
import packets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import bounded
from ingest.codecs import Decoder, ocf
from ingest.errors import DecodeError
from ingest.schemas import FolderSchemas, MemorySchemas, open_schemas


@pytest.fixture
def decoder():
    return Decoder(MemorySchemas(), max_bytes=1 << 22)


async def reason_of(decoder, body, **headers):
    with pytest.raises(DecodeError) as caught:
        await decoder.decode(packets.delivery(body, **headers))
    assert caught.value.detail
    return caught.value.reason


async def test_a_notice_becomes_an_event(decoder):
    notice = packets.notice(object="NGC 1", time="2026-11-23T00:00:00", bands=tuple("ugriz"))
    event = await decoder.decode(packets.delivery(notice.to_bytes()))
    assert event.alert_id == notice.id > 2**53
    assert event.source_id == notice.id
    assert event.survey == "TEST"
    assert event.object_id == "NGC 1"
    assert event.mjd_tai == pytest.approx(61367.0 + 37 / 86400, abs=1e-6)
    assert event.magnitudes == notice.magnitudes


async def test_a_ztf_packet_becomes_an_event(decoder):
    event = await decoder.decode(packets.delivery(packets.ztf_packet(1)))
    assert event.survey == "ZTF"
    assert event.alert_id == event.source_id == 3_000_000_000_015_000_001
    assert event.object_id == "SIM260000001"
    assert event.stamp is None
    assert event.not_applicable is None


async def test_a_solar_system_object_is_not_applicable(decoder):
    event = await decoder.decode(packets.delivery(packets.ztf_packet(0)))
    assert event.not_applicable == "solar_system"


async def test_the_same_packet_in_another_container_has_the_same_key(decoder):
    packet = packets.ztf_packet()
    with io.BytesIO(packet) as file:
        reader = fastavro.reader(file)
        (record,), schema = list(reader), reader.writer_schema
    packed = io.BytesIO()
    fastavro.writer(packed, schema, [record], codec="deflate", sync_marker=bytes(16))
    first, second = [
        await decoder.decode(packets.delivery(body)) for body in (packet, packed.getvalue())
    ]
    assert packed.getvalue() != packet
    assert first.key("m") == second.key("m")


async def test_a_corrected_packet_and_another_model_have_keys_of_their_own(decoder):
    first, second = [
        await decoder.decode(packets.delivery(packets.notice(1, dec=dec).to_bytes()))
        for dec in (1.0, 1.1)
    ]
    assert first.key("m") != second.key("m")
    assert first.key("m") != first.key("other")


BAD = {
    "not an event": (b"hello", "unknown_format"),
    "nothing": (b"", "unknown_format"),
    "a float id": (b'{"id": 1.5e18, "survey": "S", "ra": 1, "dec": 1}', "bad_notice"),
    "an id that is true": (b'{"id": true, "survey": "S", "ra": 1, "dec": 1}', "bad_notice"),
    "no position": (b'{"id": 1, "survey": "S"}', "bad_notice"),
    "a position off the sky": (b'{"id": 1, "survey": "S", "ra": 400, "dec": 1}', "bad_notice"),
    "a misspelt field": (b'{"id": 1, "survey": "S", "ra": 1, "dec": 1, "rae": 1}', "bad_notice"),
    "half a notice": (b'{"id": 1, "survey', "bad_notice"),
    "not base64": (
        b'{"id":1,"survey":"S","ra":1,"dec":1,"stamp":{"encoding":"npz","data":"%%%"}}',
        "bad_notice",
    ),
    "four magnitudes": (
        b'{"id":1,"survey":"S","ra":1,"dec":1,"magnitudes":[1,2,3,4]}',
        "bad_notice",
    ),
    "not a date": (b'{"id":1,"survey":"S","ra":1,"dec":1,"time":"soon"}', "bad_notice"),
    "an unknown writer schema": (b"\x00\x00\x00\x03\xe8abc", "unknown_schema"),
    "a frame without a record": (b"\x00\x00\x00", "truncated"),
    "an empty container": (b"Obj\x01", "truncated"),
    "a container of something else": (packets.container([{"n": 1, "data": b""}]), "unknown_format"),
    "a container of two": (packets.container([{"n": 1, "data": b""}] * 2), "bad_datum"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_not_an_event_says_why(decoder, name):
    body, reason = BAD[name]
    assert await reason_of(decoder, body) == reason


async def test_a_packet_over_the_limit_is_too_large():
    small = Decoder(MemorySchemas(), max_bytes=1000)
    assert await reason_of(small, packets.ztf_packet()) == "too_large"


async def test_stamps_that_are_not_fits_are_named(decoder):
    packet = packets.ztf_packet(1)
    with io.BytesIO(packet) as file:
        reader = fastavro.reader(file)
        (record,), schema = list(reader), reader.writer_schema
    record["cutoutTemplate"]["stampData"] = b"\xff\xd8\xff\xe0 a JPEG"
    changed = io.BytesIO()
    fastavro.writer(changed, schema, [record])
    with pytest.raises(DecodeError, match="cutoutTemplate") as caught:
        await decoder.decode(packets.delivery(changed.getvalue()))
    assert caught.value.reason == "bad_stamp"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_damage_never_raises_anything_else(data):
    """Cut anywhere, change any byte, of any format."""
    decoder = Decoder(MemorySchemas(), max_bytes=1 << 20)
    body = bytearray(
        data.draw(st.sampled_from([packets.ztf_packet(), packets.notice().to_bytes()]))
    )
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(body[: data.draw(st.integers(0, len(body)))])
    with suppress(DecodeError):
        await decoder.decode(packets.delivery(body))


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_a_container_is_cut_into_the_bytes_of_its_records(codec):
    records = [{"n": n, "data": bytes([n]) * n * 10} for n in range(200)]
    whole = ocf.read(packets.container(records, codec, sync_interval=1000))
    assert whole.count() == 200
    for (datum, record), expected in zip(whole.records(1 << 20), records, strict=True):
        assert record == expected
        alone = ocf.read(ocf.single(whole, datum))
        assert list(alone.records(1 << 20)) == [(datum, expected)]


def bomb(size):
    """`size` zeros, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = bytes(1 << 20)
    return b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()


def test_a_bomb_costs_no_more_than_its_limit():
    """Ten gigabytes of zeros in ten megabytes; the stream repeats one packed gigabyte."""
    packed = bomb(1 << 30)
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(DecodeError, match="expands to more"):
        bounded.inflate(packed * 10, 1 << 20)
    with pytest.raises(DecodeError, match="expands to more"):
        bounded.gunzip(gzip.compress(bytes(1 << 26)), 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 << 20
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("codec", ["deflate", "snappy"])
async def test_a_packet_that_is_a_bomb_is_too_large(decoder, codec):
    body = packets.container([{"n": 1, "data": bytes(1 << 23)}], codec)
    assert len(body) < 1 << 20
    assert await reason_of(decoder, body) == "too_large"


def test_snappy_blocks_are_checked():
    packed = bytes(cramjam.snappy.compress_raw(b"data" * 100))
    good = packed + zlib.crc32(b"data" * 100).to_bytes(4, "big")
    assert bounded.unsnappy(good, 1000) == b"data" * 100
    with pytest.raises(DecodeError, match="checksum"):
        bounded.unsnappy(packed + b"\0\0\0\0", 1000)


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "record", "name": "e", "fields": []},
        {"type": "fixed", "name": "f", "size": 0},
    ],
)
def test_a_schema_of_endless_nothing_is_refused(items):
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "a", "type": {"type": "array", "items": items}}],
    }
    with pytest.raises(DecodeError, match="array of nothing"):
        ocf.parse_schema(json.dumps(schema).encode())


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


async def test_a_registry_is_asked_once(aiohttp_registry):
    url, asked = aiohttp_registry
    schemas = open_schemas(None, url)
    for _ in range(3):
        assert (await schemas.get(1100))["name"] == "thing"
    assert asked == ["/schemas/ids/1100"]
    await schemas.close()


@pytest.fixture
async def aiohttp_registry():
    from aiohttp import web

    asked = []

    async def answer(request):
        asked.append(request.path)
        schema = {"type": "record", "name": "thing", "fields": []}
        return web.json_response({"schema": json.dumps(schema)})

    app = web.Application()
    app.router.add_get("/schemas/ids/{id}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


@pytest.mark.survey_data
async def test_every_lsst_schema_version_decodes(survey_data):
    folder = survey_data / "alerts" / "lsst"
    decoder = Decoder(FolderSchemas(survey_data / "alerts/schemas/lsst"), max_bytes=1 << 22)
    files = sorted(folder.rglob("*.avro"))
    events = [await decoder.decode(packets.delivery(each.read_bytes())) for each in files]
    assert len(events) == 66
    assert {event.survey for event in events} == {"LSST"}
    assert {event.schema_id for event in events} >= {"700", "701", "900", "1000", "1100", "1101"}
    named = {
        int(path.stem.rsplit("_", 1)[1]): event
        for path, event in zip(files, events, strict=True)
        if path.stem.startswith(("or4", "fink"))
    }
    assert all(event.alert_id == number for number, event in named.items())
