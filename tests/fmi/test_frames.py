"""Frames: what goes in comes out, and what would not is refused."""

import math
from enum import Enum

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from fmi import ProtocolError
from fmi.frames import (
    HEADER,
    MAX_DESCRIPTION,
    MAX_PAYLOAD,
    Header,
    Kind,
    Operation,
    decode,
    encode,
    read_header,
    run_id,
)


def arrived(obj):
    """What a receiver gets: it has memory of its own."""
    kind, description, payload = encode(obj)
    return decode(kind, description, bytearray(payload))


@pytest.mark.parametrize("number", [math.inf, -math.inf, 1.5, 2**64 - 1, -(2**63), True, None])
def test_numbers_keep_their_value_and_type(number):
    got = arrived({"a": [number]})["a"][0]
    assert got == number
    assert type(got) is type(number)


def test_nan_stays_nan():
    assert math.isnan(arrived([math.nan])[0])


def test_scalars_of_numpy_become_plain_numbers():
    assert arrived({"n": np.float32(2.5), "k": np.int64(3)}) == {"n": 2.5, "k": 3}


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    "thing", [2**64, {1, 2}, 1j, object(), Colour.RED, lambda: None, {"a": {3}}]
)
def test_objects_that_are_no_data_are_refused(thing):
    with pytest.raises(ProtocolError, match="does not travel"):
        encode(thing)


def test_an_object_that_holds_itself_is_refused():
    circle = []
    circle.append(circle)
    with pytest.raises(ProtocolError):
        encode(circle)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
        | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_data_arrives_as_it_was(thing):
    assert arrived(thing) == (bytes(thing) if isinstance(thing, bytes) else thing)


@given(
    arrays_of.arrays(
        arrays_of.scalar_dtypes().filter(lambda d: d.kind not in "mM"),
        arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_any_array_arrives_as_it_was(array):
    got = arrived(array)
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4).T,
        np.arange(12)[::3],
        np.asfortranarray(np.ones((3, 4))),
        np.array(["left", "right"]),
        np.array([b"ab", b"c"]),
        np.array(["2026-11-24"], dtype="datetime64[D]"),
        np.array([np.nan, np.inf]),
        np.zeros((2, 0)),
    ],
    ids=["transposed", "strided", "fortran", "text", "raw text", "dates", "not finite", "empty"],
)
def test_an_array_keeps_type_shape_and_values(array):
    for _ in range(2):  # the second time its description is known
        got = arrived(array)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
        assert got.flags.writeable


def test_a_contiguous_array_is_not_copied():
    array = np.arange(1000.0)
    array[0] = 7
    assert np.frombuffer(encode(array).payload)[0] == 7
    assert np.shares_memory(np.frombuffer(encode(array).payload, np.uint8), array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array([1, 2], [True, False]),
        np.array(["any", "length"], dtype=np.dtypes.StringDType()),
    ],
    ids=["objects", "structured", "record", "masked", "strings of any length"],
)
def test_an_array_that_would_lose_something_is_refused(array):
    with pytest.raises(ProtocolError):
        encode(array)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abcdef")[::2],
        memoryview(bytearray(6)).cast("H"),
    ],
)
def test_whatever_holds_bytes_arrives_as_bytes(raw):
    assert arrived(raw) == bytes(memoryview(raw).tobytes())


def a_header(**changes):
    fields = {
        "magic": b"FMI2",
        "run": run_id("group"),
        "context": 1,
        "operation": Operation.REDUCE,
        "kind": Kind.ARRAY,
        "source": 7,
        "tag": 2**31 - 1,
        "number": 9,
        "sequence": 2**32 - 1,
        "description": 10,
        "payload": 2**33,
    }
    return Header(**(fields | changes))


def test_a_header_arrives_as_it_was():
    assert read_header(a_header().pack()) == a_header()
    assert len(a_header().pack()) == HEADER.size == 44


@pytest.mark.parametrize(
    "changes",
    [{"magic": b"HTTP"}, {"description": MAX_DESCRIPTION + 1}, {"payload": MAX_PAYLOAD + 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_bytes_that_are_no_frame_of_ours_are_refused(changes):
    with pytest.raises(ProtocolError, match="not a frame"):
        read_header(a_header(**changes).pack())


@pytest.mark.parametrize(
    ("kind", "description", "payload"),
    [
        (Kind.ARRAY, b"", b"12345678"),
        (Kind.ARRAY, msgpack.packb(("<f8", (3,))), b"12345678"),
        (Kind.ARRAY, msgpack.packb(("|O", (1,))), b"12345678"),
        (Kind.ARRAY, msgpack.packb(("no such type", (1,))), b"12345678"),
        (Kind.ARRAY, msgpack.packb(("<f8", (-1,))), b"12345678"),
        (Kind.ARRAY, msgpack.packb("<f8"), b"12345678"),
        (Kind.OBJECT, b"", b"\xc1"),
        (Kind.OBJECT, b"", b""),
        (Kind.OBJECT, b"", msgpack.packb(1) + b"more"),
        (Kind.OBJECT, b"", msgpack.packb(msgpack.ExtType(9, b"of another release"))),
        (77, b"", b""),
    ],
)
def test_what_cannot_be_read_is_said_to_be_so(kind, description, payload):
    with pytest.raises(ProtocolError):
        decode(kind, description, bytearray(payload))


def test_a_run_is_told_from_another():
    runs = {run_id("x1", "1"), run_id("x", "11"), run_id("x11"), run_id("x1", b"2"), run_id("")}
    assert len(runs) == 5
