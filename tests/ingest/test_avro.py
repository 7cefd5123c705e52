"""Schemas come from outside, too: one that would never end, or cost too much, is refused."""

import io
import json
import time
from contextlib import suppress

import packets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import avro
from ingest.codecs import Decoder, ocf
from ingest.errors import DecodeError
from ingest.schemas import FolderSchemas, MemorySchemas


def record(*types, name="r"):
    fields = [{"name": f"f{n}", "type": each} for n, each in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields}


def refusal(schema):
    with pytest.raises(DecodeError) as caught:
        avro.schema_of(json.dumps(schema))
    assert caught.value.reason == "bad_schema"
    return caught.value.detail


EMPTY = {"type": "record", "name": "e", "fields": []}


@pytest.mark.parametrize(
    "items",
    [
        "null",
        EMPTY,
        {"type": "fixed", "name": "f", "size": 0},
        record(EMPTY, "e", name="pair"),
        {"type": "record", "name": "wide", "fields": record(*["null"] * 50, "int")["fields"]},
    ],
    ids=str,
)
def test_a_schema_of_endless_nothing_is_refused(items):
    assert "array of nothing" in refusal(record({"type": "array", "items": items}))


def test_an_array_of_an_empty_record_by_its_name_is_refused():
    assert "array of nothing" in refusal(record(EMPTY, {"type": "array", "items": "e"}))


def test_a_map_of_nothing_is_good():
    """Its keys take bytes."""
    schema = avro.parsed(record({"type": "map", "values": "null"}))
    read = avro.next_record(io.BytesIO(b"\x02\x02a\x00"), schema)
    assert read == {"f0": {"a": None}}


@pytest.mark.parametrize(
    "again",
    ["r", ["null", "r"], {"type": "array", "items": "r"}, record("r", name="inner")],
    ids=str,
)
def test_a_schema_that_holds_itself_is_refused(again):
    assert "recursive" in refusal(record("int", again))


def nested(depth):
    schema = "int"
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return record(schema)


def test_nesting_is_bounded():
    avro.parsed(nested(40))
    for depth in (70, 350):
        assert "nested" in refusal(nested(depth))


def test_nesting_by_names_is_bounded():
    chain = [record("int", name="n0")]
    chain += [record(f"n{n}", name=f"n{n + 1}") for n in range(100)]
    assert "nested" in refusal(record(*chain))


def test_records_that_double_with_each_name_are_refused():
    """Two to the sixtieth of nothing, in no bytes."""
    doubling = [record("null", name="n0")]
    doubling += [record(f"n{n}", f"n{n}", name=f"n{n + 1}") for n in range(50)]
    late = {"type": "fixed", "name": "late", "size": 2**62}  # paid for when it is too late
    started = time.process_time()
    assert "takes no bytes" in refusal(record(*doubling))
    assert "takes no bytes" in refusal(record(*doubling, late))
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "schema",
    [
        "string",
        ["null", record("int")],
        {"type": "array", "items": "int"},
        {**record("int"), "type": ["null"]},
        {"type": "record"},
        {},
        7,
        None,
        record({"type": "fixed", "name": "f", "size": -1}),
        record({"type": "fixed", "name": "f", "size": "1"}),
        record({**EMPTY, "name": "array"}, "array"),
        record("absent"),
    ],
    ids=str,
)
def test_what_is_no_schema_of_a_record_is_refused(schema):
    assert refusal(schema)


async def test_a_container_of_no_record_is_a_dead_letter():
    decoder = Decoder(MemorySchemas(), 1 << 20)
    for text in (b'"string"', b'["null", "int"]', b"{", b"[" * 2000, b"\xff"):
        with pytest.raises(DecodeError) as caught:
            await decoder.decode(packets.delivery(packets.in_schema(text, b"\x00")))
        assert caught.value.reason == "bad_schema"


def test_what_fastavro_would_believe_of_itself_is_dropped():
    """Its own mark says that a schema has been checked; a decimal may cost hours."""
    schema = record("int", {"type": "bytes", "logicalType": "decimal", "precision": 4})
    ready = avro.parsed({**schema, "__fastavro_parsed": True, "__named_schemas": {"r": "absent"}})
    assert set(ready["__named_schemas"]) == {"r"}
    read = avro.next_record(io.BytesIO(b"\x02\x02a"), ready)
    assert read == {"f0": 1, "f1": b"a"}


def test_a_block_of_many_records_of_no_bytes_ends():
    schema = json.dumps(EMPTY).encode()
    block = b"\x80\x80\x80\x80\x10" + b"\x00"  # half a thousand million records in no bytes
    container = ocf.Container(schema, "null", bytes(16), block + bytes(16))
    with pytest.raises(DecodeError, match="records of no bytes"):
        list(container.records(1 << 20))


def test_empty_blocks_are_not_expanded():
    schema = json.dumps(record("int")).encode()
    block = b"\x00\x06abc"  # no records in three bytes that are not deflated
    container = ocf.Container(schema, "deflate", bytes(16), (block + bytes(16)) * 3)
    assert list(container.records(1 << 20)) == []


NAMES = st.sampled_from(["a", "b", "n.c", "array", "int", "r"])


def schemas():
    leaves = NAMES | st.sampled_from(["null", "int", "long", "bytes", "string", "double", 7, None])
    fixed = st.builds(
        lambda name, size: {"type": "fixed", "name": name, "size": size},
        NAMES,
        st.integers(-1, 3) | st.just(2**70),
    )
    enum = st.builds(lambda name: {"type": "enum", "name": name, "symbols": ["x"]}, NAMES)
    dated = st.sampled_from(["date", "decimal", "uuid", "timestamp-micros"]).map(
        lambda kind: {"type": "bytes", "logicalType": kind, "precision": 9, "scale": 2}
    )
    return st.recursive(
        leaves | fixed | enum | dated,
        lambda inner: (
            inner.map(lambda items: {"type": "array", "items": items})
            | inner.map(lambda values: {"type": "map", "values": values})
            | st.lists(inner, max_size=3)
            | st.builds(lambda types, name: record(*types, name=name), st.lists(inner), NAMES)
        ),
        max_leaves=8,
    )


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(types=st.lists(schemas(), max_size=4), datum=st.binary(max_size=40))
async def test_no_schema_raises_anything_else(types, datum):
    """Any schema, any bytes: a reader that recursed without end would end the process."""
    body = packets.in_schema(json.dumps(record(*types)).encode(), datum)
    with suppress(DecodeError):
        await Decoder(MemorySchemas(), 1 << 16).decode(packets.delivery(body))
    with suppress(DecodeError):
        list(ocf.read(body).records(1 << 16))


@pytest.mark.survey_data
async def test_no_schema_of_a_survey_is_refused(survey_data):
    alerts = survey_data / "alerts"
    for path in alerts.rglob("*.avro"):
        if path.read_bytes().startswith(ocf.MAGIC):
            avro.schema_of(ocf.read(path.read_bytes()).schema)
    schemas = FolderSchemas(alerts / "schemas/lsst")
    found = list((alerts / "schemas/lsst").glob("*/*/lsst.v*.alert.avsc"))
    for path in found:
        await schemas.get(int(path.parts[-3]) * 100 + int(path.parts[-2]))
    assert len(found) >= 6
