"""One event under the lens: what it decodes to, its stamp, its verdict."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dispatcher.errors import SettingsError
from dispatcher.invokers import Context
from dispatcher.onlooker import Onlooker
from dispatcher.service import identify_model, open_intake_parts
from dispatcher.settings import Settings
from dispatcher.sources import open_again
from ingest.errors import DecodeError, NotApplicable
from ingest.events import BANDS, Delivery, Event, InlineStamp, Stamp
from workers.wire import Item, encode_items


async def inspect(
    location: str, partition: str | None, offset: int, settings: Settings, png: Path | None
) -> dict[str, Any]:
    """Follow one event as far as it goes and say what was found at each step.

    Raises:
        SettingsError: the source has no such event.
        IngestError: the source cannot be read.
    """
    delivery = await _find(location, partition, offset, settings)
    found: dict[str, Any] = {"position": str(delivery.position), "bytes": len(delivery.body)}
    model = identify_model(settings.workers.weights)
    async with AsyncExitStack() as stack:
        decoder, resolver = open_intake_parts(stack, settings)
        try:
            event = await decoder.decode(delivery)
            found["event"] = _event(event)
            found["result_id"] = event.key(model.key)
            stamp = await resolver.resolve(event)
        except DecodeError as error:
            return {**found, "dead_letter": str(error)}
        except NotApplicable as why:
            return {**found, "not_applicable": str(why)}
    found["stamp"] = _stamp(stamp)
    if png:
        draw(stamp, png, title=f"{event.survey} {event.alert_id}")
        found["stamp"]["drawn"] = str(png)
    item = Item(found["result_id"], stamp.image, stamp.magnitudes)
    answer = await asyncio.to_thread(_ask, item, settings.workers.weights)
    return {**found, "model": answer["model"], "verdict": answer["verdicts"][0]}


async def _find(location: str, partition: str | None, offset: int, settings: Settings) -> Delivery:
    source = open_again(location, settings)
    await source.open(Onlooker(lambda each: offset if partition in (None, each.name) else 0))
    try:
        while not source.exhausted:
            for delivery in await source.take(16):
                at = delivery.position
                if at.offset == offset and partition in (None, at.partition):
                    return delivery
    finally:
        await source.close()
    where = f"partition {partition}, " if partition else ""
    raise SettingsError(
        f"{location} has no event at {where}offset {offset}: "
        "offsets count from 0 in each file (see src_partition and src_offset of a result)"
    )


def _event(event: Event) -> dict[str, Any]:
    fields = asdict(event)
    if isinstance(event.stamp, InlineStamp):
        fields["stamp"] = f"inline {event.stamp.encoding}, {len(event.stamp.data)} bytes"
    elif event.stamp is not None:
        fields["stamp"] = event.stamp.url
    return {name: value for name, value in fields.items() if value not in (None, ())}


def _stamp(stamp: Stamp) -> dict[str, Any]:
    peak = stamp.image.max(axis=(1, 2))
    total = stamp.image.sum(axis=(1, 2))
    return {
        "origin": stamp.origin,
        "bands_used": "".join(stamp.bands_used),
        **{
            band: f"magnitude {_given(stamp.magnitudes[i])}, peak {peak[i]:.2f}, "
            f"total {total[i]:.2f} nanomaggies"
            for i, band in enumerate(BANDS)
        },
    }


def _given(magnitude: float) -> str:
    return f"{magnitude:.3f}" if np.isfinite(magnitude) else "not given"


def _ask(item: Item, weights: str) -> dict[str, Any]:
    """Run the handler here, as a function would run it."""
    os.environ["LOOKBACK_WEIGHTS"] = weights  # what the handler's own process gets
    from workers.handler import handler
    from workers.shelf import shelf

    event = {
        "job": {"weights_sha256": shelf().any()},
        "partition": encode_items([item]),
    }
    return handler(event, Context("inspect", time.monotonic() + 60))


def draw(stamp: Stamp, path: Path, title: str) -> None:
    """Draw the five bands of a stamp side by side, each on its own asinh scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(BANDS), figsize=(12, 3), layout="constrained")
    figure.suptitle(f"{title}  ({stamp.origin})")
    for axis, band, pixels in zip(axes, BANDS, stamp.image, strict=True):
        noise = float(np.median(np.abs(pixels - np.median(pixels)))) or 1.0
        axis.imshow(np.arcsinh(pixels / noise), origin="lower", cmap="gray")
        axis.set_title(f"{band}, peak {pixels.max():.2f} nmgy")
        axis.set_axis_off()
    figure.savefig(path, dpi=120)
    plt.close(figure)
