"""What is found in the simulator: SIMULATED platform and sky, the real dispatcher between them."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dispatcher.ledger.accounts import TOTAL, Window
from dispatcher.ledger.money import DOLLAR
from dispatcher.simulate import arrivals, spending
from dispatcher.simulate.platform import Platform
from dispatcher.simulate.search import cheapest, try_all
from dispatcher.simulate.world import Result, Scenario, simulate

_TO_NIGHT: Final = 10_000_000
_USUAL: Final = 90_000
"""Pico-dollars that an event costs where nothing goes wrong."""


def hard_night(seed: int, seconds: int) -> Scenario:
    """Three dispatchers on one budget; failures, cold starts, heavy tails, kills and lost bills.

    More comes than the caps can pay for: a cap that nobody runs into proves nothing. None is below
    what three dispatchers need to have a call each under way (a worst call is 0.9 billion).
    """
    dice = random.Random(seed)  # noqa: S311 - a night is not a secret
    stream = arrivals.steady(dice.choice((700, 1500)), seconds, np.random.default_rng(seed))
    usual = stream.events * _USUAL * 60 // seconds
    minute = max(3 * 10**9, int(usual * dice.uniform(0.3, 0.9)))
    hour = int(minute * dice.uniform(0.5, 1.5) * seconds / 60)
    caps = {TOTAL: {Window.MINUTE: minute, Window.HOUR: hour}}
    platform = Platform(
        straggle=dice.choice((0, 0.01, 0.02)),
        fail=dice.choice((0, 0.02)),
        lose=dice.choice((0, 0.01)),
        hide_bill=dice.choice((0, 0.02)),
        concurrency=dice.choice((20, 200)),
        keep_warm_s=dice.choice((20, 600)),
    )
    kills = [(dice.uniform(20, seconds), dice.randrange(3)) for _ in range(dice.choice((0, 2, 4)))]
    return Scenario(
        stream,
        platform,
        caps,
        dispatchers=3,
        kills=kills,
        until_s=seconds + 60,
        seed=seed,
        in_flight=5000,
    )


def overshoot(seeds: Sequence[int], seconds: int) -> dict[str, Any]:
    """The worst that any window of any night went over its cap: of it, and in calls.

    `cap_used`: the fullest window of a night, of its cap; the least and the most of all nights.
    """
    worst, calls, used, passed = 0.0, 0.0, [], 0
    for seed in seeds:
        scenario = hard_night(seed, seconds)
        found = spending.peaks(simulate(scenario).truth, dict(scenario.caps[TOTAL]))
        worst = max(worst, *(each.overshoot for each in found))
        calls = max(calls, *((each.spent - each.cap) / each.dearest for each in found))
        passed += not all(each.holds for each in found)
        used.append(max(each.spent / each.cap for each in found))
    return {
        "overshoot_worst": worst,
        "overshoot_calls": calls,
        "overshoot_nights": len(seeds),
        "overshoot_nights_out_of_bound": passed,
        "cap_used_least": min(used),
        "cap_used_most": max(used),
    }


def straggler(seconds: int) -> dict[str, Any]:
    """One call in 100 takes ten times as long: with hedges against without."""
    stream = arrivals.steady(300, seconds, np.random.default_rng(1))
    platform = Platform(straggle=0.01, keep_warm_s=1e6)
    plain = simulate(Scenario(stream, platform, hedge=0.0, objective_s=3))
    hedged = simulate(Scenario(stream, platform, objective_s=3))
    return {
        "straggler_p99_ratio": _quantile(hedged, 0.99) / _quantile(plain, 0.99),
        "straggler_cost_ratio": hedged.truth.spent / plain.truth.spent,
    }


def replay(visits: int) -> dict[str, Any]:
    """Visits of 5,000 on 20 workers, alone and beside a replay that takes whatever is left."""
    live = arrivals.visits(visits, 5000, np.random.default_rng(1))
    old = arrivals.Arrivals(np.array([0.0]), np.array([20_000_000]))
    platform = Platform(concurrency=20)
    alone = simulate(Scenario(live, platform))
    beside = simulate(Scenario(live, platform, replay=old))
    seconds = 20 * live.last_s
    return {
        "replay_live_p98_ratio": _quantile(beside, 0.98) / _quantile(alone, 0.98),
        "replay_share_of_left_over": (_busy(beside, live.last_s) - _busy(alone, live.last_s))
        / (seconds - _busy(alone, live.last_s)),
        "replay_longest_call_s": _longest(beside),
    }


def fixed(names: Sequence[str], sizes: Sequence[int], ages: Sequence[float]) -> dict[str, Any]:
    """Dollars per item against the best fixed batch, the worst of the patterns."""
    rows = []
    for name in names:
        scenario = Scenario(arrivals.named(name, 1))
        ours, best = simulate(scenario), cheapest(try_all(scenario, sizes, ages))
        rows.append(
            {
                "pattern": name,
                "usd_per_million": ours.per_event * 1e6 / DOLLAR,
                "best_usd_per_million": best.per_event * 1e6 / DOLLAR,
                "best": f"{best.items} items or {best.max_age_s:g} s",
                "windows_met": ours.windows_met,
                "best_windows_met": best.windows_met,
                "ratio": ours.per_event / best.per_event,
            }
        )
    return {"vs_best_fixed_batch": max(each["ratio"] for each in rows), "patterns": rows}


def dump(events: int, sizes: Sequence[int], ages: Sequence[float]) -> dict[str, Any]:
    """The dump of 2021, against the best fixed policy and one event a call."""
    stream = arrivals.dump_2021(np.random.default_rng(1), events)
    scenario = Scenario(stream, objective_s=30)
    ours, best = simulate(scenario), cheapest(try_all(scenario, sizes, ages))
    single = simulate(Scenario(stream.share(0, 20), objective_s=30, fixed=(1, 0.0)))
    return {
        "dump_2021_cost_ratio": ours.per_event / best.per_event,
        "dump_2021_p98_s": _quantile(ours, 0.98),
        "dump_2021_objective_s": 30,
        "dump_2021_one_event_a_call_cost_ratio": single.per_event / ours.per_event,
        "dump_2021_one_event_a_call_throttles": single.throttles,
    }


def lsst(visits: int) -> dict[str, Any]:
    """Wall seconds of a night of 1,000 visits, from so many of them."""
    stream = arrivals.visits(visits, 10_000, np.random.default_rng(1))
    began = time.perf_counter()
    night = simulate(Scenario(stream, objective_s=30))
    wall = time.perf_counter() - began
    return {
        "lsst_night_s": wall * _TO_NIGHT / stream.events,
        "lsst_visits_simulated": visits,
        "lsst_p98_s": _quantile(night, 0.98),
        "lsst_night_usd": night.per_event * _TO_NIGHT / DOLLAR,
    }


def curve(visits: int) -> list[dict[str, Any]]:
    """Cost and age from 10^4 to 10^8 events a night of 1,000 visits; `visits` of it simulated."""
    rows = []
    for exponent in range(4, 9):
        each = 10**exponent // 1000
        count = max(3, min(visits, 1_000_000 // each))
        night = simulate(
            Scenario(
                arrivals.visits(count, each, np.random.default_rng(1)),
                objective_s=30,
                in_flight=200_000,
            )
        )
        rows.append(
            {
                "events_a_night": 10**exponent,
                "visits_simulated": count,
                "usd_per_million": night.per_event * 1e6 / DOLLAR,
                "p98_s": _quantile(night, 0.98),
                "throttles": night.throttles,
            }
        )
    return rows


def _quantile(result: Result, fraction: float) -> float:
    return result.ages.quantile(fraction) or float("nan")


def _busy(result: Result, until_s: float) -> float:
    start, end = np.array(result.truth.start), np.array(result.truth.end)
    return float(np.maximum(0, np.minimum(end, until_s) - np.minimum(start, until_s)).sum())


def _longest(result: Result) -> float:
    lasted = np.array(result.truth.end) - np.array(result.truth.start)
    return float(np.quantile(lasted, 0.999))
