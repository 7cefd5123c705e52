"""Writer schemas of LSST's alerts: from a folder, from a registry, or from memory.

A packet names its schema by a number, major * 100 + minor (701, 1100). Versions are never
guessed: an unknown number is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import fastavro
import orjson
from fastavro.schema import load_schema

from ingest.codecs.ocf import FASTAVRO_ERRORS
from ingest.errors import DecodeError, SourceError

_DEADLINE_S: Final = 10.0
_MAX_SCHEMA: Final = 4 * 1024 * 1024
_MAX_CACHED: Final = 256


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
        self._schemas = {
            number: fastavro.parse_schema(each) for number, each in (schemas or {}).items()
        }

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
            return load_schema(str(path))
        except (*FASTAVRO_ERRORS, OSError) as error:
            raise _unknown(schema_id, f"{path} cannot be read ({error})") from error

    async def close(self) -> None:
        """Nothing to let go of."""


class RegistrySchemas:
    """A Confluent-style registry: `GET {url}/schemas/ids/{id}`. Asked once per number."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._loaded: dict[int, Any] = {}
        self._session: aiohttp.ClientSession | None = None

    async def get(self, schema_id: int) -> Any:
        """See `Schemas.get`."""
        if schema_id not in self._loaded:
            if len(self._loaded) >= _MAX_CACHED:
                self._loaded.clear()  # forged numbers must not fill the memory
            self._loaded[schema_id] = await self._fetch(schema_id)
        return self._loaded[schema_id]

    async def _fetch(self, schema_id: int) -> Any:
        url = f"{self._url}/schemas/ids/{schema_id}"
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                answer.raise_for_status()
                body = await answer.content.read(_MAX_SCHEMA)
            return fastavro.parse_schema(orjson.loads(orjson.loads(body)["schema"]))
        except (*FASTAVRO_ERRORS, aiohttp.ClientError, TimeoutError) as error:
            raise _unknown(schema_id, f"the registry at {url} did not give it ({error})") from error

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


def _unknown(schema_id: int, why: str) -> DecodeError:
    return DecodeError("unknown_schema", f"writer schema {schema_id}: {why}")
