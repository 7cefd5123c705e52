"""From stamps to redshifts, whatever the weights say of how."""

import numpy as np
import pytest

from workers.density import density, recalibrate
from workers.domain import Domain, statistics
from workers.errors import WeightsError
from workers.estimator import Estimator
from workers.weights import save

FRACTIONS = (0.025, 0.16, 0.5, 0.84, 0.975)
INTERVALS = ("z_err95_low", "z_err68_low", "z_err68_high", "z_err95_high")


def stamps(n, seed=1):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 5, 32, 32)).astype(np.float32)
    return images, rng.uniform(18, 21, (n, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def load(tmp_path_factory, new_tensors, config):
    """Loads weights like the small ones, but for what is given; the same ones once."""
    path, loaded = tmp_path_factory.mktemp("estimator") / "changed.safetensors", {}

    def load(tensors=None, how=None, **changed):
        key = repr((how, changed))
        if tensors is not None or key not in loaded:
            other = config.model_copy(update=changed)
            save(path, tensors or new_tensors(other.bins), other, half=False)
            found = Estimator.load(path, **(how or {}))
            if tensors is not None:
                return found
            loaded[key] = found
        return loaded[key]

    return load


@pytest.mark.parametrize("n", [0, 1, 40])
def test_the_density_is_where_the_estimates_are_read_off(load, n):
    estimator = load()
    found = estimator.estimate(*stamps(n))
    assert found.pz.shape == (n, 30) and found.pz.dtype == np.float32
    np.testing.assert_allclose(found.pz.sum(axis=1), 1, rtol=1e-5)
    quantiles = estimator.grid.quantiles(found.pz, FRACTIONS)
    names = ("z_err95_low", "z_err68_low", "z_median", "z_err68_high", "z_err95_high")
    for name, expected in zip(names, quantiles.T, strict=True):
        np.testing.assert_array_equal(getattr(found, name), expected)
    middles = estimator.grid.middles()
    np.testing.assert_allclose(found.z_mean, found.pz @ middles, rtol=1e-5)
    np.testing.assert_array_equal(found.z_mode, middles[found.pz.argmax(axis=1)])


def test_the_table_of_the_weights_recalibrates_the_density(load):
    table = tuple(np.linspace(0, 1, 17) ** 2)
    before, after = load().estimate(*stamps(9)), load(calibration=table).estimate(*stamps(9))
    np.testing.assert_array_equal(after.pz, recalibrate(before.pz, table))
    assert (after.z_median > before.z_median).all()


def test_the_magnitudes_alone_are_a_second_view_where_wanted(load):
    with_it, without = load(temperature=1.0), load(temperature=1.0, magnitudes_alone=False)
    both = with_it._engine.both(
        with_it._config.transform.images(stamps(5)[0]),
        with_it._config.transform.magnitudes(stamps(5)[1]),
    )
    np.testing.assert_array_equal(with_it.estimate(*stamps(5)).pz, density(both, 1.0))
    np.testing.assert_array_equal(without.estimate(*stamps(5)).pz, density(both[:1], 1.0))


@pytest.mark.parametrize("engine", ["auto", "cpu", "torch"])
def test_every_engine_finds_the_same_redshifts(load, engine):
    found = load(how={"engine": engine}).estimate(*stamps(9))
    expected = load().estimate(*stamps(9))
    for name in ("z_median", "z_mean", *INTERVALS):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-3)


def test_a_model_of_one_output_gives_a_redshift_and_no_interval(load):
    estimator = load(bins=1, magnitudes_alone=False)
    found = estimator.estimate(*stamps(4))
    images, magnitudes = stamps(4)
    transform = estimator._config.transform
    said = estimator._engine(transform.images(images), transform.magnitudes(magnitudes))
    for name in ("z_median", "z_mean", "z_mode"):
        np.testing.assert_allclose(getattr(found, name), said[:, 0], rtol=1e-6)
    for name in INTERVALS:
        assert np.isnan(getattr(found, name)).all()
    assert found.pz.shape == (4, 0)


def test_weights_without_an_out_of_domain_score_give_none(load):
    assert np.isnan(load().estimate(*stamps(3)).out_of_domain).all()


def test_the_out_of_domain_score_is_of_what_came_in(load, new_tensors, config):
    images, magnitudes = stamps(7)
    magnitudes[2, 1] = np.nan
    width = statistics(images, magnitudes).shape[1]
    weight = np.random.default_rng(1).normal(size=(1, width)).astype(np.float32)
    domain = Domain(
        np.zeros(width, np.float32),
        np.ones(width, np.float32),
        ((weight, np.zeros(1, np.float32)),),
        np.linspace(-30, 30, 9, dtype=np.float32),
    )
    found = load(new_tensors(config.bins) | domain.tensors()).estimate(images, magnitudes)
    np.testing.assert_allclose(found.out_of_domain, domain.score(images, magnitudes), rtol=1e-5)
    assert len(set(found.out_of_domain.tolist())) > 1


@pytest.mark.parametrize("engine", ["cpu", "torch"])
@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda tensors: tensors.pop("fc_norm.bias"), "fc_norm.bias"),
        (lambda tensors: tensors.update({"head.bias": np.zeros(3, np.float32)}), ""),
    ],
    ids=["missing", "misshapen"],
)
def test_tensors_that_do_not_fit_are_refused_in_one_line(
    load, new_tensors, config, engine, break_it, named
):
    tensors = new_tensors(config.bins)
    break_it(tensors)
    with pytest.raises(WeightsError, match=rf"changed\.safetensors do not fit.*{named}") as caught:
        load(tensors, {"engine": engine})
    assert "\n" not in str(caught.value)


def test_weights_for_another_grid_are_refused(load, new_tensors):
    with pytest.raises(WeightsError, match="31 outputs for 30 bins"):
        load(new_tensors(31))
