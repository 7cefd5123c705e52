"""Dead letters on a terminal.

What a letter says comes from outside. Here it is plain text: no markup, and control characters are
written out, so that no event can move somebody's cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dispatcher.deadletters import Entry, Listing
from dispatcher.ledger.money import dollars
from sinks.deadletters import DeadLetter

_FIRST_BYTES: Final = 256
_LINE: Final = 16

_COLUMNS: Final = (
    "class",
    "reason",
    "survey",
    "alert id",
    "attempts",
    "redriven",
    "cost",
    "bytes",
    "when (UTC)",
    "place",
)


def show_listing(listing: Listing, console: Console) -> None:
    """Print the counts by reason, and a table of the letters that are listed."""
    if not listing.total:
        console.print("no dead letters")
        return
    counts = Table.grid(padding=(0, 3))
    for (error_class, reason), count in listing.reasons.most_common():
        counts.add_row(plain(error_class), plain(reason), str(count))
    if listing.entries:
        # A line each, however long: a place is there to be copied, so it must not be folded.
        rows = [_COLUMNS, *map(_cells, listing.entries)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            console.print(plain("  ".join(cells).rstrip()), soft_wrap=True)
        console.print()
    console.print(counts)
    console.print(
        f"{listing.total} dead letters, {listing.bytes} bytes, {len(listing.entries)} shown"
    )


def show_letter(letter: DeadLetter, console: Console) -> None:
    """Print every field of a letter, and the first bytes of its body."""
    table = Table.grid(padding=(0, 3))
    for name, value in describe(letter).items():
        if name == "headers":
            for header, content in value.items():
                table.add_row(plain(f"header {header}"), plain(content))
        elif name != "first_bytes":
            table.add_row(name, plain("-" if value is None else str(value)))
    console.print(table)
    for line in _dump(letter.body[:_FIRST_BYTES]):
        console.print(Text(line), soft_wrap=True)
    if len(letter.body) > _FIRST_BYTES:
        console.print(f"... {len(letter.body) - _FIRST_BYTES} bytes more")


def describe(letter: DeadLetter) -> dict[str, Any]:
    """A letter for JSON: every field, and of the body its length and first bytes (hex digits)."""
    return {
        "place": str(letter.place),
        **letter.about(),
        "when": _when(letter.t_dead),
        "bytes": len(letter.body),
        "first_bytes": letter.body[:_FIRST_BYTES].hex(),
    }


def plain(text: str) -> Text:
    """Text as it is: no markup, and what is not printable as an escape sequence of Python."""
    return Text("".join(each if each.isprintable() else ascii(each)[1:-1] for each in text))


def _cells(entry: Entry) -> tuple[str, ...]:
    cost = entry.cost_usd_pico
    return (
        entry.error_class,
        entry.reason,
        entry.survey or "-",
        entry.alert_id or "-",
        str(entry.attempts),
        str(entry.redriven),
        "-" if cost is None else dollars(cost),
        str(entry.bytes),
        _when(entry.t_dead),
        str(entry.place),
    )


def _when(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _dump(data: bytes) -> Iterator[str]:
    """Lines of hex digits, with the text beside them."""
    for start in range(0, len(data), _LINE):
        row = data[start : start + _LINE]
        text = "".join(chr(each) if 0x20 <= each < 0x7F else "." for each in row)
        yield f"{start:08x}  {row.hex(' '):<{3 * _LINE - 1}}  {text}"
