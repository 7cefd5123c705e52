"""Weights on disk: what is saved is loaded, and what is no weights file is refused."""

import hashlib
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workers.errors import WeightsError
from workers.estimator import Estimator
from workers.weights import find, identify, load, read_config, save, shipped


def test_what_is_saved_is_loaded_but_for_the_half_of_its_digits(weights_file, new_tensors, config):
    tensors, found = load(weights_file)
    assert found == config
    expected = new_tensors(config.bins)
    assert tensors.keys() == expected.keys()
    for name, each in expected.items():
        assert tensors[name].dtype == each.dtype
        np.testing.assert_allclose(tensors[name], each, rtol=1e-3, atol=1e-7)


def test_a_file_has_two_bytes_for_each_number(weights_file, new_tensors, config):
    twice = "inception_model.conv2d_init."
    numbers = sum(v.size for k, v in new_tensors(config.bins).items() if not k.startswith(twice))
    assert 2 * numbers < weights_file.stat().st_size < 2.01 * numbers


def test_what_is_not_halved_is_loaded_bit_for_bit(new_tensors, config, tmp_path):
    expected = new_tensors(config.bins)
    save(tmp_path / "whole.safetensors", expected, config, half=False)
    tensors, _ = load(tmp_path / "whole.safetensors")
    for name, each in expected.items():
        np.testing.assert_array_equal(tensors[name], each)


def test_loaded_weights_are_stored_again_without_loss(weights_file, tmp_path):
    save(tmp_path / "again.safetensors", *load(weights_file), half=True)
    assert identify(tmp_path / "again.safetensors").sha256 == identify(weights_file).sha256


def test_shipped_models_are_found_by_name():
    assert set(shipped()) == {"galaxies", "quasars"}
    assert find(None) == find("galaxies") == shipped()["galaxies"]
    assert identify("quasars").name == "astromae-quasars"


def test_a_file_is_found_by_its_path(weights_file):
    assert find(weights_file) == find(str(weights_file)) == weights_file


@pytest.mark.parametrize("name", ["comets", "absent.safetensors"])
def test_what_is_neither_is_told_the_names(name):
    with pytest.raises(WeightsError, match=f"no weights {name}.*galaxies or quasars"):
        find(name)


def test_how_a_model_was_calibrated_is_in_its_identity(new_tensors, config, tmp_path):
    path = tmp_path / "changed.safetensors"
    for changed, expected in (
        ({"calibration": (0.0, 0.4, 1.0)}, "temperature-2.00-pit"),
        ({"bins": 1}, None),
    ):
        save(path, {}, config.model_copy(update=changed), half=False)
        assert identify(path).calibration_id == expected


def test_the_identity_is_the_hash_of_the_file(weights_file, config):
    sha256 = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    identity, estimator = identify(weights_file), Estimator.load(weights_file)
    assert identity.sha256 == estimator.sha256 == sha256
    assert (identity.name, identity.version) == (config.name, config.version)
    assert identity.calibration_id == estimator.calibration_id == "temperature-2.00"


def test_an_identity_costs_no_torch(weights_file):
    """The dispatcher asks for it, and must not carry a model."""
    program = (
        "import sys; from pathlib import Path; from workers.weights import identify; "
        "print(identify(Path(sys.argv[1])).name, 'torch' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", program, weights_file], text=True)
    assert said == "small False\n"


def test_a_higher_temperature_gives_wider_intervals(weights_file, new_tensors, config, tmp_path):
    warmer = tmp_path / "warmer.safetensors"
    changed = config.model_copy(update={"temperature": 20.0})
    save(warmer, new_tensors(config.bins), changed, half=True)
    images = np.random.default_rng(1).normal(size=(6, 5, 32, 32)).astype(np.float32)
    before, after = (
        Estimator.load(path).estimate(images, np.full((6, 5), 20, np.float32))
        for path in (weights_file, warmer)
    )
    widths = [each.z_err68_high - each.z_err68_low for each in (before, after)]
    assert (widths[1] > widths[0]).all()


def absent(path, whole):
    pass


def garbage(path, whole):
    path.write_bytes(b"garbage" * 100)


def empty(path, whole):
    path.write_bytes(b"")


def cut_in_its_header(path, whole):
    path.write_bytes(whole[:1000])


def cut_in_its_numbers(path, whole):
    path.write_bytes(whole[: len(whole) // 2])


def foreign(path, whole):
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})


def a_folder(path, whole):
    path.mkdir()


def foreign_under_our_header(path, whole):
    config = read_config_of(whole)
    save_file({"weight": torch.zeros(3)}, path, metadata={"lookback": config})


def of_another_release(path, whole):
    save_file({"weight": torch.zeros(3)}, path, metadata={"lookback": '{"name": "old"}'})


def read_config_of(whole):
    import json

    (length,) = struct.unpack("<Q", whole[:8])
    return json.loads(whole[8 : 8 + length])["__metadata__"]["lookback"]


BROKEN = [
    absent,
    a_folder,
    empty,
    garbage,
    cut_in_its_header,
    cut_in_its_numbers,
    foreign,
    foreign_under_our_header,
    of_another_release,
]


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda each: each.__name__)
def test_a_file_that_cannot_be_used_says_so_in_one_line(weights_file, tmp_path, breaks):
    path = tmp_path / "broken.safetensors"
    breaks(path, weights_file.read_bytes())
    with pytest.raises(WeightsError, match=r"one of the shipped models|lookback train") as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("breaks", [absent, garbage, foreign], ids=lambda each: each.__name__)
@pytest.mark.parametrize("read", [read_config, identify, Estimator.load])
def test_it_says_so_whoever_reads_it(weights_file, tmp_path, breaks, read):
    path = tmp_path / "broken.safetensors"
    breaks(path, weights_file.read_bytes())
    with pytest.raises(WeightsError, match="broken"):
        read(path)
