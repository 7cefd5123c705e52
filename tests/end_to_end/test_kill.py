"""`kill -9`, of the dispatcher and of workers, at random moments of a run (seeded).

After it the sinks hold exactly what an undisturbed run gives.
"""

import json
import random
import signal
import time
from contextlib import suppress

import lookback
import psutil
import pytest

from dispatcher.demo import render_night

pytestmark = pytest.mark.timeout(400)

SINKS = '[sinks]\nrequired = ["results.sqlite", "results.jsonl", "results.parquet"]\n'
KILLS = 10


@pytest.fixture(scope="module")
def long_night(tmp_path_factory):
    """A night that takes long enough to be killed in the middle, ten times."""
    path = tmp_path_factory.mktemp("long") / "night.sqlite"
    render_night(path, galaxies=700, seed=9)
    return path


@pytest.fixture(scope="module")
def undisturbed(long_night, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    lookback.figures("run", long_night, "--to", output, "--settings", settings(output))
    return contents(output)


def settings(folder):
    path = folder / "lookback.toml"
    # Frequent commits and small batches: more different moments to be killed at.
    path.write_text(SINKS + "commit_s = 0.2\nbatch = 16\n[batch]\nitems = 32\n")
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


def assert_same(found, expected):
    """The same rows, and in them the same values.

    A restart puts items into other batches, and the last digits of a sum of floats depend on
    its company: redshifts are compared to 1e-3. Where p(z) has two equal peaks the mode, and the
    flag that looks at it, may then fall on either.
    """
    (rows, letters), (expected_rows, expected_letters) = found, expected
    assert letters == expected_letters
    assert rows.keys() == expected_rows.keys()
    undecided = 0
    for key, row in rows.items():
        other = expected_rows[key]
        for name, value in row.items():
            if name in ("z_mode", "quality_flag"):
                undecided += value != pytest.approx(other[name], abs=1e-3)
            elif isinstance(value, float):
                assert value == pytest.approx(other[name], abs=1e-3), (key, name)
            else:
                assert value == other[name], (key, name)
    assert undecided <= 0.02 * len(rows)


def test_a_dispatcher_killed_ten_times_leaves_what_an_undisturbed_run_does(
    long_night, undisturbed, tmp_path
):
    source = random.Random(2026)
    given = ("run", long_night, "--to", tmp_path, "--settings", settings(tmp_path), "--json")
    kills = 0
    while kills < KILLS:
        process = lookback.start(*given)
        wait_for_work(process)
        workers = psutil.Process(process.pid).children(recursive=True)
        time.sleep(source.uniform(0.0, 0.45))
        killed = process.poll() is None
        process.kill()
        process.communicate()
        kills += killed
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive, "workers outlive a killed dispatcher"
        if not killed:
            break
    assert kills >= 5, "the night was over before it could be killed"
    summary = lookback.figures(*given[:-1])
    assert summary["books"]["balanced"]
    assert_same(contents(tmp_path), undisturbed)
    proof = lookback.figures("reconcile", *given[1:-1])
    assert proof["findings"] == []
    assert proof["books"] == summary["books"]


def test_workers_killed_ten_times_change_nothing(long_night, undisturbed, tmp_path):
    source = random.Random(7)
    process = lookback.start(
        "run", long_night, "--to", tmp_path, "--settings", settings(tmp_path), "--json"
    )
    kills = 0
    wait_for_work(process)
    while kills < KILLS and process.poll() is None:
        time.sleep(source.uniform(0.05, 0.6))
        with suppress(psutil.NoSuchProcess):
            workers = psutil.Process(process.pid).children(recursive=True)
            if workers:
                source.choice(workers).send_signal(signal.SIGKILL)
                kills += 1
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert kills >= 5, "the night was over before its workers could be killed"
    assert json.loads(out)["books"]["balanced"]
    assert_same(contents(tmp_path), undisturbed)


def wait_for_work(process):
    """Wait until the workers of a run have started to compute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            if len(children) >= 2 and all(sum(c.cpu_times()[:2]) > 2.0 for c in children):
                return
        time.sleep(0.02)
