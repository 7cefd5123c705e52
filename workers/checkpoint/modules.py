"""From what a pickle describes to named tensors, as torch's state_dict would name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from workers.checkpoint.inert import Made, Refused, Tensor, shown

Tree: TypeAlias = dict[str, object]

# Under which a training loop keeps the state beside its optimizer's.
_PLACES: Final = ("state_dict", "model_state_dict", "model")
# What DataParallel and DistributedDataParallel call the model in them.
_WRAPPED: Final = "module"
# Where a module keeps what belongs to its state.
_PARTS: Final = ("_parameters", "_buffers", "_modules")

_MAX_DEPTH: Final = 64
_MAX_ENTRIES: Final = 200_000
_MAX_NAME: Final = 256


def tensors_of(described: object) -> dict[str, Tensor]:
    """Every named tensor of a module, of a state dict, or of a dict that holds one of them.

    Raises:
        Refused: there is none, or the modules are nested without end.
    """
    found = described
    for _ in range(_MAX_DEPTH):
        inner = _inside(found)
        if inner is None:
            break
        found = inner
    named = _module_tensors(found) if isinstance(found, Made) else _dict_tensors(found)
    if not named:
        raise Refused(f"it holds no named tensors, {_what(found)}")
    return own_names(named)


def own_names(named: Mapping[str, Any]) -> dict[str, Any]:
    """The same under the model's own names: without the `module.` that all begin with, if all do.

    Raises:
        Refused: one is no name.
    """
    prefix = f"{_WRAPPED}."
    named = {_checked(name): tensor for name, tensor in named.items()}
    while named and all(name.startswith(prefix) for name in named):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _inside(found: object) -> Tree | Made | None:
    """What `found` only wraps; None if it is the model or its state itself."""
    if isinstance(found, Made):
        modules = _part(found, "_modules")
        own = {**_part(found, "_parameters"), **_part(found, "_buffers")}
        only = modules.get(_WRAPPED) if len(modules) == 1 else None
        return only if isinstance(only, Made) and not any(own.values()) else None
    if isinstance(found, dict):
        for place in _PLACES:
            if isinstance(found.get(place), (dict, Made)):
                inner: Tree | Made = found[place]
                return inner
    return None


def _dict_tensors(found: object) -> dict[str, Tensor]:
    if not isinstance(found, dict):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, Tensor)}


def _module_tensors(root: Made) -> dict[str, Tensor]:
    """A module's tensors by their dotted names; a module that stands in two places is in both."""
    named: dict[str, Tensor] = {}
    waiting: list[tuple[str, int, Made]] = [("", 0, root)]
    seen = 0
    while waiting:
        prefix, depth, module = waiting.pop()
        seen += 1 + sum(len(_part(module, each)) for each in _PARTS)
        # Modules that hold each other, or a few that hold each other many times over.
        if depth > _MAX_DEPTH or seen > _MAX_ENTRIES:
            raise Refused("its modules are nested deeper, or are more, than any model's")
        for name, tensor in _own_tensors(module):
            full = _checked(prefix + name)
            if full in named:
                raise Refused(f"two of its tensors are called {shown(full)}")
            named[full] = tensor
        waiting += [
            (_checked(f"{prefix}{name}."), depth + 1, child)
            for name, child in reversed(_part(module, "_modules").items())
            if isinstance(child, Made)
        ]
    return named


def _own_tensors(module: Made) -> Iterator[tuple[str, Tensor]]:
    passing = module.state.get("_non_persistent_buffers_set")
    left_out = passing if isinstance(passing, set) else set()
    for name, each in (*_part(module, "_parameters").items(), *_part(module, "_buffers").items()):
        if isinstance(each, Tensor) and name not in left_out:
            yield name, each


def _part(module: Made, name: str) -> Tree:
    part = module.state.get(name)
    return part if isinstance(part, dict) else {}


def _checked(name: str) -> str:
    if len(name) > _MAX_NAME or not name.isprintable():
        raise Refused(f"one of its tensors is called {shown(name)}, which is no name")
    return name


def _what(found: object) -> str:
    if isinstance(found, dict):
        return f"only {', '.join(shown(each) for each in list(found)[:8]) or 'an empty dict'}"
    return "but a " + ("module without any" if isinstance(found, Made) else type(found).__name__)
