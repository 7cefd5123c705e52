"""Running `lookback` as its user does, and reading what it left."""

import contextlib
import io
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest import mock

from dispatcher import cli

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


def here(*arguments, code=0):
    """`call`, in this process: for what starts no workers and is killed by nobody."""
    out, errors, ended = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["lookback", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            cli.main()
        except SystemExit as end:
            ended = end.code
    assert ended == code, (ended, out.getvalue(), errors.getvalue())
    return out.getvalue(), errors.getvalue()


def figures(*arguments, run=call, **options):
    """Run the command with --json, by `call` or `here`, and return the object."""
    out, _ = run(*arguments, "--json", **options)
    return json.loads(out.splitlines()[-1])


def wait_until_said(process, words):
    """Wait for a line on standard error of a started command; returns it."""
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended, and never said {words!r}")


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
