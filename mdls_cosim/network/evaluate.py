"""How accurate a network is on its hardware."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mdls_cosim.analog import Counters, Moment
from mdls_cosim.network.batches import Batches, Data, place_of, whole_number
from mdls_cosim.network.chips import analog_layers, evaluation_mode, kept_chips, kept_state, program
from mdls_cosim.network.scores import Metric, Output, Score, Scoring


@dataclass(frozen=True)
class Accuracy:
    """Fraction of the targets that a model classifies correctly, or a metric, over several programmings of its chip."""

    mean: float
    std: float | None
    """Sample standard deviation over the runs; None for a single run."""
    runs: tuple[float, ...]
    """Of every run; equal by construction where nothing is random."""
    images: int
    """Items of data in a run."""
    counters: dict[str, Counters]
    """By analog layer, over the runs that were computed, what `prepare` read included."""
    clipped: tuple[dict[str, tuple[int, int]], ...]
    """Of every run that was computed, by analog layer: weights beyond the scale, conductances at the bounds."""
    calibrated: tuple[str, ...]
    """Layers whose converters had no range yet and took it from the first batch of the first run."""
    metric: str = "accuracy"
    """What the numbers are: "accuracy" or the name of the metric."""
    ignored: int = 0
    """Targets of class -100 in a run, which do not count."""

    @property
    def total(self) -> Counters:
        """Counts over all layers."""
        total = Counters()
        for counters in self.counters.values():
            total = total.plus(counters)
        return total

    @property
    def unread(self) -> tuple[str, ...]:
        """Analog layers that the model never called."""
        return tuple(name for name, counters in self.counters.items() if counters.reads == 0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "std": self.std,
            "runs": list(self.runs),
            "images": self.images,
            "counters": {name: counters.as_dict() for name, counters in self.counters.items()},
            "calibrated": list(self.calibrated),
            "unread": list(self.unread),
            "metric": self.metric,
            "ignored": self.ignored,
        }

    def __str__(self) -> str:
        skipped = f", {self.ignored} targets ignored" if self.ignored else ""
        data = f"({len(self.runs)} runs, {self.images} images{skipped})"
        if self.metric == "accuracy":
            spread = "" if self.std is None else f" ± {100 * self.std:.2f}"
            return f"{100 * self.mean:.2f}{spread} % {data}"
        spread = "" if self.std is None else f" ± {self.std:.2g}"
        return f"{self.metric} {self.mean:.4g}{spread} {data}"


def evaluate(
    model: nn.Module,
    data: Data,
    runs: int = 10,
    seed: int = 0,
    batch_size: int = 256,
    moment: Moment | None = None,
    prepare: Callable[[nn.Module], object] | None = None,
    *,
    metric: Metric | None = None,
    output: Output | None = None,
) -> Accuracy:
    """Accuracy of a classifier, or any metric, mean and standard deviation over seeded runs.

    Run k programs every analog layer anew from `seed + k` and reads it from the beginning of that seed's noise; the
    same seed gives the same draws on every rung. Noise that is drawn at every read follows the order of the reads, so
    it depends on `batch_size`. What the model itself draws (dropout that is always on) follows from the seed too. A
    model in which nothing is random is computed once. Every run starts from the state (buffers, tensors in attributes)
    that the model has at the call, and sees the same items. Afterwards the model has its earlier chips, state and
    modes; ranges that its converters found stay.

    Accuracy is the fraction of the targets whose class has the largest score: outputs (items, classes, ...), classes
    (items, ...), (items, 1, ...) or one-hot, -100 not counted. Of one logit, (items) or (items, 1), class 1 is above 0.

    Args:
        data: (inputs, labels), or an iterable of such batches; see `batches.Data`.
        batch_size: items at a time, of data that are not batches yet.
        moment: when the chips are read; None: each at the moment it is set to.
        prepare: called with the model after every programming, at the moment of the reading: `compensate_drift`, or
            another correction of the chip.
        metric: metric(outputs, targets) -> a number, called with all items of a run on the CPU; None: accuracy.
        output: key, index or function that chooses the output of a model that returns several.

    Raises:
        InputError: no runs, no data, inputs that are not finite; targets that do not fit the outputs; the model, the
            metric or the data raised something; a moment that is none.
    """
    runs = whole_number(runs, "runs", "an evaluation needs at least one run")
    seed = whole_number(seed, "seed", "expected a seed", least=0)
    scoring = Scoring(metric, output)
    batches = Batches(data, batch_size, model)
    layers = analog_layers(model)
    uncalibrated = tuple(name for name, layer in layers.items() if not layer.calibrated)
    before = {name: layer.counters.copy() for name, layer in layers.items()}
    random = any(layer.hardware.random for layer in layers.values())
    scores: list[Score] = []
    clipped: list[dict[str, tuple[int, int]]] = []
    given = None if moment is None else Moment.checked(moment)
    moments = {layer: given or layer.moment for layer in layers.values()}
    with evaluation_mode(model), kept_chips(model), torch.no_grad():
        for run in range(runs):
            with kept_state(model), _seeded(model, seed + run) as draws:
                program(model, seed + run)
                for layer, when in moments.items():
                    layer.read_at(replace(when, read=when.read + seed + run))
                if prepare is not None:
                    prepare(model)
                scores.append(scoring.of(model, batches))
                random = random or draws()
            clipped.append(
                {name: (layer.clipped_weights, layer.clipped_conductances) for name, layer in layers.items()}
            )
            if not random:
                break
    results = [score.value for score in scores] * (1 if random else runs)
    return Accuracy(
        mean=statistics.fmean(results),
        std=statistics.stdev(results) if runs > 1 else None,
        runs=tuple(results),
        images=scores[0].items,
        counters={name: layer.counters.since(before[name]) for name, layer in layers.items()},
        clipped=tuple(clipped),
        calibrated=tuple(name for name in uncalibrated if layers[name].calibrated),
        metric=scoring.name,
        ignored=scores[0].ignored,
    )


@contextmanager
def _seeded(model: nn.Module, seed: int) -> Iterator[Callable[[], bool]]:
    """Seeds torch's global generators for a while; gives a function that returns whether anything was drawn since."""
    place = place_of(model)
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        before = _drawn_from(devices)
        yield lambda: any(not torch.equal(a, b) for a, b in zip(before, _drawn_from(devices), strict=True))


def _drawn_from(devices: list[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(each) for each in devices)]
