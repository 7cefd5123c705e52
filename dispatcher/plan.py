"""What batches of every size would cost and how long they would take, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatcher.calls import sizing
from dispatcher.calls.durations import Fit
from dispatcher.calls.sizing import Limits, Target
from dispatcher.ledger.money import DOLLAR
from dispatcher.ledger.prices import Tariff

_SIZES: Final = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160, 256, 512, 1024, 2048)
_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Choice:
    """A batch of `items` at a rate of arrival. Times in seconds.

    `fill_s`: until it is full; `p50_s`, `p95_s`: what its call takes, warm; `age_s`: of its oldest
    item when 95 of 100 such calls are answered; `fixed`: share of its cost that does not depend on
    its size; `busy`: workers that such calls keep busy on average; `met`: whether the age is inside
    the objective and the call inside its deadline.
    """

    items: int
    fill_s: float
    p50_s: float
    p95_s: float
    age_s: float
    usd_per_million: float
    fixed: float
    busy: float
    met: bool
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All sizes for `rate` events a second that are to be answered within `objective_s`."""

    rate: float
    objective_s: float
    choices: tuple[Choice, ...]

    @property
    def chosen(self) -> Choice:
        """The one that would be sent."""
        return next(each for each in self.choices if each.chosen)


def curve(fit: Fit, tariff: Tariff, limits: Limits, rate: float, objective_s: float) -> Plan:
    """Every size, and the one that would be sent, marked."""
    best = size_at(fit, tariff, limits, rate, objective_s)
    tried = (each for each in (*_SIZES, limits.items) if each <= limits.items)
    sizes = sorted({1, *(each * _ranks(limits) for each in tried), best})
    choices = (_choice(fit, tariff, limits, each, rate, objective_s, best) for each in sizes)
    return Plan(rate, objective_s, tuple(choices))


def size_at(fit: Fit, tariff: Tariff, limits: Limits, rate: float, objective_s: float) -> int:
    """Items of a batch at that rate: full, or what has come when its oldest is due."""
    target = Target(objective_s)
    full = sizing.full(fit, tariff, limits, target, explore=False).items

    def in_time(items: int) -> bool:
        return sizing.due_in(fit, limits, target, items, (items - 1) / rate) >= 0

    return next((each for each in range(full, 1, -1) if in_time(each)), 1)


def _ranks(limits: Limits) -> int:
    return limits.ranks if limits.exact_ranks else 1


def _choice(
    fit: Fit,
    tariff: Tariff,
    limits: Limits,
    items: int,
    rate: float,
    objective_s: float,
    best: int,
) -> Choice:
    ranks = min(_ranks(limits), items)
    share = -(-items // ranks)
    fill_s, p50_s, p95_s = (items - 1) / rate, fit.predict(share), fit.p95_s(share)
    cost = sizing.quote(fit, tariff, items, ranks, limits.time_s).expected
    return Choice(
        items,
        fill_s,
        p50_s,
        p95_s,
        fill_s + p95_s,
        cost / items * 1e6 / DOLLAR,
        _fixed(fit, tariff, items, ranks, cost),
        rate / items * ranks * p50_s,
        met=fill_s + p95_s <= objective_s and p95_s <= limits.time_s,
        chosen=items == best,
    )


def _fixed(fit: Fit, tariff: Tariff, items: int, ranks: int, cost: int) -> float:
    """The share of the cost; of the time, where nothing costs anything."""
    if tariff.price.free:
        share = -(-items // ranks)
        return fit.base_s / fit.predict(share)
    rate, of = tariff.per_ms
    return max(0.0, 1 - items * fit.per_item_s * _MS * rate / of / cost)


def plot(plans: list[Plan], title: str, path: Path) -> None:
    """Draw dollars and age over the size of a batch, for every plan.

    Raises:
        OSError: the file cannot be written.
        ValueError: its name does not end like that of a picture.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (money, age) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    for n, each in enumerate(plans):
        colour = f"C{n}"
        label = f"{each.rate:g} a second in {each.objective_s:g} s: {each.chosen.items} items"
        sizes = [choice.items for choice in each.choices]
        age.plot(sizes, [choice.age_s for choice in each.choices], ".-", color=colour, label=label)
        age.plot(each.chosen.items, each.chosen.age_s, "o", ms=11, color=colour)
        age.axhline(each.objective_s, color=colour, linestyle=":")
        money.plot(each.chosen.items, each.chosen.usd_per_million, "o", ms=11, color=colour)
    # What a size costs does not depend on how fast events come: all plans share one line.
    costs = {choice.items: choice.usd_per_million for each in plans for choice in each.choices}
    money.plot(sorted(costs), [costs[each] for each in sorted(costs)], ".-", color="0.4", zorder=1)
    money.set(xlabel="items of a batch", ylabel="dollars per million items")
    age.set(xlabel="items of a batch", ylabel="age when answered, s (95 of 100)")
    # What is free has no logarithm.
    paid = min(costs.values()) > 0
    for axes, log_y in ((money, paid), (age, True)):
        axes.set(xscale="log", yscale="log" if log_y else "linear")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    figure.legend(*age.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    age.set_title("dotted: objective; large: sent", fontsize="medium")
    figure.savefig(path, dpi=120)
    plt.close(figure)
