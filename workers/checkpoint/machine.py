"""The stack machine of a pickle, with everything taken out that could do something.

Opcodes as CPython's `pickletools` describes them; those that no writer of checkpoints uses are
refused. Nothing recurses, so neither depth nor cycles matter, and every instruction costs the
same, so their number bounds time and memory.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.checkpoint.calls import called, named
from workers.checkpoint.inert import Made, Name, Refused, Storage, Tensor, shown

# AstroMAE in a DataParallel has 50,582 instructions in 122,907 bytes.
MAX_PICKLE: Final = 64 * 1024 * 1024
MAX_INSTRUCTIONS: Final = 2_000_000

_LITERALS: Final = {
    "BINBYTES",
    "BINFLOAT",
    "BININT",
    "BININT1",
    "BININT2",
    "BINUNICODE",
    "BYTEARRAY8",
    "LONG1",
    "SHORT_BINBYTES",
    "SHORT_BINUNICODE",
}
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_USED: Final = _LITERALS | _CONSTANTS.keys() | {"PROTO", "FRAME"}


def _no_argument(_: io.BytesIO) -> None:
    return None


def _two_lines(rest: io.BytesIO) -> tuple[str, str]:
    # Python's own reader of them resolves escapes, which pickle does not.
    return rest.readline().decode("utf-8")[:-1], rest.readline().decode("utf-8")[:-1]


_NAMES: Final = {each.code.encode("latin-1"): each.name for each in pickletools.opcodes}
_READERS: Final[dict[str, Callable[[io.BytesIO], Any]]] = {
    **{each.name: each.arg.reader if each.arg else _no_argument for each in pickletools.opcodes},
    "GLOBAL": _two_lines,
}


class Machine:
    """Runs one pickle. `resolve` gives the storage that a persistent id names."""

    def __init__(self, resolve: Callable[[object], Storage]) -> None:
        self._resolve = resolve
        self._stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memo: list[object] = []

    def run(self, pickled: NDArray[np.uint8]) -> object:
        """What the pickle describes: dicts, lists and the classes of `inert`.

        Raises:
            Refused: it is no pickle, or not one of a model or of its tensors.
        """
        rest = io.BytesIO(pickled.tobytes())
        try:
            for _ in range(MAX_INSTRUCTIONS):
                code = rest.read(1)
                if code not in _NAMES:
                    raise Refused("its pickle is damaged or not wholly there")
                if _NAMES[code] == "STOP":
                    return self._stop(rest)
                self._step(_NAMES[code], rest)
        except (ValueError, IndexError) as error:
            said = ascii(str(error))[1:-1][:150]
            raise Refused(f"its pickle is damaged ({said})") from error
        raise Refused(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")

    def _stop(self, rest: io.BytesIO) -> object:
        if rest.read(1) or self._marked or len(self._stack) != 1:
            raise Refused("its pickle holds more than one thing")
        return self._stack.pop()

    def _step(self, name: str, rest: io.BytesIO) -> None:
        # Before its argument is looked at: of one that is not used, nothing is decoded.
        if name not in _USED and name not in self._OPERATIONS:
            raise Refused(f"it uses the pickle instruction {name}, which no model needs")
        argument = _READERS[name](rest)
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in self._OPERATIONS:
            self._OPERATIONS[name](self, argument)

    def _since_mark(self) -> list[object]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _empty(self, make: Callable[[], object]) -> None:
        self._stack.append(make())

    def _tuple(self, size: int | None) -> None:
        if size is None:
            items = self._since_mark()
        else:
            items = [self._stack.pop() for _ in range(size)][::-1]
        self._stack.append(tuple(items))

    def _remember(self, place: int | None) -> None:
        # Every pickler counts; a place of its own choosing would be a way to waste time.
        if place is not None and place != len(self._memo):
            raise Refused("its pickle numbers what it remembers in no order")
        self._memo.append(self._stack[-1])

    def _recall(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _append(self, items: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Made):
            raise Refused("it appends to something that is no list")

    def _add(self, _: Any) -> None:
        items, target = self._since_mark(), self._stack[-1]
        if not isinstance(target, set):
            raise Refused("it adds to something that is no set")
        target.update(each for each in items if isinstance(each, str))

    def _set(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, (dict, Made)) or len(items) % 2:
            raise Refused("it sets items of something that has none")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                _put(target, key, value)

    def _global(self, argument: tuple[str, str]) -> None:
        self._stack.append(named(*argument))

    def _global_on_stack(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(named(module, name))

    def _call(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(called(function, arguments))

    def _new(self, parts: int) -> None:
        *_, kind = [self._stack.pop() for _ in range(parts)]
        if not isinstance(kind, Name):
            raise Refused("it makes an object of something that is no class")
        self._stack.append(Made())

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Made):
            if isinstance(state, dict):
                target.state = state
        elif not isinstance(target, (dict, Tensor)):
            raise Refused("it gives attributes to something that has none")

    def _persistent(self, _: Any) -> None:
        self._stack.append(self._resolve(self._stack.pop()))

    _OPERATIONS: Final[dict[str, Callable[[Any, Any], None]]] = {
        "ADDITEMS": _add,
        "APPEND": lambda self, _: self._append([self._stack.pop()]),
        "APPENDS": lambda self, _: self._append(self._since_mark()),
        "BINGET": _recall,
        "BINPERSID": _persistent,
        "BINPUT": _remember,
        "BUILD": _build,
        "EMPTY_DICT": lambda self, _: self._empty(dict),
        "EMPTY_LIST": lambda self, _: self._empty(list),
        "EMPTY_SET": lambda self, _: self._empty(set),
        "EMPTY_TUPLE": lambda self, _: self._empty(tuple),
        "GLOBAL": _global,
        "LONG_BINGET": _recall,
        "LONG_BINPUT": _remember,
        "MARK": _mark,
        "MEMOIZE": _remember,
        "NEWOBJ": lambda self, _: self._new(2),
        "NEWOBJ_EX": lambda self, _: self._new(3),
        "POP": _pop,
        "POP_MARK": _pop_mark,
        "REDUCE": _call,
        "SETITEM": lambda self, _: self._set([self._stack.pop() for _ in range(2)][::-1]),
        "SETITEMS": lambda self, _: self._set(self._since_mark()),
        "STACK_GLOBAL": _global_on_stack,
        "TUPLE": _tuple,
        "TUPLE1": lambda self, _: self._tuple(1),
        "TUPLE2": lambda self, _: self._tuple(2),
        "TUPLE3": lambda self, _: self._tuple(3),
    }


def _put(target: dict[str, object], key: object, value: object) -> None:
    # Only text names a tensor. Other keys are left out: numbers can be chosen so that a
    # dictionary of them takes for ever, and deep tuples so that their hash overflows.
    if isinstance(key, str):
        if key in target:
            raise Refused(f"it holds the name {shown(key)} twice")
        target[key] = value
