"""Items go out and verdicts come back without a bit of difference, or it is said what is wrong."""

import base64

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import WireError
from workers.wire import (
    Estimate,
    Item,
    Verdict,
    VerdictKind,
    decode_items,
    decode_verdicts,
    encode_items,
    encode_verdicts,
)


def anything(rng, *shape):
    """Every pattern of bits that a float32 can have, NaNs with a payload included."""
    return rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)


def items(n, seed=1):
    rng = np.random.default_rng(seed)
    return [Item(f"{k:032x}", anything(rng, 5, 32, 32), anything(rng, 5)) for k in range(n)]


def over_the_wire(packed):
    return orjson.loads(orjson.dumps(packed))


@pytest.mark.parametrize("n", [0, 1, 3])
def test_items_arrive_bit_for_bit(n):
    sent = items(n)
    ids, images, magnitudes = decode_items(over_the_wire(encode_items(sent)))
    assert ids == [each.id for each in sent]
    assert images.shape == (n, 5, 32, 32) and images.dtype == np.float32
    assert magnitudes.shape == (n, 5) and magnitudes.dtype == np.float32
    assert images.tobytes() == b"".join(each.image.tobytes() for each in sent)
    assert magnitudes.tobytes() == b"".join(each.magnitudes.tobytes() for each in sent)


def test_the_layout_of_an_image_in_memory_changes_nothing():
    image = np.arange(5 * 32 * 32, dtype=np.float32).reshape(5, 32, 32)
    sent = [
        Item("turned", np.asfortranarray(image), np.zeros(5, np.float32)),
        Item("big-endian", image.astype(">f4"), np.zeros(5, np.float32)),
        Item("cut out", np.pad(image, ((0, 0), (3, 3), (3, 3)))[:, 3:35, 3:35], np.ones(10)[::2]),
    ]
    _, images, magnitudes = decode_items(over_the_wire(encode_items(sent)))
    for each in images:
        np.testing.assert_array_equal(each, image)
    np.testing.assert_array_equal(magnitudes.sum(axis=1), [0, 0, 5])


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VERDICTS = st.one_of(
    st.builds(
        Verdict,
        id=st.text(),
        kind=st.just(VerdictKind.ESTIMATED),
        estimate=st.builds(Estimate, *[NUMBERS] * 7, st.integers(0, 2**31)),
    ),
    st.builds(
        Verdict,
        id=st.text(),
        kind=st.sampled_from([k for k in VerdictKind if k is not VerdictKind.ESTIMATED]),
        reason=st.none() | st.text(),
    ),
)


@settings(deadline=None)
@given(st.lists(VERDICTS, max_size=5))
def test_verdicts_arrive_as_they_were(verdicts):
    arrived = decode_verdicts(over_the_wire(encode_verdicts(verdicts)))
    assert arrived == verdicts
    assert repr(arrived) == repr(verdicts), "a zero lost its sign, or a kind became text"


def test_a_verdict_without_an_estimate_says_nothing_of_one():
    (packed,) = encode_verdicts([Verdict("a", VerdictKind.BAD_INPUT, reason="not_finite")])
    assert packed == {"id": "a", "kind": "bad_input", "reason": "not_finite"}


GOOD = encode_items(items(2))

BROKEN = {
    "no ids": {k: v for k, v in GOOD.items() if k != "ids"},
    "no images": {k: v for k, v in GOOD.items() if k != "images"},
    "no magnitudes": {k: v for k, v in GOOD.items() if k != "magnitudes"},
    "an id too many": {**GOOD, "ids": [*GOOD["ids"], "more"]},
    "an id too few": {**GOOD, "ids": GOOD["ids"][:1]},
    "ids that are a number": {**GOOD, "ids": 2},
    "half an image": {**GOOD, "images": GOOD["images"][: len(GOOD["images"]) // 4 * 2]},
    "a byte too many": {**GOOD, "magnitudes": base64.b64encode(bytes(41)).decode()},
    "images that are not base64": {**GOOD, "images": "?" + GOOD["images"][:-1]},
    "images that are not text": {**GOOD, "images": [1.0, 2.0]},
    "magnitudes that are nothing": {**GOOD, "magnitudes": None},
    "a list": [GOOD],
    "nothing": None,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_partition_that_is_broken_is_refused(name):
    with pytest.raises(WireError, match="a partition cannot be read"):
        decode_items(BROKEN[name])


@pytest.mark.parametrize(
    "packed",
    [
        [{"id": "a"}],
        [{"kind": "estimated"}],
        [{"id": "a", "kind": "perhaps"}],
        [{"id": "a", "kind": ["estimated"]}],
        [{"id": "a", "kind": "estimated", "estimate": {"z_median": 1.0}}],
        [{"id": "a", "kind": "estimated", "estimate": {"z": 1.0}}],
        [{"id": "a", "kind": "estimated", "estimate": 1.0}],
        ["estimated"],
        [None],
        None,
    ],
)
def test_a_verdict_that_is_broken_is_refused(packed):
    with pytest.raises(WireError, match="a verdict cannot be read"):
        decode_verdicts(packed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({"ids": JSON, "images": JSON, "magnitudes": JSON}))
def test_damage_to_a_partition_never_raises_anything_else(packed):
    try:
        ids, images, magnitudes = decode_items(packed)
    except WireError:
        return
    assert len(ids) == len(images) == len(magnitudes)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({"id": JSON, "kind": JSON}, optional={"estimate": JSON})))
def test_damage_to_a_verdict_never_raises_anything_else(packed):
    try:
        decode_verdicts(packed)
    except WireError:
        return


def test_160_items_fit_into_one_invocation():
    """Six megabytes are what AWS takes."""
    job = {"run_id": "0" * 32, "weights_sha256": "0" * 64}
    event = orjson.dumps({"job": job, "partition": encode_items(items(160))})
    assert 160 * 4 * (5 * 32 * 32 + 5) < len(event) < 6_000_000


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict("a", VerdictKind.ESTIMATED),
        Verdict("a", VerdictKind.BAD_INPUT, Estimate(*[0.1] * 7, 0)),
    ],
    ids=["an estimate that is none", "none that is an estimate"],
)
def test_a_verdict_that_contradicts_itself_is_no_verdict(verdict):
    with pytest.raises(WireError):
        decode_verdicts(encode_verdicts([verdict]))
