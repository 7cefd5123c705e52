"""From bytes to an event, whatever survey sent them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ingest.codecs import lsst, notice, ocf, ztf
from ingest.errors import DecodeError
from ingest.events import Delivery, Event
from ingest.schemas import Schemas


@dataclass(frozen=True, slots=True)
class Decoder:
    """Tells formats apart by their first bytes. `max_bytes` bounds a packet, unpacked too."""

    schemas: Schemas
    max_bytes: int

    async def decode(self, delivery: Delivery) -> Event:
        """Decode one delivery.

        Raises:
            DecodeError: always this, whatever the bytes are; it carries a reason code.
        """
        body = delivery.body
        if unreadable := delivery.headers.get("unreadable"):
            raise DecodeError("unreadable", unreadable)
        if len(body) > self.max_bytes:
            raise DecodeError("too_large", f"{len(body)} bytes, the limit is {self.max_bytes}")
        if body.startswith(ocf.MAGIC):
            return self._packet(body)
        if body.startswith(lsst.MAGIC):
            return await lsst.decode(body, self.schemas, _revision(body))
        if body.lstrip()[:1] == b"{":
            return notice.decode(body, _revision(body))
        raise DecodeError(
            "unknown_format",
            f"neither an Avro container, nor a framed message, nor JSON: begins {body[:8]!r}",
        )

    def _packet(self, body: bytes) -> Event:
        container = ocf.read(body)
        count = container.count()
        if count != 1:
            raise DecodeError("bad_datum", f"a packet with {count} records instead of one")
        datum, record = next(container.records(self.max_bytes))
        dialect = ztf.dialect_of(record)
        if dialect is None:
            raise DecodeError(
                "unknown_format", f"no known survey has packets of {container.schema_name()}"
            )
        # The revision is of the record alone: the same packet may come in another container.
        return ztf.event_of(record, dialect, container, _revision(datum))


def _revision(content: bytes) -> str:
    """Sixteen hex digits that stand for the content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
