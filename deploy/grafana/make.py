"""Writes the dashboards beside this file: `python deploy/grafana/make.py`.

A dashboard is a list of rows, a row a list of panels, a panel a title, a unit and what it shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
_WIDTH: Final = 24
_HEIGHT: Final = 8

Shown = tuple[str, str]
"""An expression, and the name of its curves."""
Panel = tuple[str, str, str, list[Shown], str]
"""Title, kind, unit, what is shown, and what it tells."""

LINE: Final = "timeseries"
STAT: Final = "stat"
BARS: Final = "bargauge"

NIGHT: Final[list[list[Panel]]] = [
    [
        (
            "Books",
            STAT,
            "short",
            [("max(lookback_unbalanced_partitions)", "partitions that do not balance")],
            "Always 0. Anything else is a fault of Lookback: `lookback reconcile` names the event.",
        ),
        (
            "Oldest open event",
            STAT,
            "s",
            [("max(lookback_oldest_open_seconds)", "age")],
            "The figure to look at first: how long somebody has waited for an answer.",
        ),
        (
            "Money of the night",
            STAT,
            "percentunit",
            [('lookback_cap_used_ratio{account="total",window="night"}', "spent")],
            "Share of the night's cap that is spent.",
        ),
        (
            "Incidents that last",
            STAT,
            "short",
            [("sum(lookback_incident)", "incidents")],
            "Each has an entry in the playbook.",
        ),
    ],
    [
        (
            "Events settled",
            LINE,
            "reqps",
            [("sum by (outcome) (rate(lookback_settled_total[1m]))", "{{outcome}}")],
            "What became of events, a second.",
        ),
        (
            "Age",
            LINE,
            "s",
            [
                ("max(lookback_oldest_open_seconds)", "oldest open"),
                ("max by (source) (lookback_source_behind_seconds)", "behind {{source}}"),
                ("max(lookback_objective_seconds)", "objective"),
            ],
            "The oldest event under way, and how far the source is ahead of us.",
        ),
        (
            "Latency",
            LINE,
            "s",
            [("lookback_latency_seconds", "p{{quantile}}")],
            "From taken to written in every sink, of this run.",
        ),
    ],
    [
        (
            "Spent against caps",
            LINE,
            "percentunit",
            [("lookback_cap_used_ratio", "{{account}} {{window}}")],
            "A curve that reaches 1 stops what it pays for.",
        ),
        (
            "Dollars an hour",
            LINE,
            "currencyUSD",
            [("3600 * sum by (purse) (rate(lookback_spent_dollars_total[5m]))", "{{purse}}")],
            "How fast money burns, by purse.",
        ),
        (
            "What holds the queue",
            LINE,
            "percentunit",
            [
                (
                    "sum by (lane, by) (rate(lookback_queue_held_seconds_total[1m]))",
                    "{{lane}}: {{by}}",
                )
            ],
            "Share of the time that the front of each lane's queue waited for what.",
        ),
    ],
    [
        (
            "In flight",
            LINE,
            "short",
            [
                ("sum(lookback_in_flight)", "open"),
                ("sum(lookback_queue_waiting)", "waiting for workers"),
                ("sum(lookback_at_workers)", "with workers"),
            ],
            "Where events are.",
        ),
        (
            "Dead letters",
            LINE,
            "short",
            [("sum by (class) (increase(lookback_dead_letters_total[10m]))", "{{class}}")],
            "In ten minutes, by error class.",
        ),
        (
            "Out of domain",
            LINE,
            "percentunit",
            [("lookback_out_of_domain_ratio", "refused"), ("max(lookback_drift)", "drift")],
            "Share of events that look like nothing the model was made for; 1 while a drift lasts.",
        ),
    ],
]

PARTS: Final[list[list[Panel]]] = [
    [
        (
            "Partitions: waiting in the source",
            LINE,
            "short",
            [("lookback_source_waiting", "{{partition}}")],
            "Offsets that are there and not taken.",
        ),
        (
            "Partitions: open",
            LINE,
            "short",
            [("lookback_in_flight", "{{partition}}")],
            "Events taken and not settled.",
        ),
    ],
    [
        (
            "Workers",
            LINE,
            "short",
            [("lookback_workers_in_use", "in use"), ("lookback_workers_limit", "limit")],
            "The limit follows what the platform gives.",
        ),
        (
            "Calls",
            LINE,
            "reqps",
            [
                ("sum by (lane) (rate(lookback_calls_total[1m]))", "{{lane}}"),
                ("rate(lookback_refused_calls_total[1m])", "refused"),
                ("rate(lookback_workers_lost_total[1m])", "lost"),
                ("rate(lookback_hedges_total[1m])", "made twice"),
            ],
            "Calls to workers, a second.",
        ),
        (
            "Batch",
            LINE,
            "short",
            [("lookback_batch_items", "{{lane}}")],
            "Items at which a batch is sent at once.",
        ),
    ],
    [
        (
            "Sinks: rows written",
            LINE,
            "reqps",
            [("sum by (sink) (rate(lookback_sink_written_total[1m]))", "{{sink}}")],
            "A second.",
        ),
        (
            "Sinks: rows waiting",
            LINE,
            "short",
            [("lookback_sink_waiting", "{{sink}}"), ("lookback_sink_open", "{{sink}} left alone")],
            "Rows that a sink has not seen; 1 while it fails.",
        ),
        (
            "Sinks: rows missed",
            LINE,
            "short",
            [("sum by (sink) (increase(lookback_sink_dropped_total[10m]))", "{{sink}}")],
            "By sinks that hold nothing up.",
        ),
    ],
    [
        (
            "Ledger: caps",
            LINE,
            "currencyUSD",
            [("lookback_cap_dollars", "{{account}} {{window}}")],
            "What may be spent. It changes when somebody changes it.",
        ),
        (
            "Ledger: set aside",
            LINE,
            "currencyUSD",
            [
                ("lookback_reserved_dollars", "set aside"),
                ("lookback_overspent_dollars_total", "spent above that"),
            ],
            "For calls under way; and what calls have cost above it, which should stay 0.",
        ),
        (
            "Health",
            LINE,
            "short",
            [
                ("lookback_live", "live"),
                ("lookback_ready", "ready"),
                ("lookback_paused", "paused"),
            ],
            "1 for yes. Not live: only a restart helps. Not ready: something it needs is away.",
        ),
    ],
    [
        (
            "Held back",
            LINE,
            "percentunit",
            [
                ("rate(lookback_held_back_seconds_total[1m])", "source held back"),
                ("rate(lookback_unpaid_seconds_total[1m])", "for money"),
            ],
            "Share of the time that the source was not asked.",
        ),
        (
            "Memory",
            LINE,
            "bytes",
            [
                ("lookback_process_resident_memory_bytes", "dispatcher"),
                ("lookback_credit_bytes", "events under way"),
            ],
            "Of the dispatcher; workers are processes of their own.",
        ),
        (
            "Incidents",
            BARS,
            "short",
            [("sum by (fault) (lookback_incidents_total) > 0", "{{fault}}")],
            "That have begun in this run.",
        ),
    ],
]


def dashboard(uid: str, title: str, rows: list[list[Panel]]) -> dict[str, Any]:
    """Grafana's JSON (schema 39)."""
    panels = []
    for y, row in enumerate(rows):
        width = _WIDTH // len(row)
        for x, panel in enumerate(row):
            place = {"x": x * width, "y": y * _HEIGHT, "w": width, "h": _HEIGHT}
            panels.append(_panel(len(panels) + 1, place, panel))
    return {
        "uid": uid,
        "title": title,
        "tags": ["lookback"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-12h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": panels,
    }


def _panel(number: int, place: dict[str, int], panel: Panel) -> dict[str, Any]:
    title, kind, unit, shown, tells = panel
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": tells,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(shown)
        ],
    }


def files() -> dict[str, str]:
    """Contents by file name."""
    return {
        f"{name}.json": json.dumps(dashboard(f"lookback-{name}", title, rows), indent=1) + "\n"
        for name, title, rows in (
            ("night", "Lookback: the night", NIGHT),
            ("parts", "Lookback: parts", PARTS),
        )
    }


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
