"""What systemd hears of a run, on a real socket."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from small_run import archive, preparing, until

from dispatcher.health import systemd
from dispatcher.health.systemd import Manager


class Listener:
    """A socket as systemd opens it for a service."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.heard = []

    def listen(self):
        """All states heard so far."""
        with suppress(BlockingIOError):
            while True:
                self.heard += self._socket.recv(65536).decode().split("\n")
        return self.heard

    def signs(self):
        return self.listen().count("WATCHDOG=1")

    def close(self):
        self._socket.close()


@pytest.fixture
def prepare(tmp_path):
    return preparing(tmp_path)


@pytest.fixture
def manager(tmp_path, monkeypatch):
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    listener = Listener(address)
    yield listener
    listener.close()


async def test_a_run_says_when_it_is_ready_alive_and_over(prepare, manager):
    async with prepare() as run:
        run.lane.pause()
        async with systemd.told(run):
            await asyncio.sleep(0.1)
            assert "READY=1" not in manager.listen(), "the source is not open yet"
            lane = asyncio.create_task(run.lane.run())
            await until(lambda: "READY=1" in manager.listen())
            before = manager.signs()
            await until(lambda: manager.signs() >= before + 3, within_s=2)
            run.lane.resume()
            await lane
        heard = manager.listen()
        assert heard.count("READY=1") == 1
        assert heard.index("READY=1") < heard.index("STOPPING=1")
        assert heard[-1] == (
            "STATUS=ended: 100 received, 0 in flight; no more events are taken (ended)"
        )


async def test_a_lane_that_hangs_gives_no_sign_of_life(prepare, manager, monkeypatch):
    async def hang(*_):
        await asyncio.Event().wait()

    async with prepare() as run:
        monkeypatch.setattr(type(run.lane.source), "take", hang)
        async with systemd.told(run):
            lane = asyncio.create_task(run.lane.run())
            await until(lambda: manager.signs() >= 1)
            await asyncio.sleep(0.3)  # `stalled_s` is 0.2
            last = manager.signs()
            await asyncio.sleep(0.4)
            assert manager.signs() == last
            lane.cancel()
            await asyncio.wait({lane})


async def test_a_loop_that_hangs_gives_no_sign_of_life(prepare, manager):
    async with prepare() as run, systemd.told(run):
        await until(lambda: manager.signs() >= 1)
        before = manager.signs()
        time.sleep(0.5)  # that is what is tested
        assert manager.signs() == before


async def test_it_asks_for_more_time_while_it_finishes(prepare, manager):
    async with prepare() as run, systemd.told(run):
        lane = asyncio.create_task(run.lane.run())
        await until(lambda: "READY=1" in manager.listen())
        run.lane.stop()
        await until(lambda: "EXTEND_TIMEOUT_USEC=10000000" in manager.listen())
        assert "STOPPING=1" in manager.listen()
        await lane


async def test_a_night_that_is_over_at_once_has_begun(prepare, manager):
    async with prepare() as run:
        async with systemd.told(run):
            pass
        assert manager.listen()[0] == "READY=1"


async def test_what_cannot_start_has_not_begun(prepare, manager):
    async with prepare() as run:
        with pytest.raises(OSError, match="no such broker"):
            async with systemd.told(run):
                raise OSError("no such broker")
        assert "READY=1" not in manager.listen()
        assert "STOPPING=1" in manager.listen()


async def test_without_systemd_nothing_is_said(prepare, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    async with prepare() as run, systemd.told(run):
        assert len(asyncio.all_tasks()) == 1


def test_an_address_may_be_abstract():
    address = f"@lookback-test-{os.getpid()}"
    listener = Listener(address)
    try:
        Manager(address).notify("READY=1", "STATUS=well")
        assert listener.listen() == ["READY=1", "STATUS=well"]
    finally:
        listener.close()


def test_a_manager_that_does_not_read_is_not_waited_for_long(tmp_path):
    listener = Listener(str(tmp_path / "notify"))
    try:
        manager, began = Manager(str(tmp_path / "notify")), time.monotonic()
        for n in range(5000):
            manager.notify(f"STATUS={n}")
            if time.monotonic() - began > 0.1:
                break
        else:
            pytest.fail("the queue has no end")
        assert time.monotonic() - began < 1
        assert listener.listen()[0] == "STATUS=0"
    finally:
        listener.close()


def test_a_manager_that_is_gone_is_no_reason_to_fail(tmp_path):
    Manager(str(tmp_path / "nobody")).notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "manager"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "vsock:1:2"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, Manager("/run/n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "60000000"}, Manager("@n", 60.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "6", "WATCHDOG_PID": "1"}, Manager("/n")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, Manager("/n")),
    ],
)
def test_what_systemd_wants_is_in_the_environment(environment, manager):
    assert Manager.of(environment) == manager


async def test_the_command_tells_systemd(tmp_path, manager):
    """The whole way, as a unit of `Type=notify` starts it: with real workers."""
    words = ["run", archive(tmp_path), "--to", str(tmp_path / "told")]
    environment = {**os.environ, "LOOKBACK_STATUS__PORT": "0", "LOOKBACK_WORKERS__COUNT": "1"}
    environment.pop("WATCHDOG_PID")
    with subprocess.Popen(
        [sys.executable, "-m", "dispatcher", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as command:
        while command.poll() is None:
            manager.listen()  # a queue that nobody reads is soon full
            await asyncio.sleep(0.01)
        assert command.returncode == 0, command.stderr.read()
    heard = manager.listen()
    assert heard.count("READY=1") == 1
    assert "STOPPING=1" in heard
    assert re.fullmatch(r"STATUS=ended: 100 received, 0 in flight.*", heard[-1])
