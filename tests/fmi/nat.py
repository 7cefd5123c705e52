"""A small internet for tests: machines behind NATs, on one computer.

    with Internet() as internet:
        inside = internet.machine("10.0.0.2", Nat("198.51.100.2"))
        server = internet.machine("198.51.100.1")
        answer = server.run(serve)
        inside.run(call, "198.51.100.1").result()

A machine is a thread in a network namespace of its own, whose only way out is a TUN device. The
internet carries packets from device to device, and through the NATs. So the kernel's TCP is what
talks, and what is between is these lines: no firewall or forwarding of this computer takes part,
and a namespace is gone with its thread and its sockets, however a test ends.
"""

import ctypes
import fcntl
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Self

TUN = "/dev/net/tun"
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1500
LOOK_AROUND_S = 0.02  # how soon a new machine can send, and how soon an internet ends

# Below the ports that a kernel gives out: no public port is by chance the one inside.
SYMMETRIC_PORTS = range(10_000, 30_000)


def missing() -> str | None:
    """What this computer lacks for such an internet; None where it has everything."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root may make network namespaces"
    if not shutil.which("ip"):
        return "there is no `ip` (install iproute2)"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"there is no {TUN}"
    try:
        with Internet() as internet:
            internet.machine("192.0.2.1")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces cannot be made here ({error})"
    return None


class Endpoint(NamedTuple):
    """Where a packet comes from, or where it goes."""

    address: str
    port: int


class Packet:
    """A TCP packet over IPv4. Its source and destination can be changed; the checksums follow."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self._tcp = 4 * (data[0] & 0xF)

    @property
    def source(self) -> Endpoint:
        return self._endpoint(12, self._tcp)

    @source.setter
    def source(self, endpoint: Endpoint) -> None:
        self._readdress(12, self._tcp, endpoint)

    @property
    def destination(self) -> Endpoint:
        return self._endpoint(16, self._tcp + 2)

    @destination.setter
    def destination(self, endpoint: Endpoint) -> None:
        self._readdress(16, self._tcp + 2, endpoint)

    def _endpoint(self, address: int, port: int) -> Endpoint:
        number = int.from_bytes(self.data[port : port + 2])
        return Endpoint(socket.inet_ntoa(self.data[address : address + 4]), number)

    def _readdress(self, address: int, port: int, endpoint: Endpoint) -> None:
        ip_checksum, tcp_checksum = 10, self._tcp + 16
        fresh = socket.inet_aton(endpoint.address)
        self._replace(address, fresh, ip_checksum, tcp_checksum)
        self._replace(port, endpoint.port.to_bytes(2), tcp_checksum)

    def _replace(self, at: int, fresh: bytes, *checksums: int) -> None:
        """Put `fresh` at `at`, and into the checksums what it changes (RFC 1624)."""
        stale = self.data[at : at + len(fresh)]
        self.data[at : at + len(fresh)] = fresh
        for checksum in checksums:
            total = 0xFFFF - int.from_bytes(self.data[checksum : checksum + 2])
            total += int.from_bytes(fresh) - int.from_bytes(stale)
            # 2**16 is 1 modulo 0xFFFF: the remainder is the sum with its carries added in.
            self.data[checksum : checksum + 2] = (0xFFFF - total % 0xFFFF).to_bytes(2)


class Nat:
    """A network address translator with one machine behind it.

    Keeps the machine's port if it can, as Linux does; a symmetric one takes another port for each
    endpoint that is called. Both let in only what comes from an endpoint that was called, from
    the port it was called from, and are silent about the rest.
    """

    def __init__(self, address: str, symmetric: bool = False) -> None:
        self.address = address
        self._symmetric = symmetric
        self._outside: dict[tuple[Endpoint, Endpoint], Endpoint] = {}  # (inside, called): seen as
        self._inside: dict[tuple[Endpoint, Endpoint], Endpoint] = {}  # (seen as, called): inside

    def outward(self, packet: Packet) -> None:
        """Let it look as if it came from here."""
        flow = packet.source, packet.destination
        if flow not in self._outside:
            port = random.choice(SYMMETRIC_PORTS) if self._symmetric else packet.source.port
            self._outside[flow] = Endpoint(self.address, port)
            self._inside[self._outside[flow], packet.destination] = packet.source
        packet.source = self._outside[flow]

    def inward(self, packet: Packet) -> bool:
        """Lead it to the machine that called its source; False if none did."""
        inside = self._inside.get((packet.destination, packet.source))
        if inside:
            packet.destination = inside
        return bool(inside)


class Machine:
    """A thread in a network namespace of its own; `tun` is its cable."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=address)
        self.tun = self.run(self._boot).result()

    def run(self, program: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a program here. Its sockets belong here wherever they are used later."""
        return self._thread.submit(program, *args)

    def finish(self) -> None:
        """Wait for what runs here."""
        self._thread.shutdown()

    def _boot(self) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        tun = os.open(TUN, os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun", IFF_TUN | IFF_NO_PI))
        setup = f"""
            link set lo up
            address add {self.address}/32 dev tun
            link set tun up mtu {MTU}
            route add default dev tun
        """
        ip = ["ip", "-batch", "-"]
        subprocess.run(ip, input=setup, text=True, check=True, capture_output=True)
        return tun


class Internet:
    """Carries TCP packets between machines, through the NATs they are behind."""

    def __init__(self) -> None:
        self._machines: dict[str, tuple[Machine, Nat | None]] = {}  # by the address others see
        self._closed = threading.Event()
        self._carrier = threading.Thread(target=self._carry)

    def machine(self, address: str, nat: Nat | None = None) -> Machine:
        """Switch on a machine, public or behind `nat`."""
        machine = Machine(address)
        self._machines[nat.address if nat else address] = machine, nat
        return machine

    def __enter__(self) -> Self:
        self._carrier.start()
        return self

    def __exit__(self, *_: object) -> None:
        for machine, _nat in self._machines.values():
            machine.finish()
        self._closed.set()
        self._carrier.join()
        for machine, _nat in self._machines.values():
            os.close(machine.tun)

    def _carry(self) -> None:
        while not self._closed.is_set():
            machines = {machine.tun: nat for machine, nat in list(self._machines.values())}
            for tun in select.select(list(machines), [], [], LOOK_AROUND_S)[0]:
                self._send(os.read(tun, MTU), machines[tun])

    def _send(self, data: bytes, nat: Nat | None) -> None:
        version, protocol = data[0] >> 4, data[9]
        if (version, protocol) != (4, socket.IPPROTO_TCP):
            return
        packet = Packet(data)
        if nat:
            nat.outward(packet)
        machine, its_nat = self._machines.get(packet.destination.address, (None, None))
        if machine and (its_nat is None or its_nat.inward(packet)):
            with suppress(OSError):  # it was switched off
                os.write(machine.tun, packet.data)
