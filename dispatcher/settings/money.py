"""The sections about money: caps, prices, purses, and when spending stops by itself."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pydantic import Field

from dispatcher.ledger.accounts import Window
from dispatcher.ledger.money import pico
from dispatcher.settings.sections import Section

_USD = "; unset: no cap"


class Caps(Section):
    """What may be spent in a stretch of time. Every window holds at once."""

    minute_usd: Decimal | None = Field(
        None, ge=0, description=f"dollars in any 60 seconds at most{_USD}"
    )
    hour_usd: Decimal | None = Field(
        None, ge=0, description=f"dollars in any 3,600 seconds at most{_USD}"
    )
    night_usd: Decimal | None = Field(
        None, ge=0, description=f"dollars from noon to noon at most{_USD}"
    )
    month_usd: Decimal | None = Field(
        None, ge=0, description=f"dollars in a month (UTC) at most{_USD}"
    )

    def windows(self) -> dict[Window, int]:
        """The caps that are set, in pico-dollars."""
        given = {each: getattr(self, f"{each.value}_usd") for each in Window}
        return {window: pico(cap) for window, cap in given.items() if cap is not None}


class Spend(Caps):
    """Money. These caps are for all purses together; 0 sends nothing."""

    price: str = Field(
        "local",
        description="what calls cost: local (nothing), or a name of the price table such as "
        "aws-lambda/us-east-1/x86_64; one that costs something needs spend.night_usd or month_usd",
    )
    prices: Path | None = Field(None, description="a price table of your own (TOML)")
    memory_mb: int = Field(
        1769, ge=128, le=10240, description="MB of a worker's memory: what a price is for"
    )
    ledger: str = Field(
        "ledger.sqlite",
        description="where the books of the money are: a file in the output folder (or an absolute "
        "path), postgresql:// or redis:// where several dispatchers share a budget",
    )
    budget: str = Field("lookback", description="name of the budget in a ledger that is shared")
    noon_utc_h: float = Field(
        12.0, ge=0, lt=24, description="hour (UTC) of noon at the observatory: a night begins there"
    )
    soft: float = Field(
        0.8,
        gt=0,
        le=1,
        description="share of a cap from which on calls are fewer and larger",
    )


class Live(Caps):
    """The live lane, and its purse."""

    objective_s: float = Field(
        10.0,
        gt=0,
        description="seconds from taken to answered that 95 of 100 should stay below; where calls "
        "cost money, batches wait for company inside it",
    )


class Replay(Caps):
    """The replay lane, and its purse."""

    rate: float | None = Field(
        None, gt=0, description="events a second at most; unset: all that is left over"
    )
    yield_s: float = Field(
        1.0, gt=0, description="seconds in which workers are free again when live needs them"
    )
    reserve: float = Field(
        0.05, ge=0, lt=1, description="share of the workers that a replay leaves to live"
    )


class Hedge(Caps):
    """The purse of second calls for what takes far too long."""

    share: float = Field(
        0.03, ge=0, le=1, description="of what live and replay have spent, at most; 0: no hedges"
    )


class Retry(Caps):
    """The purse of what is asked again because its worker was lost or out of time."""

    share: float = Field(
        0.25, ge=0, le=1, description="of what live and replay have spent; beyond it, it waits"
    )


class Poison(Caps):
    """The purse of the search for the item that loses its workers."""

    share: float = Field(
        0.1, ge=0, le=1, description="of what live and replay have spent; beyond it, it waits"
    )


class Guard(Section):
    """When a lane stops spending because something is wrong, and tries again by itself."""

    cost_band: float = Field(
        3.0, gt=1, description="times the expected dollars per result at which it stops"
    )
    failed_share: float = Field(
        0.5, gt=0, le=1, description="share of money that goes to failed calls at which it stops"
    )
    growth: float = Field(
        3.0, gt=1, description="times the expected duration at which it stops (median)"
    )
    calls: int = Field(20, ge=3, description="calls before anything is judged")
    probe_s: float = Field(30.0, gt=0, description="seconds until one call is tried again")
