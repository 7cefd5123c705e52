"""A Confluent-style schema registry: the number that stands for a schema in every message."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson

from sinks.errors import SinkRefused, SinkUnavailable

_MAX_ANSWER: Final = 1024 * 1024
_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_ADVICE: Final = {
    401: "check its user and password",
    403: "let this user register schemas",
    404: "check its address",
    422: "give a registry that takes Avro schemas",
    409: "the subject holds a schema that is no older version of this one: give another topic",
}


class SchemaRegistry:
    """Registers schemas at the registry at `url`; `login` is user and password, where it asks.

    A number that was given is kept: it never changes.
    """

    def __init__(
        self, url: str, *, login: tuple[str, str] | None = None, timeout_s: float = 10.0
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": _TYPE, "Accept": _TYPE}
        if login:
            self._headers["Authorization"] = _basic(*login)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._numbers: dict[tuple[str, bytes], int] = {}

    async def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """The schema's number; registered under `subject`, if it was not.

        Raises:
            SinkUnavailable: the registry does not answer.
            SinkRefused: it does not take the schema, or this user.
        """
        text = orjson.dumps(schema)
        if (subject, text) not in self._numbers:
            status, body = await self._post(subject, {"schema": text.decode()})
            self._numbers[subject, text] = self._number(subject, status, body)
        return self._numbers[subject, text]

    async def _post(self, subject: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        url = f"{self._url}/subjects/{subject}/versions"
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.post(
                    url, data=orjson.dumps(body), headers=self._headers, allow_redirects=False
                ) as answer,
            ):
                return answer.status, await answer.content.read(_MAX_ANSWER)
        except (aiohttp.ClientError, OSError) as error:
            raise SinkUnavailable(
                f"the schema registry does not answer ({error!r:.300})"
            ) from error

    def _number(self, subject: str, status: int, body: bytes) -> int:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            answer = {}
        if status == 200 and isinstance(number := answer.get("id"), int):
            return number
        said = (
            f"the schema registry said {status} to {subject} ({answer.get('message', '')!s:.300})"
        )
        if status in _TRY_AGAIN:
            raise SinkUnavailable(said)
        raise SinkRefused(f"{said}: {_ADVICE.get(status, 'check its address')}")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
