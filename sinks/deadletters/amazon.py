"""What an error of SQS or S3 means for a sink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)

from sinks.errors import SinkRefused, SinkUnavailable

FAILURES: Final = (ClientError, BotoCoreError, aiohttp.ClientError, OSError)
"""All that a request can fail with; a TimeoutError is an OSError."""

_NEVER: Final = (NoCredentialsError, NoRegionError, ParamValidationError, PartialCredentialsError)
_SERVER_FAULT: Final = 500
# Not every one of these comes with a status that tells.
_LATER: Final = frozenset(
    {
        "ExpiredToken",  # the next request gets new credentials
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
def explaining(name: str) -> Iterator[None]:
    """Turns errors of aiobotocore, inside, into those of sinks.

    Raises:
        SinkUnavailable: no connection, no answer, too many requests, a fault of the server.
        SinkRefused: it says no, and will again.
    """
    try:
        yield
    except _NEVER as error:
        raise SinkRefused(f"{name} cannot be asked ({error})") from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= _SERVER_FAULT or code in _LATER:
            raise SinkUnavailable(f"{name} is not available ({code})") from error
        raise SinkRefused(
            f"{name} refuses dead letters ({error}): check the queue's address, that of large "
            "bodies, and the permissions of the credentials for both"
        ) from error
    except FAILURES as error:
        raise SinkUnavailable(f"{name} is not available ({error!r})") from error
