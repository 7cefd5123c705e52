"""Stars look like stars."""

import numpy as np

from workers.training import stars


def test_stars_lie_along_the_locus():
    u, g, r, i, z = stars.sample(20_000, np.random.default_rng(1)).T
    assert r.min() > 14.4 and r.max() < 21.2
    assert (r > 19).mean() > (r < 17).mean(), "most are faint"
    red = g - r > 1.2
    assert 0.2 < red.mean() < 0.6
    assert np.median((r - i)[red]) > 0.6 and np.median((i - z)[red]) > 0.3
    sun = np.abs(g - r - 0.45) < 0.05
    assert abs(np.median((u - g)[sun]) - 1.2) < 0.15
    assert 0.05 < (g - r < 0).mean() < 0.3, "some are hot"


def test_the_same_seed_draws_the_same_stars():
    first, again, other = (stars.sample(50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
