"""What the doctor looks at beside the pieces of a run: settings file, credentials, addresses, page.

settings file   -> who may read it        addresses -> do they answer
credentials     -> are there any          page      -> is its port free, is its token one
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dispatcher.errors import DispatcherError, SettingsError
from dispatcher.logs.redaction import secrets_of
from dispatcher.settings import Settings
from dispatcher.workforce import port_of

if TYPE_CHECKING:
    from botocore.credentials import Credentials

_OTHERS: Final = 0o077
_SHORT_TOKEN: Final = 16
_ANSWER_S: Final = 5.0
_AWS: Final = ("s3://", "sqs://", "https://sqs.")


class Doubt(Exception):
    """It works, and somebody should look."""


async def settings_file(file: Path | None, settings: Settings) -> str:
    """Where the settings come from, and whether others may read the secrets in them."""
    changed = [name for name, value in settings if value != type(value).model_validate({})]
    said = f"{file or 'defaults'} and the environment; changed: {', '.join(changed) or 'nothing'}"
    if file is None or not file.stat().st_mode & _OTHERS:
        return said
    text = file.read_text()
    if any(secret in text for secret in secrets_of(settings)):
        raise Doubt(f"{file} holds a secret and others may read it: chmod 600 {file}")
    return said


def needs_aws(settings: Settings, location: str | None) -> bool:
    """Whether a run with these would ask AWS, or a server that speaks like it, for anything."""
    given = settings.sinks
    places = (*given.required, *given.best_effort, given.dead_letters, *settings.ingest.allow)
    return settings.workers.engine == "lambda" or any(
        each.startswith(_AWS) for each in (*places, location or "")
    )


async def credentials(settings: Settings) -> str:
    """Whose credentials are used for AWS; whether they are good, the pieces that use them say."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    session = Session()
    try:
        found: Credentials | None = await asyncio.to_thread(session.get_credentials)
    except BotoCoreError as error:
        raise SettingsError(f"no credentials for AWS ({error}): mend what it names") from error
    if found is None:
        raise SettingsError(
            "there are none for AWS: give the machine a role, or set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if settings.aws.region is None and session.get_config_variable("region") is None:
        raise SettingsError("no region of AWS is known: set aws.region, or AWS_REGION")
    if found.method == "env" and found.token:
        raise Doubt(
            "those for AWS are temporary and from the environment: they end within hours and "
            "nothing renews them; a role or a profile is renewed"
        )
    return f"for AWS, from {found.method}; the pieces that use them say whether they are good"


async def answers(setting: str, url: str) -> str:
    """Whether somebody answers at a URL."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as reply:
            status = reply.status
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or f"nothing within {_ANSWER_S:.0f} s"
        raise SettingsError(f"{url} does not answer ({why}): start it, or mend {setting}") from None
    if status in (401, 403):
        raise SettingsError(f"{url} lets nobody in ({status}): put user and password in {setting}")
    if status >= 500:
        raise DispatcherError(f"{url} answers with {status}: see its log")
    return f"{url} answers"


async def collector(url: str) -> str:
    """Whether the collector of traces answers; a run goes on without it."""
    try:
        return await answers("traces.endpoint", url)
    except DispatcherError as error:
        raise Doubt(f"{error}; until then traces are lost") from error


async def rendezvous(address: str) -> str:
    """Whether workers on other machines could be waited for there."""
    port = port_of(address)
    if (why := _refusal("0.0.0.0", port)) is not None:  # noqa: S104 - as a run does
        raise SettingsError(
            f"port {port} of workers.rendezvous cannot be listened at ({why}): choose another"
        )
    return f"{address} can be listened at; the workers must reach it from where they are"


async def page(settings: Settings) -> str:
    """Whether the status page would come up, and what may be done from it."""
    from dispatcher.status.server import PORT

    given = settings.status
    if given.port == 0:
        return "no status page: status.port is 0"
    why = _refusal(given.host, given.port or PORT)
    if why is not None and given.port is not None:
        raise SettingsError(
            f"status.port {given.port} on {given.host} cannot be used ({why}): choose another, or "
            "0 for no page; a run that is under way has it"
        )
    token = given.token.get_secret_value() if given.token else None
    if token is not None and len(token) < _SHORT_TOKEN:
        raise Doubt(
            f"status.token has {len(token)} characters, which can be guessed: make one with "
            "`openssl rand -hex 16`"
        )
    where = f"port {given.port or PORT}" if why is None else f"{PORT} is taken, a free port"
    may = "actions with the token" if token else "read-only, as no status.token is set"
    return f"{where} on {given.host}, {may}"


def _refusal(host: str, port: int) -> str | None:
    """Why nothing can listen there; None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return None
