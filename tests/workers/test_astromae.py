"""The model is the published one, and the folded engine gives its numbers."""

import json
import math
import zlib

import numpy as np
import pytest
import torch

from workers.astromae import AstroMAE
from workers.engine import Engine


@pytest.fixture(scope="module")
def contract(survey_data):
    return json.loads((survey_data.parent / "contracts" / "astromae.json").read_text())


def filled(name, shape):
    """A tensor's content by the contract's rules, in their order."""
    r = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape or None)
    if name.endswith("running_var"):
        return 1 + 0.2 * np.abs(r)
    if name.endswith("running_mean"):
        return 0.1 * r
    if name.endswith("cls_token"):
        return 0.02 * r
    if len(shape) >= 2:
        return r * math.sqrt(2 / math.prod(shape[1:]))
    return 1 + 0.1 * r if name.endswith(".weight") else 0.05 * r


def position_table():
    row, column = np.arange(17)[:, None], np.arange(192)[None, :]
    angle = row / 10000 ** (2 * (column // 2) / 192)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))[None]


@pytest.fixture(scope="module")
def published(contract):
    """The model with the contract's tensors, loaded by the contract's names."""
    tensors = {}
    for name, shape in contract["tensors"]:
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(0)
            continue
        source = contract["shared_tensors"].get(name, name)
        content = position_table() if name == "pos_embed" else filled(source, shape)
        tensors[name] = torch.tensor(content, dtype=torch.float32)
    model = AstroMAE()
    model.load_state_dict(tensors)
    return model.eval()


@pytest.fixture(scope="module")
def asked():
    b, c, y, x = np.ogrid[:8, :5, :32, :32]
    blob = np.exp(-((y - 15.5) ** 2 + (x - 15.5) ** 2) / (2 * (2 + 0.3 * b) ** 2))
    image = (1 + 0.5 * b) * (1 + c) * blob + 0.05 * np.sin(0.7 * x + 1.3 * y + 0.4 * c + b)
    b, c = b[..., 0, 0], c[..., 0, 0]
    magnitude = 20 - 0.3 * b - 0.5 * c + 0.05 * np.cos(c + b)
    return torch.tensor(image, dtype=torch.float32), torch.tensor(magnitude, dtype=torch.float32)


@pytest.mark.survey_data
def test_a_published_checkpoint_fits_tensor_by_tensor(contract):
    own = {name: list(tensor.shape) for name, tensor in AstroMAE().state_dict().items()}
    assert own == dict(contract["tensors"])


def test_the_position_table_is_the_published_one():
    np.testing.assert_allclose(AstroMAE().pos_embed.numpy(), position_table(), atol=1e-6)


@pytest.mark.survey_data
@pytest.mark.parametrize("fold", [lambda model: model, Engine], ids=["model", "engine"])
def test_published_weights_give_the_published_redshifts(contract, published, asked, fold):
    with torch.inference_mode():
        found = fold(published)(*asked)
    np.testing.assert_allclose(found[:, 0].numpy(), contract["outputs"], rtol=1e-5)


def test_the_model_has_15902889_distinct_numbers():
    """As the paper counts: parameters and position table, without batch norm statistics."""
    model = AstroMAE()
    assert sum(each.numel() for each in (*model.parameters(), model.pos_embed)) == 15_902_889


def events(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 5, 32, 32, generator=generator)
    return images, 20 + 2 * torch.randn(n, 5, generator=generator)


def assert_same(found, expected):
    assert found.shape == expected.shape
    scale = expected.abs().max().item()
    assert math.isfinite(scale)
    assert (found - expected).abs().max().item() < 2e-5 * scale


@pytest.mark.parametrize("outputs", [1, 400])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_engine_equals_the_model(new_model, outputs, seed):
    model, asked = new_model(outputs, seed), events(3, seed)
    with torch.inference_mode():
        assert_same(Engine(model)(*asked), model(*asked))


@pytest.mark.parametrize("n", [1, 3, 65])
def test_the_engine_takes_batches_of_any_size(new_model, n):
    model, asked = new_model(400, 1), events(n)
    with torch.inference_mode():
        assert_same(Engine(model)(*asked), model(*asked))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_engine_also_says_what_the_magnitudes_alone_do(new_model, seed):
    model, (images, magnitudes) = new_model(400, seed), events(3, seed)
    whole, alone = Engine(model).both(images, magnitudes)
    with torch.inference_mode():
        assert_same(whole, model(images, magnitudes))
        assert_same(alone, model.fuse_magnitudes(magnitudes))
    assert torch.equal(Engine(model).both(images.flip(3), magnitudes)[1], alone)
    assert not torch.equal(Engine(model).both(images, magnitudes - 1)[1], alone)


LAYOUTS = {
    "x before y": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "bands last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "cut out of a larger frame": lambda t: torch.nn.functional.pad(t, (4, 4, 4, 4))[
        ..., 4:36, 4:36
    ],
    "every second row of a batch": lambda t: t.repeat_interleave(2, dim=0)[::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_images_in_memory_changes_nothing(new_model, layout):
    engine, (images, magnitudes) = Engine(new_model(400, 1)), events(3)
    laid_out = LAYOUTS[layout](images)
    assert not laid_out.is_contiguous()
    assert_same(engine(laid_out, magnitudes), engine(images, magnitudes))


def test_the_engine_leaves_what_it_is_given_alone(new_model):
    images, magnitudes = events(3)
    before = images.clone(), magnitudes.clone()
    engine = Engine(new_model(400, 1))
    first, second = engine(images, magnitudes), engine(images, magnitudes)
    assert torch.equal(first, second)
    assert torch.equal(images, before[0]) and torch.equal(magnitudes, before[1])
