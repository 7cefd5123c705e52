"""The doctor says of every piece what is wrong and what to do, and hides none behind another."""

import json
import os
import shutil
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from dispatcher import cli, doctor
from dispatcher.demo import one_band_alerts, render_night
from dispatcher.folder import only_writer

PAID = "[spend]\nprice = 'aws-lambda/us-east-1/x86_64'\nnight_usd = 1\n"


@pytest.fixture
def examined(tmp_path):
    def run(text="", source=None, code=0):
        file = tmp_path / "lookback.toml"
        file.write_text(text)
        given = ["doctor", *([str(source)] if source else [])]
        given += ["--to", str(tmp_path / "out"), "--settings", str(file), "--json"]
        found = CliRunner().invoke(cli.app, given)
        assert found.exit_code == code, found.output
        return {each["piece"]: each for each in json.loads(found.stdout)["findings"]}

    return run


def test_what_comes_with_it_is_well(examined, tmp_path):
    night = tmp_path / "night.sqlite"
    render_night(night, galaxies=5, seed=1)
    found = examined(source=night)
    assert {each["health"] for each in found.values()} == {"well"}
    assert "at once, ready in" in found["workers (local)"]["what"]
    assert "galaxies" in found["weights"]["what"]
    assert " events in 3 partitions" in found[f"source {night}"]["what"]
    assert (tmp_path / "out" / "results.sqlite").exists()


@pytest.mark.parametrize(
    ("text", "piece", "words"),
    [
        ("[workers]\nweights = 'stars'\n", "weights", "shipped models, galaxies or quasars"),
        ("[spend]\nprice = 'aws-lambda/us-east-1/x86_64'\n", "price", "set spend.night_usd"),
        ("[spend]\nledger = 'mysql://x'\n", "ledger", "nothing keeps a ledger"),
        ("[ingest]\nschemas = '/nowhere'\n", "schemas and stamps", "/nowhere"),
        (
            "[sinks]\nrequired = ['postgresql://127.0.0.1:9/x']\n",
            "sink postgresql://127.0.0.1:9/x",
            "127.0.0.1:9",
        ),
        ("[workers]\nengine = 'dask'\nranks = 1\n", "workers (dask)", "needs dask.scheduler"),
    ],
)
def test_what_is_ill_is_said_and_the_rest_is_looked_at_all_the_same(examined, text, piece, words):
    found = examined(text, code=1)
    assert found[piece]["health"] == "ill"
    assert words in found[piece]["what"]
    assert "\n" not in found[piece]["what"]
    others = {name: each for name, each in found.items() if name != piece}
    assert others["clock"]["health"] == others["output folder"]["health"] == "well"
    assert len(found) >= 8


def test_a_source_that_is_not_there(examined, tmp_path, monkeypatch):
    monkeypatch.setattr("ingest.sources.kafka.archive._OPEN_S", 2.0)
    found = examined(source=tmp_path / "absent", code=1)
    assert "does not exist" in found[f"source {tmp_path / 'absent'}"]["what"]
    away = "kafka://127.0.0.1:9/alerts"
    assert "127.0.0.1:9" in examined(source=away, code=1)[f"source {away}"]["what"]


def test_a_folder_that_another_run_holds(examined, tmp_path):
    with only_writer(tmp_path / "out"):
        found = examined(code=1)
    assert "another lookback is writing" in found["output folder"]["what"]


def test_a_best_effort_sink_that_is_away_is_no_illness(examined):
    away = "postgresql://127.0.0.1:9/x"
    found = examined(f"[sinks]\nbest_effort = ['{away}']\n")
    assert found[f"sink {away}"]["health"] == "doubtful"


def test_a_full_disk_and_a_clock_that_is_off_are_doubtful(examined, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert "make room" in examined()["output folder"]["what"]
    monkeypatch.undo()
    real = os.fstat

    def late(fd):
        return SimpleNamespace(st_mtime=real(fd).st_mtime - 60)

    monkeypatch.setattr(doctor, "os", SimpleNamespace(fstat=late, fsync=os.fsync))
    assert "60 s off" in examined()["output folder"]["what"]


def test_a_clock_before_this_release_is_ill(examined, monkeypatch):
    before = SimpleNamespace(time=lambda: 1_000_000.0, monotonic=time.monotonic)
    monkeypatch.setattr(doctor, "time", before)
    found = examined(code=1)
    assert "keep it with NTP" in found["clock"]["what"]


def test_money_that_is_frozen_or_gone_is_said(examined, tmp_path):
    examined(PAID)
    file, out = tmp_path / "lookback.toml", tmp_path / "out"
    at = ["--to", str(out), "--settings", str(file)]
    assert CliRunner().invoke(cli.app, ["ledger", "freeze", "total", *at]).exit_code == 0
    found = examined(PAID)
    assert found["ledger"]["health"] == "doubtful"
    assert "frozen by hand" in found["ledger"]["what"]


def test_a_queue_is_looked_for_and_not_read(examined, aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    text = f"[aws]\nregion = 'us-east-1'\nendpoint = '{aws}'\n"
    found = examined(text, source="sqs://nobody-made-it", code=1)
    assert "check its name" in found["source sqs://nobody-made-it"]["what"]


def test_a_person_reads_it_as_lines(tmp_path):
    (tmp_path / "a.avro").write_bytes(one_band_alerts(1, seed=1)[0])
    began = time.monotonic()
    given = ["doctor", str(tmp_path / "a.avro"), "--to", str(tmp_path / "out")]
    found = CliRunner().invoke(cli.app, given)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert all(line.startswith("well  ") for line in lines), lines
    assert len(lines) == 10
    assert time.monotonic() - began < 60
