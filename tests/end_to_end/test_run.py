"""A night from source to sinks, as a user runs it."""

import json
import signal
import sqlite3
import time

import lookback
import pyarrow.parquet as pq
import pytest

ALL_SINKS = """
[sinks]
required = ["results.sqlite", "results.jsonl", "results.parquet"]
"""


@pytest.fixture(scope="module")
def ran(night, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    settings = output / "lookback.toml"
    settings.write_text(ALL_SINKS)
    plot = output / "night.png"
    summary = lookback.figures("run", night, "--to", output, "--settings", settings, "--plot", plot)
    return night, output, settings, summary


def reconcile(night, output, *options, **how):
    return lookback.figures("reconcile", night, "--to", output, *options, run=lookback.here, **how)


def test_the_books_balance_and_every_galaxy_has_a_redshift(ran):
    _, _, _, summary = ran
    books = summary["books"]
    assert books["balanced"]
    assert books["written"] == 240
    assert books["in_flight"] == 0
    assert books["duplicate"] == 8
    assert books["dead"] == 6
    assert summary["p50_s"] <= summary["p98_s"]


def test_every_sink_holds_the_same(ran):
    _, output, _, _ = ran
    rows = lookback.results(output)
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    parts = pq.read_table(output / "results.parquet").to_pylist()
    assert {each["result_id"] for each in lines} == set(rows)
    assert {each["result_id"] for each in parts} == set(rows)
    assert len(lines) == len(parts) == len(rows)
    by_key = {each["result_id"]: each for each in parts}
    for line in lines:
        row = rows[line["result_id"]]
        assert row["z_median"] == by_key[line["result_id"]]["z_median"] == line["z_median"]
        assert int(line["src_offset"]) == row["src_offset"]


def test_a_redshift_comes_with_uncertainty_and_provenance(ran):
    _, output, _, summary = ran
    for row in lookback.results(output).values():
        if row["status"] != "ok":
            assert row["z_median"] is None
            assert row["reason"]
            continue
        assert row["z_err95_low"] <= row["z_err68_low"] <= row["z_median"]
        assert row["z_median"] <= row["z_err68_high"] <= row["z_err95_high"]
        assert row["quality_flag"] is not None
        assert row["model_name"] == "astromae-galaxies"
        assert len(row["weights_sha256"]) == 64
        assert row["bands_used"] == "ugriz"
        assert int(row["alert_id"]) > 2**53
    assert summary["run_id"]


def test_reconcile_proves_it_from_source_and_sinks_alone(ran):
    night, output, settings, summary = ran
    (output / "state.sqlite").rename(output / "state.aside")
    try:
        proof = reconcile(night, output, "--settings", settings)
    finally:
        (output / "state.aside").rename(output / "state.sqlite")
    assert proof["findings"] == []
    assert proof["books"] == summary["books"]


@pytest.mark.parametrize("what", ["missing", "doubled"])
def test_reconcile_names_what_is_wrong(ran, what, tmp_path):
    night, output, settings, _ = ran
    for name in ("results.sqlite", "results.jsonl", "deadletters.jsonl"):
        (tmp_path / name).write_bytes((output / name).read_bytes())
    (tmp_path / "results.parquet").symlink_to(output / "results.parquet")
    lines = (output / "results.jsonl").read_text().splitlines(keepends=True)
    key = json.loads(lines[7])["result_id"]
    changed = lines[:7] + lines[8:] if what == "missing" else [*lines, lines[7]]
    (tmp_path / "results.jsonl").write_text("".join(changed))
    proof = reconcile(night, tmp_path, "--settings", settings, code=1)
    (finding,) = proof["findings"]
    assert finding["what"] == what
    if what == "doubled":
        assert key in finding["where"]
    assert "results.jsonl" in finding["where"]


def test_dead_letters_keep_what_the_survey_sent(ran):
    night, output, _, _ = ran
    letters = lookback.dead_letters(output)
    assert {each["reason"] for each in letters.values()} == {
        "bad_notice",
        "truncated",
        "bad_sync",
        "unknown_format",
        "unknown_schema",
    }
    with sqlite3.connect(night) as db:
        for (partition, offset), letter in letters.items():
            (body,) = db.execute(
                'SELECT body FROM events WHERE partition = ? AND "offset" = ?', (partition, offset)
            ).fetchone()
            from sinks.deadletters import DeadLetter

            assert DeadLetter.from_json(letter).body == body
    db.close()


def test_the_plot_is_a_picture(ran):
    _, output, _, _ = ran
    assert (output / "night.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_has_nothing_to_do(ran):
    night, output, settings, first = ran
    before = lookback.results(output)
    summary = lookback.figures("run", night, "--to", output, "--settings", settings)
    assert summary["estimates"] == 0
    assert summary["books"] == first["books"]
    assert lookback.results(output) == before


def test_an_interrupt_finishes_what_is_under_way(night, tmp_path):
    process = lookback.start("run", night, "--to", tmp_path, "--json")
    results = tmp_path / "results.sqlite"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _rows(results):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    books = json.loads(out)["books"]
    assert books["balanced"]
    assert books["in_flight"] == 0
    lookback.figures("run", night, "--to", tmp_path)
    proof = reconcile(night, tmp_path)
    assert proof["findings"] == []
    assert proof["books"]["written"] == 240


def _rows(path):
    if not path.exists():
        return 0
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT count(*) FROM results").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # not made yet
    finally:
        db.close()
