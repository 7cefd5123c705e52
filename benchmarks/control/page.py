"""The page of a full run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

SIMULATED: Final = [
    "overshoot_worst",
    "straggler_p99_ratio",
    "replay_live_p98_ratio",
    "vs_best_fixed_batch",
    "dump_2021_cost_ratio",
    "lsst_night_s (the night; the seconds are real)",
]
"""Keys whose platform and sky are simulated."""

_HEAD: Final = """# Control: what it costs and what it saves

`python -m benchmarks.control`. Measured on {machine}.

What says SIMULATED ran the real dispatcher (lane, scheduler, ledger, triage) on a virtual clock
against a simulated platform: a function of one vCPU (1,769 MB), 20 ms and 2.7 ms an item, cold
starts of 1.5 s, 1,000 environments, prices of us-east-1.
"""


def write(where: Mapping[str, str], found: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    one = {key: value for key, value in found.items() if not isinstance(value, list)}
    machine = ", ".join(f"{key} {value}" for key, value in where.items())
    parts = [
        _HEAD.format(machine=machine),
        "## This machine, real\n",
        _table(
            ["what", "figure"],
            [
                ["processor time an item, 10,000 a second (us)", f"{one['us_per_item']:.1f}"],
                ["reserve and settle, embedded ledger (us)", f"{one['admit_us']:.1f}"],
                [
                    "one item of 512 that kills its worker: calls beyond the first",
                    f"{one['poison_extra_calls']}",
                ],
                [
                    "... dollars of those, to one undisturbed batch",
                    f"{one['poison_cost_ratio']:.2f}",
                ],
                [
                    "... with the start-up of the killed workers",
                    f"{one['poison_cost_ratio_with_cold']:.2f}",
                ],
            ],
        ),
        "## SIMULATED\n",
        _table(
            ["what", "figure"],
            [
                [
                    f"worst overshoot of a cap, {one['overshoot_nights']} nights, as a fraction",
                    f"{one['overshoot_worst']:.4f}",
                ],
                ["... in calls (below 0: how much was left)", f"{one['overshoot_calls']:.1f}"],
                [
                    "... fullest window of a night, of its cap, least and most",
                    f"{one['cap_used_least']:.2f} to {one['cap_used_most']:.2f}",
                ],
                ["nights out of the bound", str(one["overshoot_nights_out_of_bound"])],
                ["p99 with hedges, to without", f"{one['straggler_p99_ratio']:.2f}"],
                ["money with hedges, to without", f"{one['straggler_cost_ratio']:.3f}"],
                ["live p98 beside a replay, to alone", f"{one['replay_live_p98_ratio']:.2f}"],
                [
                    "of what live leaves over, the replay takes",
                    f"{one['replay_share_of_left_over']:.2f}",
                ],
                ["a replay's longest call (99.9 %, s)", f"{one['replay_longest_call_s']:.2f}"],
                ["dollars to the best fixed batch, worst", f"{one['vs_best_fixed_batch']:.3f}"],
                [
                    "dump of 2021: dollars to the best fixed policy",
                    f"{one['dump_2021_cost_ratio']:.3f}",
                ],
                ["... p98 age, objective 30 s", f"{one['dump_2021_p98_s']:.1f} s"],
                [
                    "... one event a call, to ours",
                    f"{one['dump_2021_one_event_a_call_cost_ratio']:.1f}",
                ],
                [
                    f"LSST night of 10,000,000, {one['lsst_visits_simulated']} visits simulated",
                    f"{one['lsst_night_s']:.0f} s",
                ],
                ["... dollars a night", f"{one['lsst_night_usd']:.2f}"],
            ],
        ),
        "## SIMULATED: twelve ways to arrive\n",
        _rows(found["patterns"]),
        "## SIMULATED: from 10,000 to 100,000,000 events a night\n",
        "Nights of 1,000 visits, of which as many were simulated as the table says.\n",
        _rows(found["curve"]),
    ]
    return "\n".join(parts)


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        [key.replace("_", " ") for key in rows[0]],
        [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
