"""Bodies that are too large for a message, as objects on S3."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack
from typing import Any

from aiobotocore.session import AioSession

from sinks.deadletters.letter import DeadLetter


class Bodies:
    """One object a body, below `location` ("bucket/prefix") and nowhere else.

    Its name is made from the place and the bytes: stored again it is the same object, and the
    letters of two places never share one.
    """

    def __init__(self, location: str) -> None:
        self._bucket, _, prefix = location.partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        self._s3: Any = None

    async def open(
        self, stack: AsyncExitStack, session: AioSession, client: dict[str, Any]
    ) -> None:
        """Connect until `stack` ends."""
        self._s3 = await stack.enter_async_context(session.create_client("s3", **client))

    async def put(self, letter: DeadLetter) -> str:
        """Store a letter's body; returns its name."""
        digest = hashlib.blake2b(letter.place.key(), digest_size=20)
        digest.update(letter.body)
        name = digest.hexdigest()
        await self._s3.put_object(**self._at(name), Body=letter.body)
        return name

    async def get(self, name: str) -> bytes:
        """The bytes of a body."""
        answer = await self._s3.get_object(**self._at(name))
        async with answer["Body"] as stream:
            return bytes(await stream.read())

    async def delete(self, name: str) -> None:
        """Delete a body; one that is not there is no error."""
        await self._s3.delete_object(**self._at(name))

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}
