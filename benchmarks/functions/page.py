"""The page of a full run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

SIMULATED: Final = [
    (
        "the platform: throttles, cold starts and prices are made on this machine; processes, "
        "aiobotocore, awslambdaric, groups, model and milliseconds are real"
    ),
]

_HEAD: Final = """# Functions: what a billed second gives

`python -m benchmarks.functions`. Measured on {machine}.

The platform is the one of `lookback platform`, on loopback: SIMULATED. Its functions are processes
that `awslambdaric` runs, one core each (1,769 MB is what Lambda gives one core for), called through
aiobotocore. Milliseconds are measured and billed as Lambda does, start-up included; dollars are
those milliseconds times the price table (us-east-1, x86_64, 2026-08-19). A network between
dispatcher, functions and bucket costs more than loopback: add your own.
"""

_SUM: Final = """
An image costs 1,769 / 1,024 GB x ${gb_second} a GB-second / {rate:.0f} images a second, and a
{items}th of a request at $0.0000002: **${usd:.3f} a million images**. Memory: the function has
{memory:.0f} MB at most. Less memory than 1,769 MB buys less than a core, in proportion: the same
dollars, and a longer wait; more memory buys cores that one batch of this size does not use. So
1,769 MB is the best size for the one thread that a function uses.
"""

_CAI: Final = """The peer leaves out what CAI's executor downloads in each call, and has one core;
the original had 10,240 MB, which are 5.8 cores, most of them idle. Its own bill: 17 to 19 images a
billed vCPU second, $0.97 to $1.68 a million images ($0.24 printed).
"""
_NIGHTS: Final = """20 % of the invocations are cold, 5 % are throttled, 2 % fail, 1 % hang until
they are stopped, and in every tenth group a rank is killed. `ledger` is what the dispatcher booked,
`invoice` what the platform charged, in pico-dollars.
"""
_BOOKS: Final = """
Largest difference: {error} pico-dollars. Reservations left open: {left}. Every event settled once:
{once}.
"""
_GROUPS: Final = """Functions that carry no weights and have them from a bucket. In a group one rank
reads them and gives them to the others, and the root gathers all verdicts; alone, each reads for
itself. 160 stamps a rank.
"""


def write(where: Mapping[str, str], found: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    machine = ", ".join(f"{key} {value}" for key, value in where.items())
    rows = [
        ["images a billed vCPU second", "images_per_billed_vcpu_s", "{:.0f}"],
        ["... in bfloat16", "images_per_billed_vcpu_s_bfloat16", "{:.0f}"],
        ["... one image a call (peer)", "peer_one_image_a_call_per_billed_vcpu_s", "{:.0f}"],
        [
            "... as CAI's executor works, cold, on one core (peer)",
            "peer_as_cai_per_billed_vcpu_s",
            "{:.0f}",
        ],
        ["share of the billed time that computes", "compute_share", "{:.3f}"],
        ["dollars a million images", "usd_per_million_images", "{:.3f}"],
        ["... in bfloat16", "usd_per_million_images_bfloat16", "{:.3f}"],
        ["cold start, model loaded (s)", "cold_start_s", "{:.2f}"],
        ["what a call adds to its function, median (ms)", "invoke_overhead_ms", "{:.1f}"],
    ]
    parts = [
        _HEAD.format(machine=machine),
        "## One function, warm, 160 stamps a call\n",
        _table(["what", "figure"], [[name, form.format(found[key])] for name, key, form in rows]),
        _SUM.format(
            gb_second="0.0000166667",
            rate=found["images_per_billed_vcpu_s"],
            items=160,
            usd=found["usd_per_million_images"],
            memory=found["max_memory_mb"],
        ),
        _CAI,
        "## Nights of trouble: is the ledger the bill?\n",
        _NIGHTS,
        _table(
            ["ranks", "events", "rows", "invocations", "cold", "throttles", "ledger", "invoice"],
            [
                [
                    f"{each[key]:,}"
                    for key in (
                        "ranks",
                        "received",
                        "rows",
                        "invocations",
                        "cold",
                        "throttles",
                        "ledger",
                        "invoice",
                    )
                ]
                for each in found["nights"]
            ],
        ),
        _BOOKS.format(
            error=found["ledger_error_picousd"],
            left=found["reservations_left_open"],
            once="yes" if found["all_settled_once"] else "NO",
        ),
        "## Does a group pay?\n",
        _GROUPS,
        _table(
            ["ranks", "", "", "seconds", "billed ms", "read from the bucket", "reads", "dollars"],
            [
                [
                    str(each["ranks"]),
                    "cold" if each["cold"] else "warm",
                    "group" if each["grouped"] else "alone",
                    f"{each['seconds']:.2f}",
                    f"{each['billed_ms']:,}",
                    f"{each['bucket_bytes'] / 1e6:.1f} MB",
                    str(each["bucket_requests"]),
                    f"{each['usd']:.7f}",
                ]
                for each in found["groups"]
            ],
        ),
        "",
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(each) + " |" for each in lines) + "\n"
