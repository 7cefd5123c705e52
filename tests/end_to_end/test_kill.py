"""`kill -9`, of the dispatcher and of workers, at random moments of a run (seeded).

After it the sinks hold exactly what an undisturbed run gives.
"""

import itertools
import json
import random
import signal
import sqlite3
import time
from contextlib import closing, suppress

import lookback
import psutil
import pytest

from dispatcher.demo import render_night

pytestmark = pytest.mark.timeout(400)

SINKS = '[sinks]\nrequired = ["results.sqlite", "results.jsonl", "results.parquet"]\n'
KILLS = 10


@pytest.fixture(scope="module")
def long_night(tmp_path_factory):
    """A night that takes long enough to be killed in the middle some times."""
    path = tmp_path_factory.mktemp("long") / "night.sqlite"
    render_night(path, galaxies=300, seed=9)
    return path


@pytest.fixture(scope="module")
def undisturbed(long_night, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    lookback.figures("run", long_night, "--to", output, "--settings", settings(output))
    return contents(output)


def settings(folder):
    path = folder / "lookback.toml"
    # Frequent commits and small batches: more different moments to be killed at. And no item is
    # blamed for the kills, however many of them it meets.
    blameless = f"[workers]\nattempts = {KILLS + 2}\n"
    small = "commit_s = 0.2\nbatch = 16\n[batch]\nitems = 32\n"
    path.write_text(SINKS + small + blameless)
    return path


def contents(output):
    """All that was stored, without times and run ids."""
    import pyarrow.parquet as pq

    rows = lookback.results(output)
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    parts = pq.read_table(output / "results.parquet").to_pylist()
    for stored in (lines, parts):
        assert len(stored) == len(rows), "a sink holds a key twice, or not at all"
        assert {each["result_id"] for each in stored} == set(rows)
    letters = lookback.dead_letters(output)
    return rows, {place: (each["reason"], each["body"]) for place, each in letters.items()}


def assert_same(found, expected, night):
    """The same rows, and in them the same values.

    A restart puts items into other batches, and the last digits of a sum of floats depend on
    its company: redshifts are compared to 1e-3. Where p(z) has two equal peaks the mode, and the
    flag that looks at it, may then fall on either. Partitions take turns, by how much is asked for
    at a time: of an event that is in two of them either may be the first.
    """
    (rows, letters), (expected_rows, expected_letters) = found, expected
    assert letters == expected_letters
    assert rows.keys() == expected_rows.keys()
    undecided = 0
    for key, row in rows.items():
        other = expected_rows[key]
        assert body_at(night, row) == body_at(night, other), key
        for name, value in row.items():
            if name in ("z_mode", "quality_flag"):
                undecided += value != pytest.approx(other[name], abs=1e-3)
            elif isinstance(value, float):
                assert value == pytest.approx(other[name], abs=1e-3), (key, name)
            elif name not in ("src_partition", "src_offset"):
                assert value == other[name], (key, name)
    assert undecided <= 0.02 * len(rows)


def body_at(night, row):
    """The event at the place that a row names."""
    with closing(sqlite3.connect(night)) as db:
        place = row["src_partition"], int(row["src_offset"])
        query = 'SELECT body FROM events WHERE partition = ? AND "offset" = ?'
        return db.execute(query, place).fetchone()


@pytest.fixture
def new_output(tmp_path):
    """Makes fresh output folders: a night may be over before it was killed often enough."""
    numbers = itertools.count()

    def make():
        output = tmp_path / f"night-{next(numbers)}"
        output.mkdir()
        return output

    return make


def run(night, output):
    return "run", night, "--to", output, "--settings", settings(output)


def test_a_dispatcher_killed_ten_times_leaves_what_an_undisturbed_run_does(
    long_night, undisturbed, new_output
):
    moments, kills = random.Random(2026), 0
    while kills < KILLS:
        output, over, workers = new_output(), False, []
        while kills < KILLS and not over:
            process = lookback.start(*run(long_night, output), "--json")
            if kills % 3 == 2:
                time.sleep(moments.uniform(0.0, 2.5))  # while it starts
            else:
                wait_for_results(process, output)
                time.sleep(moments.uniform(0.0, 0.6))
            workers += children(process)
            over = process.poll() is not None
            process.kill()
            process.communicate()
            kills += not over
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive, "workers outlive a killed dispatcher"
        summary = lookback.figures(*run(long_night, output))
        assert summary["books"]["balanced"]
        assert_same(contents(output), undisturbed, long_night)
        proof = lookback.figures("reconcile", *run(long_night, output)[1:], run=lookback.here)
        assert proof["findings"] == []
        assert proof["books"] == summary["books"]


def test_workers_killed_ten_times_change_nothing(long_night, undisturbed, new_output):
    moments, kills = random.Random(7), 0
    while kills < KILLS:
        output = new_output()
        process = lookback.start(*run(long_night, output), "--json")
        wait_for_results(process, output)
        while kills < KILLS and process.poll() is None:
            time.sleep(moments.uniform(0.05, 0.6))
            if workers := children(process):
                with suppress(psutil.NoSuchProcess):
                    moments.choice(workers).send_signal(signal.SIGKILL)
                    kills += 1
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        assert json.loads(out)["books"]["balanced"]
        assert_same(contents(output), undisturbed, long_night)


def wait_for_results(process, output):
    """Wait until this run has stored something, or is over."""
    path, deadline = output / "results.jsonl", time.monotonic() + 60
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_size > before):
        assert time.monotonic() < deadline, "nothing was stored within a minute"
        time.sleep(0.02)


def children(process):
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []
