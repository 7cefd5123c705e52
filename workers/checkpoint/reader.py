"""The one way in: a file of weights, whatever wrote it, as named numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.checkpoint.archive import Archive, opened
from workers.checkpoint.calls import storage
from workers.checkpoint.inert import Refused, Storage, shown
from workers.checkpoint.machine import MAX_PICKLE, Machine
from workers.checkpoint.modules import own_names, tensors_of
from workers.checkpoint.tensors import MAX_BYTES, Numbers, decode, item_size
from workers.errors import WeightsError

_ADVICE: Final = (
    "where the model was trained, load it and write "
    "torch.save(model.state_dict(), 'weights.pt') or "
    "safetensors.torch.save_model(model, 'weights.safetensors'), and use that file"
)

_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
# Of the first of the pickles that torch.save wrote one after the other before 1.6.
_LEGACY: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

_SAFE_KINDS: Final = {
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
}


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The named tensors of a torch checkpoint (whole model, state dict) or of a safetensors file.

    Nothing of the file runs, and what it names is not imported. Numbers in half precision come
    as float32, all others as they are. Tensors that are one in the file are one array here.

    Raises:
        WeightsError: there is no such file, or it is none of these, or holds anything else.
    """
    try:
        return _reader(path)(path)
    except OSError as error:
        raise WeightsError(
            f"checkpoint {path}: {error.strerror or error}; check the path"
        ) from error
    except Refused as error:
        raise WeightsError(f"checkpoint {path} is not read: {error}; {_ADVICE}") from error


def _reader(path: Path) -> Callable[[Path], dict[str, NDArray[Any]]]:
    """By what the file begins with: names of files say little."""
    if path.exists() and not path.is_file():
        raise Refused("it is no file")
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"it has more than {MAX_BYTES} bytes")
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    if start.startswith(_ZIP):
        return _read_archive
    # Eight bytes of length, then JSON.
    if start[8:9] == b"{":
        return _read_safetensors
    if start.startswith(_LEGACY):
        raise Refused("it was written by a torch before 1.6, or in its old format")
    if start.startswith(_PICKLE):
        raise Refused("it is a plain pickle, a program that could do anything")
    raise Refused("it is neither a checkpoint of torch nor a safetensors file")


def _read_archive(path: Path) -> dict[str, NDArray[Any]]:
    with opened(path) as archive:
        if "constants.pkl" in archive:
            raise Refused("it is a TorchScript program, not weights alone")
        pickled = archive.read("data.pkl", MAX_PICKLE)
        described = Machine(_Storages(archive).resolve).run(pickled)
        numbers = Numbers(archive)
        return {name: numbers.of(tensor) for name, tensor in tensors_of(described).items()}


class _Storages:
    """What the pickle says of each storage, held against what the archive has."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: dict[str, Storage] = {}

    def resolve(self, identity: object) -> Storage:
        """The storage of a persistent id, the same one for the same key."""
        said = storage(identity)
        known = self._known.setdefault(said.key, said)
        if (known.kind, known.count) != (said.kind, said.count):
            raise Refused(f"it describes its storage {shown(said.key)} in two ways")
        if known is said:
            size = self._archive.size(f"data/{said.key}")
            expected = said.count * item_size(said.kind)
            if size != expected:
                raise Refused(
                    f"its storage {shown(said.key)} has {size} bytes where it says {expected}"
                )
        return known


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, deserialize

    try:
        held = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise Refused(f"it is a damaged safetensors file ({error})") from error
    if not held:
        raise Refused("it holds no named tensors")
    return own_names({name: _array(**each) for name, each in held})


def _array(dtype: str, shape: list[int], data: bytearray) -> NDArray[Any]:
    if dtype not in _SAFE_KINDS:
        raise Refused(f"it holds numbers of type {shown(dtype)}, which this reader does not know")
    return decode(np.frombuffer(data, np.uint8), _SAFE_KINDS[dtype], "<").reshape(shape)
