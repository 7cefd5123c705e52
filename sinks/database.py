"""A PostgreSQL server: where it is, how it is reached, and what its errors mean for a sink."""

from __future__ import annotations

import getpass
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from sinks.errors import SinkRefused, SinkUnavailable

_HOSTS: Final = re.compile(r"([^:/\[\]]*|\[[^\]]*\])(:\d+)?(,([^:/\[\]]*|\[[^\]]*\])(:\d+)?)*")
_TABLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")

_NOT_ALLOWED: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    ssl.SSLCertVerificationError,
)
# Looked for before `_LATER`: they are special cases of what is there.
_NEVER: Final = (asyncpg.DiskFullError, asyncpg.DataError, asyncpg.UnsupportedClientFeatureError)
_LATER: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # stopping, starting, a statement that took too long
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,  # a deadlock with somebody else
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary has moved to another machine
    asyncpg.InvalidCachedStatementError,  # a column was added meanwhile
    asyncpg.InterfaceError,  # the connection is closed
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database and who asks it. Names and messages made of it hold no secret."""

    dsn: str = field(repr=False)
    host: str
    database: str
    user: str

    @classmethod
    def at(cls, dsn: str) -> Database:
        """Read `postgresql://user:password@host:port/database`.

        Raises:
            SinkRefused: it cannot be read; the message does not repeat it.
        """
        try:
            url = urlsplit(dsn)
            query = parse_qs(url.query, strict_parsing=bool(url.query))
        except ValueError:
            raise _unreadable() from None
        who, at, hosts = url.netloc.rpartition("@")
        # Of a password with a bare @ / ? or #, a part would be taken for the name of the host.
        misread = "@" in who or (not at and "@" in dsn)
        if url.scheme not in ("postgresql", "postgres") or misread or not _HOSTS.fullmatch(hosts):
            raise _unreadable()
        given = {name: values[-1] for name, values in query.items()}
        user = unquote(who.partition(":")[0]) or given.get("user") or os.environ.get("PGUSER")
        user = user or getpass.getuser()
        host = hosts or given.get("host") or os.environ.get("PGHOST") or "localhost"
        database = unquote(url.path.lstrip("/")) or given.get("dbname") or given.get("database")
        return cls(dsn, host, database or os.environ.get("PGDATABASE") or user, user)

    @property
    def name(self) -> str:
        """As an address, without the secrets."""
        return f"postgresql://{self.host}/{self.database}"

    def options(self, timeout_s: float) -> dict[str, Any]:
        """What `asyncpg.connect` and `create_pool` take; no answer takes longer than `timeout_s`.

        Keep-alives let the server notice within a minute that a client's machine is gone, and
        give its locks to others; by default it takes two hours.
        """
        return {
            "dsn": self.dsn,
            "timeout": timeout_s,
            "command_timeout": timeout_s,
            "server_settings": {
                "application_name": "lookback",
                "tcp_keepalives_idle": "30",
                "tcp_keepalives_interval": "10",
                "tcp_keepalives_count": "3",
            },
        }

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns errors of asyncpg, inside, into those of sinks.

        Raises:
            SinkUnavailable: the server is gone, starting, overloaded, or somebody else was faster.
            SinkRefused: it says no, and will again.
        """
        try:
            yield
        except asyncpg.ClientConfigurationError:
            raise _unreadable() from None  # its text may repeat parts of the address
        except _NOT_ALLOWED as error:
            raise SinkRefused(
                f"{self.name} does not let user {self.user} in, or not do this ({error}): check "
                "user, password, database and permissions, then run again"
            ) from error
        except _NEVER as error:
            raise self._refusal(error) from error
        except _LATER as error:
            what = str(error) or type(error).__name__
            raise SinkUnavailable(f"{self.name} cannot be used now ({what})") from error
        except asyncpg.PostgresError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> SinkRefused:
        return SinkRefused(
            f"{self.name} does not take this ({error}): check that the server has room and that "
            "the tables are as this release made them, then run again"
        )


def checked_table(name: str) -> str:
    """The name, if it can stand in a statement as it is.

    Raises:
        SinkRefused: it cannot.
    """
    if not _TABLE.fullmatch(name):
        raise SinkRefused(
            f"{name!r} is not the name of a table: use up to 40 of a to z, 0 to 9 and _, "
            "a letter first; a schema is chosen with ?search_path= in the address"
        )
    return name


def _unreadable() -> SinkRefused:
    return SinkRefused(
        "the address of the database cannot be read: write it as "
        "postgresql://user:password@host:port/database, special characters of the password as %XX"
    )
