"""Payloads that are too large for an invocation: kept in a bucket, sent as an address.

The function is handed a signed address that is good for minutes, so it needs no rights of its own
in the bucket. All large payloads of a group are one object: one request to write it, and each rank
reads the range that is its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from dispatcher.errors import Refused, Throttled
from dispatcher.invokers.lambda_errors import refusal

PAYLOADS: Final = "payloads/"
WEIGHTS: Final = "weights/"
_GOOD_S: Final = 900  # of an address: the longest that a function may run
_log = structlog.get_logger()


@dataclass(slots=True)
class Pointers:
    """Keeps payloads in `bucket` below `prefix` (empty, or with a slash at its end).

    `client`: arguments of aiobotocore's `create_client`; `run`: a name that no other run has;
    `weights`: a file that functions read from the bucket, too, which do not carry it.
    """

    bucket: str
    prefix: str
    run: str
    weights: Path | None = None
    client: Mapping[str, Any] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _s3: Any = None
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _address: tuple[float, dict[str, Any]] = (-math.inf, {})

    async def open(self) -> None:
        """Get ready.

        Raises:
            ClientError: the bucket is not there, or not ours.
        """
        await self.connect()
        payloads = f"{self.prefix}{PAYLOADS}"
        await self._s3.list_objects_v2(Bucket=self.bucket, Prefix=payloads, MaxKeys=1)
        if self.weights:
            await self._keep_weights(self.weights)

    async def connect(self) -> None:
        """Make the client; nothing is asked yet."""
        config = AioConfig(
            signature_version="s3v4",
            retries={"total_max_attempts": 3},
            # Else an address that is signed leads to a server that sends elsewhere.
            s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
        )
        made = get_session().create_client("s3", config=config, **self.client)
        self._s3 = await self._stack.enter_async_context(made)

    async def close(self) -> None:
        """Hang up."""
        await self._stack.aclose()

    @asynccontextmanager
    async def kept(self, payloads: Sequence[bytes], limit: int) -> AsyncIterator[list[bytes]]:
        """The payloads; those of more than `limit` bytes are addresses while this lasts.

        Raises:
            Refused: the bucket does not take them; a person must mend something.
            Throttled: it does not answer now.
        """
        key = f"{self.prefix}{PAYLOADS}{self.run}/{next(self._numbers)}"
        large = [each for each in payloads if len(each) > limit]
        url = await self._put(key, large)
        starts = iter(itertools.accumulate(map(len, large), initial=0))
        try:
            yield [
                _pointer(url, each, next(starts)) if len(each) > limit else each
                for each in payloads
            ]
        finally:
            await self._forget(key)

    async def _put(self, key: str, payloads: Sequence[bytes]) -> str:
        try:
            body = io.BytesIO(b"".join(payloads))
            await self._s3.put_object(Bucket=self.bucket, Key=key, Body=body)
            return await self.signed(key)
        except ClientError as error:
            raise Refused(refusal(error)) from error
        except (BotoCoreError, OSError) as error:
            raise Throttled(f"the bucket {self.bucket} does not answer: {error}") from error

    async def signed(self, key: str) -> str:
        """An address of an object that anybody can read for some minutes."""
        where = {"Bucket": self.bucket, "Key": key}
        url: str = await self._s3.generate_presigned_url(
            "get_object", Params=where, ExpiresIn=_GOOD_S
        )
        return url

    async def job(self) -> dict[str, Any]:
        """Where the weights are, for a job (see `workers.handler`); empty if they are not here."""
        if self.weights is None:
            return {}
        until, address = self._address
        if time.monotonic() > until:
            address["url"] = await self.signed(self._weights_key(address["sha256"]))
            self._address = (time.monotonic() + _GOOD_S / 3, address)
        return {"weights_at": dict(address)}

    async def _keep_weights(self, path: Path) -> None:
        raw = await asyncio.to_thread(path.read_bytes)
        sha256 = hashlib.sha256(raw).hexdigest()
        key = self._weights_key(sha256)
        found = await self._s3.list_objects_v2(Bucket=self.bucket, Prefix=key)
        if [each["Size"] for each in found.get("Contents", [])] != [len(raw)]:
            await self._s3.put_object(Bucket=self.bucket, Key=key, Body=io.BytesIO(raw))
        self._address = (-math.inf, {"start": 0, "length": len(raw), "sha256": sha256})

    def _weights_key(self, sha256: str) -> str:
        return f"{self.prefix}{WEIGHTS}{sha256}.safetensors"

    async def _forget(self, key: str) -> None:
        try:
            await self._s3.delete_object(Bucket=self.bucket, Key=key)
        except (ClientError, BotoCoreError, OSError) as error:
            _log.warning(
                "a payload stays in the bucket until its rule deletes it",
                object=f"s3://{self.bucket}/{key}",
                error=str(error),
            )


def _pointer(url: str, payload: bytes, start: int) -> bytes:
    """See `workers.payload`."""
    at = {
        "url": url,
        "start": start,
        "length": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    return orjson.dumps({"at": at})
