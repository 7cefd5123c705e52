"""`lookback doctor`: everything that a run opens is opened and closed again, piece by piece.

A piece that fails hides no other. Nothing is consumed, no consumer group is joined, no call is
paid; files and tables of sinks are made, as a run would make them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from dispatcher import doctor_access, logs
from dispatcher.access import aws_client
from dispatcher.control import tariff_of
from dispatcher.destinations import access, open_letters
from dispatcher.doctor_access import Doubt
from dispatcher.errors import DispatcherError
from dispatcher.folder import only_writer
from dispatcher.ledger.money import dollars
from dispatcher.ledger.stores import open_store
from dispatcher.service import identify_model, open_intake_parts
from dispatcher.settings import Settings, load
from dispatcher.sources import is_queue, open_again
from dispatcher.workforce import workforce
from ingest.errors import IngestError
from ingest.sources.span import Archive, Span
from sinks import open_sink
from sinks.errors import SinkError
from workers.errors import WorkerError

_GIB: Final = 2**30
_LEAST_FREE: Final = 2 * _GIB
_SKEW_S: Final = 2.0
_BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_OLD_DAYS: Final = 400
_KNOWN = (DispatcherError, IngestError, SinkError, WorkerError)


class Health(StrEnum):
    """How a piece is."""

    WELL = "well"
    DOUBTFUL = "doubtful"
    """A run starts, and somebody should look."""
    ILL = "ill"
    """A run would not start, or stop soon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one piece: what it is, or what is wrong and what to do."""

    piece: str
    health: Health
    what: str


async def examine(location: str | None, output: Path, file: Path | None) -> AsyncIterator[Finding]:
    """All pieces, one after the other, with the settings of `file` and the environment.

    `location`: of the source; None: no source is looked at. With settings that cannot be read there
    is nothing else to look at.
    """
    try:
        settings = load(file)
    except DispatcherError as error:
        yield Finding("settings", Health.ILL, logs.redacted(" ".join(str(error).split())))
        return
    for piece, look in _pieces(location, output, file, settings):
        try:
            yield Finding(piece, Health.WELL, await look())
        except Doubt as doubt:
            yield Finding(piece, Health.DOUBTFUL, logs.redacted(str(doubt)))
        except _KNOWN as error:
            yield Finding(piece, Health.ILL, logs.redacted(" ".join(str(error).split())))
        except ModuleNotFoundError as error:
            yield Finding(piece, Health.ILL, f"needs {error.name}: pip install {error.name}")
        except OSError as error:
            yield Finding(piece, Health.ILL, f"{error.strerror or error}")


def _pieces(
    location: str | None, output: Path, file: Path | None, settings: Settings
) -> Iterator[tuple[str, Callable[[], Awaitable[str]]]]:
    """Everything that a run with these settings needs, the cheap pieces first."""
    yield "settings", partial(doctor_access.settings_file, file, settings)
    yield "clock", _clock
    yield "output folder", partial(_folder, output)
    if doctor_access.needs_aws(settings, location):
        yield "credentials", partial(doctor_access.credentials, settings)
    yield "weights", partial(_weights, settings)
    yield "price", partial(_price, settings)
    yield "ledger", partial(_ledger, settings, output)
    yield "schemas and stamps", partial(_intake, settings)
    if url := settings.ingest.registry:
        yield "schema registry", partial(doctor_access.answers, "ingest.registry", url)
    yield "status page", partial(doctor_access.page, settings)
    if url := settings.traces.endpoint:
        yield "traces", partial(doctor_access.collector, url)
    yield "dead letters", partial(_letters, settings, output)
    for name in (*settings.sinks.required, *settings.sinks.best_effort):
        yield f"sink {name}", partial(_sink, name, settings, output)
    if location is not None:
        yield f"source {location}", partial(_source, location, settings)
    if address := settings.workers.rendezvous:
        yield "rendezvous", partial(doctor_access.rendezvous, address)
    yield f"workers ({settings.workers.engine})", partial(_workers, settings)


async def _clock() -> str:
    now = time.time()
    if now < _BUILT:
        raise DispatcherError(
            f"it says {datetime.fromtimestamp(now, UTC):%Y-%m-%d}, which is before this release: "
            "set it, and keep it with NTP; ages, windows of money and signatures depend on it"
        )
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"


async def _folder(output: Path) -> str:
    with only_writer(output), tempfile.NamedTemporaryFile(dir=output) as probe:
        probe.write(b"lookback")
        probe.flush()
        os.fsync(probe.fileno())
        skew_s = abs(os.fstat(probe.fileno()).st_mtime - time.time())
    free = shutil.disk_usage(output).free
    if free < _LEAST_FREE:
        raise Doubt(
            f"{free / _GIB:.1f} GiB are free in {output}: make room, or set sinks.required to "
            "somewhere else; a full disk stops the lane"
        )
    if skew_s > _SKEW_S:
        raise Doubt(f"the clock of the disk of {output} is {skew_s:.0f} s off: set both with NTP")
    return f"{output} can be written, {free / _GIB:.0f} GiB free"


async def _weights(settings: Settings) -> str:
    model = identify_model(settings.workers.weights)
    return f"{model.name} {model.version}, sha256 {model.weights_sha256[:12]}"


async def _price(settings: Settings) -> str:
    tariff = tariff_of(settings)
    found = tariff.price
    if found.free:
        return "calls cost nothing"
    days = (datetime.now(UTC).date() - found.as_of).days
    if days > _OLD_DAYS:
        raise Doubt(f"{found.name} is from {found.as_of}: see whether {found.source} still says so")
    minute = dollars(tariff.charge(60_000))
    return f"{found.name} of {found.as_of}: {minute} for a minute of {tariff.memory_mb} MB"


async def _ledger(settings: Settings, output: Path) -> str:
    given = settings.spend
    store = open_store(given.ledger, output, given.budget, given.noon_utc_h)
    await store.open()
    try:
        balances = await store.balances(settings.caps(), time.time())
        frozen = (await store.controls()).frozen
    finally:
        await store.close()
    if frozen:
        raise Doubt(
            f"{', '.join(sorted(frozen))} frozen by hand, so nothing is sent: `lookback ledger "
            "freeze ... --off` lets it go"
        )
    spent = [each for each in balances if each.cap and each.left == 0]
    if spent:
        which = ", ".join(f"{each.account} {each.window}" for each in spent)
        raise Doubt(f"nothing is left of {which}: `lookback ledger set` allows more")
    return f"{given.ledger} answers, {len([b for b in balances if b.cap is not None])} caps"


async def _intake(settings: Settings) -> str:
    async with AsyncExitStack() as stack:
        open_intake_parts(stack, settings)
    allowed = len(settings.ingest.allow)
    folders = [each for each in settings.ingest.allow if "://" not in each]
    if absent := [each for each in folders if not Path(each).is_dir()]:
        raise Doubt(f"{absent[0]} of ingest.allow is no folder: no stamp can lie there")
    return f"stamps from {allowed} places" if allowed else "stamps that events carry, no others"


async def _letters(settings: Settings, output: Path) -> str:
    async with AsyncExitStack() as stack:
        letters = await open_letters(stack, output, settings)
        return letters.name


async def _sink(location: str, settings: Settings, output: Path) -> str:
    sink = open_sink(location, output, access(settings))
    try:
        await sink.open()
    except SinkError as error:
        if location in settings.sinks.required:
            raise
        raise Doubt(f"{error}; it is best effort: what it misses is counted") from error
    finally:
        await sink.close()
    return sink.name


async def _source(location: str, settings: Settings) -> str:
    if is_queue(location):
        return await _queue(location, settings)
    archive = open_again(location, settings)
    if not isinstance(archive, Archive):
        return "is there"
    ranges = await archive.find(Span())
    events = sum(each.size for each in ranges.values())
    return f"{events:,} events in {len(ranges)} partitions"


async def _queue(location: str, settings: Settings) -> str:
    from aiobotocore.session import get_session
    from botocore.exceptions import BotoCoreError, ClientError

    name = location.removeprefix("sqs://").rstrip("/").rpartition("/")[2]
    try:
        async with get_session().create_client("sqs", **aws_client(settings.aws)) as client:
            url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
    except (ClientError, BotoCoreError, ValueError) as error:
        raise DispatcherError(
            f"the queue {name} cannot be reached ({error}): check its name, aws.region, and the "
            "credentials"
        ) from error
    return f"{url} is there"


async def _workers(settings: Settings) -> str:
    invoker, began = workforce(settings, "doctor"), time.monotonic()
    try:
        await invoker.open()
    finally:
        await invoker.close()
    return f"{invoker.slots} at once, ready in {time.monotonic() - began:.1f} s"
