"""Fetching a stamp from an address, if the address is allowed.

An event comes from outside and names an address; without a list of what is allowed, it could
make the service read any file and call any host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiohttp
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import AddressRefused, DecodeError

_DEADLINE_S: Final = 30.0


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
        if self._http:
            await self._http.close()

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
        parts = urlsplit(url)
        try:
            async with get_session().create_client("s3") as s3:
                answer: Any = await s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
                async with answer["Body"] as body:
                    return self._bounded(await body.read(self._limit + 1), url)
        except (BotoCoreError, ClientError) as error:
            raise DecodeError("unreadable", f"{url}: {error}") from error

    async def _page(self, url: str) -> bytes:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
            self._http = aiohttp.ClientSession(timeout=timeout)
        try:
            # A redirect could lead off the allow list, so none is followed.
            async with self._http.get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise DecodeError("unreadable", f"{url} answered {answer.status}")
                body = b""
                async for part in answer.content.iter_chunked(1 << 16):
                    body = self._bounded(body + part, url)
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DecodeError("unreadable", f"{url}: {error!r}") from error

    def _bounded(self, data: bytes, url: str) -> bytes:
        if len(data) > self._limit:
            raise DecodeError("too_large", f"{url} has more than {self._limit} bytes")
        return data


def _scheme(url: str) -> str:
    return urlsplit(url).scheme


def _path(url: str) -> str:
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _refusal(url: str) -> AddressRefused:
    return AddressRefused(f"{url} is below no prefix of ingest.allow: add one if it is trusted")
