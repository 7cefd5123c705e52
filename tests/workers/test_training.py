"""A training run, from its parts to its end, and again from where it was stopped."""

import gzip
import itertools
import json

import numpy as np
import pytest
import torch

from workers.astromae import AstroMAE
from workers.estimator import Estimator
from workers.training import evaluate, train
from workers.training.cutouts import Cutouts
from workers.training.finetune import like, turn
from workers.training.pretrain import MaskedAutoencoder, rate_at
from workers.training.run import input_transform
from workers.transform import colors
from workers.weights import read_config


@pytest.mark.parametrize("there", ["uniform", "few where many are wanted"])
def test_rows_drawn_by_their_weights_have_the_wanted_redshifts(there):
    rng = np.random.default_rng(1)
    z = rng.uniform(0, 5, 4000) if there == "uniform" else 5 * rng.beta(1, 4, 20_000)
    wanted = np.clip(rng.normal(2.0, 0.4, 5000), 0.05, 4.95)
    weight = like(z, wanted)
    assert weight.sum() == pytest.approx(1)
    drawn = z[rng.choice(len(z), 40_000, p=weight)]
    edges = np.arange(0, 5.01, 0.25)
    found, asked = (np.histogram(each, edges)[0] / len(each) for each in (drawn, wanted))
    np.testing.assert_allclose(found, asked, atol=0.012)


def test_rows_of_one_redshift_share_its_weight():
    weight = like(np.array([1.05, 1.05, 1.05, 2.05]), np.array([1.05] * 50 + [2.05] * 50))
    np.testing.assert_allclose(weight, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_a_redshift_that_nobody_wanted_is_rare_and_not_impossible():
    z = np.concatenate([np.full(100, 1.05), np.full(100, 3.05)])
    weight = like(z, np.full(100, 1.05))
    assert 0 < weight[100:].sum() < 0.01


def test_a_redshift_at_the_very_end_has_a_weight():
    weight = like(np.array([0.0, 5.99, 6.0]), np.array([5.95]))
    assert np.isfinite(weight).all() and (weight > 0).all()
    assert weight[1] == weight[2] > weight[0]


def test_the_eight_orientations_are_all_there_are():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = {tuple(turn(image, k).flatten().tolist()) for k in range(8)}
    assert len(turned) == 8
    assert torch.equal(turn(image, 0), image)
    for k in range(8):
        assert torch.equal(turn(image, k)[..., 1, 1], image[..., 1, 1])


def test_the_learning_rate_rises_and_then_falls_to_nothing():
    rates = [rate_at(step, 200, 2.0) for step in range(200)]
    top = int(np.argmax(rates))
    assert 15 <= top <= 25
    assert max(rates) == pytest.approx(2.0, rel=0.06)
    assert 0 < rates[0] < 0.2 and 0 < rates[-1] < 0.001
    assert (np.diff(rates[:top]) > 0).all() and (np.diff(rates[top:]) < 0).all()


def test_inputs_are_standardised_by_what_is_in_the_training_set():
    rng, n = np.random.default_rng(1), 400
    noise = np.array([0.06, 0.02, 0.03, 0.05, 0.2])
    images = rng.normal(size=(n, 5, 32, 32)) * noise[:, None, None]
    magnitudes = rng.normal(19, 1.0, (n, 1)) + rng.normal([2, 1, 0, -0.3, -0.5], 0.3, (n, 5))
    transform = input_transform(
        Cutouts(
            images.astype(np.float32),
            magnitudes.astype(np.float32),
            *np.zeros((2, n), np.float32),
            np.full(n, "galaxy"),
            np.ones(n, dtype=bool),
        )
    )
    np.testing.assert_allclose(transform.softening, 3 * noise, rtol=0.1)
    seen = transform.magnitudes(torch.from_numpy(magnitudes.astype(np.float32))).numpy()
    np.testing.assert_allclose(np.median(seen, axis=0), 0, atol=0.01)
    low, high = np.percentile(seen, [16, 84], axis=0)
    np.testing.assert_allclose(high - low, 2, rtol=0.01)
    raw = colors(torch.from_numpy(magnitudes.astype(np.float32))).numpy()
    assert all(np.corrcoef(raw[:, k], seen[:, k])[0, 1] > 0.99 for k in range(5))


def test_the_masked_autoencoder_learns_to_redraw():
    torch.manual_seed(1)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    places = 10 + 12 * torch.rand(8, 2, 1, 1)
    blobs = torch.exp(-((y - places[:, 0]) ** 2 + (x - places[:, 1]) ** 2) / 60)
    images = 2 * blobs[:, None] * torch.linspace(0.5, 1.5, 5)[:, None, None]
    masked = MaskedAutoencoder(AstroMAE(), 0.75)
    optimizer = torch.optim.AdamW(masked.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = masked(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


def test_the_masked_autoencoder_judges_hidden_patches_only():
    torch.manual_seed(1)
    masked = MaskedAutoencoder(AstroMAE(), 0.75).eval()
    with torch.no_grad():
        for each in masked.redraw.parameters():
            each.zero_()
        # Nothing is redrawn, so the loss is the power of the 12 hidden patches: one of the 16 is
        # bright, and it is either among them or not.
        image = torch.zeros(1, 5, 32, 32)
        image[..., 8:16, 16:24] = 1.0
        hidden = [round(12 * masked(image).item(), 4) for _ in range(40)]
    assert set(hidden) == {0.0, 1.0}
    assert np.mean(hidden) == pytest.approx(0.75, abs=0.25)


TINY = """
name = "tiny"
version = "3"
seed = 5
bins = 40
z_max = 6.0
threads = 1
[data]
galaxies = 60
quasars = 40
[pretraining]
epochs = 1
batch = 32
[finetuning]
epochs = 3
epoch_rows = 128
batch = 32
"""


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def some_data(survey_data, tmp_path_factory):
    """A few hundred rows of each of the survey's files: enough to train, too few to learn."""
    source, folder = survey_data / "sdss", tmp_path_factory.mktemp("sdss")
    for name, rows in {"quasars_ugriz64": 160, "unlabelled_ugriz64": 80}.items():
        with np.load(source / f"{name}.npz", allow_pickle=False) as stored:
            np.savez(folder / f"{name}.npz", **{key: stored[key][:rows] for key in stored.files})
    np.save(folder / "galaxy_photometry.npy", np.load(source / "galaxy_photometry.npy")[:400])
    with (
        gzip.open(source / "quasar_photometry_dr5.tab.gz", "rt") as whole,
        gzip.open(folder / "quasar_photometry_dr5.tab.gz", "wt") as part,
    ):
        part.writelines(itertools.islice(whole, 600))
    return folder


@pytest.fixture(scope="module")
def resumed(some_data, tmp_path_factory):
    """A run that was stopped at the end of its second epoch, and then went on."""
    out = tmp_path_factory.mktemp("run")
    (out / "tiny.toml").write_text(TINY)

    def stop(line):
        if "stage finetuning  epoch 2" in line:
            raise Stopped

    with pytest.raises(Stopped):
        train(out / "tiny.toml", some_data, out, on_progress=stop)
    said = []
    return train(out / "tiny.toml", some_data, out, on_progress=said.append), said


def stages(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(each["stage"], each.get("epoch")) for each in lines]


WHOLE = [
    ("pretraining", 1),
    ("finetuning", 1),
    ("finetuning", 2),
    ("finetuning", 3),
    ("calibration", None),
]


@pytest.mark.survey_data
def test_a_stopped_run_goes_on_and_repeats_nothing_that_was_done(resumed):
    weights, said = resumed
    done = ("rendering", "stage pretraining", "stage finetuning  epoch 1")
    assert not [line for line in said if any(each in line for each in done)]
    assert said[-1] == f"weights written to {weights}"
    assert list(dict.fromkeys(stages(weights.parent))) == WHOLE


@pytest.mark.survey_data
def test_every_epoch_of_a_stopped_run_is_told_once(resumed):
    assert stages(resumed[0].parent) == WHOLE


@pytest.mark.survey_data
def test_trained_weights_load_and_estimate(resumed):
    weights, _ = resumed
    config = read_config(weights)
    assert (config.name, config.version, config.bins) == ("tiny", "3", 40)
    assert config.recipe["finetuning"]["epoch_rows"] == 128
    rows = Cutouts.load(weights.parent / "test.npz")
    found = Estimator.load(weights).estimate(rows.images, rows.magnitudes)
    assert len(found.z_median) == len(rows) > 40
    assert ((found.z_median > 0) & (found.z_median < 6)).all()
    assert len(np.unique(found.z_median)) == len(rows)


@pytest.mark.survey_data
def test_a_run_that_is_done_gives_the_same_weights_again(resumed, some_data):
    weights, _ = resumed
    before = weights.read_bytes()
    again = train(weights.parent / "tiny.toml", some_data, weights.parent, on_progress=str)
    assert again == weights
    assert weights.read_bytes() == before


@pytest.mark.survey_data
def test_an_evaluation_tells_real_from_simulated(resumed, tmp_path):
    weights, _ = resumed
    rows = Cutouts.load(weights.parent / "test.npz")
    # Too few rendered quasars for an interval are left.
    rows = rows.rows((rows.kind == "galaxy") | ~rows.simulated)
    rows.save(tmp_path / "some.npz")
    found = evaluate(weights, tmp_path / "some.npz")
    assert (found["model"], found["data"]) == ("tiny", "some.npz")
    assert found["weights_sha256"] == Estimator.load(weights).sha256
    metrics, real = found["metrics"], ~rows.simulated
    expected = {
        "real quasars, all": real.sum(),
        "real quasars, z >= 2.7": (real & (rows.z >= 2.7)).sum(),
        "simulated galaxies, r < 19.5": (~real & (rows.magnitudes[:, 2] < 19.5)).sum(),
    }
    measured = {f"{name}, magnitudes measured in the stamp": n for name, n in expected.items()}
    assert {name: each["n"] for name, each in metrics.items()} == expected | measured
    for name in measured:
        assert metrics[name]["flagged"] == 1
    for each in metrics.values():
        assert 0 <= each["coverage68"] <= each["coverage95"] <= 1
        assert each["nmad_95"][0] <= each["nmad"] <= each["nmad_95"][1]
        assert each["outliers_95"][0] <= each["outliers"] <= each["outliers_95"][1]
