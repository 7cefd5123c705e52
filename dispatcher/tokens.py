"""OAuth tokens for Kafka, fetched anew before they expire."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Final

import aiohttp
from aiokafka.abc import AbstractTokenProvider

from dispatcher.settings import Kafka, KafkaOut

_DEADLINE_S: Final = 10.0
_REFRESH_BEFORE_S: Final = 60.0


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """OAuth tokens by client credentials (RFC 6749, 4.4), fetched anew before they expire.

    aiokafka asks for one at every connection, so a broker that ends the session of an expired
    token finds a fresh one at the reconnect.
    """

    def __init__(self, access: Kafka | KafkaOut) -> None:
        self._access = access
        self._token = ""
        self._until = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def token(self) -> str:
        """A token that is valid for a minute at least.

        Raises:
            ConnectionError: the token server does not give one.
        """
        async with self._one_at_a_time:
            if time.monotonic() > self._until:
                self._token, lifetime_s = await self._fetch()
                self._until = time.monotonic() + lifetime_s - _REFRESH_BEFORE_S
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        access = self._access
        secret = access.client_secret.get_secret_value() if access.client_secret else ""
        form = {
            "grant_type": "client_credentials",
            **({"scope": access.scope} if access.scope else {}),
        }
        timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    str(access.token_url),
                    data=form,
                    headers={"Authorization": _basic(str(access.client_id), secret)},
                ) as answer,
            ):
                answer.raise_for_status()
                given = await answer.json()
                return str(given["access_token"]), float(given.get("expires_in", 300.0))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            # Not the form: it does not hold the secret, but the answer to it might hold a token.
            raise ConnectionError(
                f"no token from {access.token_url} ({type(error).__name__}): check the address, "
                "the client's id and secret"
            ) from error


def _basic(user: str, password: str) -> str:
    """HTTP basic authentication (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
