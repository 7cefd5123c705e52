"""From bytes to events: what is good decodes, what is not says why, nothing else happens."""

import gzip
import io
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
from ingest.codecs import Decoder, fields, ocf
from ingest.errors import DecodeError
from ingest.schemas import FolderSchemas, MemorySchemas


@pytest.fixture
def decoder():
    return Decoder(MemorySchemas(), max_bytes=1 << 22)


async def reason_of(decoder, body, **headers):
    with pytest.raises(DecodeError) as caught:
        await decoder.decode(packets.delivery(body, **headers))
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("form", packets.of_each_form())
async def test_an_event_of_each_form_has_an_identity_and_a_place(decoder, form):
    body = packets.of_each_form()[form]
    event = await decoder.decode(packets.delivery(body))
    assert event.survey and event.revision
    assert isinstance(event.alert_id, int | str)
    assert 0 <= event.ra_deg < 360 and -90 <= event.dec_deg <= 90
    assert event.key("m") == (await decoder.decode(packets.delivery(body))).key("m")


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
    packet = packets.changed(packets.ztf_packet(1), lambda record: record.update(ZTF))
    event = await decoder.decode(packets.delivery(packet))
    assert event.survey == "ZTF"
    assert event.alert_id == event.source_id == 3_000_000_000_015_000_001
    assert event.object_id == "ZTF18abudxnw"
    assert event.bands == ("r",)
    assert event.stamp is None
    assert event.not_applicable is None


ZTF = {"publisher": "ZTF (www.ztf.caltech.edu)", "objectId": "ZTF18abudxnw"}
PLACE = {"ra": 10.0, "dec": -5.0, "fid": 2, "jd": 2460000.5}
FIELDS = {"candid": 3_000_000_000_015_000_001, "objectId": "ZTF18abudxnw", "publisher": "ZTF"}


@pytest.mark.parametrize(
    ("named", "survey", "bands"),
    [
        ({"publisher": "ZTF (www.ztf.caltech.edu)", "objectId": "x"}, "ZTF", ("r",)),
        ({"publisher": "Fink", "objectId": "ZTF26aamcbly"}, "ZTF", ("r",)),
        ({"publisher": None, "objectId": "ZTF18aaaaaac"}, "ZTF", ("r",)),
        ({"objectId": "ZTF18aaaaaac"}, "ZTF", ("r",)),
        ({"publisher": "DESIRT", "objectId": "c4d_260708"}, "DECam", ()),
        ({"publisher": "WINTER-mirar", "objectid": "x"}, "WINTER", ()),
        ({"publisher": "a broker", "objectid": "WNTR24awati"}, "WINTER", ()),
        ({"publisher": " Another ", "objectId": "A1"}, "Another", ()),
    ],
)
async def test_a_packet_in_ztf_s_form_is_of_the_survey_that_it_says(decoder, named, survey, bands):
    body = packets.ztf_form(PLACE, candid=1, **named)
    event = await decoder.decode(packets.delivery(body))
    assert (event.survey, event.bands) == (survey, bands)


@pytest.mark.parametrize("named", [{"objectId": "A1"}, {"publisher": " ", "objectId": "A1"}])
async def test_a_packet_that_names_no_survey_is_of_none(decoder, named):
    body = packets.ztf_form(PLACE, candid=1, **named)
    assert await reason_of(decoder, body) == "unknown_format"


@pytest.mark.parametrize(
    "place",
    [
        {"ra": float("nan")},
        {"ra": float("inf")},
        {"ra": 360.0},
        {"ra": -1e-9},
        {"ra": "10"},
        {"ra": None},
        {"dec": 95.0},
        {"dec": float("-inf")},
        {"dec": True},
        {"jd": "yesterday"},
        {"ssdistnr": "far"},
        {"band": {"name": 1}},
    ],
    ids=str,
)
async def test_a_packet_off_the_sky_or_with_other_types_is_a_bad_datum(decoder, place):
    body = packets.ztf_form({**PLACE, **place}, **FIELDS)
    assert await reason_of(decoder, body) == "bad_datum"


@pytest.mark.parametrize("candid", [float("inf"), 1.5e18, "17", True, None, [1]], ids=repr)
async def test_an_id_that_is_no_integer_is_a_bad_datum(decoder, candid):
    body = packets.ztf_form(PLACE, **{**FIELDS, "candid": candid})
    assert await reason_of(decoder, body) == "bad_datum"


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, False, 1.0, "1"])
def test_ids_of_packets_are_integers_of_64_bits(value):
    assert fields.identifier({"id": -(2**63)}, "id") == -(2**63)
    with pytest.raises(DecodeError, match="id should be a 64-bit integer"):
        fields.identifier({"id": value}, "id")


async def test_an_id_of_a_notice_beyond_64_bits_is_kept_as_it_is(decoder):
    for number, source_id in ((-(2**63), -(2**63)), (2**63, None)):
        body = b'{"id": %d, "survey": "S", "ra": 1, "dec": 1}' % number
        event = await decoder.decode(packets.delivery(body))
        assert (event.alert_id, event.source_id) == (number, source_id)
        assert event.key("m")


@pytest.mark.parametrize("cutout", ["text", 7, True, ["list"], {"stampData": "text"}], ids=repr)
async def test_a_cutout_that_is_no_image_is_a_bad_stamp(decoder, cutout):
    body = packets.ztf_form(PLACE, **FIELDS, cutoutScience=cutout)
    assert await reason_of(decoder, body) == "bad_stamp"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.sampled_from(["ZTF18aaaaaac", "DESIRT", "g", b"\x1f\x8b", 0.5, 1])
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["stampData", "x"]), inner)
    ),
    max_leaves=2,
)


def values_of(*names):
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, VALUES))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    candidate=values_of("ra", "dec", "jd", "mjd", "fid", "band", "ssdistnr"),
    changes=values_of("publisher", "candid", "objectId", "objectid", "schemavsn", "cutoutScience"),
    good=st.booleans(),
)
async def test_values_of_any_type_never_raise_anything_else(candidate, changes, good):
    decoder = Decoder(MemorySchemas(), max_bytes=1 << 20)
    start = (PLACE, FIELDS) if good else ({}, {})
    try:
        body = packets.ztf_form(start[0] | candidate, **(start[1] | changes))
    except ValueError:  # what a union of anything does not hold: a list of lists
        return
    with suppress(DecodeError):
        event = await decoder.decode(packets.delivery(body))
        assert isinstance(event.alert_id, int)
        assert 0 <= event.ra_deg < 360


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
    "a host off the sky": (
        b'{"id":1,"survey":"S","ra":1,"dec":1,"host":{"id":"h","ra":1,"dec":95}}',
        "bad_notice",
    ),
    "a time that is no number": (
        b'{"id":1,"survey":"S","ra":1,"dec":1,"time":NaN}',
        "bad_notice",
    ),
    "a year that is none": (
        b'{"id":1,"survey":"S","ra":1,"dec":1,"time":"99999999-01-01"}',
        "bad_notice",
    ),
    "an id of many digits": (
        b'{"id":%s,"survey":"S","ra":1,"dec":1}' % (b"9" * 5000),
        "bad_notice",
    ),
    "half a character": (b'{"id":"\\ud800","survey":"S","ra":1,"dec":1}', "bad_notice"),
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
    def change(record):
        record["cutoutTemplate"]["stampData"] = b"\xff\xd8\xff\xe0 a JPEG"

    changed = packets.changed(packets.ztf_packet(1), change)
    with pytest.raises(DecodeError, match="cutoutTemplate") as caught:
        await decoder.decode(packets.delivery(changed))
    assert caught.value.reason == "bad_stamp"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_damage_never_raises_anything_else(data):
    """Cut anywhere, change any byte, of any format."""
    decoder = Decoder(MemorySchemas(), max_bytes=1 << 20)
    body = bytearray(data.draw(st.sampled_from(list(packets.of_each_form().values()))))
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
    started = time.process_time()
    with pytest.raises(DecodeError, match="expands to more"):
        bounded.inflate(packed * 10, 1 << 20)
    with pytest.raises(DecodeError, match="expands to more"):
        bounded.gunzip(gzip.compress(bytes(1 << 26)), 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80 << 20
    assert time.process_time() - started < 5


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
