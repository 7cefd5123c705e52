"""What a message may be wrapped in: SNS, S3's notifications, pointers to large bodies, base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

ENCODINGS: Final = ("encoding", "Content-Encoding")
"""Message attributes that may say that a body is base64."""

MAX_RECORDS: Final = 100
"""Most objects that one notification may name; S3 itself names one."""

# Without one of these a body is no envelope, and need not be parsed twice.
_MARKS: Final = ('"TopicArn"', '"s3:TestEvent"', '"Records"', 'S3Pointer"')
_POINTERS: Final = (
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
)


@dataclass(frozen=True, slots=True)
class Body:
    """The event itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pointer:
    """The body lies in S3, because it was too large for a message. `encoded`: in base64."""

    bucket: str
    key: str
    encoded: bool = False


@dataclass(frozen=True, slots=True)
class NewObject:
    """S3 says that there is a new object. `facts`: what else it says, as headers."""

    bucket: str
    key: str
    version: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It cannot be told what the message says, and why."""

    reason: str


Content = Body | Pointer | NewObject | Unreadable | None
"""What one event of a message is; None says nothing of a new image."""


def unwrapped(text: str, attributes: Mapping[str, str]) -> list[Content]:
    """What a message holds, in its order: one content, or one for each record of a notification.

    `attributes`: the message's own.
    """
    value = _envelope(text)
    if isinstance(value, dict) and value.get("Type") == "Notification":
        inside = value.get("Message")
        if "TopicArn" in value and isinstance(inside, str):
            # Once: a topic never wraps what another topic has wrapped.
            text, attributes = inside, _attributes(value)
            value = _envelope(text)
    if isinstance(value, dict) and value.get("Event") == "s3:TestEvent":
        return [None]
    encoded = any(attributes.get(each, "").lower() == "base64" for each in ENCODINGS)
    if _is_notification(value):
        return _records(value["Records"])
    if isinstance(value, list) and value and value[0] in _POINTERS:
        return [_pointer(value, encoded)]
    return [decoded(text.encode(), encoded)]


def decoded(data: bytes, encoded: bool) -> Body | Unreadable:
    """A body, out of base64 where it is in it."""
    if not encoded:
        return Body(data)
    try:
        return Body(base64.b64decode(data, validate=True))
    except binascii.Error as error:
        return Unreadable(f"the message says that it is base64, and is not ({error})")


def _envelope(text: str) -> Any:
    if not any(mark in text for mark in _MARKS):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # no envelope: decoding will say what is wrong with it


def _attributes(notification: Mapping[str, Any]) -> dict[str, str]:
    """The attributes that a publisher set, as SNS writes them into its envelope."""
    given = notification.get("MessageAttributes")
    return {
        name: each["Value"]
        for name, each in (given.items() if isinstance(given, dict) else ())
        if isinstance(each, dict) and isinstance(each.get("Value"), str)
    }


def _is_notification(value: Any) -> bool:
    records = value.get("Records") if isinstance(value, dict) else None
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(each, dict) and "s3" in each for each in records)
    )


def _records(records: list[dict[str, Any]]) -> list[Content]:
    if len(records) > MAX_RECORDS:
        return [Unreadable(f"a notification of {len(records)} objects: at most {MAX_RECORDS}")]
    return [_record(each) for each in records]


def _record(record: Mapping[str, Any]) -> Content:
    # "ObjectCreated:Put", and "s3:ObjectCreated:Put" from other makers of S3.
    if "ObjectCreated:" not in str(record.get("eventName")):
        return None
    try:
        bucket, thing = record["s3"]["bucket"]["name"], record["s3"]["object"]
        key, version = thing["key"], thing.get("versionId")
        facts = {f"s3_{name}": str(thing[name]) for name in ("size", "eTag") if name in thing}
    except (KeyError, TypeError, AttributeError):
        return Unreadable("a notification of S3 that names no bucket and key")
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        return Unreadable("a notification of S3 that names no bucket and key")
    return NewObject(bucket, unquote_plus(key), version and str(version), facts)


def _pointer(value: list[Any], encoded: bool) -> Pointer | Unreadable:
    place = value[1] if len(value) > 1 and isinstance(value[1], dict) else {}
    bucket, key = place.get("s3BucketName"), place.get("s3Key")
    if isinstance(bucket, str) and isinstance(key, str) and bucket and key:
        return Pointer(bucket, key, encoded)
    return Unreadable("a pointer to a large body that names no bucket and key")
