"""Numbers: from the bytes of a file to numpy arrays, with every bound checked."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workers.checkpoint.archive import Archive
from workers.checkpoint.inert import Refused, Storage, Tensor, shown

Order: TypeAlias = Literal["<", ">"]

MAX_BYTES: Final = 4 * 1024**3
_MAX_DIMENSIONS: Final = 16
# As large as the file: half precision doubled, and that again where it lies turned or with gaps.
_MAX_TIMES: Final = 4
_BFLOAT16: Final = "bfloat16"

# By torch's name. bfloat16, which numpy has not, is read as its 16 bits.
_DTYPES: Final = {
    "bool": "u1",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "float16": "f2",
    _BFLOAT16: "u2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
}


def item_size(kind: str) -> int:
    """Bytes of one number.

    Raises:
        Refused: this reader does not know such numbers.
    """
    if kind not in _DTYPES:
        raise Refused(f"it holds numbers of type {shown(kind)}, which this reader does not know")
    return np.dtype(_DTYPES[kind]).itemsize


def decode(raw: NDArray[np.uint8], kind: str, order: Order) -> NDArray[Any]:
    """Bytes [n * item size] to numbers [n]; `order` is "<" or ">". Half precision becomes float32.

    Raises:
        Refused: this reader does not know numbers of this kind.
    """
    item_size(kind)
    dtype = np.dtype(_DTYPES[kind])
    numbers = raw.view(dtype.newbyteorder(order)).astype(dtype, copy=False)
    if kind == _BFLOAT16:
        # The upper half of a float32.
        return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind == "bool":
        return numbers.astype(np.bool_)
    return numbers.astype(np.float32) if kind == "float16" else numbers


def _check_view(tensor: Tensor) -> None:
    """A tensor lies inside its storage and has no more numbers than it.

    Raises:
        Refused: it does not.
    """
    room = tensor.storage.count * item_size(tensor.storage.kind) // item_size(tensor.kind)
    shape, strides = tensor.shape, tensor.strides
    if len(shape) > _MAX_DIMENSIONS or len(strides) != len(shape):
        raise Refused(f"one of its tensors has {len(shape)} dimensions and {len(strides)} strides")
    if any(not 0 <= each <= MAX_BYTES for each in (tensor.offset, *shape, *strides)):
        raise Refused("one of its tensors has a negative or absurd offset, size or stride")
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    end = tensor.offset + (last + 1 if all(shape) else 0)
    if end > room or math.prod(shape) > room:
        raise Refused(f"a tensor of shape {list(shape)} does not fit into its {room} numbers")


class Numbers:
    """Tensors of an archive as arrays; those that are one in the file are one array."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._order = _byte_order(archive)
        self._storages: dict[tuple[str, str], NDArray[Any]] = {}
        self._arrays: dict[Tensor, NDArray[Any]] = {}
        self._made = 0

    def of(self, tensor: Tensor) -> NDArray[Any]:
        """A tensor's numbers, contiguous, of the tensor's shape.

        Raises:
            Refused: the numbers are damaged, or the tensors together are too large.
        """
        if tensor not in self._arrays:
            self._arrays[tensor] = self._view(tensor)
        return self._arrays[tensor]

    def _view(self, tensor: Tensor) -> NDArray[Any]:
        _check_view(tensor)
        numbers = self._storage(tensor.storage, tensor.kind)
        view = np.lib.stride_tricks.as_strided(
            numbers[tensor.offset :],
            tensor.shape,
            tuple(each * numbers.itemsize for each in tensor.strides),
        )
        if not view.flags.c_contiguous:
            self._count(view.nbytes)
        return np.asarray(view, order="C")

    def _storage(self, storage: Storage, kind: str) -> NDArray[Any]:
        key = (storage.key, kind)
        if key not in self._storages:
            raw = self._archive.read(f"data/{storage.key}", MAX_BYTES)
            whole = len(raw) // item_size(kind) * item_size(kind)
            self._storages[key] = decode(raw[:whole], kind, self._order)
            self._count(self._storages[key].nbytes)
        return self._storages[key]

    def _count(self, more: int) -> None:
        self._made += more
        if self._made > _MAX_TIMES * self._archive.file_size:
            raise Refused("its tensors together have many times more numbers than it has")


def _byte_order(archive: Archive) -> Order:
    # Torch before 2.1 wrote no such entry, and hardly ran on machines of the other order.
    if "byteorder" not in archive:
        return "<"
    said = archive.read("byteorder", 16).tobytes()
    if said not in (b"little", b"big"):
        raise Refused("its entry 'byteorder' says neither little nor big")
    return "<" if said == b"little" else ">"
