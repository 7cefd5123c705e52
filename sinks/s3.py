"""Results as objects in S3: one JSON file each, for who looks one up by its key."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Any, ClassVar, Final

import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from sinks.amazon import code, explaining
from sinks.errors import SinkRefused, SinkUnavailable
from sinks.record import ResultRecord
from sinks.sink import Stored

_PAGE: Final = 1000
_ADVICE: Final = (
    "check bucket, region, credentials and that s3:PutObject, s3:GetObject and s3:ListBucket are "
    "allowed, then run again"
)


class S3ResultsSink:
    """`<prefix>/<first two digits of the key>/<key>.json`, as `ResultRecord.to_json` has it.

    Each object is a request with a price of its own (a million: about 5 dollars to write, 40 cents
    to scan), so this is for few results or for a reader of single ones. The books are read from
    the objects: a listing has only their names, and to ask for an object's metadata costs the same
    request as to read it whole.
    """

    linger_s: ClassVar[float] = 0.0
    guarantee: ClassVar[str] = (
        "A write that returned is stored by S3; of one that did not, some objects may be there, "
        "each of them whole. An object's name is made from its key, so a key is held once: "
        "writing it again replaces it."
    )

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Mapping[str, Any] | None = None,
        parallel: int = 32,
        timeout_s: float = 20.0,
    ) -> None:
        """`client` is given to aiobotocore's `create_client("s3", ...)`: region, endpoint, keys.

        `parallel` requests are under way at once; one without an answer ends after `timeout_s`.
        """
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._given = dict(client or {})
        self._parallel, self._timeout_s = parallel, timeout_s
        self._stack = AsyncExitStack()
        self._client: Any = None
        self.name = f"s3://{bucket}/{self._prefix}".rstrip("/")

    async def open(self) -> None:
        """See `Sink.open`.

        Raises:
            SinkRefused: there is no such bucket, or it may not be used.
            SinkUnavailable: S3 cannot be reached now.
        """
        await self.close()
        # Retries are the caller's: its breaker and its books must see each failure. And the pool
        # has room for all: by default, the eleventh request waits for one of ten connections.
        config = AioConfig(
            retries={"total_max_attempts": 1},
            max_pool_connections=self._parallel,
            connect_timeout=self._timeout_s,
            read_timeout=self._timeout_s,
        )
        config = config.merge(self._given["config"]) if "config" in self._given else config
        try:
            with self._errors():
                made = get_session().create_client("s3", **{**self._given, "config": config})
                self._client = await self._stack.enter_async_context(made)
                # Not head_bucket: its answer has no body that could say what is wrong.
                await self._list(MaxKeys=1)
        except BaseException:
            await self.close()
            raise

    async def write(self, records: Sequence[ResultRecord]) -> None:
        """See `Sink.write`. After an error some of the records may be stored: write all again."""
        latest = {each.result_id: each for each in records}
        await self._each(latest.values(), self._put)

    async def scan(self) -> AsyncIterator[Stored]:
        """See `Sink.scan`. A request for each row: see above."""
        after: dict[str, str] = {}
        while True:
            with self._errors():
                page = await self._list(MaxKeys=_PAGE, **after)
            rows: list[Stored] = []

            async def read(key: str, rows: list[Stored] = rows) -> None:
                rows.extend(await self._get(key))

            names = (each["Key"] for each in page.get("Contents", ()))
            await self._each((key for key in names if self._is_result(key)), read)
            for row in rows:
                yield row
            if not page["IsTruncated"]:
                return
            after = {"ContinuationToken": page["NextContinuationToken"]}

    async def close(self) -> None:
        """See `Sink.close`."""
        self._client = None
        await self._stack.aclose()

    async def _each(self, things: Iterable[Any], do: Callable[[Any], Awaitable[None]]) -> None:
        """Do it with each, as many at once as the pool has connections."""
        queue = iter(things)

        async def work() -> None:
            for thing in queue:
                await do(thing)

        with self._errors():
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._parallel):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def _put(self, record: ResultRecord) -> None:
        await self._opened().put_object(
            Bucket=self._bucket,
            Key=f"{self._prefix}{record.result_id[:2]}/{record.result_id}.json",
            Body=orjson.dumps(record.to_json()),
            ContentType="application/json",
        )

    async def _get(self, key: str) -> list[Stored]:
        try:
            answer = await self._opened().get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if code(error) == "NoSuchKey":
                return []  # deleted since it was listed
            raise
        async with answer["Body"] as body:
            try:
                row = orjson.loads(await body.read())
                fields = {name: row[name] for name in Stored._fields}
                return [Stored(**{**fields, "src_offset": int(row["src_offset"])})]
            except (ValueError, KeyError, TypeError) as error:
                raise SinkRefused(
                    f"s3://{self._bucket}/{key} is not a result: delete it, or give another prefix"
                ) from error

    async def _list(self, **page: Any) -> Any:
        return await self._opened().list_objects_v2(
            Bucket=self._bucket, Prefix=self._prefix, **page
        )

    def _is_result(self, key: str) -> bool:
        """Other objects may lie below the prefix: only names that this sink makes are its own."""
        shard, _, name = key.removeprefix(self._prefix).partition("/")
        return name.endswith(".json") and "/" not in name and name[:2] == shard

    def _opened(self) -> Any:
        if self._client is None:
            raise SinkUnavailable(f"{self.name} is not open")
        return self._client

    def _errors(self) -> AbstractContextManager[None]:
        return explaining(self.name, _ADVICE)
