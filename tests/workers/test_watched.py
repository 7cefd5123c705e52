"""What a worker with a shipped model does with stamps that the model is not for, and with drift."""

from types import SimpleNamespace

import numpy as np
import pytest

from workers import handler
from workers.shelf import shelf
from workers.training.render import render_galaxies
from workers.wire import Item, VerdictKind, decode_verdicts, encode_items


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("LOOKBACK_WEIGHTS", raising=False)
    shelf.cache_clear()
    yield
    shelf.cache_clear()


def asked(images, magnitudes):
    items = [
        Item(f"item-{k}", *pair) for k, pair in enumerate(zip(images, magnitudes, strict=True))
    ]
    event = {
        "job": {"weights_sha256": shelf().any()},
        "partition": encode_items(items),
    }
    answer = handler.handler(event, SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000))
    return decode_verdicts(answer["verdicts"]), answer["drift"]


def test_a_galaxy_has_a_redshift_and_an_empty_stamp_has_none():
    galaxies = render_galaxies(60, 3, size=32)
    sky = np.random.default_rng(1).normal(size=(60, 5, 32, 32)).astype(np.float32) * 0.05
    verdicts, _ = asked(
        np.concatenate([galaxies.images, sky]), np.tile(galaxies.magnitudes, (2, 1))
    )
    answered = [each for each in verdicts[:60] if each.kind is VerdictKind.ESTIMATED]
    assert len(answered) >= 58
    assert all(0 <= each.estimate.out_of_domain <= 0.998 for each in answered)
    unanswered = [each for each in verdicts[60:] if each.kind is VerdictKind.NOT_APPLICABLE]
    assert len(unanswered) >= 58
    assert all(each.estimate is None and "looks like nothing" in each.reason for each in unanswered)


def test_images_in_other_units_have_no_redshift():
    galaxies = render_galaxies(40, 4, size=32)
    verdicts, _ = asked(galaxies.images * 1000, galaxies.magnitudes)
    assert sum(each.kind is VerdictKind.NOT_APPLICABLE for each in verdicts) >= 38


def test_a_zero_point_that_moves_is_in_the_answers_of_the_worker():
    galaxies = render_galaxies(64, 5, size=32)
    moved = galaxies.magnitudes + np.array([0.5, 0, 0, 0, 0], np.float32)
    named = set()
    for _ in range(20):
        named |= set(asked(galaxies.images, moved)[1])
    assert "u-g" in named
