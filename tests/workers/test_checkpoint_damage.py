"""Damage to a checkpoint, by chance or aimed: it is read as it was, or refused, and soon."""

import io
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from workers.checkpoint import read
from workers.errors import WeightsError

LIMIT = 32 * 1024 * 1024


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.low = nn.Linear(3, 2).bfloat16()
        self.tied = self.low


def saved(make, protocol):
    torch.manual_seed(3)
    out = io.BytesIO()
    torch.save(make(Small()), out, pickle_protocol=protocol)
    return out.getvalue()


MAKES = {
    "module": nn.DataParallel,
    "state": lambda model: OrderedDict(model.state_dict()),
    "wrapped": lambda model: {"epoch": 3, "model": model.state_dict()},
}
GOOD = {f"{name} {p}": saved(make, p) for name, make in MAKES.items() for p in (2, 4)}
SAFE = safetensors.torch.save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3).half()})


@pytest.fixture(scope="module")
def attempt(tmp_path_factory):
    """Reads bytes as a file; None if they are refused."""
    path = tmp_path_factory.mktemp("damaged") / "small.pt"

    def read_or_refuse(content):
        path.write_bytes(content)
        tracemalloc.start()
        try:
            found = read(path)
        except WeightsError:
            found = None
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < LIMIT
        return found

    return read_or_refuse


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, each in found.items():
        np.testing.assert_array_equal(each, expected[name], strict=True)


def assert_arrays(found):
    """Names and numbers, whichever; they may be others than were written."""
    for name, each in (found or {}).items():
        assert isinstance(name, str) and name.isprintable()
        assert isinstance(each, np.ndarray) and each.flags.c_contiguous
        each.sum()


often = settings(max_examples=300, deadline=10_000)
PLACES = st.floats(0, 1, exclude_max=True)
FLIPS = st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=3)


def flipped(content, flips):
    out = bytearray(content)
    for place, bits in flips:
        out[int(place * len(out))] ^= bits
    return bytes(out)


@pytest.mark.parametrize("name", GOOD)
def test_what_the_damage_starts_from_is_read(attempt, name):
    torch.manual_seed(3)
    state = Small().state_dict()
    wide = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    assert_same(attempt(GOOD[name]), {k: v.numpy() for k, v in wide.items()})


@often
@given(st.sampled_from(sorted(GOOD)), FLIPS)
def test_bytes_that_flip_change_nothing_or_are_noticed(attempt, name, flips):
    found = attempt(flipped(GOOD[name], flips))
    if found is not None:
        assert_same(found, attempt(GOOD[name]))


@pytest.mark.parametrize("name", ["module 2", "state 4"])
def test_no_beginning_of_a_file_is_taken_for_the_whole(attempt, name):
    for end in range(0, len(GOOD[name]), 7):
        assert attempt(GOOD[name][:end]) is None, end


def with_pickle(content, change):
    """The same archive, with its checksums right, around another pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            held = old.read(name)
            new.writestr(name, change(held) if name.endswith("/data.pkl") else held)
    return out.getvalue()


@often
@given(st.sampled_from(sorted(GOOD)), FLIPS)
def test_a_pickle_written_wrongly_is_refused_or_read(attempt, name, flips):
    assert_arrays(attempt(with_pickle(GOOD[name], lambda pickled: flipped(pickled, flips))))


@often
@given(st.sampled_from(sorted(GOOD)), PLACES, PLACES, PLACES)
def test_a_pickle_with_parts_of_it_moved_is_refused_or_read(attempt, name, start, end, to):
    def moved(pickled):
        a, b, c = (int(each * len(pickled)) for each in (start, end, to))
        return pickled[:c] + pickled[min(a, b) : max(a, b)] + pickled[c:]

    assert_arrays(attempt(with_pickle(GOOD[name], moved)))


# Every instruction, with arguments that are small, large or not there.
ARGUMENTS = st.sampled_from(
    [b"", b"\x00", b"\x01", b"\xff" * 4, b"\x04\x00\x00\x00abcd", b"a\nb\n"]
)
PROGRAM = st.lists(st.tuples(st.integers(0, 255), ARGUMENTS), max_size=60)


@often
@given(PROGRAM)
@example([(ord("c"), b"os\nsystem\n"), (ord("("), b""), (ord("t"), b""), (ord("R"), b"")])
def test_a_program_of_any_instructions_is_refused_or_read(attempt, program):
    pickled = b"".join(bytes([code]) + argument for code, argument in program) + b"."
    assert_arrays(attempt(with_pickle(GOOD["state 2"], lambda _: pickled)))


@often
@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"1234567\x00{"]))
def test_noise_is_refused(attempt, noise, start):
    assert attempt(start + noise) is None


@often
@given(FLIPS)
def test_safetensors_that_flip_are_refused_or_read(attempt, flips):
    """They carry no checksum: numbers may be others, but nothing else may."""
    assert_arrays(attempt(flipped(SAFE, flips)))
