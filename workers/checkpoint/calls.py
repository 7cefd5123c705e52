"""The few calls that the pickle of a model needs, done here, and the names that are let in."""

from __future__ import annotations

import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from typing import Final, TypeAlias

from workers.checkpoint.inert import Made, Name, Refused, Storage, Tensor

Arguments: TypeAlias = tuple[object, ...]

_NAME: Final = re.compile(r"\w+(\.\w+)*")
_MAX_NAME: Final = 256

_STORAGES: Final = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
    "UntypedStorage": "uint8",
}

# Settings of a training run or of a layer. Nothing is done with them.
_IDLE: Final = {
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "functools.partial",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.numeric._frombuffer",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy.dtype",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "pathlib.WindowsPath",
    "torch.device",
    "torch.serialization._get_layout",
}

# Subclasses of Tensor may compute their numbers from what they store; these do not.
_PLAIN: Final = {
    "torch.Tensor",
    "torch._tensor.Tensor",
    "torch.nn.parameter.Buffer",
    "torch.nn.parameter.Parameter",
}


def named(module: object, name: object) -> Name:
    """What a pickle names.

    Raises:
        Refused: it is no name, or one of the standard library that no model needs.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise Refused("it names something by what is no text")
    # Torch writes the names of Python 2.
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    full = f"{module}.{name}"
    if len(full) > _MAX_NAME or not _NAME.fullmatch(full):
        raise Refused("it names something by what is no name")
    known = full in _CALLS or full in _IDLE
    if module.partition(".")[0] in sys.stdlib_module_names and not known:
        raise Refused(f"it asks for {full}, which no model needs and which could do anything")
    return Name(full)


def called(function: object, arguments: object) -> object:
    """What a call would give.

    Raises:
        Refused: it is not one of the few.
    """
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise Refused("it asks to call something that is no function")
    if function.full in _IDLE:
        return Made()
    if function.full not in _CALLS:
        raise Refused(f"it asks to call {function.full}, and this reader calls nothing")
    return _CALLS[function.full](arguments)


def storage(identity: object) -> Storage:
    """What a persistent id of torch's names: ("storage", type, key, device, count).

    Raises:
        Refused: it names anything else.
    """
    match identity:
        case ("storage", Name() as kind, str(key), str(), int(count)) if count >= 0:
            module, _, short = kind.full.rpartition(".")
            if module in ("torch", "torch.cuda", "torch.storage") and short in _STORAGES:
                return Storage(key, _STORAGES[short], count)
            raise Refused(f"it keeps its numbers in a {kind.full}, which this reader does not know")
    raise Refused("it refers to something outside the pickle that is no storage of numbers")


def _tensor(arguments: Arguments) -> Tensor:
    match arguments:
        case (Storage() as held, int(offset), tuple(shape), tuple(strides), _, _, *metadata):
            return _checked(held, held.kind, (offset, shape, strides), metadata)
    raise Refused("it describes a tensor in a way that torch does not")


def _tensor_of_type(arguments: Arguments) -> Tensor:
    match arguments:
        case (
            Storage() as held,
            int(offset),
            tuple(shape),
            tuple(strides),
            _,
            _,
            Name() as dtype,
            *metadata,
        ):
            kind = dtype.full.removeprefix("torch.")
            return _checked(held, kind, (offset, shape, strides), metadata)
    raise Refused("it describes a tensor in a way that torch does not")


def _checked(
    held: Storage,
    kind: str,
    place: tuple[int, Arguments, Arguments],
    metadata: list[object],
) -> Tensor:
    if metadata not in ([], [None], [{}]):
        # Conjugate or negative: the stored numbers are not the tensor's.
        raise Refused("one of its tensors is a conjugate or negative view of its numbers")
    offset, shape, strides = place
    return Tensor(held, kind, offset, _whole(shape), _whole(strides))


def _whole(numbers: Arguments) -> tuple[int, ...]:
    found = tuple(each for each in numbers if type(each) is int)
    if len(found) != len(numbers):
        raise Refused("a size or stride of one of its tensors is no whole number")
    return found


def _parameter(arguments: Arguments) -> Tensor:
    match arguments:
        case (Tensor() as tensor, _, _) | (Tensor() as tensor, _, _, _):
            return tensor
    raise Refused("it makes a parameter of something that is no tensor")


def _of_type(arguments: Arguments) -> Tensor:
    """A tensor with attributes of its own, as torch.nn.Buffer is one."""
    match arguments:
        case (Name() as function, Name() as kind, tuple(inner), _) if kind.full in _PLAIN:
            if function.full in _TENSORS:
                return _TENSORS[function.full](inner)
    raise Refused("it holds a tensor of a kind that this reader does not know")


def _mapping(arguments: Arguments) -> dict[str, object]:
    if arguments:
        raise Refused("it fills an OrderedDict in a way that torch does not")
    return {}


def _set(arguments: Arguments) -> set[str]:
    match arguments:
        case (list(items),):
            return {each for each in items if isinstance(each, str)}
    raise Refused("it fills a set in a way that torch does not")


def _size(arguments: Arguments) -> Arguments:
    match arguments:
        case (tuple(shape),):
            return shape
    raise Refused("it describes the shape of a tensor in a way that torch does not")


def _bytes(arguments: Arguments) -> bytes:
    match arguments:
        case (str(text), "latin1"):
            return text.encode("latin1")
    raise Refused("it encodes text in a way that no pickle needs")


_TENSORS: Final[dict[str, Callable[[Arguments], Tensor]]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
}

_CALLS: Final[dict[str, Callable[[Arguments], object]]] = {
    **_TENSORS,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "collections.OrderedDict": _mapping,
    "builtins.set": _set,
    "torch.Size": _size,
    "_codecs.encode": _bytes,
}
