"""Running `lookback` as its user does, and reading what it left."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

LOOKBACK = (sys.executable, "-m", "dispatcher")

# What may differ between two runs that are otherwise the same.
TIMES = {"t_broker_in", "t_inferred", "t_published", "run_id"}


def start(*arguments, **options):
    """Start the command; its output goes to pipes."""
    return subprocess.Popen(
        [*LOOKBACK, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def call(*arguments, code=0, **options):
    """Run the command to its end; returns what it printed, and its errors."""
    process = start(*arguments, **options)
    out, errors = process.communicate()
    assert process.returncode == code, (process.returncode, out, errors)
    return out, errors


def figures(*arguments, code=0, **options):
    """Run the command with --json and return the object."""
    out, _ = call(*arguments, "--json", code=code, **options)
    return json.loads(out.splitlines()[-1])


def results(output: Path):
    """Rows of the SQLite sink by key, without what may differ between runs."""
    with sqlite3.connect(output / "results.sqlite") as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM results")]
    db.close()
    return {
        row["result_id"]: {name: row[name] for name in row.keys() - TIMES - {"result_id"}}
        for row in rows
    }


def dead_letters(output: Path):
    """Dead letters by position."""
    lines = (output / "deadletters.jsonl").read_text().splitlines()
    letters = [json.loads(line) for line in lines]
    return {(each["src_partition"], int(each["src_offset"])): each for each in letters}
