"""Events that are kept elsewhere: from where they are read, and what is believed."""

import json

import pytest
from kept import bucket

from workers import payload
from workers.errors import PayloadError


@pytest.fixture
def kept(monkeypatch):
    with bucket() as made:
        monkeypatch.setenv("LOOKBACK_PAYLOADS", f"https://elsewhere/ {made.url}/")
        yield made


EVENT = {"partition": {"ids": ["a"]}}
RAW = json.dumps(EVENT).encode()


def test_an_event_is_itself():
    assert payload.resolved(EVENT, 1.0) is EVENT


def test_an_address_is_the_event_that_lies_there(kept):
    kept.objects["/both"] = b"-" * 100 + RAW + b"+" * 100
    at = kept.address("/both", RAW, start=100)
    assert payload.resolved({"at": at}, 5.0) == EVENT
    assert kept.requests == [("/both", 100, 100 + len(RAW) - 1)], "no more than what is its own"


def test_a_server_that_stumbles_is_asked_again(kept):
    kept.objects["/it"], kept.broken = RAW, 2
    assert payload.read(kept.address("/it", RAW), 5.0) == RAW


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "https://example.org/it"}, "no address that this function may read"),
        ({"url": "file:///etc/passwd"}, "no address that this function may read"),
        ({"sha256": "0" * 64}, "is not what was kept there"),
        ({"length": 0}, "of 0 bytes"),
        ({"length": 2**40}, "are the most"),
        ({"start": -1}, "are the most"),
        ({"start": "x"}, "cannot be read"),
        ({"length": 5000}, "instead of 5000"),
    ],
)
def test_what_is_no_honest_address_is_refused(kept, change, words):
    kept.objects["/it"] = RAW
    with pytest.raises(PayloadError, match=words):
        payload.resolved({"at": {**kept.address("/it", RAW), **change}}, 2.0)


def test_what_is_gone_is_said_without_its_signature(kept):
    with pytest.raises(PayloadError, match="HTTP 403") as caught:
        payload.read(kept.address("/gone", RAW), 2.0)
    assert "secret" not in str(caught.value)
    assert kept.url in str(caught.value)


def test_nobody_is_led_elsewhere(kept):
    with pytest.raises(PayloadError, match="HTTP 302"):
        payload.read(kept.address("/moved", RAW), 2.0)


def test_without_a_list_nothing_is_read(kept, monkeypatch):
    monkeypatch.delenv("LOOKBACK_PAYLOADS")
    kept.objects["/it"] = RAW
    with pytest.raises(PayloadError, match="LOOKBACK_PAYLOADS"):
        payload.read(kept.address("/it", RAW), 2.0)


def test_plain_http_is_read_from_this_machine_only(monkeypatch):
    monkeypatch.setenv("LOOKBACK_PAYLOADS", "http://bucket.example/")
    at = {"url": "http://bucket.example/it", "length": 3, "sha256": "0" * 64}
    with pytest.raises(PayloadError, match="not https"):
        payload.read(at, 2.0)


@pytest.mark.parametrize("raw", [b"[1]", b"no json", b"\xff"])
def test_what_is_no_event_is_refused(kept, raw):
    kept.objects["/it"] = raw
    with pytest.raises(PayloadError, match="is no"):
        payload.resolved({"at": kept.address("/it", raw)}, 2.0)
