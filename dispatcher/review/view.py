"""Held estimates on a terminal. What comes from outside is plain text there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from dispatcher.commands.deadletters_view import plain
from dispatcher.review.store import Held
from dispatcher.status.recent import flags

_COLUMNS: Final = ("result id", "object", "redshift", "rules", "held (UTC)", "state", "by", "note")


def show_listing(total: int, held: Sequence[Held], state: str, console: Console) -> None:
    """Print a line for each: the id is there to be copied, so no line is folded."""
    if not total:
        console.print(f"no estimate is {state}" if state else "no estimate was held for review")
        return
    rows = [_COLUMNS, *map(_cells, held)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(plain("  ".join(cells).rstrip()), soft_wrap=True)
    console.print(f"{total} {state or 'held'}, {len(held)} shown")


def show_one(held: Held, console: Console) -> None:
    """Print what was estimated and what was decided."""
    table = Table.grid(padding=(0, 3))
    for name, value in _known(held).items():
        table.add_row(name, plain(str(value)))
    console.print(table)


def describe(held: Held) -> dict[str, Any]:
    """One for JSON."""
    return {
        "record": held.reviewed().to_json(),
        "quality": flags(held.record.quality_flag),
        "t_held": held.t_held,
        "t_published": held.t_published,
    }


def _known(held: Held) -> Mapping[str, Any]:
    fields = {name: value for name, value in held.reviewed().to_json().items() if value is not None}
    published = "not yet" if held.t_published is None else _when(held.t_published)
    return {
        **fields,
        "quality": ", ".join(flags(held.record.quality_flag)) or "nothing to remark",
        "held (UTC)": _when(held.t_held),
        "published (UTC)": published,
    }


def _cells(held: Held) -> tuple[str, ...]:
    row = held.record
    return (
        row.result_id,
        row.object_id or row.alert_id,
        _redshift(held),
        row.review_rules or "-",
        _when(held.t_held),
        held.standing.value,
        held.by or "-",
        held.note or "-",
    )


def _redshift(held: Held) -> str:
    row = held.record
    if row.z_err68_low is None or row.z_err68_high is None:
        return f"{row.z_median:.4f}"
    return f"{row.z_median:.4f} ({row.z_err68_low:.4f} to {row.z_err68_high:.4f})"


def _when(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
