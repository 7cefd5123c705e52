"""Fetching a stamp from an address, if the address is allowed.

An event comes from outside and names an address; without a list of what is allowed, it could
make the service read any file and call any host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp

from ingest.errors import AddressRefused, DecodeError

_DEADLINE_S: Final = 30.0
_WAITS_S: Final = (0.2, 1.0, 0.0)  # behind each of three tries; S3's client has its own
_BUSY: Final = frozenset({429, 500, 502, 503, 504})

Data = TypeVar("Data", bytes, bytearray)


class Fetcher:
    """Reads files, S3 objects and HTTPS addresses below the allowed prefixes.

    `allow`: folders, `s3://bucket/prefix`, `https://host/path`. A folder allows what really lies
    in it: `..` and links that lead out do not count. `limit`: bytes.
    """

    def __init__(self, allow: Sequence[str], limit: int) -> None:
        self._folders = [
            Path(_path(each)).resolve() for each in allow if _scheme(each) in ("", "file")
        ]
        self._prefixes = [
            each.rstrip("/") + "/" for each in allow if _scheme(each) in ("s3", "https", "http")
        ]
        self._limit = limit
        self._http: aiohttp.ClientSession | None = None
        self._s3: Any = None
        self._opened = AsyncExitStack()

    async def fetch(self, url: str) -> bytes:
        """The bytes at `url`.

        Raises:
            AddressRefused: it is not on the allow list.
            DecodeError: `unreadable` or `too_large`.
        """
        match _scheme(url):
            case "" | "file":
                return await asyncio.to_thread(self._file, url)
            case "s3":
                return await self._object(self._allowed(url))
            case "https" | "http":
                return await self._page(self._allowed(url))
            case scheme:
                raise AddressRefused(f"{url}: addresses of kind {scheme} are not read")

    async def close(self) -> None:
        """Let go of connections."""
        await self._opened.aclose()

    def _allowed(self, url: str) -> str:
        if ".." in unquote(url) or not any(url.startswith(each) for each in self._prefixes):
            raise _refusal(url)
        return url

    def _file(self, url: str) -> bytes:
        path = Path(_path(url)).resolve()
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise _refusal(url)
        try:
            with path.open("rb") as file:
                return self._bounded(file.read(self._limit + 1), url)
        except OSError as error:
            raise DecodeError("unreadable", f"{url}: {error.strerror}") from error

    async def _object(self, url: str) -> bytes:
        # Late: most runs have no stamps in S3, and its client takes a while to load.
        from aiobotocore.session import get_session
        from botocore.exceptions import BotoCoreError, ClientError

        parts = urlsplit(url)
        try:
            if self._s3 is None:
                opened = get_session().create_client("s3")
                self._s3 = await self._opened.enter_async_context(opened)
            answer = await self._s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
            async with answer["Body"] as body:
                data: bytes = await body.read(self._limit + 1)
                return self._bounded(data, url)
        except (BotoCoreError, ClientError) as error:
            raise DecodeError("unreadable", f"{url}: {error}") from error

    async def _page(self, url: str) -> bytes:
        if self._http is None:
            opened = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_S))
            self._http = await self._opened.enter_async_context(opened)
        for wait_s in _WAITS_S:
            try:
                return await self._read_page(self._http, url)
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = error
            await asyncio.sleep(wait_s)
        raise DecodeError("unreadable", f"{url}: {failure!r}") from failure

    async def _read_page(self, http: aiohttp.ClientSession, url: str) -> bytes:
        # A redirect could lead off the allow list, so none is followed.
        async with http.get(url, allow_redirects=False) as answer:
            if answer.status in _BUSY:
                answer.raise_for_status()
            if answer.status != 200:
                raise DecodeError("unreadable", f"{url} answered {answer.status}")
            body = bytearray()
            async for part in answer.content.iter_chunked(1 << 16):
                body += part
                self._bounded(body, url)
            return bytes(body)

    def _bounded(self, data: Data, url: str) -> Data:
        if len(data) > self._limit:
            raise DecodeError("too_large", f"{url} has more than {self._limit} bytes")
        return data


def _scheme(url: str) -> str:
    return urlsplit(url).scheme


def _path(url: str) -> str:
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _refusal(url: str) -> AddressRefused:
    return AddressRefused(f"{url} is below no prefix of ingest.allow: add one if it is trusted")
