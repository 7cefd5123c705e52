"""What a shell offers for a value: what there is at this moment, and nothing where that fails.

_LOOKBACK_COMPLETE -> click finds the parameter -> one of these -> words that begin so
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import typer

from dispatcher.commands.options import RESULTS, settings_of

_MOST: Final = 50
Offered = Callable[[typer.Context, str], list[str]]


def _offer(known: Callable[[typer.Context], Iterable[str]]) -> Offered:
    """Of what is known, that which begins as what is typed."""

    def offered(context: typer.Context, incomplete: str) -> list[str]:
        try:
            return [each for each in known(context) if each.startswith(incomplete)]
        except Exception:  # noqa: BLE001 - a traceback in the middle of a prompt helps nobody
            return []

    return offered


@_offer
def classes(_: typer.Context) -> Iterable[str]:
    """Classes of dead letters."""
    from sinks.deadletters import ErrorClass

    return list(ErrorClass)


@_offer
def accounts(_: typer.Context) -> Iterable[str]:
    """The purses, and all of them."""
    from dispatcher.ledger.accounts import TOTAL, Purse

    return [TOTAL, *Purse]


@_offer
def windows(_: typer.Context) -> Iterable[str]:
    """Windows of money."""
    from dispatcher.ledger.accounts import Window

    return list(Window)


@_offer
def prices(_: typer.Context) -> Iterable[str]:
    """Names of the price table."""
    from dispatcher.ledger.prices import prices as table

    return list(table())


@_offer
def models(_: typer.Context) -> Iterable[str]:
    """Models that are shipped; a file is completed by the shell."""
    from workers.weights import shipped

    return list(shipped())


@_offer
def recipes(_: typer.Context) -> Iterable[str]:
    """Recipes of training that are shipped."""
    from workers.training.recipe import shipped

    return shipped()


@_offer
def nights(_: typer.Context) -> Iterable[str]:
    """Nights and patterns that can be simulated."""
    from dispatcher.simulate.arrivals import NIGHTS, PATTERNS

    return [*NIGHTS, *PATTERNS]


@_offer
def letters(context: typer.Context) -> Iterable[str]:
    """Places of the latest dead letters of the run."""
    return [str(entry.place) for entry in _listing(context).entries]


@_offer
def reasons(context: typer.Context) -> Iterable[str]:
    """Reasons that dead letters of the run have."""
    return sorted({reason for _, reason in _listing(context).reasons})


@_offer
def states(_: typer.Context) -> Iterable[str]:
    """States of an estimate that was held for review."""
    return ["waiting", "approved", "rejected"]


@_offer
def held(context: typer.Context) -> Iterable[str]:
    """Result ids that wait for a decision in the folder of the run."""
    from dispatcher.review.decisions import state_of
    from dispatcher.review.sqlite import FILE, SqliteReview

    async def listed() -> list[str]:
        store = SqliteReview(folder / FILE)
        await store.open()
        try:
            _, waiting = await store.listing(state_of("waiting"), 0, _MOST)
            return [each.record.result_id for each in waiting]
        finally:
            await store.close()

    folder = _folder(context)
    return asyncio.run(listed()) if (folder / FILE).exists() else []


def _folder(context: typer.Context) -> Path:
    return Path(context.params.get("to") or RESULTS)


def _listing(context: typer.Context) -> Any:
    from dispatcher.deadletters import Selection, list_letters
    from dispatcher.destinations import open_letters

    folder = _folder(context)

    async def listed() -> Any:
        async with AsyncExitStack() as stack:
            held = await open_letters(stack, folder, settings_of(context.params.get("settings")))
            return await list_letters(held, Selection(), _MOST)

    # A store may make its file when it is opened, and nobody asked for one.
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return asyncio.run(listed())
