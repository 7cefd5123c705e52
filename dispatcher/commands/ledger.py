"""`lookback ledger`: what is spent, what it leads to, and what a person does about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dispatcher.commands import completion as offered
from dispatcher.commands.exits import answer
from dispatcher.commands.options import RESULTS, AsJson, Folder, SettingsFile, settings_of
from dispatcher.errors import SettingsError
from dispatcher.ledger.accounts import Window, account_of
from dispatcher.ledger.money import dollars, pico

if TYPE_CHECKING:
    from dispatcher.ledger.stores import Store
    from dispatcher.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Show the money, and set or freeze it.\n\nExample: lookback ledger show --to results/",
)

Account = Annotated[
    str,
    typer.Argument(
        help="total, or live, replay, hedge, retry, poison.", autocompletion=offered.accounts
    ),
]

T = TypeVar("T")


@app.command()
def show(
    to: Folder = RESULTS,
    settings: SettingsFile = None,
    calls: Annotated[int, typer.Option(help="Calls to list at most, the latest.", min=0)] = 10,
    as_json: AsJson = False,
) -> None:
    """Show what is spent and set aside of every account in every window, and the last calls.

    Example: lookback ledger show --to results/
    """
    from rich.console import Console

    from dispatcher.clock import SystemClock
    from dispatcher.ledger import view

    given, now = settings_of(settings), SystemClock().now()

    async def look(store: Store) -> None:
        balances, controls = await store.balances(given.caps(), now), await store.controls()
        journal = await store.journal(0.0, calls)
        if as_json:
            answer(view.balances_to_json(balances, controls, journal))
        else:
            view.show_balances(balances, controls, journal, Console())

    _with_store(to, given, look, made=True)


@app.command()
def forecast(to: Folder = RESULTS, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show what every hour of tonight cost, and when a cap would be reached at this rate.

    Example: lookback ledger forecast --to results/
    """
    from rich.console import Console

    from dispatcher.clock import SystemClock
    from dispatcher.ledger import view
    from dispatcher.ledger.forecast import forecast as foresee
    from dispatcher.ledger.windows import Calendar

    given, now = settings_of(settings), SystemClock().now()
    calendar = Calendar(given.spend.noon_utc_h)
    found = _with_store(
        to, given, lambda store: foresee(store, given.caps(), now, calendar), made=True
    )
    if as_json:
        answer(view.forecast_to_json(found))
    else:
        view.show_forecast(found, Console())


@app.command("set")
def set_cap(
    account: Account,
    window: Annotated[
        str,
        typer.Argument(help="minute, hour, night or month.", autocompletion=offered.windows),
    ],
    amount: Annotated[str, typer.Argument(help="Dollars, or none: as the settings have it.")],
    to: Folder = RESULTS,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Replace a cap of the settings. Dispatchers that run obey within a second or two.

    Example: lookback ledger set replay night 20 --to results/
    """
    whose, which, cap = account_of(account), _window(window), _cap(amount)
    given = settings_of(settings)
    _with_store(to, given, lambda store: store.set_cap(whose, which, cap))
    if as_json:
        from dispatcher.ledger.view import exact

        cap_usd = None if cap is None else exact(cap)
        answer({"account": account, "window": which.value, "cap_usd": cap_usd})
        return
    said = "as the settings have it" if cap is None else dollars(cap)
    typer.echo(f"{account} {which}: {said}")


@app.command()
def freeze(
    account: Account,
    to: Folder = RESULTS,
    settings: SettingsFile = None,
    off: Annotated[bool, typer.Option("--off", help="Let it go on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send nothing more of an account. What is under way at workers is still paid.

    Example: lookback ledger freeze total --to results/
    """
    whose, given = account_of(account), settings_of(settings)
    _with_store(to, given, lambda store: store.freeze(whose, frozen=not off))
    if as_json:
        answer({"account": account, "frozen": not off})
    else:
        typer.echo(f"{account} is {'not frozen' if off else 'frozen'}")


def _with_store(
    to: Path, given: Settings, use: Callable[[Store], Awaitable[T]], *, made: bool = False
) -> T:
    """`made`: there must be a ledger; where one only looks, none is begun."""
    from dispatcher.ledger.stores import open_store

    address = given.spend.ledger
    if made and "://" not in address and not (to / address).exists():
        raise SettingsError(
            f"there is no ledger at {to / address}: give the folder of a run (--to) and its "
            "settings (--settings)"
        )

    async def work() -> T:
        store = open_store(address, to, given.spend.budget, given.spend.noon_utc_h)
        await store.open()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(work())


def _window(name: str) -> Window:
    try:
        return Window(name)
    except ValueError:
        raise SettingsError(f"{name!r} is no window: it is one of {', '.join(Window)}") from None


def _cap(amount: str) -> int | None:
    if amount == "none":
        return None
    try:
        cap = pico(amount)
    except ValueError as error:
        raise SettingsError(f"{error}: write it like 12.50, or none for no cap by hand") from None
    if not 0 <= cap < 2**63:
        raise SettingsError(f"a cap of {amount} dollars cannot be: it is 0 to 9,000,000")
    return cap
