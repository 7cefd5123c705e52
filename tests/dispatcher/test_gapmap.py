import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import gapmap


@given(st.integers(0, 2**62), st.sets(st.integers(0, 5000)))
def test_what_is_encoded_is_decoded(watermark, relative):
    settled = {watermark + each for each in relative}
    assert gapmap.decode(watermark, gapmap.encode(watermark, settled)) == settled


def test_scattered_offsets_fit_into_a_commit():
    assert len(gapmap.encode(0, set(range(1, 20_000, 2)))) < gapmap.MAX_BYTES
    assert len(gapmap.encode(0, set(range(1, 1_000_000)))) < 20


def test_a_settled_offset_far_away_costs_bytes_not_megabytes():
    assert len(gapmap.encode(0, {10**15})) < 40


@pytest.mark.parametrize("text", ["%", "WA==", "Uv8="])
def test_a_damaged_map_is_refused(text):
    with pytest.raises(gapmap.GapMapError):
        gapmap.decode(0, text)
