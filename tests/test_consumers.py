"""Every example of docs/consumers.md is run as it stands there, on results that sinks have written.

Only addresses, and names of topics, are replaced.
"""

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import asyncpg
import duckdb
import pytest
from aiobotocore.session import get_session
from parts.aws import ACCESS

from sinks import Access, open_sink
from sinks.record import ResultRecord, Status
from sinks.schemas import FOLDER

PAGE = Path(__file__).parents[1] / "docs" / "consumers.md"
KEY = "c0ffee00000000000000000000000000"
OBJECT = "170032912345678901"  # the page asks for these two
ENDLESS = {"JSON", "Avro", "The outbox"}
TIMEOUT_S = 60


def blocks():
    """Heading, language and text of every block."""
    found, heading = [], ""
    for title, language, text in re.findall(
        r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        heading = title or heading
        if language:
            found.append((heading, language, text))
    return found


def of_language(wanted):
    return [
        pytest.param(heading, text, id=f"{heading}-{n}")
        for n, (heading, language, text) in enumerate(blocks())
        if language == wanted
    ]


def record(n, **changed):
    fields = {
        "result_id": f"{n:032x}",
        "survey": "LSST",
        "alert_id": str(n),
        "source_id": 2**62 + n,
        "object_id": str(n),
        "ra": 45.0 + n / 100,
        "dec": -1.2,
        "status": Status.OK,
        "z_median": 0.3,
        "z_err68_low": 0.25,
        "z_err68_high": 0.35,
        "quality_flag": 0,
        "model_name": "m",
        "model_version": "1",
        "weights_sha256": "0" * 64,
        "run_id": "r",
        "src_topic": "alerts",
        "src_partition": "0",
        "src_offset": n,
        "t_broker_in": 1.5,
        "t_published": 2.5,
    }
    return ResultRecord(**{**fields, **changed})


RESULTS = [
    record(0, result_id=KEY, object_id=OBJECT),
    record(1),
    record(2, status=Status.NO_STAMP, reason="no stamp", z_median=None, quality_flag=None),
]


async def store(location, folder=Path(), access=None):
    sink = open_sink(location, folder, access)
    await sink.open()
    try:
        await sink.write(RESULTS)
    finally:
        await sink.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every form, and the published schemas."""
    folder = tmp_path_factory.mktemp("consumer")
    for name in ("results.sqlite", "results.parquet", "results.hats", "galaxies.hats"):
        asyncio.run(store(name, folder))
    for schema in FOLDER.glob("*.avsc"):
        shutil.copy(schema, folder)
    return folder


@pytest.fixture(scope="module")
def surveys(postgres):
    """DSN of a database of its own, with results and their outbox."""
    name = f"surveys_{uuid.uuid4().hex}"

    async def create():
        db = await asyncpg.connect(postgres)
        await db.execute(f"CREATE DATABASE {name}")
        await db.close()

    asyncio.run(create())
    dsn = f"{postgres.rpartition('/')[0]}/{name}"
    asyncio.run(store(dsn))
    return dsn


@pytest.fixture(scope="module")
def topics(kafka):
    """Names of the topics of each form."""
    names = {form: f"results-{form}-{uuid.uuid4().hex}" for form in ("json", "avro")}
    for form, name in names.items():
        asyncio.run(store(f"kafka://{kafka}/{name}?format={form}"))
    return names


@pytest.fixture(scope="module")
def bucket(aws):
    """Name of a bucket with an object for each result."""
    name, client = f"consumer-{uuid.uuid4().hex}", {"endpoint_url": aws, **ACCESS}

    async def create():
        async with get_session().create_client("s3", **client) as s3:
            await s3.create_bucket(Bucket=name)

    asyncio.run(create())
    asyncio.run(store(f"s3://{name}/prefix", access=Access(aws=client)))
    return name


@pytest.fixture
def addressed(request):
    """The text with the addresses of what its heading needs; only that is started."""

    def replace(heading, text):
        replaced = {}
        if heading in ("JSON", "Avro"):
            replaced = {
                "localhost:9092": request.getfixturevalue("kafka"),
                "my-catalogue": uuid.uuid4().hex,  # this broker takes one member a group
                '"results"': repr(request.getfixturevalue("topics")[heading.lower()]),
            }
        elif heading in ("PostgreSQL", "The outbox"):
            dsn = request.getfixturevalue("surveys")
            replaced = {"postgresql://reader@db.example.org/surveys": dsn}
        elif heading == "Objects in S3":
            replaced = {'"bucket"': repr(request.getfixturevalue("bucket"))}
        for placeholder, address in replaced.items():
            assert placeholder in text
            text = text.replace(placeholder, address)
        return text

    return replace


@pytest.mark.parametrize(("heading", "text"), of_language("python"))
def test_programs_print_the_result(heading, text, addressed, folder, request):
    environment = {"PYTHONPATH": str(PAGE.parents[1])}
    if heading == "Objects in S3":
        environment |= {
            "AWS_ENDPOINT_URL": request.getfixturevalue("aws"),
            "AWS_DEFAULT_REGION": ACCESS["region_name"],
            "AWS_ACCESS_KEY_ID": ACCESS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": ACCESS["aws_secret_access_key"],
        }
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", addressed(heading, text)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    too_long = threading.Timer(TIMEOUT_S, program.kill)
    too_long.start()
    try:
        printed = ""
        for line in program.stdout:
            printed += line
            if (KEY in line or OBJECT in line) and heading in ENDLESS:
                break
        assert KEY in printed or OBJECT in printed, printed
        if heading not in ENDLESS:
            assert program.wait() == 0, printed
    finally:
        too_long.cancel()
        program.kill()
        program.wait()
        program.stdout.close()


@pytest.mark.parametrize(("heading", "text"), of_language("sql"))
def test_queries_give_rows(heading, text, request, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if heading in ("PostgreSQL", "The outbox"):
        answers = asyncio.run(asked(request.getfixturevalue("surveys"), statements(text)))
    elif heading == "SQLite":
        db = sqlite3.connect("results.sqlite")
        answers = [db.execute(each).fetchall() for each in statements(text)]
        db.close()
    else:
        with duckdb.connect() as db:
            answers = [db.execute(each).fetchall() for each in statements(text)]
    assert any(KEY in str(answer) or OBJECT in str(answer) for answer in answers)


async def asked(dsn, queries):
    db = await asyncpg.connect(dsn)
    try:
        return [await db.fetch(each) for each in queries]
    finally:
        await db.close()


def statements(text):
    """The statements of a block: no semicolon is inside of one."""
    without_comments = re.sub(r"--.*$", "", text, flags=re.MULTILINE)
    return [each for each in without_comments.split(";") if each.strip()]


def test_no_block_is_left_out():
    assert {language for _, language, _ in blocks()} == {"python", "sql"}
    assert PAGE.read_text().count("```") == 2 * len(blocks())
