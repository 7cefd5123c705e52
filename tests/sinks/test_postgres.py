"""The PostgreSQL sink: one row a key, old tables, lost servers, and an outbox that tells once."""

import asyncio
import random
import uuid
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from parts.postgres import postgres as cluster
from rows import record
from test_contract import scanned

from sinks.database import Database
from sinks.errors import SinkRefused, SinkUnavailable
from sinks.outbox import Outbox, relay
from sinks.postgres import PostgresSink


@pytest.fixture
def table():
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
async def db(postgres):
    """Somebody else at the same database."""
    connection = await asyncpg.connect(postgres)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def own_cluster():
    """A server that a test may stop and set up as it likes."""
    with cluster() as server:
        yield server


@asynccontextmanager
async def opened(*arguments, **options):
    sink = PostgresSink(*arguments, **options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def notices(dsn, table):
    """All that are in the outbox, without taking them away."""
    async with Outbox(dsn, table) as outbox:
        return [(int(each.result_id, 16), each.status) for each in await outbox.take()]


# The table


async def test_the_last_of_a_key_is_held(postgres, table, db):
    async with opened(postgres, table) as sink:
        await sink.write([record(1, z_median=0.1), record(1, z_median=0.2)])
        await sink.write([record(1, z_median=0.3)])
    assert [row["z_median"] for row in await db.fetch(f"SELECT z_median FROM {table}")] == [0.3]


async def test_the_same_answer_again_changes_nothing(postgres, table, db):
    async with opened(postgres, table) as sink:
        await sink.write([record(1, run_id="first", t_published=1.0)])
        await sink.write([record(1, run_id="second", t_published=2.0, cost_usd_pico=7)])
    rows = await db.fetch(f"SELECT run_id, t_published FROM {table}")
    assert [tuple(row) for row in rows] == [("first", 1.0)]


async def test_it_is_indexed_by_position_and_object(postgres, table, db):
    async with opened(postgres, table):
        pass
    rows = await db.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1", table)
    indexed = {row["indexdef"].rpartition("(")[2] for row in rows}
    assert indexed == {"result_id)", "src_topic, src_partition, src_offset)", "object_id)"}


async def test_nul_becomes_a_replacement_character(postgres, table, db):
    async with opened(postgres, table) as sink:
        await sink.write([record(1, object_id="a\0b"), record(2)])
    assert await db.fetchval(f"SELECT object_id FROM {table} ORDER BY result_id") == "a\ufffdb"


async def test_a_table_of_an_older_release_gets_new_columns(postgres, table, db):
    async with opened(postgres, table) as sink:
        await sink.write([record(1)])
    await db.execute(f"ALTER TABLE {table} DROP COLUMN tense, DROP COLUMN out_of_domain")
    with pytest.raises(SinkRefused, match=r"another release.*tense"):
        await PostgresSink(postgres, table).open()
    await db.execute(f"ALTER TABLE {table} ADD COLUMN tense text NOT NULL DEFAULT 'current'")
    async with opened(postgres, table) as sink:
        await sink.write([record(2, out_of_domain=0.5)])
    rows = await db.fetch(f"SELECT out_of_domain FROM {table} ORDER BY result_id")
    assert [row["out_of_domain"] for row in rows] == [None, 0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER COLUMN ra TYPE text", r"another release.*columns ra\)"),
        ("ADD COLUMN theirs text NOT NULL", r"another release.*columns theirs\)"),
        ("DROP CONSTRAINT {table}_pkey", "no unique .* constraint.*as this release made them"),
    ],
)
async def test_a_table_that_cannot_be_written_is_refused(change, message, postgres, table, db):
    async with opened(postgres, table):
        pass
    await db.execute(f"ALTER TABLE {table} {change.format(table=table)}")
    with pytest.raises(SinkRefused, match=message):
        await PostgresSink(postgres, table).open()


async def test_columns_that_somebody_added_are_left_alone(postgres, table, db):
    async with opened(postgres, table):
        pass
    await db.execute(f"ALTER TABLE {table} ADD note text, ADD n integer NOT NULL DEFAULT 3")
    async with opened(postgres, table) as sink:
        await sink.write([record(1)])
    assert await db.fetchval(f"SELECT n FROM {table}") == 3


async def test_many_may_start_at_once(postgres, table):
    sinks = [PostgresSink(postgres, table) for _ in range(4)]
    await asyncio.gather(*(sink.open() for sink in sinks))
    await asyncio.gather(*(sink.close() for sink in sinks))


async def test_writers_of_the_same_keys_do_not_lock_each_other_out(postgres, table):
    source = random.Random(3)

    async def write(sink, run):
        for number in range(8):
            batch = [record(n, z_median=run + number / 10) for n in range(300)]
            source.shuffle(batch)
            await sink.write(batch)

    async with opened(postgres, table) as one, opened(postgres, table) as other:
        await asyncio.gather(write(one, 0), write(one, 1), write(other, 2), write(other, 3))
        assert [each.src_offset for each in await scanned(one)] == list(range(300))


async def test_a_scan_that_is_left_half_way_does_not_hold_up_the_end(postgres, table, monkeypatch):
    monkeypatch.setattr("sinks.postgres._CLOSE_S", 0.1)
    sink = PostgresSink(postgres, table)
    await sink.open()
    await sink.write([record(n) for n in range(3)])
    scan = sink.scan()
    await anext(scan)
    await sink.close()
    with suppress(SinkUnavailable):
        await scan.aclose()


# Faults


async def test_a_server_that_is_not_there_may_come(table):
    with pytest.raises(SinkUnavailable, match=r"postgresql://127.0.0.1:1/d"):
        await PostgresSink("postgresql://me:s3cret@127.0.0.1:1/d", table).open()


async def test_a_server_that_crashes_is_used_again_when_it_is_back(own_cluster, table):
    # As some set it up for speed: commits would come back before they are on the disk.
    setup = await asyncpg.connect(own_cluster.dsn)
    await setup.execute("ALTER SYSTEM SET synchronous_commit = off")
    await setup.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    await setup.execute("SELECT pg_reload_conf()")
    await setup.close()
    async with opened(own_cluster.dsn, table) as sink:
        await sink.write([record(n) for n in range(100)])
        own_cluster.stop("immediate")
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                await sink.write([record(n) for n in range(90, 200)])
        own_cluster.start()
        assert [each.src_offset for each in await scanned(sink)] == list(range(100))
        await sink.write([record(n) for n in range(90, 200)])
        assert [each.src_offset for each in await scanned(sink)] == list(range(200))


async def test_connections_that_are_cut_are_made_anew(postgres, table, db):
    async with opened(postgres, table) as sink:
        cut = asyncio.create_task(_cut(db))
        while not cut.done():
            with suppress(SinkUnavailable):
                await sink.write([record(n) for n in range(500)])
        assert await cut > 0
        await sink.write([record(n) for n in range(500)])
        assert len(await scanned(sink)) == 500


async def _cut(db):
    killed = 0
    for _ in range(10):
        await asyncio.sleep(0.02)
        killed += await db.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND application_name = 'lookback' AND state <> 'idle'"
        )
    return killed


async def test_a_lock_that_is_held_for_long_is_not_waited_for(postgres, table, db):
    async with opened(postgres, table, timeout_s=0.3) as sink:
        async with db.transaction():
            await db.execute(f"LOCK TABLE {table}")
            with pytest.raises(SinkUnavailable):
                await sink.write([record(1)])
        await sink.write([record(1)])
        assert len(await scanned(sink)) == 1


@asynccontextmanager
async def silenced(dsn):
    """Another address of the server, and a switch: when it is set, nothing passes any more."""
    silent, port = asyncio.Event(), int(dsn.rpartition(":")[2].partition("/")[0])

    async def serve(reader, writer):
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(passed_on(reader, onward))
            group.create_task(passed_on(onward_reader, writer))

    async def passed_on(reader, writer):
        while data := await reader.read(1 << 16):
            if not silent.is_set():
                writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield dsn.replace(f":{port}/", f":{server.sockets[0].getsockname()[1]}/"), silent


async def test_a_server_that_falls_silent_is_not_waited_for(postgres, table, monkeypatch):
    monkeypatch.setattr("sinks.postgres._CLOSE_S", 0.2)
    async with (
        silenced(postgres) as (dsn, silent),
        opened(dsn, table, timeout_s=0.2) as sink,
        asyncio.timeout(20),
    ):
        await sink.write([record(1)])
        silent.set()
        with pytest.raises(SinkUnavailable):
            await sink.write([record(2)])
        silent.clear()
        await sink.write([record(2)])
        assert len(await scanned(sink)) == 2


@pytest.fixture
async def guest(own_cluster):
    """A user with a password and no rights, and a way to grant some."""
    rules = own_cluster.folder / "data" / "pg_hba.conf"
    if "guest" not in rules.read_text():
        rules.write_text("host all guest 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    owner = await asyncpg.connect(own_cluster.dsn)
    await owner.execute("SELECT pg_reload_conf()")
    await owner.execute("DROP USER IF EXISTS guest")
    await owner.execute("CREATE USER guest PASSWORD 's3cret'")
    yield owner
    await owner.execute("DROP OWNED BY guest")
    await owner.execute("DROP USER guest")
    await owner.close()


def _as_guest(server, password="s3cret", database="postgres"):
    return f"postgresql://guest:{password}@127.0.0.1:{server.port}/{database}"


async def test_who_is_not_let_in_is_told_what_to_check(own_cluster, guest, table):
    for dsn in (
        _as_guest(own_cluster, password="s3cret-but-wrong"),
        _as_guest(own_cluster, database="missing"),
        _as_guest(own_cluster),  # may not create tables
    ):
        with pytest.raises(SinkRefused, match=r"127\.0\.0\.1:\d+/.*user guest.*check") as refused:
            await PostgresSink(dsn, table).open()
        assert "s3cret" not in str(refused.value)


async def test_rights_to_write_are_enough_where_the_table_is_there(own_cluster, guest, table):
    async with opened(own_cluster.dsn, table):
        pass
    await guest.execute(f"GRANT SELECT, INSERT ON {table}, {table}_outbox TO guest")
    await guest.execute(f"GRANT USAGE ON SEQUENCE {table}_outbox_id_seq TO guest")
    with pytest.raises(SinkRefused, match="permission denied"):
        await PostgresSink(_as_guest(own_cluster), table).open()  # seen before the night
    await guest.execute(f"GRANT UPDATE ON {table} TO guest")
    async with opened(_as_guest(own_cluster), table) as sink:
        await sink.write([record(1)])
        await guest.execute(f"REVOKE ALL ON {table} FROM guest")
        with pytest.raises(SinkRefused, match="user guest"):
            await sink.write([record(2)])


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cret/more@host/d",
        "postgresql://me:s3cret#more@host/d",
        "postgresql://me:s3cret?more@host/d",
        "postgresql://me:123/s3cret@host/d",
        "postgresql://me:more@s3cret@host/d",
        "postgresql://me:s3cret@host:port/d",
        "postgresql://me:[s3cret@host/d",
        "postgresql://me:s3cret@host/d?sslmode",
        "mysql://me:s3cret@host/d",
        "s3cret",
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(dsn):
    with pytest.raises(SinkRefused, match="special characters") as refused:
        PostgresSink(dsn)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("postgresql://me:s3cret@host:5432/d", "postgresql://host:5432/d"),
        ("postgres://host/d?user=me&password=s3cret", "postgresql://host/d"),
        ("postgresql:///d?host=/run/pg&password=s3cret", "postgresql:///run/pg/d"),
        ("postgresql://me:s3cret@[::1]:5432,b:1/d", "postgresql://[::1]:5432,b:1/d"),
        ("postgresql://me:s%2Fs3cret@host", "postgresql://host/me"),
    ],
)
def test_names_hold_no_secret(dsn, name):
    assert Database.at(dsn).name == name
    assert "s3cret" not in repr(Database.at(dsn)) + PostgresSink(dsn).name


@pytest.mark.parametrize("name", ["Results", "a b", "a;b", 'a"b', "", "1a", "a" * 41])
def test_a_name_that_cannot_be_a_table_is_refused(name, postgres):
    with pytest.raises(SinkRefused, match="name of a table"):
        PostgresSink(postgres, name)


# The outbox


async def test_what_is_new_or_changed_is_told_once(postgres, table):
    async with opened(postgres, table) as sink:
        await sink.write([record(1), record(2), record(1)])
        await sink.write([record(2), record(3)])
        await sink.write([record(1, run_id="another", t_inferred=9.0, t_published=9.5)])
        await sink.write([record(2, status="edge", z_median=None)])
    assert sorted(await notices(postgres, table)) == [(1, "ok"), (2, "edge"), (2, "ok"), (3, "ok")]


async def test_without_an_outbox_there_is_none(postgres, table, db):
    async with opened(postgres, table, outbox=False) as sink:
        await sink.write([record(1)])
    assert not await db.fetchval("SELECT to_regclass($1)", f"{table}_outbox")
    with pytest.raises(SinkRefused, match=r"outbox.*does not exist"):
        await notices(postgres, table)


async def test_a_write_that_failed_tells_nothing(postgres, table, db):
    async with opened(postgres, table) as sink:
        await db.execute(f"ALTER TABLE {table} ADD CHECK (src_offset <> 2)")
        with pytest.raises(SinkRefused, match="check constraint"):
            await sink.write([record(1), record(2)])
        assert await scanned(sink) == []
        assert await notices(postgres, table) == []


async def test_readers_share_the_notices(postgres, table):
    async with opened(postgres, table) as sink:
        await sink.write([record(n) for n in range(10)])
    async with Outbox(postgres, table) as one, Outbox(postgres, table) as other:
        first, second = await one.take(6), await other.take(6)
        assert (len(first), len(second)) == (6, 4)
        assert not {each.id for each in first} & {each.id for each in second}
        await other.done([each.id for each in second])
        assert await other.take() == []
        await one.done([each.id for each in first[:5]])
        assert await one.take() == first[5:], "what was not done is there again"


async def test_what_a_reader_had_that_died_goes_to_another(postgres, table):
    async with opened(postgres, table) as sink:
        await sink.write([record(1)])
    dead = Outbox(postgres, table)
    await dead.open()
    taken = await dead.take()
    dead._connection.terminate()
    with pytest.raises(SinkUnavailable):
        await dead.done([each.id for each in taken])
    async with Outbox(postgres, table) as other:
        while not (found := await other.take()):
            await other.wait(0.01)  # the server learns of a death in its own time
        assert found == taken
    await dead.open()
    await dead.close()


async def test_two_takes_in_a_row_are_a_mistake(postgres, table):
    async with opened(postgres, table) as sink:
        await sink.write([record(1)])
    async with Outbox(postgres, table) as outbox:
        await outbox.take()
        with pytest.raises(RuntimeError, match="done"):
            await outbox.take()


async def test_news_wake_a_reader(postgres, table):
    async with opened(postgres, table) as sink, Outbox(postgres, table) as outbox:
        assert await outbox.take() == []
        waiting = asyncio.create_task(outbox.wait(60))
        await sink.write([record(1)])
        await asyncio.wait_for(waiting, 5)
        assert len(await outbox.take()) == 1


async def test_a_relay_delivers_again_what_failed(postgres, table):
    delivered = asyncio.Queue()
    failures = [OSError("the other end is away")]

    async def deliver(found):
        if failures:
            raise failures.pop()
        for each in found:
            delivered.put_nowait(int(each.result_id, 16))

    async with opened(postgres, table) as sink:
        await sink.write([record(1)])
        with pytest.raises(OSError, match="other end"):
            await relay(postgres, table, deliver)
        running = asyncio.create_task(relay(postgres, table, deliver))
        assert await delivered.get() == 1
        await sink.write([record(2)])
        assert await asyncio.wait_for(delivered.get(), 4) == 2, (
            "sooner than it would look by itself"
        )
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert delivered.empty()
