"""The network's own tiles, re-run on a rung above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mdls_cosim.analog import AnalogLayer, AnalogProduct
from mdls_cosim.errors import InputError, NotAvailable
from mdls_cosim.fidelity import SpiceTile, TileModel
from mdls_cosim.network.batch_forms import Batch
from mdls_cosim.network.batches import Batches, Data, place_of
from mdls_cosim.network.chips import analog_layers, hooked_input, layer_seed
from mdls_cosim.network.error_size import ErrorSize, Sample
from mdls_cosim.network.injection import AccuracyEffect, Residuals, accuracy_effect, unnoticed
from mdls_cosim.network.scores import Metric, Output, Scoring, forward
from mdls_cosim.tiles import TileSpec

SCATTER_POINTS = 5000
"""Pairs of currents that a report keeps for a plot."""


_Circuit = tuple[TileSpec, float | None]
"""Of a truth, and when it is measured; None: at rest."""


@dataclass(frozen=True)
class LayerAudit:
    """Error of one layer's column currents against the reference, over its occupied columns."""

    name: str
    kind: str
    rung: str
    vectors: int
    """Input vectors, one read of each on all arrays of every audited tile."""
    tiles: int
    """Places of the partition that were audited, each with all its arrays."""
    tiles_of: int
    """Of so many."""
    currents: int
    """Column currents compared."""
    rms_current: float
    """Root mean square of the reference's currents [A]."""
    error: ErrorSize
    """Layer minus reference."""
    fit: ErrorSize | None = None
    """Layer minus the circuit that it stands for; None without a reference tile, as the next."""
    model: ErrorSize | None = None
    """That circuit minus the reference tile: currents of both parts add up to those of `error`."""

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        return {**told, **told.pop("error")}


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
    reference_tile: TileSpec | None
    """The circuit of the truth where that was named; None: every layer's own."""
    read_time: float | None
    """When the truth was measured, from the step of its rows [s]; None: at rest."""
    settling_left_out: bool
    """A circuit of the truth takes its time to settle, and was measured at rest, where that does not show."""
    accuracy: AccuracyEffect | None
    """What the errors of all layers mean for the network; None where the data have no labels."""
    seed: int
    pairs: np.ndarray
    """Currents [A] for a plot, (points, 2): the network's own, the reference's; drawn from all layers."""
    pair_layers: tuple[str, ...]
    """The layer of every pair."""
    residuals: dict[str, Residuals] = field(repr=False)
    """Reference minus layer, as `injected` takes them."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "vectors": self.vectors,
            "layers": len(self.layers),
            "unreached": list(self.unreached),
            "rms": self.rms,
            "p99": self.p99,
            "reference": self.reference,
            "reference_tile": None if self.reference_tile is None else self.reference_tile.as_dict(),
            "read_time": self.read_time,
            "settling_left_out": self.settling_left_out,
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            "seed": self.seed,
            "by_layer": [layer.as_dict() for layer in self.layers],
        }

    def pairs_as_dict(self) -> dict[str, Any]:
        """The currents of the plot [A], to seven digits, with the place of each one's layer in `by_layer`."""
        places = {layer.name: place for place, layer in enumerate(self.layers)}
        own, reference = ([float(f"{each:.7g}") for each in column] for column in self.pairs.T)
        return {"layer": [places[name] for name in self.pair_layers], "own": own, "reference": reference}


def audit(
    model: nn.Module,
    data: Data,
    samples: int = 50,
    seed: int = 0,
    reference: Callable[[TileSpec], TileModel] | None = None,
    *,
    reference_tile: TileSpec | None = None,
    read_time: float | None = None,
    tiles: int | None = None,
    injections: int = 5,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    metric: Metric | None = None,
    output: Output | None = None,
) -> AuditReport:
    """Re-runs tiles of every analog layer, as programmed, on input vectors that really reach them.

    `samples` items are drawn by seed from the data and put through the model. Of each, one vector that reaches the
    layer (of a convolution: one position), and of the reads that the DAC makes of it one, with all its slices of time,
    goes to the tiles, on the layer's own rung and on the reference; compared is the charge over the read, as a mean
    current. Chips are read at the moment at which their layers read them. Counters stay as they were; converters
    without a range take it from the drawn items.

    With labels, the errors are then injected into the running network; see `ResampledErrors`.

    Args:
        data: inputs, (inputs, labels) or an iterable of batches; see `batches.Data`.
        reference: makes the truth from a TileSpec; absent: ngspice, `SpiceTile`.
        reference_tile: the circuit of the truth, in the size of each layer's tiles and at its temperature; absent:
            that which a surrogate was made from, where it knows it, else the layer's own. Where it is given, the error
            is told apart into that of the fit and that of the model.
        read_time: the truth is measured so long after its rows step from 0 V [s], by `SpiceTile`, whose circuit then
            needs capacitances or an amplifier; what has not settled is part of the model's error. Absent: at rest.
        tiles: audited in each layer, drawn by seed; absent: all.
        injections: seeds with which errors are injected; 0: none.
        workers: ngspice processes side by side; one a processor if absent.
        progress: called with (finished, all) layers.
        metric: what takes the place of the accuracy, as of `evaluate`.
        output: the output that counts, as of `evaluate`.

    Raises:
        InputError: nothing to audit; a `read_time` of another `reference`; labels that do not fit the outputs.
        ConfigError: a `read_time` where nothing has to settle.
        NotAvailable: a `read_time` and pulses of several lengths, whose charge it does not tell.
    """
    layers = analog_layers(model)
    if not layers:
        raise InputError("the model has no analog layers to audit", hint="convert it first")
    for name, layer in layers.items():
        if layer.hardware.acting.spreads_shape:
            raise NotAvailable(
                f"an audit of a spread of device parameters that changes the shape of I-V curves (layer {name})",
                hint="The circuit of a tile has one device for all cells: leave that device_to_device out",
            )
    for name, value in (("samples", samples), ("tiles", tiles)):
        if value is not None and value < 1:
            raise InputError("an audit needs at least one", where=name, value=value, limit="1 or more")
    if read_time is not None and reference is not None:
        raise InputError("only ngspice is read at a time of its own", where="read_time", hint="leave out reference")
    scoring = Scoring(metric, output)
    batches = Batches(data, 256, model, targets=False, use="audit with")
    generator = torch.Generator().manual_seed(seed)
    drawn = batches.take(_draw(len(batches), samples, generator))
    labelled = drawn[0].targets is not None
    if injections > 0 and labelled:
        with unnoticed(model):
            scoring.of(model, batches)  # labels that do not fit are an error before the simulations
    # After all other runs: products of activations hold what their last call wrote.
    reached = _capture(model, layers, drawn)
    if not reached:
        raise InputError("the model calls none of its analog layers", where=", ".join(layers))

    make = reference or (lambda spec: SpiceTile(spec, workers=workers))
    truths: list[tuple[_Circuit, TileModel]] = []

    def truth(circuit: _Circuit) -> TileModel:
        for known, made in truths:  # a subcircuit of one's own has no hash
            if known == circuit:
                return made
        spec, when = circuit
        made = make(spec) if when is None else SpiceTile(spec, workers=workers, read_time=when)
        truths.append((circuit, made))
        return made

    found: dict[str, _Found] = {}
    for number, (name, calls) in enumerate(reached.items()):
        own = truth_spec(layers[name])
        circuits: list[_Circuit] = [(own, None)]
        if reference_tile is not None or read_time is not None:
            other = own if reference_tile is None else layers[name].hardware.read_spec(_like(reference_tile, own))
            circuits.append((other, read_time))
        models = [truth(circuit) for circuit in circuits]
        found[name] = _audit_layer(name, layers[name], calls, models, samples, tiles, layer_seed(seed, name))
        if progress is not None:
            progress(number + 1, len(reached))

    residuals = {name: each.residuals for name, each in found.items()}
    accuracy = None
    if injections > 0 and labelled:
        accuracy = accuracy_effect(model, batches, residuals, injections, seed, metric=metric, output=output)
    audits = [each.audit for each in found.values()]
    every_pair = np.concatenate([each.pairs for each in found.values()])
    every_error = np.concatenate([np.diff(each.pairs)[:, 0] / (each.audit.rms_current or 1) for each in found.values()])
    of_layer = np.repeat([layer.name for layer in audits], [len(each.pairs) for each in found.values()])
    shown = _draw(len(every_pair), min(SCATTER_POINTS, len(every_pair)), generator).numpy()
    return AuditReport(
        layers=tuple(audits),
        vectors=samples,
        unreached=tuple(name for name in layers if name not in reached),
        rms=float(np.sqrt(np.mean(every_error**2))),
        p99=float(np.percentile(np.abs(every_error), 99)),
        reference=" and ".join(sorted({type(model).__name__ for _, model in truths})),
        reference_tile=reference_tile,
        read_time=read_time,
        settling_left_out=read_time is None and any(spec.settles for (spec, _), _ in truths),
        accuracy=accuracy,
        seed=seed,
        pairs=every_pair[shown],
        pair_layers=tuple(of_layer[shown].tolist()),
        residuals=residuals,
    )


def truth_spec(layer: AnalogLayer) -> TileSpec:
    """The circuit that the layer stands for: that of a surrogate's own data, where it knows it."""
    spec = layer.hardware.spec
    circuit = _like(getattr(layer.hardware.tile, "reference_spec", None) or spec, spec)
    circuit = layer.hardware.read_spec(circuit)
    kelvin = layer.moment.temperature
    return circuit if kelvin is None else circuit.replace(temperature=kelvin)


def _like(circuit: TileSpec, spec: TileSpec) -> TileSpec:
    """`circuit` in the size and at the temperature of `spec`."""
    return circuit.replace(rows=spec.rows, cols=spec.cols, temperature=spec.temperature)


def _draw(count: int, samples: int, generator: torch.Generator) -> Tensor:
    """Indices: different ones while there are enough."""
    if samples <= count:
        return torch.randperm(count, generator=generator)[:samples]
    return torch.randint(count, (samples,), generator=generator)


def _capture(model: nn.Module, layers: dict[str, AnalogLayer], drawn: list[Batch]) -> dict[str, list[Tensor]]:
    """What reaches every layer, call by call; in the order of `layers`.

    Of a product of attention the last call: only what that wrote is still there.
    """
    reached: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, args: tuple[Tensor, ...], named: dict[str, Any], _output: Tensor) -> None:
            earlier = [] if isinstance(layers[name], AnalogProduct) else reached.get(name, [])
            reached[name] = [*earlier, layers[name].items(hooked_input(args, named)).detach()]

        return hook

    handles = [layer.register_forward_hook(keep(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with unnoticed(model):
            for batch in drawn:
                forward(model, batch.to(place_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return {name: reached[name] for name in layers if name in reached}


@dataclass(frozen=True, eq=False)
class _Reads:
    """Reads of some tiles of a layer, slice by slice."""

    voltages: Tensor
    """(tiles, slices, rows) [V]"""
    shares: Tensor
    """(slices,): of the time of the read."""
    owners: Tensor
    """(slices,): the read that each belongs to."""
    weights: Tensor
    """(reads,): digital weights."""

    @classmethod
    def draw(
        cls, layer: AnalogLayer, calls: list[Tensor], samples: int, tiles: Tensor, generator: torch.Generator
    ) -> _Reads:
        """Of every drawn item one vector, of that one read."""
        calls_of = [(call, item) for call in calls for item in range(len(call))]
        voltages, shares, owners, weights = [], [], [], []
        for owner, index in enumerate(_draw(len(calls_of), samples, generator).tolist()):
            call, item = calls_of[index]
            vectors = layer.vectors(call[item : item + 1])
            position = int(torch.randint(vectors.shape[1], (), generator=generator))
            reads = layer.reads(vectors[:, position : position + 1])
            read = reads[int(torch.randint(len(reads), (), generator=generator))]
            for share, rows in read.slices:
                voltages.append(rows[tiles[:, 0], tiles[:, 1], 0])
                shares.append(share)
                owners.append(owner)
            weights.append(read.weight)
        of_slices, of_reads = (torch.tensor(each, dtype=torch.float64) for each in (shares, weights))
        return cls(torch.stack(voltages, 1), of_slices, torch.tensor(owners), of_reads)

    def currents(self, layer: AnalogLayer, model: TileModel, conductances: Tensor, tiles: Tensor) -> Tensor:
        """Mean over every read, of the columns of each output: (slices, planes, tiles, reads, outputs) [A]."""
        found = model.program(conductances)(self.voltages).double().cpu()
        mean = found.new_zeros((*found.shape[:-2], len(self.weights), found.shape[-1]))
        mean.index_add_(-2, self.owners, found * self.shares[:, None])
        taken = layer.hardware.weight_mapping.take(mean, layer.partition.outputs_per_tile)
        columns = layer.columns_at.cpu()[tiles[:, 0], tiles[:, 2], None]
        return taken.gather(-1, columns.expand_as(taken))


@dataclass(frozen=True, eq=False)
class _Found:
    audit: LayerAudit
    residuals: Residuals
    pairs: np.ndarray


def _audit_layer(
    name: str,
    layer: AnalogLayer,
    calls: list[Tensor],
    truths: list[TileModel],
    samples: int,
    tiles: int | None,
    seed: int,
) -> _Found:
    """One layer against its own circuit and, where there are two truths, that against the second."""
    generator = torch.Generator().manual_seed(seed)
    part, layout = layer.partition, layer.layout
    every = torch.cartesian_prod(*map(torch.arange, part.tiles))
    places = every
    if tiles is not None and tiles < len(every):
        places = every[_draw(len(every), tiles, generator).sort().values]
    with torch.no_grad():
        reads = _Reads.draw(layer, calls, samples, places, generator)
        if any(getattr(truth, "read_time", None) for truth in truths) and not bool((reads.shares == 1).all()):
            raise NotAvailable(
                f"a read time with the pulses of {type(layer.hardware.dac).__name__}, of which the charge is read",
                hint="Leave out the read time, or audit hardware with a DAC of amplitude or bit by bit.",
            )
        chip = layer.present_conductances()[:, *places.T]
        own_model = layer.hardware.tile_model(layer.moment.temperature)
        own = reads.currents(layer, own_model, chip, places)
        exact = _Reads(reads.voltages.double(), reads.shares, reads.owners, reads.weights)
        circuits = [exact.currents(layer, truth, chip, places) for truth in truths]
    truth = circuits[-1]
    outputs = places[:, 2:] * part.outputs_per_tile + torch.arange(part.outputs_per_tile)
    valid = outputs < part.outputs
    sample = Sample(valid.numpy(), samples, len(places) == len(every), seed % 2**63)

    def size(difference: Tensor) -> ErrorSize:
        both = [each.flatten(0, 1).numpy() for each in (difference, truth)]
        at_adc = [layout.conversions(each).numpy() for each in (difference, truth)]
        return sample.size(both[0], both[1], at_adc[0], at_adc[1], layer.adc_step)

    occupied = valid[:, None].expand(truth.shape[2:])
    pairs = torch.stack([each[:, :, occupied].flatten() for each in (own, truth)], -1).numpy()
    rms_current = float(np.sqrt(np.mean(pairs[:, 1] ** 2)))
    if rms_current == 0:
        raise InputError("no current flows in a layer: there is nothing to compare", where=name)
    split = len(circuits) > 1
    audited = LayerAudit(
        name=name,
        kind=type(layer).__name__,
        rung=layer.hardware.rung,
        vectors=samples,
        tiles=len(places),
        tiles_of=len(every),
        currents=len(pairs),
        rms_current=rms_current,
        error=size(own - truth),
        fit=size(own - circuits[0]) if split else None,
        model=size(circuits[0] - truth) if split else None,
    )
    missing, received = layout.conversions(truth - own), layout.conversions(own)
    return _Found(audited, Residuals(missing, received, places, reads.weights, part), pairs)
