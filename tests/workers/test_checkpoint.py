"""Published checkpoints of every make are read to the bit, without torch and without their code."""

import argparse
import collections
import functools
import inspect
import math
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import published as contracts
import pytest
import safetensors.torch
import torch
from torch import nn

import workers.astromae
from workers.checkpoint import published, read
from workers.checkpoint.fit import layout
from workers.errors import WeightsError

# Reads a checkpoint where there is no torch, and leaves what it found in an .npz.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from workers.checkpoint import read
np.savez(sys.argv[2], **read(Path(sys.argv[1])))
assert "their_code" not in sys.modules and "workers.astromae" not in sys.modules
"""


def read_without_torch(path):
    out = path.with_suffix(".npz")
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, path, out], check=True)
    with np.load(out, allow_pickle=False) as found:
        return dict(found)


@pytest.fixture
def their_code():
    """The model's classes in modules that are gone when it is read, as if others wrote them."""
    package, module = types.ModuleType("their_code"), types.ModuleType("their_code.models")
    sys.modules.update({each.__name__: each for each in (package, module)})
    exec(inspect.getsource(workers.astromae), module.__dict__)
    yield module
    del sys.modules["their_code"], sys.modules["their_code.models"]


def theirs(code, state):
    model = code.AstroMAE()
    model.load_state_dict(state)
    return model


def as_on_two_gpus(model):
    """A DataParallel with the attributes that it has where there are GPUs."""
    wrapped = nn.DataParallel(model)
    wrapped.device_ids, wrapped.output_device = [0, 1], 0
    wrapped.src_device_obj = torch.device("cuda:0")
    return wrapped


def assert_same(found, state):
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape), name
        assert found[name].dtype == tensor.numpy().dtype, name
        assert found[name].tobytes() == tensor.numpy().tobytes(), name


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("wrap", [as_on_two_gpus, lambda model: model], ids=["parallel", "bare"])
def test_a_whole_model_is_read_without_torch_and_without_its_code(
    their_code, new_model, tmp_path, seed, wrap
):
    state = new_model(1, seed).state_dict()
    torch.save(wrap(theirs(their_code, state)), tmp_path / "whole.pt")
    assert_same(read_without_torch(tmp_path / "whole.pt"), state)


def few_layers(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(5, 8, 3), nn.BatchNorm2d(8), nn.LSTM(8, 4))


def prefixed(state):
    return collections.OrderedDict((f"module.{name}", each) for name, each in state.items())


def training_loop(state):
    return {
        "epoch": 7,
        "model": prefixed(state),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
        "best": np.float64(0.0125),
        "args": argparse.Namespace(lr=1e-4, out=Path("runs")),
    }


STATES = {
    "state dict": lambda state: state,
    "dict": dict,
    "with module. in front": prefixed,
    "with module. twice": lambda state: prefixed(prefixed(state)),
    "in state_dict": lambda state: {"state_dict": state},
    "in model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state},
    "of a training loop": training_loop,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("make", STATES)
def test_a_state_dict_is_read_wherever_it_stands(tmp_path, make, protocol):
    state = few_layers(4).state_dict()
    torch.save(STATES[make](state), tmp_path / "state.pt", pickle_protocol=protocol)
    assert_same(read(tmp_path / "state.pt"), state)


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_model_beside_its_settings_is_read(their_code, new_model, tmp_path, protocol):
    state = new_model(1, 4).state_dict()
    held = {
        "weights": np.ones(3),
        "model": as_on_two_gpus(theirs(their_code, state)),
        "at": Path("runs"),
    }
    torch.save(held, tmp_path / "whole.pt", pickle_protocol=protocol)
    assert_same(read(tmp_path / "whole.pt"), state)


def whole(model, path):
    torch.save(model, path)


def state_dict(model, path):
    torch.save(model.state_dict(), path)


def safe(model, path):
    safetensors.torch.save_file({k: v.clone() for k, v in model.state_dict().items()}, path)


@pytest.mark.parametrize("write", [whole, state_dict, safe], ids=lambda each: each.__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_torch_reads_them(
    their_code, new_model, tmp_path, write, dtype
):
    model = theirs(their_code, new_model(1, 5).state_dict()).to(dtype)
    write(model, tmp_path / "weights")
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    expected = {
        name: each.to(wide) if each.is_floating_point() else each
        for name, each in model.state_dict().items()
    }
    found = read_without_torch(tmp_path / "weights")
    assert_same({name: found[name] for name in expected}, expected)
    assert found.keys() == expected.keys()


KINDS = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_of_numbers_is_read(tmp_path, kind):
    # bfloat16 to its last bit, NaN and infinities included.
    numbers = torch.arange(-32768, 32768, dtype=torch.int16).view(torch.bfloat16)
    tensor = numbers if kind is torch.bfloat16 else torch.arange(-100, 156).to(kind)
    torch.save({"some": tensor, "none": tensor[:0], "one": tensor[3]}, tmp_path / "kinds.pt")
    found = read(tmp_path / "kinds.pt")
    half = kind in (torch.float16, torch.bfloat16)
    expected = {"some": tensor, "none": tensor[:0], "one": tensor[3]}
    assert_same(found, {name: x.float() if half else x for name, x in expected.items()})


def test_views_into_one_storage_are_read(tmp_path):
    base = torch.arange(120.0).reshape(2, 3, 4, 5)
    views = {
        "turned": base.permute(3, 1, 0, 2),
        "with gaps": base[1:, ::2, 1:3],
        "one": base[1, 2, 3, 4],
        "channels last": base.to(memory_format=torch.channels_last),
        "repeated": base.reshape(-1)[:1].expand(7),
        "none": base[:, :0],
    }
    torch.save(views, tmp_path / "views.pt")
    found = read(tmp_path / "views.pt")
    assert_same(found, views)
    assert all(each.flags.c_contiguous for each in found.values())


class Odd(nn.Module):
    """What modules hold beside parameters: nothing of it is a tensor of the model."""

    def __init__(self):
        super().__init__()
        self.lost = torch.zeros(3)
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.register_buffer("absent", None)
        self.register_parameter("also_absent", None)
        self.buffer = nn.Buffer(torch.arange(3.0))
        self.tagged = nn.Parameter(torch.arange(4.0))
        self.tagged.tag = "kept"
        self.tied = self.tagged
        self.norm = functools.partial(nn.LayerNorm, eps=1e-6)
        self.activation = nn.functional.relu
        self.device, self.size, self.kind = torch.device("cuda", 1), torch.Size((2, 3)), torch.half
        self.layout, self.raw, self.number = torch.strided, b"\xff\x00", 2.5
        self.listed = nn.ParameterList([nn.Parameter(torch.ones(2)) for _ in range(3)])
        self.named = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.LSTM(2, 3)})
        self.again = self.named["a"]
        self.attention = nn.TransformerEncoderLayer(8, 2)
        self.attention.register_forward_hook(len)
        self.attention._forward_hooks.clear()
        self.above = [self]
        self.module = nn.Identity()


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_else_a_module_holds_does_not_get_in_the_way(tmp_path, protocol):
    model = Odd()
    torch.save(model, tmp_path / "odd.pt", pickle_protocol=protocol)
    assert_same(read(tmp_path / "odd.pt"), model.state_dict())


def test_tensors_that_are_one_are_one_array(new_model, tmp_path):
    torch.save(new_model(), tmp_path / "whole.pt")
    found = read(tmp_path / "whole.pt")
    first, second = "inception_model.conv2d_init.weight", "inception_model.vis_inception.0.weight"
    assert found[first] is found[second]


def test_a_model_of_the_other_byte_order_is_read(tmp_path):
    """As a big-endian machine would write it: the same archive with every number turned."""
    state = {"a": torch.arange(5.0), "b": torch.arange(7), "c": torch.arange(4).bfloat16()}
    torch.save(state, tmp_path / "little.pt")
    turned = {"data/0": "f4", "data/1": "i8", "data/2": "u2"}
    with (
        zipfile.ZipFile(tmp_path / "little.pt") as little,
        zipfile.ZipFile(tmp_path / "big.pt", "w") as big,
    ):
        for name in little.namelist():
            content, short = little.read(name), name.partition("/")[2]
            if short in turned:
                content = np.frombuffer(content, turned[short]).byteswap().tobytes()
            big.writestr(name, b"big" if short == "byteorder" else content)
    assert_same(read(tmp_path / "big.pt"), {**state, "c": state["c"].float()})


# --- what is published ---


@pytest.fixture(scope="module")
def contract(survey_data):
    return contracts.read(survey_data)


@pytest.mark.survey_data
def test_a_checkpoint_as_published_gives_the_published_redshifts(contract, their_code, tmp_path):
    model = their_code.AstroMAE()
    for name, tensor in model.state_dict().items():
        if name != "pos_embed" and not name.endswith("num_batches_tracked"):
            source = contract["shared_tensors"].get(name, name)
            tensor.copy_(torch.tensor(contracts.filled(source, tuple(tensor.shape))))
    torch.save(as_on_two_gpus(model), tmp_path / "published.pt")
    assert_same(read_without_torch(tmp_path / "published.pt"), model.state_dict())

    tensors = published(tmp_path / "published.pt")
    ours = workers.astromae.AstroMAE().eval()
    ours.load_state_dict({name: torch.from_numpy(each) for name, each in tensors.items()})
    with torch.inference_mode():
        found = ours(*map(torch.from_numpy, contracts.asked()))[:, 0]
    np.testing.assert_allclose(found.numpy(), contract["outputs"], rtol=1e-4)


@pytest.mark.survey_data
def test_the_layout_is_the_contracts(contract):
    assert {name: list(shape) for name, shape in layout().items()} == dict(contract["tensors"])


def test_what_a_file_may_lack_is_made_up_for(new_model, tmp_path):
    """Counters, and the second name of one layer, which safetensors leaves out."""
    state = new_model(1, 6).state_dict()
    kept = {k: v for k, v in state.items() if "num_batches" not in k and "conv2d_init" not in k}
    safetensors.torch.save_file(kept, tmp_path / "fewer.safetensors")
    assert_same(published(tmp_path / "fewer.safetensors"), state)
    safetensors.torch.save_model(new_model(1, 6), tmp_path / "model.safetensors")
    assert_same(published(tmp_path / "model.safetensors"), state)


def test_the_decoder_of_the_pretraining_is_left_out_and_told(new_model, tmp_path):
    state = new_model(1, 6).state_dict()
    more = {"mask_token": torch.zeros(1, 1, 192), "decoder_blocks.0.norm1.weight": torch.ones(192)}
    torch.save({**state, **more}, tmp_path / "pretrained.pt")
    said = []
    assert_same(published(tmp_path / "pretrained.pt", left_out=said.append), state)
    (line,) = said
    assert "mask_token, decoder_blocks.0.norm1.weight (2)" in line


def test_double_precision_becomes_single(new_model, tmp_path):
    state = new_model(1, 6).state_dict()
    wide = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(wide, tmp_path / "wide.pt")
    assert_same(published(tmp_path / "wide.pt"), state)


DAMAGED = {
    "a block missing": (
        lambda name, each: None if name.startswith("blocks.3.") else each,
        r"blocks\.3\.PCM\.0\.bias, .* and 17 more \(21\) missing",
    ),
    "one head too many": (
        lambda name, each: each.repeat(2, 1) if name == "concat_block.2.weight" else each,
        r"concat_block\.2\.weight \[2, 1024\] for \[1, 1024\] \(1\) of another shape",
    ),
    "one layer in two versions": (
        lambda name, each: each + 1 if name == "inception_model.conv2d_init.bias" else each,
        r"inception_model\.conv2d_init\.bias, .* one layer with two contents",
    ),
    "no numbers": (
        lambda name, each: each * math.nan if name == "head.bias" else each,
        r"head\.bias \(1\) not finite",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_weights_of_another_model_say_what_differs(new_model, tmp_path, damage):
    change, expected = DAMAGED[damage]
    changed = {name: change(name, each) for name, each in new_model(1, 6).state_dict().items()}
    torch.save({k: v for k, v in changed.items() if v is not None}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=expected) as caught:
        published(tmp_path / "other.pt")
    assert str(tmp_path / "other.pt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_of_no_model_are_named(new_model, tmp_path):
    more = {f"extra.{i}": torch.zeros(1) for i in range(9)}
    torch.save({**new_model().state_dict(), **more}, tmp_path / "more.pt")
    with pytest.raises(WeightsError, match=r"extra\.0, .* and 5 more \(9\) not in it"):
        published(tmp_path / "more.pt")


def test_a_layout_of_ones_own_needs_no_torch(tmp_path):
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "own.pt")
    program = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; "
        "from workers.checkpoint import published; "
        "print(published(Path(sys.argv[1]), {'a': (2, 3)})['a'].sum())"
    )
    asked = [sys.executable, "-c", program, tmp_path / "own.pt"]
    assert subprocess.check_output(asked, text=True) == "6.0\n"


def test_the_layout_is_that_of_the_model():
    for outputs in (1, 7):
        expected = {
            name: tuple(t.shape)
            for name, t in workers.astromae.AstroMAE(outputs).state_dict().items()
        }
        assert layout(outputs) == expected
