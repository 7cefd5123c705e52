"""Published weights of AstroMAE: what a file holds, held against what the model has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workers.checkpoint.reader import read
from workers.domain import PREFIX
from workers.errors import WeightsError
from workers.weights import find

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# One layer has two names in the published layout; safetensors keeps one of them.
_TWINS: Final = {
    f"inception_model.{one}.{part}": f"inception_model.{other}.{part}"
    for one, other in (
        ("conv2d_init", "vis_inception.0"),
        ("vis_inception.0", "conv2d_init"),
    )
    for part in ("weight", "bias")
}
# How many batches the running means were made from. Nothing is computed with it.
_COUNTER: Final = ".num_batches_tracked"
# What pretraining needs and redshifts do not.
_PRETRAINING: Final = ("decoder", "mask_token")
_SHOWN: Final = 4


def layout(outputs: int = 1) -> dict[str, tuple[int, ...]]:
    """Names and shapes of AstroMAE's tensors: those of a shipped model, but for its last layer."""
    from safetensors import safe_open

    with safe_open(find(None), "np") as file:
        shapes = {
            name: tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118 - not a mapping
            if not name.startswith(PREFIX)
        }
    shapes |= {name: shapes[twin] for name, twin in _TWINS.items() if twin in shapes}
    for name in ("concat_block.2.weight", "concat_block.2.bias"):
        shapes[name] = (outputs, *shapes[name][1:])
    return shapes


def published(
    path: Path,
    expected: Shapes | None = None,
    *,
    left_out: Callable[[str], object] = lambda _: None,
) -> dict[str, NDArray[Any]]:
    """The tensors of a published AstroMAE, complete and of the right shapes; fractions as float32.

    `expected` are names and shapes (None: those of `layout()`). `left_out` is told, in one line,
    that the file's decoder of the pretraining was not taken.

    Raises:
        WeightsError: the file is not read (see `read`), or holds another model.
    """
    expected = layout() if expected is None else expected
    tensors = {name: _single(each) for name, each in read(path).items()}
    pretraining = [name for name in tensors if name.startswith(_PRETRAINING)]
    if pretraining:
        left_out(f"{path}: {_few(pretraining)} of the pretraining left out")
    _complete(tensors, expected)
    wrong = _differences(tensors, expected)
    if wrong:
        raise WeightsError(
            f"checkpoint {path} does not hold the published AstroMAE: {'; '.join(wrong)}; "
            "check that it is the model with PCM, inception and magnitudes that CAI runs"
        )
    return {name: tensors[name] for name in expected}


def _single(tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor.astype(np.float32, copy=False) if tensor.dtype.kind == "f" else tensor


def _complete(tensors: dict[str, NDArray[Any]], expected: Shapes) -> None:
    """Add what a file may lack: a layer's second name, and counters."""
    for name in expected:
        if name in tensors:
            continue
        if name.endswith(_COUNTER):
            tensors[name] = np.zeros((), np.int64)
        elif _TWINS.get(name) in tensors:
            tensors[name] = tensors[_TWINS[name]]


def _differences(tensors: Mapping[str, NDArray[Any]], expected: Shapes) -> list[str]:
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected and not name.startswith(_PRETRAINING)]
    shaped = [
        f"{name} {list(tensors[name].shape)} for {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    twins = [
        name
        for name, other in _TWINS.items()
        if {name, other} <= tensors.keys() and not np.array_equal(tensors[name], tensors[other])
    ]
    hollow = [
        name
        for name, each in tensors.items()
        if name in expected and not name.endswith(_COUNTER) and not np.isfinite(each).all()
    ]
    found = {
        "missing": missing,
        "not in it": extra,
        "of another shape": shaped,
        "one layer with two contents": twins,
        "not finite": hollow,
    }
    return [f"{_few(names)} {what}" for what, names in found.items() if names]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} ({len(names)})"
