"""The outside network: its layers in numpy, and what it says about our renderings."""

import numpy as np
import pytest

from benchmarks.accuracy.judge import SIZE, Judge
from workers.evaluation.metrics import nmad, scaled
from workers.training.render import render_galaxies


@pytest.fixture(scope="module")
def judge(survey_data):
    return Judge(survey_data / "judges" / "f2r_weights.npz")


@pytest.mark.survey_data
def test_its_layers_are_those_that_torch_computes(judge):
    import torch
    from torch.nn import functional

    images = np.random.default_rng(1).normal(0.3, 1, (5, 5, SIZE, SIZE)).astype(np.float32)
    weights = {name: torch.from_numpy(each) for name, each in judge._weights.items()}
    x = torch.from_numpy(images)
    for layer in range(4):
        depthwise = weights[f"l{layer}_depthwise"].permute(2, 3, 0, 1)
        pointwise = weights[f"l{layer}_pointwise"].permute(3, 2, 0, 1)
        x = functional.conv2d(x, depthwise, groups=len(depthwise))
        x = functional.conv2d(x, pointwise, weights[f"l{layer}_bias"])
        x = functional.max_pool2d(functional.relu(x), 2)
    x = x.permute(0, 2, 3, 1).flatten(1)
    for layer in range(4, 8):
        x = x @ weights[f"l{layer}_kernel"] + weights[f"l{layer}_bias"]
        x = functional.relu(x) if layer < 7 else x
    np.testing.assert_allclose(judge.estimate(images), x[:, 0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.survey_data
def test_it_takes_our_simulated_galaxies_for_real_ones(judge):
    galaxies = render_galaxies(400, seed=5)
    bright = galaxies.magnitudes[:, 2] < 19
    dz = scaled(judge.estimate(galaxies.images[bright]), galaxies.z[bright])
    # On real galaxies its author has a mean error of 0.027.
    assert nmad(dz) < 0.03
    swapped = judge.estimate(galaxies.images[bright][:, ::-1])
    assert nmad(scaled(swapped, galaxies.z[bright])) > 1.3 * nmad(dz)
