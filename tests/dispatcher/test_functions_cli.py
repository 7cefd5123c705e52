"""`lookback platform` and `lookback functions`, as somebody on duty uses them."""

import json
import subprocess
import sys

import pytest

LOOKBACK = (sys.executable, "-m", "dispatcher")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(scope="module")
def served():
    """Where a platform listens that was started as its user does."""
    process = subprocess.Popen(
        [*LOOKBACK, "platform", "--port", "0", "--concurrency", "3"],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONUNBUFFERED": "1"},
    )
    lines = [process.stdout.readline() for _ in range(5)]
    assert lines[0].startswith("SIMULATED function platform")
    yield lines[-1].split('"')[1]
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def settings(served, tmp_path):
    path = tmp_path / "lookback.toml"
    path.write_text(
        f'[workers]\nengine = "lambda"\n[functions]\nendpoint = "{served}"\n'
        '[spend]\nprice = "aws-lambda/us-east-1/x86_64"\nnight_usd = 1\n'
    )
    return path


def call(*arguments, code=0):
    done = subprocess.run(
        [*LOOKBACK, "functions", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_it_shows_stops_and_starts(settings):
    shown = json.loads(call("show", "--settings", settings, "--json"))
    assert shown["memory_mb"] == 1769
    assert shown["concurrency"] == 3
    assert json.loads(call("stop", "--settings", settings, "--json"))["concurrency"] == 0
    assert "concurrency    0" in call("show", "--settings", settings)
    call("start", 2, "--settings", settings)
    assert json.loads(call("show", "--settings", settings, "--json"))["concurrency"] == 2


def test_what_is_not_there_is_told_in_a_line(settings):
    settings.write_text(settings.read_text().replace("[functions]", '[functions]\nname = "no"'))
    said = call("show", "--settings", settings, code=2)
    assert "ResourceNotFoundException" in said
    assert said.count("\n") == 1
    settings.write_text(settings.read_text().replace("127.0.0.1:", "127.0.0.1:1"))
    assert "check [functions] and [aws]" in call("show", "--settings", settings, code=2)
