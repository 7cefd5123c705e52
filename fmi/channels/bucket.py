"""A bucket of a server that speaks S3: the four requests that the channel needs, and their errors.

botocore is loaded when a bucket is opened, as it takes its time. All calls may come from several
threads, and block.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from fmi.errors import ChannelBroken, FmiError, ProtocolError

_ATTEMPTS: Final = 3
_PER_DELETE: Final = 1000  # the server's limit
_ABSENT: Final = ("NoSuchKey", "404")
_EXISTS: Final = ("PreconditionFailed", "412")
_CONFLICT: Final = ("ConditionalRequestConflict", "409")  # two requests for a key at one moment
_ADVICE: Final = {
    "NoSuchBucket": "make the bucket, and see that its name and region are right",
    "AccessDenied": "let these credentials list, get, put and delete in the bucket",
    "InvalidAccessKeyId": "see that the credentials are those of this server",
    "SignatureDoesNotMatch": "see that the secret key is right",
    "ExpiredToken": "get new credentials",
    "NotImplemented": "take a server that knows conditional writes (If-None-Match)",
}


def _session() -> Any:
    """A session that reads what botocore knows of services once a process, not once a client."""
    import botocore.session

    session = botocore.session.get_session()
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@cache
def _loader(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)


class Bucket:
    """Objects below a prefix. `usage` counts requests by operation, repeated ones too."""

    def __init__(
        self, name: str, prefix: str, endpoint_url: str | None, region: str | None, parallel: int
    ) -> None:
        from botocore.config import Config

        self._name, self._prefix = name, prefix.strip("/") + "/"
        self.usage: Counter[str] = Counter()
        self._counting = threading.Lock()
        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=2 * parallel + 2,  # reads, writes, beats
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if endpoint_url else None,
        )
        with self._explained():
            self._client = _session().create_client(
                "s3", endpoint_url=endpoint_url, region_name=region, config=config
            )
        self._client.meta.events.register("before-send.s3.*", self._count)

    def put(self, key: str, body: bytes) -> None:
        """Write an object, or write it anew.

        Raises:
            ChannelBroken: the bucket does not work.
        """
        with self._explained():
            self._client.put_object(Bucket=self._name, Key=self._prefix + key, Body=body)

    def put_new(self, key: str, body: bytes) -> None:
        """Write an object that must not be there yet.

        Raises:
            ProtocolError: somebody else writes under the keys of this run.
            ChannelBroken: the bucket does not work.
        """
        for _ in range(_ATTEMPTS):
            code = self._put_if_absent(key, body)
            if code in _CONFLICT:
                continue
            # A request whose answer was lost is repeated, and finds its own object, or none any
            # more, as the receiver was quick.
            if code in _EXISTS and self.get(key) not in (None, body):
                raise ProtocolError(f"somebody else writes to {self._prefix + key}")
            return
        raise ChannelBroken(f"the bucket {self._name} does not let {key} be written: a conflict")

    def _put_if_absent(self, key: str, body: bytes) -> str:
        from botocore.exceptions import ClientError

        with self._explained():
            try:
                self._client.put_object(
                    Bucket=self._name, Key=self._prefix + key, Body=body, IfNoneMatch="*"
                )
            except ClientError as error:
                if (code := _code(error)) in _EXISTS + _CONFLICT:
                    return code
                raise
        return ""

    def get(self, key: str) -> bytearray | None:
        """Read an object; None if it is not there.

        Raises:
            ChannelBroken: the bucket does not work.
        """
        from botocore.exceptions import BotoCoreError

        for attempt in range(1, _ATTEMPTS + 1):
            with self._explained():
                try:
                    return self._get(key)
                except BotoCoreError:  # most likely in the middle of the body
                    if attempt == _ATTEMPTS:
                        raise
        return None

    def _get(self, key: str) -> bytearray | None:
        from botocore.exceptions import ClientError, IncompleteReadError

        try:
            answer = self._client.get_object(Bucket=self._name, Key=self._prefix + key)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise
        body = bytearray(answer["ContentLength"])
        view, done = memoryview(body), 0
        with answer["Body"] as stream:
            while done < len(body):
                count = stream.readinto(view[done:])
                if not count:
                    raise IncompleteReadError(actual_bytes=done, expected_bytes=len(body))
                done += count
        return body

    def names(self, folder: str) -> list[str]:
        """The keys below `folder`, in the order of their bytes.

        Raises:
            ChannelBroken: the bucket does not work.
        """
        start = len(self._prefix)
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._name, Prefix=f"{self._prefix}{folder}/"
            )
            return [each["Key"][start:] for page in pages for each in page.get("Contents", ())]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error.

        Raises:
            ChannelBroken: the bucket does not work.
        """
        for first in range(0, len(keys), _PER_DELETE):
            some = [{"Key": self._prefix + key} for key in keys[first : first + _PER_DELETE]]
            with self._explained():
                answer = self._client.delete_objects(
                    Bucket=self._name, Delete={"Objects": some, "Quiet": True}
                )
            for error in answer.get("Errors", ()):
                raise self._broken(error.get("Code", ""), error.get("Message", ""))

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            NoRegionError,
        )

        try:
            yield
        except ClientError as error:
            raise self._broken(_code(error), str(error)) from error
        except NoCredentialsError as error:
            why = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise ChannelBroken(
                f"bucket {self._name}: {why}, or give the machine a role"
            ) from error
        except NoRegionError as error:
            why = "the region is not known: pass `region`, or set AWS_DEFAULT_REGION"
            raise ChannelBroken(f"bucket {self._name}: {why}") from error
        except (BotoCoreError, ValueError) as error:
            raise ChannelBroken(
                f"bucket {self._name} cannot be reached ({error}): see that `endpoint_url` is "
                "right, and that this machine may reach it"
            ) from error

    def _broken(self, code: str, said: str) -> FmiError:
        advice = _ADVICE.get(code, "see what the server's log says")
        return ChannelBroken(f"bucket {self._name}: {said} ({advice})")

    def _count(self, event_name: str, **_: Any) -> None:
        with self._counting:
            self.usage[event_name.rsplit(".", 1)[1]] += 1


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
