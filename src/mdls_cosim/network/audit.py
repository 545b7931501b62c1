"""The network's own tiles, re-run on a rung above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdls_cosim.analog import AnalogLayer
from mdls_cosim.errors import InputError
from mdls_cosim.fidelity import SpiceTile, TileModel
from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers, evaluation_mode, layer_seed
from mdls_cosim.tiles import TileSpec

SCATTER_POINTS = 5000
"""Pairs of currents that a report keeps for a plot."""


@dataclass(frozen=True)
class LayerAudit:
    """Error of one layer's column currents against the reference, over its occupied columns."""

    name: str
    kind: str
    rung: str
    vectors: int
    """Input vectors, each on every tile of both arrays."""
    currents: int
    """Column currents compared."""
    rms_current: float
    """Root mean square of the reference currents [A]."""
    rms: float
    """Root mean square error relative to `rms_current`."""
    p99: float
    """99th percentile of |error| relative to `rms_current`."""
    difference_rms: float
    """Root mean square error of the positive minus the negative array, relative to that difference's own."""
    adc_steps: float | None
    """Root mean square error of what the ADC gets, in its steps; None for an ideal ADC."""


@dataclass(frozen=True)
class AuditReport:
    """How far a network's tiles are from the reference, on what really reaches them."""

    layers: tuple[LayerAudit, ...]
    vectors: int
    """Input vectors per layer."""
    unreached: tuple[str, ...]
    """Analog layers that the model never called."""
    rms: float
    """Over all layers, every layer's errors relative to its own RMS current."""
    p99: float
    """Likewise."""
    reference: str
    """What computed the truth."""
    seed: int
    pairs: np.ndarray
    """Currents [A] for a plot, (points, 2): the network's own, the reference's; drawn from all layers."""
    pair_layers: tuple[str, ...]
    """The layer of every pair."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "vectors": self.vectors,
            "layers": len(self.layers),
            "unreached": list(self.unreached),
            "rms": self.rms,
            "p99": self.p99,
            "reference": self.reference,
            "seed": self.seed,
            "by_layer": [asdict(layer) for layer in self.layers],
        }


def audit(
    model: nn.Module,
    data: Data | Tensor,
    samples: int = 50,
    seed: int = 0,
    reference: Callable[[TileSpec], TileModel] = SpiceTile,
) -> AuditReport:
    """Re-runs the tiles of every analog layer, as programmed, on input vectors that really reach them.

    `samples` items are drawn by seed from the data and put through the model. Of each, one vector that reaches the
    layer (of a convolution: one position) goes to every tile of both arrays, on the layer's own rung and on the
    reference. Counters stay as they were; converters without a range take it from the drawn items.

    Args:
        data: inputs, (inputs, labels) or an iterable of batches.
        reference: makes the truth from a TileSpec: that of the circuit the surrogate was made from, where it knows
            it, else the layer's own.
    """
    layers = analog_layers(model)
    if not layers:
        raise InputError("the model has no analog layers to audit", hint="convert it first")
    if samples < 1:
        raise InputError("an audit needs at least one vector", where="samples", value=samples, limit="1 or more")
    inputs = data if isinstance(data, Tensor) else Batches(data, 256).inputs()
    generator = torch.Generator().manual_seed(seed)
    items = inputs[_draw(len(inputs), samples, generator)].to(place_of(model))
    reached = _capture(model, layers, items)

    truths: dict[TileSpec, TileModel] = {}
    audits, errors, pairs = [], [], []
    if not reached:
        raise InputError("the model calls none of its analog layers", where=", ".join(layers))
    for name, layer in layers.items():
        if name not in reached:
            continue
        own_seed = torch.Generator().manual_seed(layer_seed(seed, name))
        voltages = _vectors(layer, reached[name], samples, own_seed)
        spec = truth_spec(layer)
        if spec not in truths:
            truths[spec] = reference(spec)
        with torch.no_grad():
            own = _currents(layer, layer.programmed()(voltages.unsqueeze(-3)))
            truth = truths[spec].program(layer.conductances)(voltages.double().unsqueeze(-3))
            truth = _currents(layer, truth)
        audits.append(_compare(name, layer, own, truth, samples))
        errors.append(((own - truth).abs() / audits[-1].rms_current).flatten().numpy())
        pairs.append(torch.stack([own.flatten(), truth.flatten()], -1).numpy())

    every_error = np.concatenate(errors)
    every_pair = np.concatenate(pairs)
    of_layer = np.repeat([layer.name for layer in audits], [len(some) for some in pairs])
    shown = _draw(len(every_pair), min(SCATTER_POINTS, len(every_pair)), generator).numpy()
    return AuditReport(
        layers=tuple(audits),
        vectors=samples,
        unreached=tuple(name for name in layers if name not in reached),
        rms=float(np.sqrt(np.mean(every_error**2))),
        p99=float(np.percentile(every_error, 99)),
        reference=" and ".join(sorted({type(truth).__name__ for truth in truths.values()})),
        seed=seed,
        pairs=every_pair[shown],
        pair_layers=tuple(of_layer[shown].tolist()),
    )


def truth_spec(layer: AnalogLayer) -> TileSpec:
    """The circuit that the layer stands for: that of a surrogate's own data, where it knows it."""
    return getattr(layer.hardware.tile, "reference_spec", None) or layer.hardware.spec


def _draw(count: int, samples: int, generator: torch.Generator) -> Tensor:
    """Indices: different ones while there are enough."""
    if samples <= count:
        return torch.randperm(count, generator=generator)[:samples]
    return torch.randint(count, (samples,), generator=generator)


def _capture(model: nn.Module, layers: dict[str, AnalogLayer], items: Tensor) -> dict[str, list[Tensor]]:
    """What reaches every layer, call by call."""
    reached: dict[str, list[Tensor]] = {}
    counters = {name: layer.counters.copy() for name, layer in layers.items()}

    def keep(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, args: tuple[Tensor, ...], _output: Tensor) -> None:
            reached.setdefault(name, []).append(layers[name].items(args[0]).detach())

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(items)
    finally:
        for handle in handles:
            handle.remove()
        for name, layer in layers.items():
            layer.counters = counters[name]
    return reached


def _vectors(layer: AnalogLayer, calls: list[Tensor], samples: int, generator: torch.Generator) -> Tensor:
    """Row voltages (groups, row_tiles, samples, rows) [V]: of every drawn item one vector, drawn too."""
    calls_of = [(call, item) for call in calls for item in range(len(call))]
    chosen = []
    for index in _draw(len(calls_of), samples, generator).tolist():
        call, item = calls_of[index]
        voltages = layer.row_voltages(call[item : item + 1])
        position = int(torch.randint(voltages.shape[-2], (1,), generator=generator))
        chosen.append(voltages[..., position, :])
    return torch.stack(chosen, -2)


def _currents(layer: AnalogLayer, currents: Tensor) -> Tensor:
    """Of the occupied columns, (2, groups, row_tiles, vectors, outputs) [A], in float64 on the CPU."""
    return layer.partition.to_outputs(currents).double().cpu()


def _compare(name: str, layer: AnalogLayer, own: Tensor, truth: Tensor, samples: int) -> LayerAudit:
    error = own - truth
    rms_current = _rms(truth)
    if rms_current == 0:
        raise InputError("no current flows in a layer: there is nothing to compare", where=name)
    relative = error.abs().flatten().numpy() / rms_current
    difference = truth[0] - truth[1]
    at_adc = error[0] - error[1] if layer.hardware.subtraction == "analog" else error
    step = layer.adc_step
    return LayerAudit(
        name=name,
        kind=type(layer).__name__,
        rung=layer.hardware.rung,
        vectors=samples,
        currents=error.numel(),
        rms_current=rms_current,
        rms=_rms(error) / rms_current,
        p99=float(np.percentile(relative, 99)),
        difference_rms=_rms(error[0] - error[1]) / (_rms(difference) or rms_current),
        adc_steps=None if step is None else _rms(at_adc) / step,
    )


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
