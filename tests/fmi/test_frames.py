"""What travels arrives as it was; what would not is refused."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest

import fmi
from fmi import frames


def there_and_back(obj):
    return frames.decode(frames.encode(obj, b"r" * 8, frames.Operation.SEND, 0, 0))


@dataclass
class Point:
    x: float


class Limit(Enum):
    NONE = float("inf")


NAN, INFINITY = float("nan"), float("inf")
ODD = [
    NAN,
    -INFINITY,
    {"a": [1, {"b": NAN}]},
    [None, (INFINITY,)],
    Point(NAN),
    [Limit.NONE],
]


@pytest.mark.parametrize("obj", ODD, ids=str)
def test_a_number_that_json_lacks_is_refused_and_not_changed(obj):
    with pytest.raises(fmi.ProtocolError, match="NaN and infinity"):
        there_and_back(obj)


def test_nothing_and_its_name_travel():
    obj = {"null": None, "a": [None, "null", 1.5], "b": True}
    assert there_and_back(obj) == obj


def test_arrays_keep_what_is_not_finite():
    got = there_and_back(np.array([NAN, INFINITY]))
    assert np.isnan(got[0]) and np.isinf(got[1])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2, dtype=[("ra", "f8"), ("dec", "f4")]),
        np.zeros(2, dtype=[("ra", "f8"), ("dec", "f4")]).view(np.recarray),
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.array(["a", "b"], dtype=np.dtypes.StringDType()),
    ],
    ids=["structured", "record", "masked", "strings of any length"],
)
def test_an_array_that_would_lose_something_is_refused(array):
    with pytest.raises(fmi.ProtocolError, match="do not travel"):
        there_and_back(array)


@pytest.mark.parametrize(
    "array",
    [
        np.array(7, dtype=">i2"),
        np.arange(24.0).reshape(2, 3, 4).T,
        np.arange(10)[::3],
        np.array(["a", "bcd"]),
        np.array(["2026-01-01"], dtype="datetime64[s]"),
        np.array([1j, True]),
    ],
    ids=["0-d", "transposed", "strided", "text", "time", "complex"],
)
def test_an_array_keeps_type_shape_and_values(array):
    got = there_and_back(array)
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdef")[::2],
        memoryview(np.arange(6, dtype=np.int32).reshape(2, 3)),
        memoryview(np.zeros((0, 2))),
        memoryview(np.array(3)),
        bytearray(b"xy"),
        b"",
    ],
    ids=["strided", "2-d", "empty", "0-d", "bytearray", "nothing"],
)
def test_whatever_holds_bytes_arrives_as_bytes(view):
    assert there_and_back(view) == bytes(view)
