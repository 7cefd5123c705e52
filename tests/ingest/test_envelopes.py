"""What messages are wrapped in, and what lies behind the wrapping."""

import base64
import itertools
import json

import packets
import pytest
from aiobotocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st
from parts.aws import ACCESS
from parts.process import free_port

from ingest.codecs import notice
from ingest.errors import AddressRefused, DecodeError, SourceUnavailable
from ingest.events import StampAddress
from ingest.sources.sqs.contents import Contents
from ingest.sources.sqs.envelopes import Body, NewObject, Pointer, Unreadable, unwrapped
from ingest.sources.sqs.objects import Objects

POINTERS = [
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
]
NUMBERS = itertools.count()
SESSION = get_session()  # one: each reads the descriptions of services anew, which takes a while
NOTICE = packets.notice(1).to_bytes()
SKY = {"ra": "150.25", "dec": "-2.5", "id": "9223372036854775807", "survey": "TEST"}


def record(key="a.avro", event="ObjectCreated:Put", **changed):
    """One record as S3 writes it."""
    thing = {"key": key, "size": 7, "eTag": "d41d8cd9", "sequencer": "0A1B2C3D4E5F678901"}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "eventName": event,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": "night"}, "object": thing | changed},
    }


def notification(*records):
    return json.dumps({"Records": records})


def from_topic(message, attributes=None):
    """What SNS makes of a message."""
    envelope = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:alerts",
        "Message": message,
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "SignatureVersion": "1",
    }
    return json.dumps(envelope | ({"MessageAttributes": attributes} if attributes else {}))


def pointer(bucket="night", key="a b+c", name=POINTERS[0]):
    return json.dumps([name, {"s3BucketName": bucket, "s3Key": key}])


def test_a_plain_body_is_the_event():
    assert unwrapped(NOTICE.decode(), {}) == [Body(NOTICE)]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("in/a+b%2Bc%C3%A9.avro", "in/a b+cé.avro"),
        ("in%2Fa+b.avro", "in/a b.avro"),
        ("100%25.avro", "100%.avro"),
    ],
)
def test_keys_of_a_notification_are_decoded(written, key):
    (content,) = unwrapped(notification(record(written, versionId="v1")), {})
    assert content == NewObject("night", key, "v1", {"s3_size": "7", "s3_eTag": "d41d8cd9"})


def test_each_record_is_an_event_and_keeps_its_place():
    removed = record("gone.avro", "ObjectRemoved:Delete")
    contents = unwrapped(notification(record("a.avro"), removed, record("b.avro")), {})
    assert [each and each.key for each in contents] == ["a.avro", None, "b.avro"]


def test_a_test_of_s3_says_nothing_of_an_image():
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "night"}
    assert unwrapped(json.dumps(test), {}) == [None]
    assert unwrapped(from_topic(json.dumps(test)), {}) == [None]


def test_a_topic_is_unwrapped_whatever_it_carries():
    assert unwrapped(from_topic(NOTICE.decode()), {}) == [Body(NOTICE)]
    assert unwrapped(from_topic(notification(record())), {})[0].key == "a.avro"
    assert unwrapped(from_topic(pointer()), {}) == [Pointer("night", "a b+c")]


def test_a_topic_in_a_topic_is_unwrapped_once():
    inner = from_topic("{}")
    assert unwrapped(from_topic(inner), {}) == [Body(inner.encode())]


@pytest.mark.parametrize("name", ["encoding", "Content-Encoding"])
def test_base64_is_decoded_where_an_attribute_says_so(name):
    text = base64.b64encode(b"Obj\x01\xff").decode()
    assert unwrapped(text, {name: "base64"}) == [Body(b"Obj\x01\xff")]
    assert unwrapped(text, {}) == [Body(text.encode())]
    attributes = {name: {"Type": "String", "Value": "base64"}}
    assert unwrapped(from_topic(text, attributes), {}) == [Body(b"Obj\x01\xff")]
    (content,) = unwrapped("no base64!", {name: "base64"})
    assert "is not" in content.reason


@pytest.mark.parametrize("name", POINTERS)
def test_a_pointer_of_the_extended_client(name):
    assert unwrapped(pointer(name=name), {}) == [Pointer("night", "a b+c")]
    assert isinstance(unwrapped(json.dumps([name, {"s3Key": 7}]), {})[0], Unreadable)
    assert isinstance(unwrapped(json.dumps([name]), {})[0], Unreadable)


def test_a_notification_without_a_place_is_unreadable():
    for broken in ({"s3": 7}, {"s3": {"bucket": {"name": "b"}, "object": {}}}):
        (content,) = unwrapped(notification(record() | broken), {})
        assert "names no bucket and key" in content.reason
    (content,) = unwrapped(notification(*[record()] * 101), {})
    assert "101 objects" in content.reason


WORDS = "Type TopicArn Message MessageAttributes Records s3 bucket name object key eventName Event"
WORDS = [*WORDS.split(), "s3:TestEvent", *POINTERS]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inside | st.sampled_from(["Notification", "s3:TestEvent", "ObjectCreated:Put"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON.map(json.dumps) | st.text())
def test_nothing_in_a_message_is_an_error(text):
    assert unwrapped(text, {"encoding": "base64"})
    assert unwrapped(from_topic(text), {})


# What lies in S3


@pytest.fixture(autouse=True)
def _one_session(monkeypatch):
    monkeypatch.setattr("ingest.sources.sqs.objects.get_session", lambda: SESSION)


@pytest.fixture
async def s3(aws):
    async with SESSION.create_client("s3", endpoint_url=aws, **ACCESS) as client:
        yield client


@pytest.fixture
async def bucket(s3):
    name = f"envelopes-{next(NUMBERS)}"
    await s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def contents(aws, bucket):
    """Opens what lies in the bucket, below `in/`."""
    objects = Objects({"endpoint_url": aws, **ACCESS}, ["/data", f"s3://{bucket}/in/"])
    await objects.open()
    yield Contents(objects, max_bytes=50_000)
    await objects.close()


async def only_part(contents, text):
    (part,) = await contents.parts(text, unwrapped(text, {}))
    return part


def created(bucket, key, **facts):
    made = record(key, **facts)
    made["s3"]["bucket"]["name"] = bucket
    return made


@pytest.mark.parametrize("key", ["in/packet.avro", "in/NOTICE.JSON"])
async def test_an_event_in_s3_is_the_body(s3, bucket, contents, key):
    await s3.put_object(Bucket=bucket, Key=key, Body=NOTICE)
    part = await only_part(contents, notification(created(bucket, key)))
    assert part.body == NOTICE
    assert part.headers == {
        "s3_address": f"s3://{bucket}/{key}",
        "s3_size": "7",
        "s3_eTag": "d41d8cd9",
    }


async def test_a_version_is_read_as_it_was_announced(s3, bucket, contents):
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put = await s3.put_object(Bucket=bucket, Key="in/a.json", Body=b"{1}")
    await s3.put_object(Bucket=bucket, Key="in/a.json", Body=b"{2}")
    announced = created(bucket, "in/a.json", versionId=put["VersionId"])
    assert (await only_part(contents, notification(announced))).body == b"{1}"


@pytest.mark.parametrize("key", ["in/a.fits", "in/a.npz"])
async def test_an_image_becomes_a_notice_by_its_metadata(s3, bucket, contents, key):
    metadata = SKY | {"object": "host 7", "time": "60676.5"}
    await s3.put_object(Bucket=bucket, Key=key, Body=b"pixels", Metadata=metadata)
    part = await only_part(contents, notification(created(bucket, key)))
    event = notice.decode(part.body, "r")
    assert (event.survey, event.alert_id) == ("TEST", 2**63 - 1)
    assert (event.ra_deg, event.dec_deg, event.mjd_tai) == (150.25, -2.5, 60676.5)
    assert event.object_id == "host 7"
    assert event.stamp == StampAddress(f"s3://{bucket}/{key}")


async def test_names_and_dates_in_metadata_stay_texts(s3, bucket, contents):
    metadata = SKY | {"id": "007", "time": "2026-01-01T00:00:00"}
    await s3.put_object(Bucket=bucket, Key="in/a.npz", Body=b"pixels", Metadata=metadata)
    part = await only_part(contents, notification(created(bucket, "in/a.npz")))
    event = notice.decode(part.body, "r")
    assert event.alert_id == "007"
    assert event.mjd_tai == pytest.approx(61041.0004, abs=1e-3)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({}, "x-amz-meta-id, x-amz-meta-survey, x-amz-meta-ra, x-amz-meta-dec"),
        ({each: SKY[each] for each in ("id", "survey", "ra")}, "no x-amz-meta-dec:"),
        (SKY | {"ra": "400"}, "x-amz-meta-ra: Input should be less than 360"),
        (SKY | {"dec": "north"}, "x-amz-meta-dec: "),
    ],
)
async def test_an_image_without_a_place_on_the_sky_is_unreadable(
    s3, bucket, contents, metadata, why
):
    await s3.put_object(Bucket=bucket, Key="in/a.fits", Body=b"pixels", Metadata=metadata)
    text = notification(created(bucket, "in/a.fits"))
    part = await only_part(contents, text)
    assert why in part.headers["unreadable"]
    assert part.body == text.encode(), "the dead letter keeps the message"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("in/none.avro", "in/none.avro: "),
        ("out/a.avro", "below no prefix of ingest.allow"),
        ("in/../out/a.avro", "below no prefix of ingest.allow"),
        ("in/large.avro", "more than 50000 bytes"),
        ("in/notes.txt", "ends in none of .avro, .json, .fits, .npz"),
    ],
)
async def test_an_object_that_cannot_be_had_is_unreadable(s3, bucket, contents, key, why):
    for there in ("out/a.avro", "in/notes.txt"):
        await s3.put_object(Bucket=bucket, Key=there, Body=b"x")
    await s3.put_object(Bucket=bucket, Key="in/large.avro", Body=bytes(50_001))
    text = notification(created(bucket, key))
    part = await only_part(contents, text)
    assert why in part.headers["unreadable"]
    assert part.body == text.encode()


async def test_all_objects_of_a_message_share_its_limit(s3, bucket, contents):
    await s3.put_object(Bucket=bucket, Key="in/a.avro", Body=bytes(30_000))
    text = notification(*[created(bucket, "in/a.avro")] * 2)
    first, second = await contents.parts(text, unwrapped(text, {}))
    assert len(first.body) == 30_000
    assert "more than 20000 bytes" in second.headers["unreadable"]


async def test_a_large_body_is_fetched(s3, bucket, contents):
    await s3.put_object(Bucket=bucket, Key="in/f3b1", Body=base64.b64encode(b"Obj\x01\xff"))
    part = await only_part(contents, from_topic(pointer(bucket, "in/f3b1")))
    assert part.body == base64.b64encode(b"Obj\x01\xff")
    (part,) = await contents.parts(
        "", unwrapped(pointer(bucket, "in/f3b1"), {"encoding": "base64"})
    )
    assert part.body == b"Obj\x01\xff"
    assert part.headers == {"s3_address": f"s3://{bucket}/in/f3b1"}


async def test_without_an_allow_list_no_object_is_read(aws, s3, bucket):
    await s3.put_object(Bucket=bucket, Key="in/a.avro", Body=b"x")
    objects = Objects({"endpoint_url": aws, **ACCESS}, [])
    await objects.open()
    with pytest.raises(AddressRefused, match="no prefix of"):
        await objects.read(bucket, "in/a.avro", None, 100)
    await objects.close()


async def test_what_may_succeed_later_is_told_from_what_will_not(aws, bucket):
    there = Objects({"endpoint_url": aws, **ACCESS}, ["s3://"])
    away = Objects({"endpoint_url": f"http://127.0.0.1:{free_port()}", **ACCESS}, ["s3://b"])
    for each in (there, away):
        await each.open()
    with pytest.raises(DecodeError, match="unreadable"):
        await there.metadata(bucket, "none", None)
    with pytest.raises(SourceUnavailable, match="cannot be read now"):
        await away.metadata("b", "a.npz", None)
    for each in (there, away):
        await each.close()
