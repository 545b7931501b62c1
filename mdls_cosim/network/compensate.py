"""Digital corrections of a programmed chip: batch norms, a line for every column, and one factor against drift."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mdls_cosim.analog import AnalogLayer, AnalogProduct, Moment
from mdls_cosim.errors import InputError
from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers, evaluation_mode, hooked_input, kept_state
from mdls_cosim.network.scores import forward


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, data: Data, batch_size: int = 256) -> None:
    """Takes the running statistics of every batch norm from what reaches it on the chip.

    What a chip does to all images alike, a wrong mean or scale of a channel, the norm behind it then takes back. The
    statistics are the means over the batches, each normalised by its own as in training: batches should be large.

    Args:
        model: converted; changed in place.
        data: inputs, (inputs, labels) or an iterable of batches of those; see `batches.Data`.

    Raises:
        InputError: the model has no batch norm with running statistics.
    """
    norms = batch_norms(model)
    if not norms:
        raise InputError("the model has no batch norm to re-estimate", where="model", value=type(model).__name__)
    momenta = [norm.momentum for norm in norms]
    with evaluation_mode(model), kept_state(model, leave=norms):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's way to say: the mean over all batches
                norm.training = True
            _run(model, data, batch_size)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Every batch norm with running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    ]


@dataclass(frozen=True)
class Correction:
    """RMS error of a layer on the data, a share of the RMS of its digital output."""

    before: float
    after: float


@torch.no_grad()
def calibrate_columns(model: nn.Module, data: Data, batch_size: int = 256) -> dict[str, Correction]:
    """Gives every output of every analog layer the line that brings it nearest to the digital layer's.

        gain, shift = argmin sum (gain y + shift - (W x)_j)^2        y: as read, x: as in the float network

    over all vectors of the data: takes back what wires, offsets and drift do to a column on average, in the scale and
    shift that are there anyway. What changes from input to input stays, and so do products of attention, whose columns
    are written anew for every input. Programming forgets it.

    Args:
        model: converted; changed in place.
        data: inputs, (inputs, labels) or an iterable of batches of those; see `batches.Data`.

    Returns:
        What it gained, by layer; layers that nothing reached are left as they are, and left out.

    Source: as the affine output correction of Joshi et al., 10.1038/s41467-020-16108-9, fitted by least squares.
    """
    layers = analog_layers(model)
    fits = {name: _Line(layer) for name, layer in layers.items()}
    with ExitStack() as hooks, evaluation_mode(model), kept_state(model):
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(fits[name].look, with_kwargs=True).remove)
        _run(model, data, batch_size)
    return {name: fit.apply() for name, fit in fits.items() if fit.count}


class _Line:
    """Sums for the regression of one layer's digital outputs on those of its chip."""

    def __init__(self, layer: AnalogLayer) -> None:
        self._layer = layer
        self.count = 0
        self._read = self._wished = self._read_read = self._read_wished = self._wished_wished = torch.zeros(())

    def look(self, _module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
        """Hands the digital output on, so that every layer sees what the float network would give it."""
        layer = self._layer
        digital = layer.digital(hooked_input(inputs, named))
        if isinstance(layer, AnalogProduct):
            return digital.to(output).reshape(output.shape)
        bias = 0.0 if layer.bias is None else layer.bias.double()
        read = output.reshape(digital.shape).double().movedim(1, -1).flatten(0, -2) - bias
        wished = digital.double().movedim(1, -1).flatten(0, -2) - bias
        self.count += len(read)
        self._read = self._read + read.sum(0)
        self._wished = self._wished + wished.sum(0)
        self._read_read = self._read_read + read.square().sum(0)
        self._read_wished = self._read_wished + (read * wished).sum(0)
        self._wished_wished = self._wished_wished + wished.square().sum(0)
        return digital.to(output).reshape(output.shape)

    def apply(self) -> Correction:
        count, layer = self.count, self._layer
        read, wished = self._read / count, self._wished / count
        variance = self._read_read / count - read**2
        covariance = self._read_wished / count - read * wished
        # An output that never moved, sums of float64 aside, has a shift and no slope.
        moves = variance > 1e-12 * (self._read_read / count)
        slope = torch.where(moves, covariance / torch.where(moves, variance, 1.0), 1.0)
        shift = wished - slope * read
        before = (self._read_read - 2 * self._read_wished + self._wished_wished).sum() / count
        spread = self._wished_wished / count - wished**2
        after = (spread - 2 * slope * covariance + slope**2 * variance).sum()
        slope, shift = layer.by_output(slope, 1.0), layer.by_output(shift, 0.0)
        layer.gain.mul_(slope)
        layer.shift.mul_(slope).add_(shift)
        layer.reference_current.fill_(_reference_current(layer))
        scale = float(self._wished_wished.sum() / count) or 1.0
        return Correction((float(before.clamp_min(0)) / scale) ** 0.5, (float(after.clamp_min(0)) / scale) ** 0.5)


@torch.no_grad()
def compensate_drift(model: nn.Module) -> dict[str, float]:
    """Multiplies every analog layer's outputs by what its currents have lost since they were right.

        gain = gain I_0 / I,    I = sum of the currents of all columns, all rows at the read voltage

    I_0 is that of the programming, or of the last correction of the gains. What all cells of a layer lose in common
    is taken back; that every cell drifts at its own rate is not. Where the zero of a weight is subtracted digitally,
    it becomes that of the cells as they are, I/I_0 of what it was. Programming forgets all of it.

    Args:
        model: converted; changed in place.

    Returns:
        I_0/I of every layer; but for products of attention, which are written anew for every input.

    Source: the global drift compensation of Joshi et al., 10.1038/s41467-020-16108-9.
    """
    factors = {}
    for name, layer in analog_layers(model).items():
        if isinstance(layer, AnalogProduct):
            continue
        now = _reference_current(layer)
        earlier = float(layer.reference_current)
        if not earlier:
            with _as_programmed(layer):
                earlier = _reference_current(layer)
        if not now:
            raise InputError("no current is left to compensate", where=name, value="0 A", limit="above 0 A")
        factors[name] = earlier / now
        layer.gain.mul_(factors[name])
        layer.zero_share.div_(factors[name])
        layer.reference_current.fill_(now)
    return factors


def _reference_current(layer: AnalogLayer) -> float:
    """Sum of the currents of all columns with weights, the read voltage at all rows with inputs [A]."""
    part = layer.partition
    ones = layer.conductances.new_ones((part.groups, 1, part.inputs)) * layer.hardware.read_voltage
    voltages = part.to_rows(ones, layer.rows_at)
    currents = layer.programmed()(voltages.unsqueeze(-3))
    return float(layer.hardware.weight_mapping.take(currents, part.outputs_per_tile).sum())


@contextmanager
def _as_programmed(layer: AnalogLayer) -> Iterator[None]:
    """The layer right after its programming."""
    moment = layer.moment
    layer.read_at(Moment())
    try:
        yield
    finally:
        layer.read_at(moment)


def _run(model: nn.Module, data: Data, batch_size: int) -> None:
    """One pass of all items through the model."""
    place = place_of(model)
    for batch in Batches(data, batch_size, model, targets=False, use="compensate with"):
        forward(model, batch.to(place))
