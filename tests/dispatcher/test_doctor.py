"""The doctor says of every piece what is wrong and what to do, and hides none behind another."""

import json
import os
import shutil
import socket
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from dispatcher import cli, doctor, doctor_access
from dispatcher.demo import one_band_alerts, render_night
from dispatcher.errors import DispatcherError
from dispatcher.folder import only_writer
from dispatcher.settings import Settings, load

PAID = "[spend]\nprice = 'aws-lambda/us-east-1/x86_64'\nnight_usd = 1\n"


@pytest.fixture
def examined(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOKBACK_WORKERS__COUNT", "1")

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


def test_settings_that_cannot_be_read_are_the_only_finding(examined):
    found = examined("[batch]\nitem = 3\n", code=1)
    assert list(found) == ["settings"]
    assert "batch.item is not a setting" in found["settings"]["what"]


async def told(look):
    """Health and words of one piece."""
    try:
        return "well", await look
    except doctor_access.Doubt as doubt:
        return "doubtful", str(doubt)
    except DispatcherError as error:
        return "ill", str(error)


def chosen(**sections):
    return Settings.model_validate(sections)


@pytest.mark.parametrize(("mode", "health"), [(0o644, "doubtful"), (0o600, "well")])
async def test_a_secret_that_others_may_read_is_doubtful(tmp_path, mode, health):
    file = tmp_path / "lookback.toml"
    file.write_text("[status]\ntoken = 'a-token-that-is-long-enough'\n")
    file.chmod(mode)
    found = await told(doctor_access.settings_file(file, load(file)))
    said = "chmod 600" if health == "doubtful" else "changed: status"
    assert found[0] == health and said in found[1]
    assert "a-token" not in found[1]
    assert await told(doctor_access.settings_file(None, Settings()))


async def test_the_page_needs_its_port_and_a_good_token():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        health, said = await told(doctor_access.page(chosen(status={"port": port})))
        assert health == "ill" and f"status.port {port} on 127.0.0.1 cannot be used" in said
    health, said = await told(doctor_access.page(chosen(status={"port": port})))
    assert health == "well" and "read-only" in said
    short = {"port": port, "token": "abc"}
    health, said = await told(doctor_access.page(chosen(status=short)))
    assert health == "doubtful" and "can be guessed" in said
    assert (await told(doctor_access.page(chosen(status={"port": 0}))))[0] == "well"


async def test_addresses_answer_or_do_not(aws):
    away = "http://127.0.0.1:9"
    health, said = await told(doctor_access.answers("ingest.registry", away))
    assert health == "ill" and "start it, or mend ingest.registry" in said
    health, said = await told(doctor_access.collector(away))
    assert health == "doubtful" and "traces are lost" in said
    assert await told(doctor_access.answers("ingest.registry", aws)) == ("well", f"{aws} answers")
    assert await told(doctor_access.collector(aws)) == ("well", f"{aws} answers")


async def test_a_port_where_workers_would_meet():
    with socket.create_server(("0.0.0.0", 0)) as taken:  # as a run listens
        port = taken.getsockname()[1]
        health, said = await told(doctor_access.rendezvous(f"here:{port}"))
        assert health == "ill" and "cannot be listened at" in said
    assert (await told(doctor_access.rendezvous(f"here:{port}")))[0] == "well"


def test_what_the_settings_name_is_looked_at_and_nothing_else(tmp_path):
    def pieces(**sections):
        return [name for name, _ in doctor._pieces(None, tmp_path, None, chosen(**sections))]

    plain = pieces()
    assert not {"credentials", "schema registry", "traces", "rendezvous"} & set(plain)
    named = pieces(
        ingest={"registry": "http://a", "allow": ["s3://bucket/stamps"]},
        traces={"endpoint": "http://b"},
        workers={"rendezvous": "here:1"},
    )
    assert set(named) - set(plain) == {"credentials", "schema registry", "traces", "rendezvous"}


@pytest.mark.parametrize(
    ("variables", "health", "words"),
    [
        ({}, "ill", "AWS_PROFILE"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "ill", "set aws.region"),
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"},
            "doubtful",
            "end within hours",
        ),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "well", "from env"),
    ],
)
async def test_credentials_for_aws(monkeypatch, tmp_path, variables, health, words):
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    region = None if "region" in words else "us-east-1"
    found = await told(doctor_access.credentials(chosen(aws={"region": region})))
    assert found[0] == health and words in found[1]


@pytest.mark.parametrize(
    ("text", "source", "needed"),
    [
        ({}, "night.sqlite", False),
        ({}, "sqs://queue", True),
        ({"sinks": {"required": ["s3://bucket/results"]}}, None, True),
        ({"ingest": {"allow": ["s3://bucket/stamps"]}}, None, True),
        ({"workers": {"engine": "lambda"}}, None, True),
    ],
)
def test_credentials_are_looked_at_where_they_are_needed(text, source, needed):
    assert doctor_access.needs_aws(Settings.model_validate(text), source) == needed


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
    assert len(lines) == 12
    assert time.monotonic() - began < 60
