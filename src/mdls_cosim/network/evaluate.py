"""How accurate a network is on its hardware."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mdls_cosim.analog import Counters, Moment
from mdls_cosim.errors import InputError
from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers, evaluation_mode, kept_buffers, kept_chips, program


@dataclass(frozen=True)
class Accuracy:
    """Part of the data that a model classifies rightly, over several programmings of its hardware."""

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
        }

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {100 * self.std:.2f}"
        return f"{100 * self.mean:.2f}{spread} % ({len(self.runs)} runs, {self.images} images)"


def evaluate(
    model: nn.Module,
    data: Data,
    runs: int = 10,
    seed: int = 0,
    batch_size: int = 256,
    moment: Moment | None = None,
    prepare: Callable[[nn.Module], object] | None = None,
) -> Accuracy:
    """Accuracy of a classifier, mean and standard deviation over seeded runs.

    Run k programs every analog layer anew from `seed + k`, and reads it from as many reads on; the same seed gives the
    same draws on every rung. A model in which nothing is random is computed once. Afterwards the model has its earlier
    chips, buffers and modes back; ranges that its converters found stay.

    Args:
        data: (inputs, labels), or an iterable of such batches; the model gives (items, classes).
        moment: when the chips are read; None: each when it is now.
        prepare: called with the model after every programming, at the moment of the reading: `compensate_drift`, or
            what else is done to every chip.

    Raises:
        InputError: no runs, no data, no classifier; a moment that is none.
    """
    if runs < 1:
        raise InputError("an evaluation needs at least one run", where="runs", value=runs, limit="1 or more")
    batches = Batches(data, batch_size)
    layers = analog_layers(model)
    uncalibrated = tuple(name for name, layer in layers.items() if not layer.calibrated)
    before = {name: layer.counters.copy() for name, layer in layers.items()}
    random = any(layer.hardware.random for layer in layers.values())
    results: list[float] = []
    clipped: list[dict[str, tuple[int, int]]] = []
    images = 0
    given = None if moment is None else Moment.checked(moment)
    moments = {layer: given or layer.moment for layer in layers.values()}
    with evaluation_mode(model), kept_chips(model), kept_buffers(model), torch.no_grad():
        for run in range(runs if random else 1):
            program(model, seed + run)
            for layer, when in moments.items():
                layer.read_at(replace(when, read=when.read + seed + run))
            if prepare is not None:
                prepare(model)
            right, images = _count(model, batches)
            results.append(right / images)
            clipped.append(
                {name: (layer.clipped_weights, layer.clipped_conductances) for name, layer in layers.items()}
            )
    if not random:
        results *= runs
    return Accuracy(
        mean=statistics.fmean(results),
        std=statistics.stdev(results) if runs > 1 else None,
        runs=tuple(results),
        images=images,
        counters={name: layer.counters.since(before[name]) for name, layer in layers.items()},
        clipped=tuple(clipped),
        calibrated=tuple(name for name in uncalibrated if layers[name].calibrated),
    )


def _count(model: nn.Module, batches: Batches) -> tuple[int, int]:
    """(right, all) items."""
    place = place_of(model)
    right = images = 0
    for inputs, labels in batches:
        outputs = model(inputs.to(place))
        if outputs.ndim != 2 or outputs.shape[0] != len(labels):
            raise InputError("the model is no classifier", value=tuple(outputs.shape), limit="outputs (items, classes)")
        right += int((outputs.argmax(1) == labels.to(place)).sum())
        images += len(labels)
    if not images:
        raise InputError("there is no data to evaluate on", where="data", value="0 items")
    return right, images
