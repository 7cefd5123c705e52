"""One training run: masked pre-training, fine-tuning, recalibration, weights.

Every stage leaves a file in the output folder and is passed over when the file is there; within a
stage the state of the last full epoch is kept. So a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers import domain as domains
from workers.astromae import AstroMAE
from workers.density import density
from workers.drift import reference
from workers.errors import RecipeError, WeightsError
from workers.estimator import Estimates, Estimator
from workers.evaluation.pdf import edges_of, pit
from workers.evaluation.plots import learning_curve
from workers.evaluation.predictions import estimate_all
from workers.photometry import complete
from workers.training import calibrate, domain, pretrain
from workers.training import recipe as recipes
from workers.training.cutouts import Cutouts, Split, split
from workers.training.finetune import Rows, Tuner
from workers.training.machine import Machine
from workers.training.progress import Journal
from workers.training.recipe import Domain, Recipe, Source
from workers.transform import InputTransform, colors
from workers.weights import Config, save

ENCODER: Final = "encoder.safetensors"
CURVE: Final = "learning.png"


def train(
    recipe: Path | str,
    data: Path,
    out: Path,
    *,
    encoder: Path | None = None,
    device: str = "auto",
    threads: int = 1,
    compiled: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Run a recipe on the datasets in `data`; returns the path of the encoder or of the weights.

    `encoder`: the file that a run of pre-training alone has left.

    Raises:
        RecipeError: the recipe does not exist, is wrong, or lacks an encoder.
        DataError: a dataset is missing or is not one.
    """
    chosen = recipes.load(recipe)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(chosen.seed)
    machine = Machine.choose(device, threads=threads, half=chosen.half, compiled=compiled)
    run = _Run(chosen, data, out, machine, Journal(out, say))
    encoder = run.encoder() if chosen.pretraining else encoder
    if chosen.finetuning is None:
        if encoder is None:
            raise RecipeError(f"recipe {recipe} has neither pretraining nor finetuning")
        say(f"encoder written to {encoder}")
        return encoder
    if encoder is None:
        raise RecipeError(
            f"recipe {recipe} fine-tunes only: give the encoder of a pre-training run (--encoder)"
        )
    path = run.weights(encoder)
    say(f"weights written to {path}")
    return path


@dataclass(frozen=True, slots=True)
class _Run:
    recipe: Recipe
    data: Path
    out: Path
    machine: Machine
    journal: Journal

    def encoder(self) -> Path:
        """Pre-train, or find what an earlier run left."""
        from safetensors.torch import save_file

        path, settings = self.out / ENCODER, self.recipe.pretraining
        if path.exists() or settings is None:
            return path
        transform = InputTransform(softening=self.recipe.softening)
        sets = [self._seen(each) for each in settings.labelled]
        sets += [Cutouts.load(self.data / each) for each in settings.unlabelled]
        images = _half(transform, np.concatenate([each.stamps for each in sets]))
        model = AstroMAE()
        pretrain.run(
            model, images, settings, self.recipe.seed, self.out, self.machine, self.journal
        )
        unfinished = path.with_name(f"unfinished-{path.name}")
        save_file(
            {
                name: tensor.contiguous().cpu()
                for name, tensor in pretrain.encoder_of(model).items()
            },
            unfinished,
            metadata={"recipe": self.recipe.model_dump_json()},
        )
        unfinished.replace(path)
        learning_curve(self.journal.figures(), self.out / CURVE)
        return path

    def weights(self, encoder: Path) -> Path:
        """Fine-tune behind the encoder in the file `encoder`, calibrate, and write the weights."""
        recipe, settings = self.recipe, self.recipe.finetuning
        path = self.out / f"{recipe.name}.safetensors"
        if path.exists() or settings is None:
            return path
        sets = [self._split(each) for each in settings.sources]
        self._leave_rows(sets)
        train = Cutouts.join([each.train for each in sets])
        transform = input_transform(recipe.softening, train)
        model = AstroMAE(outputs=settings.bins)
        _fill(model, encoder)
        tuner = Tuner(model, transform, settings, recipe.seed, self.out, self.machine, self.journal)
        self.journal.say("encoding ...")
        judges = [
            tuner.rows(each.validation, (0,))
            for source, each in zip(settings.sources, sets, strict=True)
            if source.judge
        ]
        tuner.fit([tuner.rows(each.train) for each in sets], judges)
        temperature, table = self._calibrate(tuner, judges)
        tensors = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
        if recipe.domain:
            tensors |= self._domain(sets, settings.sources).tensors()
        config = Config(
            name=recipe.name,
            version=recipe.version,
            bins=settings.bins,
            z_max=settings.z_max,
            temperature=temperature,
            calibration=table,
            magnitudes_alone=True,
            transform=transform,
            magnitude_range=_magnitude_range(train),
            recipe=recipe.model_dump(mode="json"),
        )
        unfinished = path.with_name(f"unfinished-{path.name}")
        save(unfinished, tensors, config, half=True)
        seen = Cutouts.join(_judged(settings.sources, sets))
        config = config.model_copy(update={"reference": _reference(unfinished, seen)})
        save(unfinished, tensors, config, half=True)
        unfinished.replace(path)
        learning_curve(self.journal.figures(), self.out / CURVE)
        return path

    def _split(self, source: Source) -> Split:
        whole = split(Cutouts.load(self.data / source.data), self.recipe.seed)
        parts = (whole.train, whole.validation, whole.test)
        return Split(*(part.rows(part.z >= source.z_least) for part in parts))

    def _leave_rows(self, sets: list[Split]) -> None:
        """The rows of each part in the run's folder, for those who evaluate."""
        for name in ("train", "validation", "test"):
            path = self.out / f"{name}.npz"
            if not path.exists():
                Cutouts.join([getattr(each, name) for each in sets]).save(path)

    def _calibrate(self, tuner: Tuner, judges: list[Rows]) -> tuple[float, tuple[float, ...]]:
        views = [np.concatenate(each) for each in zip(*map(tuner.views, judges), strict=True)]
        z = np.concatenate([each.z.numpy() for each in judges])
        softened = calibrate.temperature(views, tuner.grid, z)
        table = calibrate.table(pit(density(views, softened), edges_of(tuner.grid), z))
        self.journal.note(stage="calibration", temperature=softened, middle=table[len(table) // 2])
        return softened, table

    def _domain(self, sets: list[Split], sources: tuple[Source, ...]) -> domains.Domain:
        """The out-of-domain score: of rows that are good, against rows that are not."""
        settings, rng = self.recipe.domain or Domain(), np.random.default_rng(self.recipe.seed)
        # A small validation set has too few rows to place one in twenty: training lends it some.
        parts = [split(each.train, self.recipe.seed) for each in sets]
        good = [_some(part.train, settings.rows, rng) for part in parts]
        lent = [
            rows
            for source, part in zip(sources, parts, strict=True)
            if source.judge
            for rows in (part.validation, part.test)
        ]
        foreign = [self._seen(each) for each in settings.outside]
        if settings.nearer:
            wholes = [self._seen(each.data) for each in sources]
            foreign += [each.rows(each.z < settings.nearer) for each in wholes]
        return domain.train(
            Cutouts.join(good),
            [_some(each, 2 * settings.rows, rng) for each in foreign],
            Cutouts.join([*_judged(sources, sets), *lent]),
            settings,
            self.recipe.seed,
            self.journal,
        )

    def _seen(self, name: str) -> Cutouts:
        """Rows of a dataset that training may see."""
        return split(Cutouts.load(self.data / name), self.recipe.seed).train


def _judged(sources: tuple[Source, ...], sets: list[Split]) -> list[Cutouts]:
    """Validation rows of the sources that judge."""
    return [each.validation for source, each in zip(sources, sets, strict=True) if source.judge]


def _reference(weights: Path, rows: Cutouts) -> dict[str, Any]:
    """How the finished model's estimates of held-out rows are distributed."""
    return reference(Estimates(**estimate_all(Estimator.load(weights), rows)), rows.magnitudes)


def _some(cutouts: Cutouts, n: int, rng: np.random.Generator) -> Cutouts:
    """At most `n` rows, picked at random."""
    return cutouts.rows(rng.permutation(len(cutouts))[:n])


def _half(transform: InputTransform, images: NDArray[Any]) -> Tensor:
    """Transformed pixels as float16: they are small numbers, and there are many."""
    return torch.from_numpy(transform.images(images).astype(np.float16))


def input_transform(softening: tuple[float, ...], train: Cutouts) -> InputTransform:
    """Colours and r are standardised: by their median, and half of the 16 to 84 % range."""
    low, middle, high = np.percentile(colors(_completed(train)), [16, 50, 84], axis=0)
    return InputTransform(
        softening,
        tuple(float(each) for each in middle),
        tuple(float(each) for each in (high - low) / 2),
    )


def _magnitude_range(train: Cutouts) -> tuple[tuple[float, float], ...]:
    low, high = np.percentile(_completed(train), [0.1, 99.9], axis=0)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def _completed(cutouts: Cutouts) -> NDArray[np.float32]:
    return complete(cutouts.magnitudes.astype(np.float32), cutouts.stamps)


def _fill(model: AstroMAE, encoder: Path) -> None:
    """Put a pre-trained encoder into `model`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = model.load_state_dict(load_file(encoder), strict=False)
        wrong = [
            *found.unexpected_keys,
            *(set(pretrain.encoder_of(model)) & set(found.missing_keys)),
        ]
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"encoder {encoder} cannot be read: {error}") from error
    if wrong:
        raise WeightsError(f"{encoder} is not an encoder of this model: {wrong[:3]}")
