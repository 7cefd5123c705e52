"""From what a message holds to events: bodies as they are, objects fetched, images announced."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from ingest.codecs.fields import INT64
from ingest.codecs.notice import NewImage
from ingest.errors import AddressRefused, DecodeError
from ingest.sources.sqs.envelopes import Body, Content, NewObject, Pointer, Unreadable, decoded
from ingest.sources.sqs.objects import AT_ONCE, Objects

_EVENTS: Final = (".avro", ".json")
_IMAGES: Final = (".fits", ".npz")
_NEEDED: Final = ("id", "survey", "ra", "dec")
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Part:
    """One event of a message, ready to be delivered."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def needs_fetching(contents: Iterable[Content]) -> bool:
    """Whether S3 must be asked for any of them."""
    return any(isinstance(each, Pointer | NewObject) for each in contents)


class Contents:
    """Opens the contents of messages. `max_bytes`: of what is fetched for one message."""

    def __init__(self, objects: Objects, max_bytes: int) -> None:
        self._objects = objects
        self._max_bytes = max_bytes
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def parts(self, text: str, contents: Sequence[Content]) -> list[Part | None]:
        """The events of one message, whose body is `text`; None where there is none.

        What cannot be opened is the whole message, with the header `unreadable`.

        Raises:
            SourceUnavailable: S3 does not answer.
        """
        if not needs_fetching(contents):
            return [await self._part(text, each, 0) for each in contents]
        parts: list[Part | None] = []
        left = self._max_bytes
        async with self._turn:
            for each in contents:
                part = await self._part(text, each, left)
                left -= len(part.body) if part and isinstance(each, Pointer | NewObject) else 0
                parts.append(part)
        return parts

    async def _part(self, text: str, content: Content, limit: int) -> Part | None:
        try:
            return await self._opened(content, max(limit, 0))
        except AddressRefused as error:
            return Part(text.encode(), {"unreadable": f"{error}"})
        except DecodeError as error:
            return Part(text.encode(), {"unreadable": error.detail})

    async def _opened(self, content: Content, limit: int) -> Part | None:
        match content:
            case None:
                return None
            case Body(data):
                return Part(data)
            case Unreadable(reason):
                raise DecodeError("unreadable", reason)
            case Pointer(bucket, key, encoded):
                data = await self._objects.read(bucket, key, None, limit)
                fetched = await self._opened(decoded(data, encoded), limit)
                return fetched and Part(fetched.body, {"s3_address": f"s3://{bucket}/{key}"})
            case NewObject(bucket, key, _, facts):
                headers = {"s3_address": f"s3://{bucket}/{key}", **facts}
                return Part(await self._body_of(content, limit), headers)

    async def _body_of(self, new: NewObject, limit: int) -> bytes:
        kind = new.key.lower()
        if kind.endswith(_EVENTS):
            return await self._objects.read(new.bucket, new.key, new.version, limit)
        if kind.endswith(_IMAGES):
            metadata = await self._objects.metadata(new.bucket, new.key, new.version)
            return _notice(f"s3://{new.bucket}/{new.key}", metadata).to_bytes()
        known = ", ".join(_EVENTS + _IMAGES)
        raise DecodeError("unreadable", f"s3://{new.bucket}/{new.key} ends in none of {known}")


def _notice(url: str, metadata: Mapping[str, str]) -> NewImage:
    """The notice of an image in S3, whose metadata say where on the sky it is."""
    missing = [f"x-amz-meta-{each}" for each in _NEEDED if not metadata.get(each)]
    if missing:
        raise DecodeError(
            "unreadable",
            f"{url} has no {', '.join(missing)}: without, an image is of no place on the sky",
        )
    fields: dict[str, Any] = {each: metadata[each] for each in ("survey", "ra", "dec")}
    fields |= {"id": _id(metadata["id"]), "object": metadata.get("object")}
    fields |= {"time": _time(metadata.get("time")), "stamp": {"url": url}}
    try:
        return NewImage.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(each) for each in first["loc"])
        raise DecodeError("unreadable", f"{url}: x-amz-meta-{where}: {first['msg']}") from error


def _id(text: str) -> int | str:
    """An id that is written as an integer is one."""
    return int(text) if _INTEGER.fullmatch(text) and int(text) in INT64 else text


def _time(text: str | None) -> float | str | None:
    """An MJD that is written as a number is one."""
    try:
        return float(text) if text else None
    except ValueError:
        return text
