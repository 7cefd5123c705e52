"""Prices: data with a source and a date. A price that is not known is an error, not a guess."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from dispatcher.errors import SettingsError
from dispatcher.ledger.money import pico

_FREE_STORAGE_MB: Final = 512
_FIELDS: Final = frozenset({"gb_second", "request", "storage_gb_second", "source", "date"})
_OF_OBJECTS: Final = frozenset({"object_write", "object_read"})


@dataclass(frozen=True, slots=True)
class Price:
    """What one platform charges, in pico-dollars.

    `object_write`, `object_read`: a request to its object store; None where nobody has said.
    """

    name: str
    gb_second: int
    request: int
    storage_gb_second: int
    source: str
    as_of: date
    object_write: int | None = None
    object_read: int | None = None

    @property
    def free(self) -> bool:
        """Whether nothing is ever billed."""
        return not (self.gb_second or self.request)


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price for a function of a certain size. `memory_mb`, `storage_mb`: as it is configured.

    `inline`: items that fit into an invocation; what is larger goes by the object store. None: all.
    """

    price: Price
    memory_mb: int
    storage_mb: int = _FREE_STORAGE_MB
    inline: int | None = None

    @property
    def per_ms(self) -> tuple[int, int]:
        """Pico-dollars a millisecond, as a fraction (numerator, denominator)."""
        paid_storage = max(0, self.storage_mb - _FREE_STORAGE_MB)
        rate = self.memory_mb * self.price.gb_second + paid_storage * self.price.storage_gb_second
        return rate, 1024 * 1000

    def charge(self, billed_ms: int) -> int:
        """Pico-dollars for one invocation of so many milliseconds, rounded up."""
        rate, of = self.per_ms
        return self.price.request - (-rate * billed_ms // of)

    def objects(self, writes: int, reads: int) -> int:
        """Pico-dollars for so many requests to the object store."""
        return writes * (self.price.object_write or 0) + reads * (self.price.object_read or 0)

    def aside(self, items: int) -> int:
        """Pico-dollars that such a payload may cost beside its invocation."""
        return self.objects(1, 1) if self.inline is not None and items > self.inline else 0


def price(name: str, table: Path | None = None) -> Price:
    """The price called `name`, of `table` (TOML) or the one that comes with the package.

    Raises:
        SettingsError: it is in none of them, or the table cannot be read.
    """
    known = prices(table)
    if name not in known:
        raise SettingsError(
            f'the price "{name}" is not known, so nothing can be sent: spend.price is one of '
            f"{', '.join(sorted(known))}, or of a table of your own (spend.prices)"
        )
    return known[name]


def prices(table: Path | None = None) -> dict[str, Price]:
    """All that are known, by name.

    Raises:
        SettingsError: the table cannot be read.
    """
    shipped = files("dispatcher.ledger") / "prices.toml"
    known = dict(_read(tomllib.loads(shipped.read_text()), "the shipped table"))
    if table is not None:
        try:
            known.update(_read(tomllib.loads(table.read_text()), str(table)))
        except OSError as error:
            raise SettingsError(
                f"spend.prices: {table} cannot be read ({error.strerror})"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"spend.prices: {table} is not TOML ({error})") from error
    return known


def _read(table: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[tuple[str, Price]]:
    for key, value in table.items():
        name = f"{prefix}/{key}" if prefix else key
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: {name} is no price; a price is a table")
        if _FIELDS & value.keys():
            yield name, _price(name, value, where)
        else:
            yield from _read(value, where, name)


def _price(name: str, value: Mapping[str, Any], where: str) -> Price:
    try:
        _check(value)
        return Price(
            name,
            _rate(value["gb_second"]),
            _rate(value["request"]),
            _rate(value["storage_gb_second"]),
            str(value["source"]),
            value["date"],
            *(
                _rate(value[key]) if key in value else None
                for key in ("object_write", "object_read")
            ),
        )
    except ValueError as error:
        raise SettingsError(f"{where}: the price {name} cannot be used: {error}") from error


def _check(value: Mapping[str, Any]) -> None:
    if not _FIELDS <= value.keys() <= _FIELDS | _OF_OBJECTS:
        raise ValueError(
            f"it has exactly {', '.join(sorted(_FIELDS))}, and may have "
            f"{' and '.join(sorted(_OF_OBJECTS))}"
        )
    if type(value["date"]) is not date:
        raise ValueError("its date is no date")


def _rate(value: Any) -> int:
    if not isinstance(value, str) or (amount := pico(value)) < 0:
        raise ValueError(f'{value!r} is no price; dollars are given as text, such as "0.0000002"')
    return amount
