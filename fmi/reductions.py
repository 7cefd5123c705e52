"""What reductions fold with, and in which order: always from the left, by rank.

Every reduction of this package gives `((x0 op x1) op x2) op ...`, element by element, whatever
the operation, the size, the channel or the number of machines: the same program gives the same
bits, and functions that do not commute, or are not associative, get what they expect. The price
is that partial results cannot be combined in pairs; what is moved instead is in `reducing`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmi.errors import ProtocolError

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Op:
    """A built-in reduction: of arrays element by element, of plain objects as Python does it."""

    name: str
    code: int
    ufunc: np.ufunc
    plain: Function

    def __call__(self, left: Any, right: Any) -> Any:
        """`left op right`."""
        if isinstance(left, np.ndarray):
            return self.ufunc(left, right)
        return self.plain(left, right)


SUM: Final = Op("sum", 1, np.add, operator.add)
PROD: Final = Op("prod", 2, np.multiply, operator.mul)
MAX: Final = Op("max", 3, np.maximum, max)
MIN: Final = Op("min", 4, np.minimum, min)
LAND: Final = Op("land", 5, np.logical_and, lambda a, b: bool(a and b))
LOR: Final = Op("lor", 6, np.logical_or, lambda a, b: bool(a or b))
LXOR: Final = Op("lxor", 7, np.logical_xor, lambda a, b: bool(a) != bool(b))
BAND: Final = Op("band", 8, np.bitwise_and, operator.and_)
BOR: Final = Op("bor", 9, np.bitwise_or, operator.or_)
BXOR: Final = Op("bxor", 10, np.bitwise_xor, operator.xor)

_USERS_OWN: Final = 0xFF


def code_of(op: Op | Function) -> int:
    """What travels in a header, so that ranks which fold with different operations notice."""
    return op.code if isinstance(op, Op) else _USERS_OWN


def fold(values: Iterable[Any], op: Op | Function) -> Any:
    """Fold whole values from the left. The values themselves are left alone."""
    each = iter(values)
    result = next(each)
    for value in each:
        result = op(result, value)
    return result


def fold_into(out: NDArray[Any], blocks: Iterable[NDArray[Any]], op: Op) -> None:
    """Fold arrays of one shape from the left, in place.

    Raises:
        ProtocolError: the operation does not give this type (a sum of strings, say).
    """
    each = iter(blocks)
    first, second = next(each), next(each, None)
    try:
        if second is None:
            if out is not first:
                np.copyto(out, first)
            return
        op.ufunc(first, second, out=out, casting="unsafe")
        for block in each:
            op.ufunc(out, block, out=out, casting="unsafe")
    except TypeError as error:
        raise ProtocolError(f"{op.name} of {out.dtype} does not work: {error}") from error
