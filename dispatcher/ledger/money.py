"""Money: integer pico-dollars.

1 ms of a 128 MB function is some 2,000 of them; 64 bits hold nine million dollars. Never a float:
sums of floats depend on their order.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Final

DOLLAR: Final = 10**12
"""Pico-dollars in a dollar."""


def pico(dollars: str | float | Decimal) -> int:
    """Dollars as pico-dollars, rounded up. A float counts as what it prints as: 0.1 is 0.1.

    Raises:
        ValueError: no amount of money.
    """
    try:
        amount = Decimal(str(dollars))
    except InvalidOperation:
        raise ValueError(f"{dollars!r} is no amount of dollars") from None
    if not amount.is_finite():
        raise ValueError(f"{dollars!r} is no amount of dollars")
    return int((amount * DOLLAR).to_integral_value(ROUND_CEILING))


def dollars(amount: int) -> str:
    """Pico-dollars for a person: "$12.34", and three significant digits below a cent."""
    value = Decimal(amount) / DOLLAR
    if value == 0 or abs(value) >= Decimal("0.01"):
        return f"${value:,.2f}" if value >= 0 else f"-${-value:,.2f}"
    text = f"{abs(value):.{2 - abs(value).adjusted()}f}"
    return f"{'-' if value < 0 else ''}${text}"
