"""Writer schemas of LSST's alerts: from a folder, from a registry, or from memory.

A packet names its schema by a number, major * 100 + minor (701, 1100). Versions are never
guessed: an unknown number is an error.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import orjson
from fastavro.schema import load_schema

from ingest import avro
from ingest.errors import DecodeError, SourceError

_DEADLINE_S: Final = 10.0
_MAX_SCHEMA: Final = 4 * 1024 * 1024
_MAX_CACHED: Final = 256
_WAITS_S: Final = (0.1, 0.4, 0.0)  # behind each of three tries
_SILENCE_S: Final = 5.0


class Schemas(Protocol):
    """Finds a writer schema by its number."""

    async def get(self, schema_id: int) -> Any:
        """The parsed schema.

        Raises:
            DecodeError: `unknown_schema`.
        """

    async def close(self) -> None:
        """Let go of connections."""


class MemorySchemas:
    """Schemas that were given: the twin for tests, and the empty set."""

    def __init__(self, schemas: Mapping[int, Any] | None = None) -> None:
        self._schemas = {number: avro.parsed(each) for number, each in (schemas or {}).items()}

    async def get(self, schema_id: int) -> Any:
        """See `Schemas.get`."""
        if schema_id not in self._schemas:
            raise _unknown(schema_id, "no schemas are configured (ingest.schemas)")
        return self._schemas[schema_id]

    async def close(self) -> None:
        """Nothing to let go of."""


class FolderSchemas:
    """Schemas in files, `<major>/<minor>/lsst.v<major>_<minor>.alert.avsc` and its parts."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"ingest.schemas: {folder} is not a folder with writer schemas")
        self._folder = folder
        self._loaded: dict[int, Any] = {}

    async def get(self, schema_id: int) -> Any:
        """See `Schemas.get`."""
        if schema_id not in self._loaded:
            self._loaded[schema_id] = self._load(schema_id)
        return self._loaded[schema_id]

    def _load(self, schema_id: int) -> Any:
        major, minor = divmod(schema_id, 100)
        path = self._folder / f"{major}/{minor}/lsst.v{major}_{minor}.alert.avsc"
        if not path.is_file():
            raise _unknown(schema_id, f"there is no {path}")
        try:
            return avro.checked(load_schema(str(path)))
        except Exception as error:  # what is no schema makes fastavro raise nearly anything
            raise _unknown(schema_id, f"{path} cannot be read ({error})") from error

    async def close(self) -> None:
        """Nothing to let go of."""


class RegistrySchemas:
    """A Confluent-style registry: `GET {url}/schemas/ids/{id}`.

    What it gives is kept, for the last 256 numbers. What it does not give is not asked for again
    for five seconds, so that a registry that is down does not hold up every event.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._loaded: dict[int, Any] = {}
        self._failed: dict[int, tuple[float, str]] = {}  # when, and why
        self._session: aiohttp.ClientSession | None = None
        self._one_at_a_time = asyncio.Lock()

    async def get(self, schema_id: int) -> Any:
        """See `Schemas.get`."""
        async with self._one_at_a_time:  # who waits finds the answer to the first
            if schema_id not in self._loaded:
                self._check_silence(schema_id)
                try:
                    _keep(self._loaded, schema_id, await self._ask(schema_id))
                except DecodeError as error:
                    _keep(self._failed, schema_id, (time.monotonic(), error.detail))
                    raise
            return self._loaded[schema_id]

    def _check_silence(self, schema_id: int) -> None:
        failed_at, detail = self._failed.get(schema_id, (-math.inf, ""))
        if time.monotonic() - failed_at < _SILENCE_S:
            raise DecodeError("unknown_schema", detail)

    async def _ask(self, schema_id: int) -> Any:
        url = f"{self._url}/schemas/ids/{schema_id}"
        try:
            async with asyncio.timeout(_DEADLINE_S):
                body = await self._fetch(url)
            return avro.schema_of(orjson.loads(body)["schema"])
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            # A timeout is an OSError; the others are an answer of another form.
            raise _unknown(
                schema_id, f"the registry at {url} did not give it ({error!r:.500})"
            ) from error
        except DecodeError as error:
            raise _unknown(schema_id, f"the registry at {url}: {error.detail}") from error

    async def _fetch(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        for wait_s in _WAITS_S:
            try:
                return await _read(self._session, url)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
                failure = error
            await asyncio.sleep(wait_s)
        raise failure

    async def close(self) -> None:
        """See `Schemas.close`."""
        if self._session:
            await self._session.close()


class ChainedSchemas:
    """The first of several that knows a number."""

    def __init__(self, *parts: Schemas) -> None:
        self._parts = parts

    async def get(self, schema_id: int) -> Any:
        """See `Schemas.get`."""
        reasons = []
        for part in self._parts:
            try:
                return await part.get(schema_id)
            except DecodeError as error:
                reasons.append(error.detail)
        raise DecodeError("unknown_schema", "; ".join(reasons))

    async def close(self) -> None:
        """See `Schemas.close`."""
        for part in self._parts:
            await part.close()


def open_schemas(folder: Path | None, registry: str | None) -> Schemas:
    """The registry first, then the folder; with neither, a set that knows nothing."""
    parts: list[Schemas] = [RegistrySchemas(registry)] if registry else []
    if folder:
        parts.append(FolderSchemas(folder))
    return ChainedSchemas(*parts) if parts else MemorySchemas()


async def _read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, allow_redirects=False) as answer:
        answer.raise_for_status()
        body = bytearray()
        async for some in answer.content.iter_chunked(1 << 16):
            body += some
            if len(body) > _MAX_SCHEMA:
                raise ValueError(f"it has more than {_MAX_SCHEMA} bytes")
        return bytes(body)


def _keep(kept: dict[int, Any], number: int, value: Any) -> None:
    kept[number] = value
    if len(kept) > _MAX_CACHED:  # forged numbers must not fill the memory
        del kept[next(iter(kept))]


def _unknown(schema_id: int, why: str) -> DecodeError:
    return DecodeError("unknown_schema", f"writer schema {schema_id}: {why}")
