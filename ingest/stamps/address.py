"""Fetching a stamp from an address, if the address is allowed.

An event comes from outside and names an address; without a list of what is allowed, it could
make the service read any file and call any host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp

from ingest.errors import AddressRefused, DecodeError, SourceError

_DEADLINE_S: Final = 30.0
_S3_DEADLINE_S: Final = 90.0
_WAITS_S: Final = (0.2, 1.0, 0.0)  # behind each of three tries; S3's client has its own
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_CHUNK: Final = 1 << 16
_FILES: Final = ("", "file")
_ELSEWHERE: Final = ("s3", "https", "http")

Data = TypeVar("Data", bytes, bytearray)


class Fetcher:
    """Reads files, S3 objects and HTTPS addresses below the allowed prefixes.

    `allow`: folders, `s3://bucket/prefix`, `https://host/path`. A folder allows what really lies
    in it: `..` and links that lead out do not count. `limit`: bytes. `s3`: arguments for the client
    of S3 (`endpoint_url`, `region_name`, ...); what is not given comes from the environment.
    """

    def __init__(
        self, allow: Sequence[str], limit: int, s3: Mapping[str, Any] | None = None
    ) -> None:
        kinds = [(_allowed_scheme(each), each) for each in allow]
        self._folders = [Path(_path(each)).resolve() for kind, each in kinds if kind in _FILES]
        self._prefixes = [each.rstrip("/") + "/" for kind, each in kinds if kind in _ELSEWHERE]
        self._limit = limit
        self._s3_client = dict(s3 or {})
        self._http: aiohttp.ClientSession | None = None
        self._s3: Any = None
        self._opened = AsyncExitStack()

    async def fetch(self, url: str) -> bytes:
        """The bytes at `url`.

        Raises:
            AddressRefused: it is not on the allow list.
            DecodeError: `bad_notice` where it is no address, `unreadable` or `too_large`.
        """
        try:
            scheme = _scheme(url)
        except ValueError as error:
            # Only notices name addresses.
            detail = f"stamp.url: {url!r:.200} is no address ({error})"
            raise DecodeError("bad_notice", detail) from error
        match scheme:
            case "" | "file":
                return await asyncio.to_thread(self._file, url)
            case "s3":
                return await self._object(self._allowed(url))
            case "https" | "http":
                return await self._page(self._allowed(url))
            case _:
                raise AddressRefused(f"{url}: addresses of kind {scheme} are not read")

    async def close(self) -> None:
        """Let go of connections."""
        await self._opened.aclose()

    def _allowed(self, url: str) -> str:
        if ".." in unquote(url) or not any(url.startswith(each) for each in self._prefixes):
            raise _refusal(url)
        return url

    def _file(self, url: str) -> bytes:
        try:
            path = Path(_path(url)).resolve()
            if not any(path.is_relative_to(folder) for folder in self._folders):
                raise _refusal(url)
            with path.open("rb") as file:
                return self._bounded(file.read(self._limit + 1), url)
        except OSError as error:
            raise DecodeError("unreadable", f"{url}: {error.strerror}") from error
        except (RuntimeError, ValueError) as error:  # links in a circle; a name that cannot be
            raise DecodeError("unreadable", f"{url!r:.200}: {error}") from error

    async def _object(self, url: str) -> bytes:
        # Late: most runs have no stamps in S3, and its client takes a while to load.
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with asyncio.timeout(_S3_DEADLINE_S):
                return await self._read_object(url)
        except (BotoCoreError, ClientError, aiohttp.ClientError, OSError, ValueError) as error:
            # A timeout is an OSError; an endpoint that is no address is a ValueError.
            raise DecodeError("unreadable", f"{url}: {error}") from error

    async def _read_object(self, url: str) -> bytes:
        from aiobotocore.session import get_session

        if self._s3 is None:
            opened = get_session().create_client("s3", **self._s3_client)
            self._s3 = await self._opened.enter_async_context(opened)
        bucket, _, key = url.removeprefix("s3://").partition("/")
        answer = await self._s3.get_object(Bucket=bucket, Key=key)
        data = bytearray()
        async with answer["Body"] as body:
            # One read gives what has arrived, which need not be all.
            while part := await body.read(_CHUNK):
                data += part
                self._bounded(data, url)
        return bytes(data)

    async def _page(self, url: str) -> bytes:
        if self._http is None:
            opened = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_S))
            self._http = await self._opened.enter_async_context(opened)
        for wait_s in _WAITS_S:
            try:
                return await self._read_page(self._http, url)
            except (aiohttp.ClientError, OSError, ValueError) as error:
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
            async for part in answer.content.iter_chunked(_CHUNK):
                body += part
                self._bounded(body, url)
            return bytes(body)

    def _bounded(self, data: Data, url: str) -> Data:
        if len(data) > self._limit:
            raise DecodeError("too_large", f"{url} has more than {self._limit} bytes")
        return data


def _scheme(url: str) -> str:
    """The scheme of an address; ValueError where it is none.

    Control characters are refused: clients drop some of them, and what an address was checked
    for would not be what is asked.
    """
    if any(each < " " or each == "\x7f" for each in unquote(url)):
        raise ValueError("it holds control characters")
    return urlsplit(url).scheme


def _allowed_scheme(prefix: str) -> str:
    try:
        return _scheme(prefix)
    except ValueError as error:
        why = f"is neither a folder nor an address ({error})"
        raise SourceError(f"ingest.allow: {prefix!r} {why}") from error


def _path(url: str) -> str:
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def _refusal(url: str) -> AddressRefused:
    return AddressRefused(f"{url} is below no prefix of ingest.allow: add one if it is trusted")
