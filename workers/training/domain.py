"""Training of the out-of-domain score: good rows against spoiled ones and other kinds of objects.

Whatever is shown here as foreign is recognised later; what is foreign in another way may not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from workers.domain import UNUSUAL, Domain, standardise, statistics
from workers.training.cutouts import Cutouts, centre
from workers.training.progress import Journal
from workers.training.recipe import Domain as Settings
from workers.training.spoiled import KINDS

Floats = NDArray[np.float32]

_HIDDEN: Final = 128
_BATCH: Final = 512
_LOOKS: Final = 4  # at each good or foreign row: turned, with and without magnitudes
_WITHHELD: Final = 0.25  # of the rows whose magnitudes are not given
_KNOTS: Final = 2001
_BEYOND: Final = 0.5  # of the way from the 95th percentile to the last good row, and on


def train(
    good: Cutouts,
    foreign: Sequence[Cutouts],
    validation: Cutouts,
    settings: Settings,
    seed: int,
    journal: Journal,
) -> Domain:
    """Train on `good` rows, on these spoiled, and on `foreign` ones; `validation` rows are good.

    The score is calibrated on the validation rows, as they are.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    inside = np.concatenate([_look(good, rng) for _ in range(_LOOKS)])
    bad = [_look(make(good, rng), rng) for make in KINDS.values()]
    bad += [_look(each, rng) for each in foreign for _ in range(_LOOKS)]
    outside = np.concatenate(bad)
    mean, std = inside.mean(axis=0), inside.std(axis=0) + 1e-3
    x = standardise(np.concatenate([inside, outside]), mean, std)
    y = np.repeat(np.arange(2, dtype=np.float32), (len(inside), len(outside)))
    # Good and foreign rows count alike, however many there are.
    weight = np.where(y > 0, len(y) / (2 * len(outside)), len(y) / (2 * len(inside)))
    layers = _fit(x, y, weight.astype(np.float32), settings.epochs)
    domain = Domain(mean, std, layers, np.zeros(1, np.float32))
    usual = domain.output(statistics(validation.stamps, validation.magnitudes))
    domain = Domain(mean, std, layers, _ordinary(usual))
    shares = {name: flagged(domain, make(validation, rng)) for name, make in KINDS.items()}
    journal.note(stage="domain", false_alarms=flagged(domain, validation), **shares)
    return domain


def flagged(domain: Domain, rows: Cutouts) -> float:
    """Share of the rows that the score calls unusual."""
    score = domain.score(rows.stamps, rows.magnitudes.astype(np.float32))
    return float((score > UNUSUAL).mean())


def _look(rows: Cutouts, rng: np.random.Generator) -> Floats:
    """Statistics of rows, turned at random, of some with the magnitudes withheld."""
    images = centre(rows.images)
    turned = np.rot90(images, int(rng.integers(4)), axes=(2, 3))
    magnitudes = rows.magnitudes + rng.normal(0, 0.02, rows.magnitudes.shape)
    magnitudes[rng.random(len(rows)) < _WITHHELD] = np.nan
    parts = np.array_split(np.arange(len(rows)), max(1, len(rows) // 1000))
    return np.concatenate(
        [statistics(turned[at], magnitudes[at].astype(np.float32)) for at in parts]
    )


def _ordinary(usual: Floats) -> Floats:
    """Quantiles of good rows' output. The last lies beyond them: they are but a sample."""
    quantiles = np.quantile(usual, np.linspace(0, 1, _KNOTS)).astype(np.float32)
    quantiles[-1] += _BEYOND * (quantiles[-1] - np.quantile(usual, UNUSUAL))
    return quantiles


def _fit(x: Floats, y: Floats, weight: Floats, epochs: int) -> tuple[Any, ...]:
    network = nn.Sequential(
        nn.Linear(x.shape[1], _HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    data = [torch.from_numpy(each) for each in (x, y, weight)]
    steps = epochs * (len(x) // _BATCH + 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for at in torch.randperm(len(x)).split(_BATCH):
            rows, labels, weights = (each[at] for each in data)
            loss = functional.binary_cross_entropy_with_logits(network(rows)[:, 0], labels, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return tuple((each.weight.detach().numpy(), each.bias.detach().numpy()) for each in linear)
