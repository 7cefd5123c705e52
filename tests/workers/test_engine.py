"""Every engine gives the numbers of the plain model: one contract, run on each of them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import published
import pytest
import torch

from workers import engine as engines
from workers.engines.cpu import CHUNK, CpuEngine
from workers.engines.runtime import ov
from workers.errors import WorkerError

NAMES = ["cpu", "torch", *(["cuda"] if torch.cuda.is_available() else [])]
TOLERANCE = {"cpu": 1e-5, "torch": 1e-5, "cuda": 1e-4}
HALF = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def make(name, new_tensors):
    """Makes engines of the name, each once."""
    made = {}

    def make(outputs, seed):
        if (outputs, seed) not in made:
            made[outputs, seed] = engines.create(new_tensors(outputs, seed), name)
        return made[outputs, seed]

    return make


def events(n, seed=1):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 5, 32, 32)).astype(np.float32)
    return images, rng.normal(20, 2, (n, 5)).astype(np.float32)


def plain(model, images, magnitudes):
    """What torch's own modules say: of the whole, and of the magnitudes."""
    with torch.inference_mode():
        seen = torch.tensor(np.array(magnitudes))
        return model(torch.tensor(np.array(images)), seen).numpy(), model.fuse_magnitudes(
            seen
        ).numpy()


def assert_same(found, expected, tolerance):
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.isfinite(expected).all()
    scale = np.abs(expected).max(initial=0)
    assert np.abs(found - expected).max(initial=0) <= tolerance * scale


@pytest.mark.survey_data
def test_published_weights_give_the_published_redshifts(name, survey_data):
    contract = published.read(survey_data)
    found = engines.create(published.tensors(contract), name)(*published.asked())
    np.testing.assert_allclose(found[:, 0], contract["outputs"], rtol=TOLERANCE[name])


@pytest.mark.parametrize("outputs", [1, 400])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_equals_the_model_whatever_its_tensors(name, make, new_model, outputs, seed):
    asked = events(3, seed)
    engine = make(outputs, seed)
    whole, alone = plain(new_model(outputs, seed), *asked)
    assert engine.outputs == outputs
    assert_same(engine(*asked), whole, TOLERANCE[name])
    for found, expected in zip(engine.both(*asked), (whole, alone), strict=True):
        assert_same(found, expected, TOLERANCE[name])


@pytest.mark.parametrize("n", [0, 1, 3, 8, 33, 512])
def test_a_batch_may_have_any_size(name, make, new_model, n):
    some, rows = events(33), np.arange(n) % 33
    found = make(400, 1).both(*(each[rows] for each in some))
    for each, expected in zip(found, plain(new_model(400, 1), *some), strict=True):
        assert_same(each, expected[rows], TOLERANCE[name])


def test_what_the_magnitudes_alone_say_has_nothing_of_the_image(make):
    images, magnitudes = events(3)
    engine = make(400, 1)
    whole, alone = engine.both(images, magnitudes)
    flipped, same = engine.both(images[..., ::-1], magnitudes)
    assert np.array_equal(same, alone)
    assert not np.array_equal(flipped, whole)
    assert not np.array_equal(engine.both(images, magnitudes - 1)[1], alone)


LAYOUTS = {
    "x before y": lambda a: np.swapaxes(np.swapaxes(a, 2, 3).copy(), 2, 3),
    "bands last": lambda a: np.moveaxis(np.moveaxis(a, 1, 3).copy(), 3, 1),
    "cut out of a larger frame": lambda a: np.pad(a, ((0, 0), (0, 0), (4, 4), (4, 4)))[
        ..., 4:36, 4:36
    ],
    "every second row of a batch": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "not to be written to": lambda a: np.frombuffer(a.tobytes(), "<f4").reshape(a.shape),
    "twice as precise": lambda a: a.astype(np.float64),
}


@pytest.mark.parametrize("n", [3, CHUNK])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_images_in_memory_changes_nothing(make, layout, n):
    engine, (images, magnitudes) = make(400, 1), events(n)
    columns = np.asfortranarray(magnitudes)
    assert np.array_equal(engine(LAYOUTS[layout](images), columns), engine(images, magnitudes))


def test_it_leaves_what_it_is_given_alone_and_gives_nothing_it_keeps(make):
    engine, asked = make(400, 1), events(CHUNK)
    before = [each.copy() for each in asked]
    first = engine.both(*asked)
    kept = [each.copy() for each in first]
    engine.both(*events(CHUNK, seed=9))
    for found, expected in zip((*asked, *first), (*before, *kept), strict=True):
        assert np.array_equal(found, expected)
    assert np.array_equal(engine(*asked), kept[0])


def test_threads_may_ask_at_the_same_time(make):
    engine = make(400, 1)
    batches = [events(n, seed=n) for n in (1, 5, CHUNK + 3) * 2]
    expected = [engine(*each) for each in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: engine(*each), batches))
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(each, other)


def test_an_image_has_the_same_bits_whatever_batch_it_is_in(new_tensors):
    """So that a repeated delivery is the same result, and not nearly the same."""
    engine, (images, magnitudes) = CpuEngine(new_tensors(400, 1)), events(CHUNK + 9)
    together = engine(images, magnitudes)
    for part in (slice(0, 1), slice(3, 8), slice(5, CHUNK + 5), slice(CHUNK, CHUNK + 9)):
        np.testing.assert_array_equal(engine(images[part], magnitudes[part]), together[part])


@pytest.mark.parametrize("name", ["cpu", "torch"])
def test_half_precision_costs_three_digits(name, new_model, new_tensors, monkeypatch):
    if name == "cpu" and not HALF:
        # Computed all the same, by single precision and conversions: only slower.
        monkeypatch.setattr(CpuEngine, "_check", lambda *_: None)
    asked = events(CHUNK + 3)
    engine = engines.create(new_tensors(400, 1), name, precision="bfloat16")
    for found, expected in zip(engine.both(*asked), plain(new_model(400, 1), *asked), strict=True):
        assert_same(found, expected, 0.03)


def test_half_precision_is_refused_where_the_processor_has_none(new_tensors, monkeypatch):
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(WorkerError, match="leave precision at float32"):
        CpuEngine(new_tensors(1), precision="bfloat16")


def test_a_missing_gpu_is_named(new_tensors, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WorkerError, match="take the engine cpu"):
        engines.create(new_tensors(1), "cuda")


@pytest.mark.parametrize("name", ["cpu", "torch"])
@pytest.mark.parametrize(
    ("tensor", "change"),
    [
        ("fc_norm.weight", lambda each: each[:-1]),
        ("blocks.7.mlp.fc1.weight", lambda each: each[:, :-1]),
        ("inception_model.vis_inception.3.branch2.1.conv.weight", lambda each: each[:, 1:]),
        ("inception_model.magnitude_block.2.weight", lambda each: each[:, :-1]),
    ],
)
def test_tensors_of_another_shape_are_refused(name, new_tensors, tensor, change):
    tensors = new_tensors(1)
    tensors[tensor] = change(tensors[tensor])
    with pytest.raises((ValueError, RuntimeError)):
        engines.create(tensors, name)
