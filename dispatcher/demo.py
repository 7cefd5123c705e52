"""The demo night: rendered on the spot, SIMULATED from the first pixel to the last.

Galaxies with five-band stamps, and what a real night mixes among them: alerts whose only image
is one-band, solar-system objects, damaged stamps, events sent twice, packets that do not decode.
"""

from __future__ import annotations

import base64
import gzip
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import fastavro
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from ingest.codecs.notice import InlineImage, NewImage
from ingest.sources.night import NightArchive
from workers.training.render import RenderedGalaxies, Step, render_galaxies, unseen

SURVEY: Final = "SIMULATED"
_FIRST_ID: Final = 9_100_000_000_000_000_000  # above 2**53, like the ids of the surveys
_FIRST_CANDID: Final = 3_000_000_000_015_000_000
_MJD: Final = 61367.1
_PARTITIONS: Final = 3
_STAMP: Final = 48  # pixels; the model takes the middle 32


def render_night(path: Path, galaxies: int, seed: int, step: Step = unseen) -> None:
    """Write a night of `galaxies` rendered galaxies and about a fifth as many other events.

    The same seed gives the same night, byte for byte. `step` is told of the galaxies that are done.
    """
    shuffle = random.Random(seed)  # noqa: S311 - a night is not a secret
    rendered = render_galaxies(galaxies, seed, size=_STAMP, step=step)
    bodies = list(_notices(rendered))
    doubled = shuffle.sample(bodies, max(1, galaxies // 30))
    bodies += _damaged(rendered, count=max(3, galaxies // 40))
    bodies += one_band_alerts(count=max(5, galaxies // 9), seed=seed)
    bodies += _undecodable(bodies[0])
    shuffle.shuffle(bodies)
    bodies += doubled
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole: a night that was cut off must not look complete.
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    with NightArchive(unfinished) as archive:
        for number, body in enumerate(bodies):
            archive.add(f"simulated-{number % _PARTITIONS}", body)
    unfinished.rename(path)


def _notices(rendered: RenderedGalaxies) -> Iterator[bytes]:
    for n, (image, magnitudes) in enumerate(zip(rendered.images, rendered.magnitudes, strict=True)):
        yield _notice(n, image, magnitudes)


def _notice(n: int, image: NDArray[np.float32], magnitudes: NDArray[np.float32]) -> bytes:
    return NewImage(
        id=_FIRST_ID + n,
        survey=SURVEY,
        object=f"SIM{n:06d}",
        ra=(137.508 * n) % 360.0,  # the golden angle: an even spread over the sky
        dec=float(np.degrees(np.arcsin(2 * ((0.618034 * n) % 1) - 1))),
        time=_MJD + n / 86400,
        bands=tuple("ugriz"),
        magnitudes=tuple(float(each) for each in magnitudes),
        stamp=InlineImage.of_pixels(image),
    ).to_bytes()


def _damaged(rendered: RenderedGalaxies, count: int) -> list[bytes]:
    """Stamps as real nights have them: no pixels in the middle, or a band that is not there."""
    bodies = []
    for n in range(count):
        image = rendered.images[n].copy()
        if n % 2:
            image[:, 14:34, 14:34] = np.nan
        else:
            image[4] = 0.0
        bodies.append(_notice(len(rendered.images) + n, image, rendered.magnitudes[n]))
    return bodies


_STAMP_SCHEMA: Final[dict[str, Any]] = {
    "type": "record",
    "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
_ALERT_SCHEMA: Final[dict[str, Any]] = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "doc": "Simulated: the fields of a ZTF packet that are read, and no others.",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "publisher", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {
            "name": "candidate",
            "type": {
                "type": "record",
                "name": "candidate",
                "fields": [
                    {"name": "jd", "type": "double"},
                    {"name": "fid", "type": "int"},
                    {"name": "candid", "type": "long"},
                    {"name": "ra", "type": "double"},
                    {"name": "dec", "type": "double"},
                    {"name": "ssdistnr", "type": ["null", "float"], "default": None},
                    {"name": "ssnamenr", "type": ["null", "string"], "default": None},
                ],
            },
        },
        {"name": "cutoutScience", "type": _STAMP_SCHEMA},
        {"name": "cutoutTemplate", "type": "cutout"},
        {"name": "cutoutDifference", "type": "cutout"},
    ],
}


def one_band_alerts(count: int, seed: int) -> list[bytes]:
    """Alert packets in ZTF's form: one-band stamps, every fifth of a solar-system object."""
    sky = np.random.default_rng(seed)
    schema = fastavro.parse_schema(_ALERT_SCHEMA)
    return [_alert(n, sky, schema) for n in range(count)]


def _alert(n: int, sky: np.random.Generator, schema: Any) -> bytes:
    candid = _FIRST_CANDID + n
    asteroid = n % 5 == 0
    cutouts = {
        f"cutout{kind}": {"fileName": f"candid{candid}.fits.gz", "stampData": _fits(sky)}
        for kind in ("Science", "Template", "Difference")
    }
    record = {
        "schemavsn": "4.02",
        "publisher": SURVEY,
        "objectId": f"SIM26{n:07d}",
        "candid": candid,
        "candidate": {
            "jd": _MJD + 2_400_000.5,
            "fid": 1 + n % 2,
            "candid": candid,
            "ra": float(sky.uniform(0, 360)),
            "dec": float(sky.uniform(-30, 80)),
            "ssdistnr": 1.5 if asteroid else None,
            "ssnamenr": f"simulated {n}" if asteroid else None,
        },
        **cutouts,
    }
    packet = io.BytesIO()
    # A fixed sync marker: the same seed must give the same bytes.
    fastavro.writer(packet, schema, [record], sync_marker=candid.to_bytes(16, "big"))
    return packet.getvalue()


def _fits(sky: np.random.Generator) -> bytes:
    pixels = sky.normal(0, 5, (63, 63)).astype(np.float32)
    stamp = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(stamp)
    return gzip.compress(stamp.getvalue(), compresslevel=1, mtime=0)


def _undecodable(good: bytes) -> list[bytes]:
    alert = one_band_alerts(1, seed=0)[0]
    return [
        good[: len(good) // 2],  # a notice that was cut off
        alert[:-40],  # a packet that was cut off
        alert[:-16] + bytes(16),  # a packet whose sync marker was lost
        b"not an event at all",
        b'{"id": 1.5e18, "survey": "SIMULATED"}',  # an id that was a float on its way
        b"\x00\x00\x00\xff\xff" + base64.b64decode("AAECAw=="),  # an unknown writer schema
    ]
