"""A model with nothing left as it was made, and a weights file of one."""

from functools import cache

import pytest
import torch

from workers.astromae import AstroMAE
from workers.transform import InputTransform
from workers.weights import Config, save


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    # As in a function; the last bits of a result depend on the number of threads.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def new_model():
    """Makes models in evaluation mode, the same again for the same outputs and seed."""

    @cache
    def make(outputs=1, seed=0):
        model = AstroMAE(outputs).eval()
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in model.state_dict().items():
            if name != "pos_embed" and tensor.is_floating_point():
                tensor.copy_(_random(name, tensor.shape, generator))
        return model

    return make


def _random(name, shape, generator):
    r = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 0.3 + r.square()
    if len(shape) > 1:
        # The convolution is added to its own input in twelve layers: at full size it would grow
        # until nothing else counts.
        size = 0.3 if ".PCM." in name else 1.0
        return size * r * (2 / shape[1:].numel()) ** 0.5
    return 1 + 0.3 * r if name.endswith(".weight") else 0.2 * r


@pytest.fixture(scope="session")
def new_tensors(new_model):
    """The tensors of `new_model`, as a weights file has them."""

    def make(outputs=1, seed=0):
        return {name: each.numpy() for name, each in new_model(outputs, seed).state_dict().items()}

    return make


@pytest.fixture(scope="session")
def config():
    return Config(
        name="small",
        version="7",
        bins=30,
        z_max=6.0,
        temperature=2.0,
        magnitudes_alone=True,
        transform=InputTransform(
            softening=(0.2, 0.1, 0.1, 0.15, 0.5),
            mean=(1.0, 0.5, 0.3, 0.2, 19.0),
            std=(0.5, 0.5, 0.4, 0.3, 2.0),
        ),
        magnitude_range=((15.0, 27.0), (14.0, 26.0), (13.0, 25.0), (12.0, 24.0), (11.0, 23.0)),
        recipe={"seed": 3},
    )


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory, new_tensors, config):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(path, new_tensors(config.bins), config, half=True)
    return path
