"""Objects that messages lead to, if they are allowed; S3 through its own client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError, ParamValidationError

from ingest.errors import AddressRefused, DecodeError, SourceError, SourceUnavailable
from ingest.sources.sqs.queue import TROUBLE

AT_ONCE: Final = 8
"""Most objects that are read at the same time: what they may take in memory is bounded by it."""

_DEADLINE_S: Final = 60.0
_CHUNK: Final = 1 << 16

# Errors that no later try will mend. Credentials that have run out are none of them: they are our
# matter, and no message may become a dead letter for it.
_FOR_GOOD: Final = frozenset(
    {
        "NoSuchKey",
        "NoSuchBucket",
        "NoSuchVersion",
        "AccessDenied",
        "InvalidBucketName",
        "InvalidObjectState",
        "KeyTooLongError",
        "MethodNotAllowed",  # the version is a mark that the object was removed
        "403",  # the answer to a HEAD has no body that could name the error
        "404",
        "405",
    }
)


class Objects:
    """Reads objects of S3 below the allowed prefixes (`s3://bucket/prefix`).

    `client`: arguments of `create_client`.
    """

    def __init__(self, client: Mapping[str, Any], allow: Sequence[str]) -> None:
        self._client = client
        self._prefixes = [each.rstrip("/") + "/" for each in allow if each.startswith("s3://")]
        self._s3: Any = None
        self._opened = AsyncExitStack()

    async def open(self) -> None:
        """Make the client, where anything is allowed.

        Raises:
            SourceError: a client cannot be made with what was given.
        """
        if not self._prefixes:
            return
        try:
            config = AioConfig(
                max_pool_connections=AT_ONCE,
                connect_timeout=5,
                read_timeout=20,
                retries={"total_max_attempts": 2, "mode": "standard"},
            )
            created = get_session().create_client("s3", **{**self._client, "config": config})
            self._s3 = await self._opened.enter_async_context(created)
        except TROUBLE as error:
            raise SourceError(f"no client of S3 can be made ({error})") from error

    async def read(self, bucket: str, key: str, version: str | None, limit: int) -> bytes:
        """An object of at most `limit` bytes.

        Raises:
            AddressRefused: it is not on the allow list.
            DecodeError: `unreadable` or `too_large`; trying again does not help.
            SourceUnavailable: not now.
        """
        url = self._allowed(bucket, key)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                answer = await self._s3.get_object(**_place(bucket, key, version))
                async with answer["Body"] as body:
                    return await _bounded(body, url, limit)
        except TROUBLE as error:
            raise _explained(error, url) from error

    async def metadata(self, bucket: str, key: str, version: str | None) -> dict[str, str]:
        """What its maker wrote beside an object (x-amz-meta-...); raises as `read`."""
        url = self._allowed(bucket, key)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                answer = await self._s3.head_object(**_place(bucket, key, version))
        except TROUBLE as error:
            raise _explained(error, url) from error
        return {name.lower(): value for name, value in answer["Metadata"].items()}

    async def close(self) -> None:
        """Let go of connections."""
        await self._opened.aclose()

    def _allowed(self, bucket: str, key: str) -> str:
        url = f"s3://{bucket}/{key}"
        if ".." in url or not any(url.startswith(each) for each in self._prefixes):
            raise AddressRefused(
                f"{url} is below no prefix of ingest.allow: add one if it is trusted"
            )
        return url


async def _bounded(body: Any, url: str, limit: int) -> bytes:
    data = bytearray()
    # One read gives what has arrived, which need not be all.
    while part := await body.read(_CHUNK):
        data += part
        if len(data) > limit:
            raise DecodeError("too_large", f"{url} has more than {limit} bytes")
    return bytes(data)


def _place(bucket: str, key: str, version: str | None) -> dict[str, str]:
    return {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}


def _explained(error: Exception, url: str) -> DecodeError | SourceUnavailable:
    code = error.response["Error"].get("Code") if isinstance(error, ClientError) else None
    if code in _FOR_GOOD or isinstance(error, ParamValidationError):
        return DecodeError("unreadable", f"{url}: {error}")
    return SourceUnavailable(f"{url} cannot be read now ({error or type(error).__name__})")
