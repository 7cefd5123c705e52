"""The index of keys is a set that needs no memory."""

import secrets
import sqlite3

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.errors import NoRoom, SinkRefused
from sinks.keys import KeyIndex


@pytest.fixture
def index(tmp_path):
    made = KeyIndex(tmp_path)
    made.open()
    yield made
    made.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from("abcdef'\" \n\\ä𝔷")))))
def test_it_answers_as_a_set_does(steps):
    index, held = KeyIndex(), set()
    index.open()
    for adds, keys in steps:
        if adds:
            index.add(keys)
            held.update(keys)
        assert index.fresh(keys) == set(keys) - held
    index.close()


def test_nothing_is_left_in_the_folder(index, tmp_path):
    index.add(["a"])
    assert not list(tmp_path.iterdir()), "a killed process would leave it behind"


def test_opened_again_it_holds_what_it_is_told(index):
    index.add(["a"])
    index.open(str(n) for n in range(25_000))
    assert index.fresh(["a", "0", "24999", "25000"]) == {"a", "25000"}


def test_memory_stays_flat(index):
    def add(count):
        for _ in range(count // 10_000):
            digits = secrets.token_hex(16 * 10_000)
            index.add([digits[n : n + 32] for n in range(0, len(digits), 32)])

    add(400_000)  # more than its cache holds
    before = psutil.Process().memory_info().rss
    add(300_000)
    grown = psutil.Process().memory_info().rss - before
    assert grown < 4 << 20, f"300,000 keys took {grown >> 10} KiB; a set takes 30,000"


def test_a_folder_that_is_not_there_is_refused_with_advice(tmp_path):
    with pytest.raises(SinkRefused, match="check the folder"):
        KeyIndex(tmp_path / "missing").open()


def test_an_index_that_could_not_take_a_key_answers_no_more(index):
    index.add([f"{n:032x}" for n in range(1000)])
    pages = index._db.execute("PRAGMA page_count").fetchone()[0]
    index._db.execute(f"PRAGMA max_page_count={pages}")  # as a full disk
    with pytest.raises(NoRoom, match="make room") as refused:
        index.add([f"{n:032x}" for n in range(1000, 9000)])
    assert isinstance(refused.value.__cause__, sqlite3.Error)
    with pytest.raises(SinkRefused, match="open the sink first"):
        index.fresh(["a"])


@pytest.mark.parametrize("ask", [KeyIndex.fresh, KeyIndex.add])
def test_a_key_with_nul_is_an_error_not_another_key(index, ask):
    with pytest.raises(ValueError, match="NUL"):
        ask(index, ["a", "b\0c"])
