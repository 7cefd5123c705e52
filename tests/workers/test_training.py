"""A training run, from its parts to its end, and again from where it was stopped."""

import gzip
import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from workers.astromae import AstroMAE
from workers.errors import DataError, RecipeError, WeightsError
from workers.estimator import Estimator
from workers.training.cutouts import Cutouts
from workers.training.finetune import like
from workers.training.pretrain import MaskedAutoencoder, rate_at, turn
from workers.training.run import input_transform, train
from workers.training.sdss import prepare
from workers.transform import colors
from workers.weights import load, read_config


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


def test_magnitudes_are_standardised_by_what_is_in_the_training_set():
    rng, n = np.random.default_rng(1), 400
    magnitudes = rng.normal(19, 1.0, (n, 1)) + rng.normal([2, 1, 0, -0.3, -0.5], 0.3, (n, 5))
    softening = (0.2, 0.1, 0.1, 0.15, 0.5)
    rows = Cutouts(
        np.zeros((n, 5, 32, 32), np.float32),
        magnitudes.astype(np.float32),
        *np.zeros((2, n), np.float32),
        np.full(n, "galaxy"),
        np.ones(n, dtype=bool),
    )
    transform = input_transform(softening, rows)
    assert transform.softening == softening
    seen = transform.magnitudes(rows.magnitudes)
    np.testing.assert_allclose(np.median(seen, axis=0), 0, atol=0.01)
    low, high = np.percentile(seen, [16, 84], axis=0)
    np.testing.assert_allclose(high - low, 2, rtol=0.01)
    raw = colors(rows.magnitudes)
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
    for _ in range(20):
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


ENCODER = """
name = "tiny-encoder"
version = "1"
seed = 5
softening = [0.18, 0.072, 0.102, 0.153, 0.54]
half = true
[pretraining]
labelled = ["galaxies.npz"]
unlabelled = ["unlabelled.npz"]
epochs = 2
batch = 32
"""

TINY = """
name = "tiny"
version = "3"
seed = 5
softening = [0.18, 0.072, 0.102, 0.153, 0.54]
[finetuning]
bins = 40
z_max = 6.0
epochs = 3
epoch_rows = 128
batch = 32
sources = [
  { data = "quasars.npz", share = 0.5, z_least = 1.0 },
  { data = "rendered-quasars.npz", share = 0.25, like = "quasars.npz", judge = false },
  { data = "galaxies.npz", share = 0.25 },
]
[domain]
outside = ["stars.npz"]
nearer = 0.5
rows = 200
epochs = 2
"""


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def some_data(survey_data, tmp_path_factory):
    """Datasets made of a few hundred rows of the survey's files: enough to train, not to learn."""
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
    data = tmp_path_factory.mktemp("data")
    prepare(folder, data, 5, galaxies=60, quasars=40, stars=40, on_progress=str)
    return data


def stopped_after(recipe, data, out, last, **how):
    """Train until a line is said, stop there, and go on; returns the path and what was said."""

    def stop(line):
        if last in line:
            raise Stopped

    with pytest.raises(Stopped):
        train(recipe, data, out, say=stop, **how)
    said = []
    return train(recipe, data, out, say=said.append, **how), said


@pytest.fixture(scope="module")
def encoder(some_data, tmp_path_factory):
    """Of a run that was stopped at the end of its first epoch, and then went on."""
    out = tmp_path_factory.mktemp("encoder")
    (out / "encoder.toml").write_text(ENCODER)
    return stopped_after(out / "encoder.toml", some_data, out, "stage pretraining  epoch 1")


@pytest.fixture(scope="module")
def resumed(some_data, encoder, tmp_path_factory):
    """A run that was stopped at the end of its second epoch, and then went on."""
    out = tmp_path_factory.mktemp("run")
    (out / "tiny.toml").write_text(TINY)
    last = "stage finetuning  epoch 2"
    return stopped_after(out / "tiny.toml", some_data, out, last, encoder=encoder[0])


def stages(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(each["stage"], each.get("epoch")) for each in lines]


@pytest.mark.survey_data
def test_pretraining_goes_on_and_every_epoch_is_told_once(encoder):
    path, said = encoder
    assert stages(path.parent) == [("pretraining", 1), ("pretraining", 2)]
    assert said[-1] == f"encoder written to {path}"


@pytest.mark.survey_data
def test_a_stopped_run_goes_on_and_every_epoch_is_told_once(resumed):
    weights, said = resumed
    assert said[-1] == f"weights written to {weights}"
    assert stages(weights.parent) == [
        *(("finetuning", epoch) for epoch in (1, 2, 3)),
        ("calibration", None),
        ("domain", None),
    ]


@pytest.mark.survey_data
def test_the_encoder_is_what_pretraining_left(resumed, encoder):
    tensors, _ = load(resumed[0])
    for name, each in load_file(encoder[0]).items():
        np.testing.assert_array_equal(tensors[name], each.half().float().numpy(), err_msg=name)


@pytest.mark.survey_data
def test_trained_weights_load_and_estimate(resumed):
    weights, _ = resumed
    config = read_config(weights)
    assert (config.name, config.version, config.bins) == ("tiny", "3", 40)
    assert config.recipe["finetuning"]["epoch_rows"] == 128
    assert config.calibration[0] == 0 and config.calibration[-1] == 1
    rows = Cutouts.load(weights.parent / "test.npz")
    found = Estimator.load(weights).estimate(rows.stamps, rows.magnitudes)
    assert len(found.z_median) == len(rows) > 30
    assert ((found.z_median > 0) & (found.z_median < 6)).all()
    assert len(np.unique(found.z_median)) == len(rows)
    assert ((found.out_of_domain >= 0) & (found.out_of_domain <= 1)).all()


@pytest.mark.survey_data
def test_what_was_held_out_was_not_trained_on(resumed):
    parts = [Cutouts.load(resumed[0].parent / f"{n}.npz") for n in ("train", "validation", "test")]
    rows = [{each.tobytes() for each in part.images} for part in parts]
    assert all(rows) and not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
    real = [part.rows(~part.simulated) for part in parts]
    assert min(each.z.min() for each in real) >= 1.0, "nearer ones are left out"


@pytest.mark.survey_data
def test_a_run_that_is_done_gives_the_same_weights_again(resumed, some_data, encoder):
    weights, _ = resumed
    before = weights.read_bytes()
    recipe = weights.parent / "tiny.toml"
    again = train(recipe, some_data, weights.parent, encoder=encoder[0], say=str)
    assert again.read_bytes() == before


@pytest.mark.survey_data
def test_what_is_no_encoder_is_refused(resumed, some_data, tmp_path):
    recipe = resumed[0].parent / "tiny.toml"
    (tmp_path / "garbage").write_bytes(b"garbage" * 9)
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign")
    for name in ("absent", "garbage", "foreign"):
        with pytest.raises(WeightsError, match=f"{name}.*encoder|encoder.*{name}"):
            train(recipe, some_data, tmp_path / "out", encoder=tmp_path / name, say=str)


def test_a_missing_dataset_is_named(tmp_path):
    (tmp_path / "encoder.toml").write_text(ENCODER)
    with pytest.raises(DataError, match=r"galaxies\.npz does not exist"):
        train(tmp_path / "encoder.toml", tmp_path / "data", tmp_path / "out", say=str)


def test_a_device_that_is_not_here_is_refused(tmp_path):
    (tmp_path / "encoder.toml").write_text(ENCODER)
    with pytest.raises(RecipeError, match=r"no device cuda:99 here.*--device cpu"):
        train(tmp_path / "encoder.toml", tmp_path, tmp_path / "out", device="cuda:99", say=str)
