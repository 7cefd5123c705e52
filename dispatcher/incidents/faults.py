"""The faults that have a name: what each looks like, and what a person does about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of incident.

    `within_s`: seconds after which it shows at the latest (log, page, metric). `metric`: what to
    look at besides `lookback_incident`. `lasts_s`: where nobody can tell when it is over, seconds
    without another sign after which it counts as such; None where its end is told.
    """

    name: str
    title: str
    within_s: float
    metric: str
    advice: str
    lasts_s: float | None = None

    @property
    def anchor(self) -> str:
        """Of its entry in the playbook."""
        return self.name.replace("_", "-")


_ALL: Final = (
    Fault(
        "broker_gone",
        "The source does not answer",
        20,
        "lookback_source_behind_seconds",
        "nothing is lost and it is asked again; see whether the broker is up and can be reached",
    ),
    Fault(
        "sink_down",
        "A sink takes no rows",
        10,
        "lookback_sink_open",
        "its events wait and are written when it is back; see whether the destination is up",
    ),
    Fault(
        "disk_full",
        "A disk is full",
        10,
        "lookback_sink_open",
        "make room where the results are; events wait and are written once there is some",
    ),
    Fault(
        "budget_gone",
        "The money of a window is spent",
        10,
        "lookback_queue_held",
        "`lookback ledger show` says which cap; `lookback ledger set` raises it, or wait for the "
        "window to end",
    ),
    Fault(
        "bad_schema",
        "Events come with a schema that is not known",
        10,
        "lookback_dead_letters_total",
        "add the schema (ingest.schemas or ingest.registry), then redrive the dead letters",
        lasts_s=300,
    ),
    Fault(
        "poison_flood",
        "Many events become dead letters",
        10,
        "lookback_dead_letters_total",
        "`lookback deadletters list` says of what; the lane stops itself at dead_letters.max_ratio",
        lasts_s=300,
    ),
    Fault(
        "worker_dying",
        "Workers end before they answer",
        10,
        "lookback_workers_lost_total",
        "their items are sent again; see the memory of the machine, and which items it are",
        lasts_s=300,
    ),
    Fault(
        "clock_jump",
        "The clock of this machine has jumped",
        5,
        "lookback_clock_jumps_total",
        "set up NTP so that it slews; windows of money and times in results follow the clock",
        lasts_s=600,
    ),
    Fault(
        "credentials",
        "Credentials are refused",
        20,
        "lookback_incident",
        "renew the password, key or role; what waits goes on once they are taken",
    ),
    Fault(
        "lag_growing",
        "Events wait longer and longer",
        90,
        "lookback_oldest_open_seconds",
        "see what holds them back: more workers, more money or a faster sink is what helps",
    ),
    Fault(
        "drift",
        "The stream is not what the model was made for",
        10,
        "lookback_drift",
        "check magnitudes and stamps of the sender, or whether another model fits",
        lasts_s=1800,
    ),
    Fault(
        "rank_lost",
        "A worker of a group is lost",
        10,
        "lookback_workers_lost_total",
        "only its part is sent again; many of them mean memory, time limits or the network",
        lasts_s=300,
    ),
    Fault(
        "ledger_away",
        "The ledger does not answer",
        10,
        "lookback_unpaid_seconds_total",
        "nothing is sent without money set aside; see whether its store is up",
    ),
    Fault(
        "platform_refuses",
        "The platform refuses all calls",
        20,
        "lookback_refused_calls_total",
        "`lookback functions show` says how many may run; 0 is the kill switch",
    ),
    Fault(
        "commits_fail",
        "Positions cannot be committed",
        10,
        "lookback_incident",
        "they are tried again; what is settled meanwhile is redone after a crash",
    ),
    Fault(
        "stuck",
        "One event holds its partition back",
        60,
        "lookback_oldest_open_seconds",
        "see where it is (with workers, with a sink); a restart sends it again",
        lasts_s=600,
    ),
    Fault(
        "guard_closed",
        "The guard has stopped the spending",
        10,
        "lookback_queue_held",
        "calls cost more than expected or fail; see why, then `lookback ledger freeze --off`",
    ),
)

FAULTS: Final[Mapping[str, Fault]] = MappingProxyType({each.name: each for each in _ALL})
"""By name."""


def reference() -> str:
    """All faults as a Markdown table: the playbook holds it."""
    rows = [
        f"| [{each.title}](#{each.anchor}) | `{each.name}` | {each.within_s:g} s "
        f"| `{each.metric}` |"
        for each in FAULTS.values()
    ]
    head = ["| what | `incident=` in the log | shows within | metric |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"
