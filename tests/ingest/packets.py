"""Packets, notices and events for tests."""

import io

import fastavro
import numpy as np
import pytest

from dispatcher.demo import one_band_alerts
from ingest.codecs import ocf
from ingest.codecs.notice import InlineImage, NewImage
from ingest.errors import NotApplicable
from ingest.events import Delivery, Event, Position


def ztf_packet(number=0):
    """A simulated packet in ZTF's form."""
    return one_band_alerts(number + 1, seed=1)[number]


def changed(packet, change):
    """The packet once more, when `change` has been done to its record."""
    reader = fastavro.reader(io.BytesIO(packet))
    (record,), schema = list(reader), reader.writer_schema
    change(record)
    written = io.BytesIO()
    fastavro.writer(written, schema, [record])
    return written.getvalue()


def in_schema(schema, datum):
    """A container of one record whose bytes are `datum`; `schema` is JSON text."""
    return ocf.single(ocf.Container(schema, "null", bytes(16), b""), datum)


_ANYTHING = ["null", "boolean", "long", "double", "string", "bytes"]
_ANYTHING += [{"type": "array", "items": _ANYTHING[:]}, {"type": "map", "values": _ANYTHING[:]}]


def ztf_form(candidate, **fields):
    """A packet in ZTF's form whose own schema lets each field hold anything."""

    def record_of(name, values):
        fields = [{"name": key, "type": _ANYTHING} for key in values if key != "candidate"]
        return {"type": "record", "name": name, "fields": fields}

    schema = record_of("alert", fields)
    schema["fields"].append({"name": "candidate", "type": record_of("candidate", candidate)})
    written = io.BytesIO()
    fastavro.writer(written, fastavro.parse_schema(schema), [{**fields, "candidate": candidate}])
    return written.getvalue()


def notice(number=1, **changed):
    image = np.random.default_rng(number).normal(size=(5, 40, 40)).astype(np.float32)
    fields = {
        "id": 2**63 - 1 - number,
        "survey": "TEST",
        "ra": 10.0,
        "dec": -5.0,
        "magnitudes": (20.0, 19.0, 18.0, 17.5, 17.2),
        "stamp": InlineImage.of_pixels(image),
    }
    return NewImage(**{**fields, **changed})


def of_each_form():
    """A good event of each form, by name: it decodes, and no damage to it does any harm."""
    return {
        "ztf": ztf_packet(),
        "notice": notice().to_bytes(),
    }


def delivery(body, **headers):
    return Delivery(Position("test", "p", 0), body, 0.0, headers)


def container(records, codec="null", **options):
    """An Avro container of small records."""
    schema = {
        "type": "record",
        "name": "thing",
        "fields": [{"name": "n", "type": "long"}, {"name": "data", "type": "bytes"}],
    }
    packet = io.BytesIO()
    fastavro.writer(packet, fastavro.parse_schema(schema), records, codec=codec, **options)
    return packet.getvalue()


def event(stamp=None, **changed):
    fields = {"survey": "S", "alert_id": 1, "ra_deg": 150.0, "dec_deg": 20.0, "revision": "r"}
    return Event(**{**fields, "stamp": stamp, **changed})


async def why_not(resolver, asked):
    with pytest.raises(NotApplicable) as caught:
        await resolver.resolve(asked)
    return caught.value.reason
