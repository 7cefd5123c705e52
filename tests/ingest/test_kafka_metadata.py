import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.progress import Progress
from ingest.sources.kafka import metadata

WORDS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12)
GAPS = st.text(string.ascii_letters + string.digits + "+/=:", max_size=200)


@given(st.integers(0, 2**62), GAPS, st.dictionaries(WORDS, st.integers(0, 2**62), max_size=8))
def test_what_was_committed_is_read_back(watermark, gaps, outcomes):
    progress = Progress(watermark, gaps, outcomes)
    assert metadata.decode(watermark, metadata.encode(progress)) == progress


def test_it_can_be_read_by_a_person():
    progress = Progress(7, "UgEC", {"written": 360, "duplicate": 12})
    assert metadata.encode(progress) == "L1:written=360,duplicate=12:UgEC"


def test_gaps_that_are_too_long_are_left_out_and_outcomes_stay():
    outcomes = {"written": 2**62, "duplicate": 12}
    room = metadata.MAX_BYTES - len(metadata.encode(Progress(7, "", outcomes)))
    fits, does_not = (Progress(7, "g" * length, outcomes) for length in (room, room + 1))
    assert metadata.decode(7, metadata.encode(fits)) == fits
    assert metadata.decode(7, metadata.encode(does_not)) == Progress(7, "", outcomes)


def test_a_broker_that_keeps_nothing_gets_nothing():
    assert metadata.encode(Progress(7, "gaps", {"written": 1}), limit=0) == ""


@pytest.mark.parametrize(
    "text",
    ["", None, "spark-checkpoint-3", "AAAA", "L1", "L1:", "L1:written=x:", "L1:written:", "L2::AA"],
)
def test_what_another_tool_wrote_is_only_an_offset(text):
    assert metadata.decode(7, text) == Progress(7)


@given(st.text(max_size=100))
def test_no_text_is_an_error(text):
    assert metadata.decode(7, text).watermark == 7
    assert metadata.decode(7, "L1:" + text).watermark == 7
