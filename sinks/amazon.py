"""What an error of S3 or SQS means for a sink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
from botocore import exceptions as botocore
from botocore.exceptions import BotoCoreError, ClientError

from sinks.errors import CredentialsExpired, SinkRefused, SinkUnavailable

FAILURES: Final = (ClientError, BotoCoreError, aiohttp.ClientError, OSError, ValueError)
"""All that a request can fail with; a TimeoutError is an OSError."""

_LATER: Final = (
    botocore.ConnectionError,  # none was made
    botocore.HTTPClientError,  # one that broke, or an answer that did not come
    botocore.CredentialRetrievalError,
    botocore.IncompleteReadError,
    botocore.ResponseStreamingError,
    aiohttp.ClientError,
    OSError,
)
_SERVER_FAULT: Final = 500
_LATER_STATUSES: Final = frozenset({408, 409, 429})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
# Not every one of these comes with a status that tells.
_LATER_CODES: Final = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "OverLimit",  # too many messages are hidden
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


@contextmanager
def explaining(name: str, advice: str) -> Iterator[None]:
    """Turns errors of aiobotocore, inside, into those of sinks. `advice`: what to check.

    Raises:
        SinkUnavailable: no connection, no answer, too many requests, a fault of the server.
        SinkRefused: it says no, and will again; or it cannot even be asked.
    """
    try:
        yield
    except ClientError as error:
        if code(error) in _EXPIRED:  # the next request gets new ones
            raise CredentialsExpired(f"{name}: the credentials have expired ({error})") from error
        if _is_for_now(error):
            raise SinkUnavailable(f"{name} cannot be used now ({error})") from error
        raise SinkRefused(f"{name} cannot be used ({error}): {advice}") from error
    except _LATER as error:
        what = str(error) or type(error).__name__
        raise SinkUnavailable(f"{name} cannot be used now ({what})") from error
    except (BotoCoreError, ValueError) as error:  # no credentials, no region, a bad name
        raise SinkRefused(f"{name} cannot be used ({error}): {advice}") from error


def code(error: ClientError) -> str:
    """The server's word for an error; "" where it gives none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _is_for_now(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code(error) in _LATER_CODES or status in _LATER_STATUSES or status >= _SERVER_FAULT
