"""What travels between the dispatcher and a worker: items out, verdicts back.

A partition is one JSON object, because that is what a function is invoked with. Its
pixels are one base64 block of little-endian float32 in item order: JSON numbers would be
four times as large and a hundred times as slow to read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.errors import WireError

IMAGE_SHAPE = (5, 32, 32)
MAGNITUDES = 5
BYTES_PER_ITEM = 4 * (5 * 32 * 32 + MAGNITUDES)


@dataclass(frozen=True, slots=True)
class Item:
    """What the model takes: `image` float32 [5, 32, 32] nanomaggies, `magnitudes` float32 [5].

    A magnitude that is not known is NaN: it is measured in the image. `id` is the result key of
    the item; a verdict carries it back.
    """

    id: str
    image: NDArray[np.float32]
    magnitudes: NDArray[np.float32]


class VerdictKind(StrEnum):
    """What a worker can say of one item."""

    ESTIMATED = "estimated"
    NOT_APPLICABLE = "not_applicable"
    BAD_INPUT = "bad_input"
    TRY_AGAIN = "try_again"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A redshift with its uncertainty.

    `z_err68_low/high` are the 0.16 and 0.84 quantiles of p(z), `z_err95_low/high` the
    0.025 and 0.975 ones (values of z, not differences); None for a model that gives no p(z).
    `quality_flag` is a bit field, 0 = nothing to remark (see `workers.quality`).
    `out_of_domain` is the score of `workers.domain`; None for a model that has none.
    `pz` is a sketch of p(z) for people (`workers.density.sketch`); None where there is no p(z).
    """

    z_median: float
    z_mean: float
    z_mode: float
    z_err68_low: float | None
    z_err68_high: float | None
    z_err95_low: float | None
    z_err95_high: float | None
    quality_flag: int
    out_of_domain: float | None = None
    pz: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a worker says of one item: an estimate, or a reason why there is none."""

    id: str
    kind: VerdictKind
    estimate: Estimate | None = None
    reason: str | None = None


def encode_items(items: Sequence[Item]) -> dict[str, Any]:
    """Pack items for an invocation: about 27.4 kB of JSON each."""
    images = np.ascontiguousarray([item.image for item in items], dtype="<f4")
    magnitudes = np.ascontiguousarray([item.magnitudes for item in items], dtype="<f4")
    return {
        "ids": [item.id for item in items],
        "images": base64.b64encode(images.data).decode("ascii"),
        "magnitudes": base64.b64encode(magnitudes.data).decode("ascii"),
    }


def decode_items(
    packed: Mapping[str, Any],
) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """Unpack `encode_items`: ids, images [n, 5, 32, 32], magnitudes [n, 5].

    Raises:
        WireError: a field is missing or the blocks do not hold one entry per id.
    """
    try:
        ids = [str(each) for each in packed["ids"]]
        images = np.frombuffer(base64.b64decode(packed["images"]), dtype="<f4")
        magnitudes = np.frombuffer(base64.b64decode(packed["magnitudes"]), dtype="<f4")
        return (
            ids,
            images.reshape(len(ids), *IMAGE_SHAPE),
            magnitudes.reshape(len(ids), MAGNITUDES),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a partition cannot be read: {error!r}") from error


def encode_verdicts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Verdicts as JSON objects; fields that are null are left out."""
    return [
        {key: value for key, value in asdict(verdict).items() if value is not None}
        for verdict in verdicts
    ]


def decode_verdicts(packed: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Unpack `encode_verdicts`.

    Raises:
        WireError: an entry is not a verdict.
    """
    try:
        return [_verdict(each) for each in packed]
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"a verdict cannot be read: {error!r}") from error


def _verdict(packed: Mapping[str, Any]) -> Verdict:
    kind, estimate = VerdictKind(packed["kind"]), packed.get("estimate")
    if (kind is VerdictKind.ESTIMATED) is (estimate is None):
        raise ValueError(f"{kind} with estimate {estimate}")
    return Verdict(
        packed["id"], kind, Estimate(**estimate) if estimate else None, packed.get("reason")
    )
