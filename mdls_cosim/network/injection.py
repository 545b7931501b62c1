"""What an error of the tiles means for a network: audited errors, put into what its converters get."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdls_cosim.analog import AnalogLayer, Partition
from mdls_cosim.analog.dac import Read
from mdls_cosim.errors import InputError
from mdls_cosim.network.batches import Batches, Data
from mdls_cosim.network.chips import analog_layers, evaluation_mode, kept_state, layer_seed
from mdls_cosim.network.scores import Metric, Output, Score, Scoring


@dataclass(frozen=True, eq=False)
class Residuals:
    """What the converters of some tiles of a layer would have got more of, read by read."""

    currents: Tensor
    """(conversions, tiles, reads, outputs of a tile) [A]"""
    own: Tensor
    """What they got, likewise."""
    tiles: Tensor
    """(tiles, 3): group, row tile and column tile."""
    weights: Tensor
    """Digital weight of every read: bits and phases are told apart by it."""
    partition: Partition
    """Of the layer when it was audited."""


@dataclass(frozen=True)
class AccuracyEffect:
    """Accuracy, or a metric, of one chip as it is, and with audited errors injected."""

    as_is: float
    mean: float
    """With the errors, over seeds."""
    std: float | None
    """Sample standard deviation over seeds; None for a single one."""
    runs: tuple[float, ...]
    changed: float | None
    """Fraction of the targets whose class is another one with the errors, mean over seeds; None with a metric."""
    images: int
    metric: str = "accuracy"
    """What the numbers are: "accuracy" or the name of the metric."""


class ResampledErrors:
    """Errors that were seen in an audit, as a layer's `disturbance`.

        error = gain I + rest,    gain = sum(residual I)/sum(I^2)

    The gain is one for the layer, by least squares, and goes with the current I of every read. Of the rest, every read
    draws that of one audited read of its own digital weight, on all columns of all tiles: its mean by column, its
    spread, and how columns and tiles err together are kept; how it depends on the input beyond the gain is not. A tile
    that was not audited takes the rest of one that was, its reads in another order, so that tiles that share it do not
    err together.

    Args:
        layer: where the errors go.
        residuals: of the audit.
        seed: of all draws.
    """

    def __init__(self, layer: AnalogLayer, residuals: Residuals, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._pools = {
            float(weight): torch.nonzero(residuals.weights == weight)[:, 0] for weight in residuals.weights.unique()
        }
        self._every = torch.arange(len(residuals.weights))
        power = float(residuals.own.square().sum())
        self.gain = float((residuals.currents * residuals.own).sum()) / power if power else 0.0
        self._layer, self._audited = layer, residuals
        self._rest = residuals.currents - self.gain * residuals.own
        self._partition, self._errors = layer.partition, self._spread()
        self._read: Read | None = None
        self._drawn = self._every

    def __call__(self, read: Read, currents: Tensor, tiles: slice, tile_dim: int) -> Tensor:
        if self._partition != self._layer.partition:  # a product of attention, of other sequences
            self._partition, self._errors = self._layer.partition, self._spread()
        # Readers give (groups, row_tiles, vectors, …) or (vectors, groups, row_tiles, …), then conversions and outputs.
        if read is not self._read:  # parts of one read err together
            pool = self._pools.get(read.weight, self._every)
            chosen = torch.randint(len(pool), (currents.shape[2 if tile_dim == 1 else 0],), generator=self._generator)
            self._read, self._drawn = read, pool[chosen]
        errors = self._errors[:, :, tiles][self._drawn.to(self._errors.device)].to(currents)
        return self.gain * currents + (errors.permute(1, 2, 0, 3, 4) if tile_dim == 1 else errors)

    def _spread(self) -> Tensor:
        """Of every tile and output of the layer, (reads, groups, row_tiles, conversions, outputs)."""
        part, found, audited = self._layer.partition, self._rest, self._audited.partition
        tiles = self._audited.tiles.tolist()
        place = {tuple(tile): number for number, tile in enumerate(tiles)} if part == audited else {}
        held = part.outputs_per_tile
        whole = found.new_empty((len(self._every), *part.tiles[:2], len(found), part.tiles[2], held))
        for group, row, col in torch.cartesian_prod(*map(torch.arange, part.tiles)).tolist():
            donor = place.get((group, row, col))
            if donor is not None:
                whole[:, group, row, :, col] = found[:, donor].transpose(0, 1)
                continue
            donor = int(torch.randint(len(tiles), (), generator=self._generator))
            order = self._every.clone()
            for pool in self._pools.values():
                order[pool] = pool[torch.randperm(len(pool), generator=self._generator)]
            # The last column tile may hold fewer outputs: these are taken again.
            known = min(audited.outputs_per_tile, audited.outputs - tiles[donor][2] * audited.outputs_per_tile)
            errors = found[:, donor][:, order][..., torch.arange(held) % known]
            whole[:, group, row, :, col] = errors.transpose(0, 1)
        return whole.flatten(-2)[..., : part.outputs].to(self._layer.conductances.device)


@contextmanager
def injected(model: nn.Module, residuals: Mapping[str, Residuals], seed: int = 0) -> Iterator[None]:
    """Adds audited errors to every read of the layers named, for a while; see `ResampledErrors`."""
    layers = analog_layers(model)
    before = {name: layers[name].disturbance for name in residuals}
    try:
        for name, errors in residuals.items():
            layers[name].disturbance = ResampledErrors(layers[name], errors, layer_seed(seed, name))
        yield
    finally:
        for name, disturbance in before.items():
            layers[name].disturbance = disturbance


def accuracy_effect(
    model: nn.Module,
    data: Data,
    residuals: Mapping[str, Residuals],
    runs: int = 5,
    seed: int = 0,
    batch_size: int = 256,
    *,
    metric: Metric | None = None,
    output: Output | None = None,
) -> AccuracyEffect:
    """Accuracy of the chip that is programmed, without and with the errors, on the same draws of its own noise.

    Args:
        data: (inputs, labels), or an iterable of such batches; see `batches.Data`.
        runs: injections, of seeds `seed`, `seed` + 1, …
        metric: as of `evaluate`.
        output: as of `evaluate`.

    Raises:
        InputError: no runs, no data; targets that do not fit the outputs.
    """
    if runs < 1:
        raise InputError("an effect needs at least one run", where="runs", value=runs, limit="1 or more")
    scoring = Scoring(metric, output)
    batches = data if isinstance(data, Batches) else Batches(data, batch_size, model)
    plain = _score(model, batches, scoring)
    found, changed = [], []
    for run in range(runs):
        with injected(model, residuals, seed + run):
            score = _score(model, batches, scoring)
        found.append(score.value)
        if score.classes is not None and plain.classes is not None:
            changed.append(int((score.classes != plain.classes).sum()) / len(plain.classes))
    return AccuracyEffect(
        as_is=plain.value,
        mean=statistics.fmean(found),
        std=statistics.stdev(found) if runs > 1 else None,
        runs=tuple(found),
        changed=statistics.fmean(changed) if changed else None,
        images=plain.items,
        metric=scoring.name,
    )


@contextmanager
def unnoticed(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients; counters and the model's state are as before afterwards."""
    layers = analog_layers(model).values()
    counters = [layer.counters.copy() for layer in layers]
    try:
        with evaluation_mode(model), kept_state(model), torch.no_grad():
            yield
    finally:
        for layer, before in zip(layers, counters, strict=True):
            layer.counters = before


def _score(model: nn.Module, batches: Batches, scoring: Scoring) -> Score:
    """The score of the chip as it is, its noise from the beginning."""
    with unnoticed(model):
        for layer in analog_layers(model).values():
            layer.read_at(layer.moment)  # its noise begins anew
        return scoring.of(model, batches)
