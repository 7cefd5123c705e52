"""The log: one line per incident, about what it is about, and no secret in it."""

import asyncio
import base64
import json
import logging
import os
import re
import string
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from small_run import EVENTS, preparing
from structlog.contextvars import bind_contextvars, get_contextvars, unbind_contextvars

from dispatcher import logs
from dispatcher.errors import SettingsError
from dispatcher.incidents import current_board
from dispatcher.intake import Intake
from dispatcher.invokers import InlineInvoker
from dispatcher.logs.redaction import MASK, Redactor, secrets_of, secrets_of_environment
from dispatcher.settings import load

LETTERS = string.ascii_letters + string.digits
WORD = st.text(LETTERS, min_size=8, max_size=24)
PROSE = st.text(st.sampled_from("abc xyz,.;()-_/ 0123456789ÄÖ"), max_size=60)
SECRET = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=6, max_size=40)


def _unusual(text):
    """Letters that no frame around it has, so that a part of it cannot be there by chance."""
    return f"Q{text}7Z"


FRAMES = [
    "postgresql://lookback:{}@db.example.org:5432/lookback?sslmode=require",
    "cannot connect to https://user:{}@host/path?x=1 (refused)",
    "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4&X-Amz-Credential={}&X-Amz-Expires=60",
    "https://b.s3.amazonaws.com/k?X-Amz-Signature={}",
    "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={}&x=y",
    "host=db password={} dbname=x",
    "password = '{}'",
    'LOOKBACK_KAFKA__CLIENT_SECRET="{}"',
    'answered {{"access_token": "{}", "expires_in": 3600}}',
    "{{'sasl_plain_password': '{}', 'x': 1}}",
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    "refused the header Bearer {} of a request",
    "AWS_SECRET_ACCESS_KEY={}",
]


@pytest.mark.parametrize("frame", FRAMES)
@given(secret=WORD.map(_unusual), before=PROSE, after=PROSE)
def test_a_secret_is_known_by_its_place(frame, secret, before, after):
    left = Redactor().text(f"{before} {frame.format(secret)} {after}")
    assert secret not in left
    assert MASK in left
    assert left.startswith(before), "what is before it stays"


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "IQoJb3JpZ2luX2VjE" + "Aa0+/" * 30,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----",
    ],
)
def test_a_secret_is_known_by_its_form(secret):
    assert Redactor().text(f"it was {secret}, they say") == f"it was {MASK}, they say"
    assert Redactor().text(f"it=({secret}).") == f"it=({MASK})."


@given(secret=SECRET, before=PROSE, after=PROSE)
@example("p@ss/wörd\"'\\", "", "")
def test_a_secret_of_the_settings_is_known_by_its_value(secret, before, after):
    redactor = Redactor([secret])
    for written in (secret, quote(secret, safe=""), repr(secret), json.dumps(secret)):
        assert redactor.text(f"<{written}>").count(MASK) >= 1
    told = {"event": f"{before}{secret}{after}", "deep": [{"x": (secret,)}], secret: 1}
    left = redactor(None, "info", told)
    assert MASK in left["event"]
    assert MASK in left["deep"][0]["x"][0]


@pytest.mark.parametrize("key", ["password", "kafka_password", "token", "API_KEY", "authorization"])
@given(value=st.one_of(st.text(min_size=1), st.integers(), st.lists(st.integers(), min_size=1)))
def test_a_secret_is_known_by_its_key(key, value):
    left = Redactor()(None, "info", {"event": "x", "request": {key: value}, key: value})
    assert (left[key], left["request"][key]) == (MASK, MASK)


@given(
    st.dictionaries(
        st.sampled_from(["sink", "position", "n", "why"]),
        st.one_of(PROSE, st.integers(), st.none()),
    )
)
def test_ordinary_entries_stay_as_they_are(entry):
    assert Redactor(["a secret of its own"])(None, "info", entry) == entry


@pytest.mark.parametrize(
    "text",
    [
        "kafka://a.example.org:9092,b.example.org:9093/alerts@noon",
        "postgresql://lookback@localhost/lookback does not answer",
        "http://[::1]:8077/ready and http://127.0.0.1:8077/live; mail me@example.org",
        "OAUTHBEARER needs kafka.token_url, kafka.client_id and kafka.client_secret",
        "kafka.password: Input should be a valid string",
        "tokens: 3, a bearer of news, credentials: expired",
        "7903563a0c8b1d5e9f24680ace13579bdf02468a and 64 more",
        "/srv/results/2026/Nov24/some/longer/Path123/to/a/file.parquet",
        "20261128T131426-1a2b3c-17",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    assert Redactor().text(text) == text


def test_a_long_text_takes_time_in_proportion():
    redactor = Redactor(["something"])
    for piece in ("://a:", "password", "eyJabcdef.", "A1b/", "Bearer ", "AKIA", "token = "):
        began = time.perf_counter()
        redactor.text(piece * (100_000 // len(piece)))
        assert time.perf_counter() - began < 2.0, piece


def test_secrets_of_settings_and_environment_are_found(tmp_path, monkeypatch):
    file = tmp_path / "lookback.toml"
    file.write_text(
        '[kafka]\npassword = "kafka-pass"\n[status]\ntoken = "page-token"\n'
        '[sinks]\nrequired = ["postgresql://me:db-pass@localhost/x"]\n'
    )
    assert secrets_of(load(file)) == {"kafka-pass", "page-token", "db-pass"}
    environment = {
        "PGPASSWORD": "pg-pass",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "AWS_SESSION_TOKEN": "aws-session",
        "PWD": "/home/me",
        "TOKEN": "short",
        "PROXY": "http://me:proxy-pass@proxy:3128",
    }
    found = secrets_of_environment(environment)
    assert found == {"pg-pass", "aws-secret", "aws-session", "proxy-pass", "short"}
    assert Redactor(found).text("/home/me is short") == "/home/me is short"


@pytest.fixture
def lines(capsys):
    """Lines of the log since the last look."""
    return lambda: [json.loads(each) for each in capsys.readouterr().err.splitlines()]


def test_an_incident_is_one_line_and_its_end_another(lines):
    logs.configure("json")
    log = structlog.get_logger()
    for _ in range(3):
        log.warning("sink unavailable", incident="sink_down", subject="a")
    log.info("sink takes rows again", ended="sink_down", subject="a")
    assert [each["event"] for each in lines()] == ["sink unavailable", "sink takes rows again"]
    assert [each.count for each in current_board().recent()] == [3]


def test_what_is_not_written_is_known_to_the_board(lines):
    logs.configure("json")
    log = structlog.get_logger()
    log.warning("sink unavailable", incident="sink_down", subject="a")
    logs.configure("json", "error")
    assert current_board().is_open("sink_down", "a"), "another format is no other board"
    log.info("sink takes rows again", ended="sink_down", subject="a")
    log.warning("another", incident="sink_down", subject="b")
    assert [each["event"] for each in lines()] == ["sink unavailable"]
    assert [each.subject for each in current_board().open()] == ["b"]


def test_nothing_of_a_secret_reaches_page_or_log(lines, tmp_path):
    logs.configure("json")
    file = tmp_path / "lookback.toml"
    file.write_text('[kafka]\npassword = "hunter-2222"\n')
    load(file)
    error = ConnectionError("kafka refuses hunter-2222")
    structlog.get_logger().warning("away", incident="broker_gone", subject="x", error=error)
    structlog.get_logger().error("unexpected", exc_info=error)
    logging.getLogger("some.library").error("sent hunter-2222")
    told = lines()
    assert [each["event"] for each in told] == ["away", "unexpected", f"sent {MASK}"]
    assert told[1]["exception"][0]["exc_value"] == f"kafka refuses {MASK}"
    assert "hunter" not in json.dumps(told)
    assert "hunter" not in repr([current_board().open(), current_board().lines])


CRASH = """
import sys
from dispatcher import cli
@cli.app.command()
def crash():
    raise RuntimeError("with hunter-2222")
sys.argv = ["lookback", "crash"]
cli.main()
"""


def test_an_uncaught_error_is_one_entry():
    done = subprocess.run(
        [sys.executable, "-c", CRASH],
        env={**os.environ, "PGPASSWORD": "hunter-2222"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    told = json.loads(done.stderr)
    assert told["level"] == "critical"
    assert told["exception"][0]["exc_value"] == f"with {MASK}"
    assert "hunter" not in done.stderr


def test_people_get_lines_they_can_read(capsys):
    logs.configure("console")
    logs.conceal(["hunter-2222"])
    error = RuntimeError("with hunter-2222")
    structlog.get_logger().error("unexpected", sink="a", exc_info=error)
    said = capsys.readouterr().err
    assert re.search(r"\[error +\] unexpected +sink=a\n", said)
    assert f"RuntimeError: with {MASK}" in said


def test_an_error_of_the_command_line_has_no_secret(capsys, monkeypatch):
    from dispatcher import cli

    monkeypatch.setattr(sys, "argv", ["lookback", "run", "kafka://me:hunter-2222@b"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith("lookback: ")
    assert "hunter" not in said
    assert f"me:{MASK}@b" in said


def test_a_wrong_secret_in_the_settings_is_not_shown(monkeypatch):
    monkeypatch.setenv("LOOKBACK_STATUS", '{"token": ["hunter-2222"]}')
    with pytest.raises(SettingsError) as said:
        load(None)
    assert "hunter" not in str(said.value)


async def test_what_is_bound_to_one_event_stays_with_it():
    seen = {}

    async def resolve(alert_id):
        bind_contextvars(alert_id=alert_id)
        await asyncio.sleep(0)
        seen[alert_id] = get_contextvars()

    async with asyncio.TaskGroup() as tasks:
        for n in range(5):
            bind_contextvars(position=n)
            tasks.create_task(resolve(n))
        unbind_contextvars("position")
    assert seen == {n: {"position": n, "alert_id": n} for n in range(5)}
    assert get_contextvars() == {}


async def test_lines_say_which_event_and_which_batch(lines, tmp_path, monkeypatch):
    """In a run: within the work on an event its place, at the workers the batch, else neither."""

    def saying(owner, name, what):
        before = getattr(owner, name)

        async def said(self, *arguments, **options):
            structlog.get_logger().warning(what)
            return await before(self, *arguments, **options)

        monkeypatch.setattr(owner, name, said)

    logs.configure("json")
    saying(Intake, "identify", "identifying")
    saying(Intake, "resolve", "resolving")
    saying(InlineInvoker, "invoke", "asking")
    async with preparing(tmp_path)() as run:
        run.pipeline.listeners.append(lambda _: structlog.get_logger().warning("settled"))
        await run.lane.run()
    told = {what: [] for what in ("identifying", "resolving", "asking", "settled")}
    for each in lines():
        told[each["event"]].append(each)
    assert [each["position"].split(":")[-2:] for each in told["identifying"]] == [
        ["p", str(n)] for n in range(EVENTS)
    ]
    assert "alert_id" not in told["identifying"][1], "nothing is left of the event before"
    places = {
        (each["position"].split(":")[-1], str(each["alert_id"])) for each in told["resolving"]
    }
    assert places == {(str(n), str(n)) for n in range(EVENTS)}
    batches = [each["batch"] for each in told["asking"]]
    assert len(batches) == len(set(batches)) > 1
    assert not [each for each in told["asking"] if "position" in each]
    assert not [each for each in told["settled"] if {"position", "batch"} & each.keys()]
    assert len(told["settled"]) == EVENTS


def test_binding_an_event_costs_little():
    rounds = 20_000

    def best():
        began = time.perf_counter()
        for n in range(rounds):
            bind_contextvars(position=("source", "p0", n))
            bind_contextvars(alert_id=n)
        return (time.perf_counter() - began) / rounds

    try:
        assert min(best() for _ in range(5)) < 3e-6
    finally:
        unbind_contextvars("position", "alert_id")


def test_redaction_costs_less_than_a_line_is_worth():
    redactor = Redactor(base64.b64encode(bytes([n] * 12)).decode() for n in range(10))
    entry = {
        "event": "the sink takes no rows, its events wait",
        "sink": "postgresql://lookback@db/x",
        "error": "ConnectionRefusedError: [Errno 111] connect call failed ('127.0.0.1', 5432)",
        "n": 7,
    }

    def best():
        began = time.perf_counter()
        for _ in range(200):
            redactor(None, "warning", dict(entry))
        return (time.perf_counter() - began) / 200

    assert min(best() for _ in range(5)) < 1e-3
