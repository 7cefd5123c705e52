"""PostgreSQL on this machine, from the wheel `pgserver`."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from parts.process import free_port


@dataclass
class Postgres:
    """A cluster of its own that can be stopped and started again."""

    folder: Path
    port: int
    user: str | None

    @property
    def dsn(self) -> str:
        return f"postgresql://lookback@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        if self.user:
            shutil.chown(self.folder, self.user)
        self._call("initdb", "-U", "lookback", "-A", "trust", "-E", "UTF8")

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self._call("pg_ctl", "start", "-w", "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it. `immediate` is what a crash looks like."""
        self._call("pg_ctl", "stop", "-w", "-m", mode)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), "-D", str(self.folder / "data"), *arguments],
            check=True,
            user=self.user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @cached_property
    def programs(self) -> Path:
        """PostgreSQL's programs; copied where its own user cannot reach them."""
        (package,) = importlib.util.find_spec("pgserver").submodule_search_locations
        installed = Path(package) / "pginstall"
        if self.user and not _may_run(installed / "bin" / "postgres", self.user):
            copy = self.folder / "pginstall"
            shutil.copytree(installed, copy, symlinks=True)
            installed = copy
        return installed / "bin"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """An empty cluster."""
    with tempfile.TemporaryDirectory(prefix="lookback-postgres-") as folder:
        server = Postgres(Path(folder), free_port(), _user())
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def _user() -> str | None:
    """Who runs it: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user")


def _may_run(program: Path, user: str) -> bool:
    return (
        subprocess.run(["/usr/bin/test", "-x", str(program)], user=user, check=False).returncode
        == 0
    )
