"""From a Dataset to a Surrogate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdls_cosim.characterize import draw_inputs
from mdls_cosim.dataset import Dataset
from mdls_cosim.devices import MeasuredCurves, Ohmic, Sinh
from mdls_cosim.errors import ConvergenceError, InputError, MdlsError, NotAvailable
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.provenance import tool_versions
from mdls_cosim.store import Array
from mdls_cosim.surrogates.domain import INPUT_SIGNS, Domain, HeldOutError, InputSigns
from mdls_cosim.surrogates.linear import LinearSurrogate
from mdls_cosim.surrogates.parameters import (
    Curves,
    Reads,
    fit_parameters,
    fit_resistances,
    is_of_the_sinh_family,
)
from mdls_cosim.surrogates.read_classes import class_codes, read_classes, seen_classes
from mdls_cosim.surrogates.row_responses import RowResponses
from mdls_cosim.surrogates.series import SeriesSurrogate
from mdls_cosim.surrogates.series_fit import fit_coefficients
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate
from mdls_cosim.tiles import SubcircuitCell, TileSpec
from mdls_cosim.tiles.cells import AnyCell

# A class of few held-out reads scatters: a fresh draw may show twice the worst of them, and never less than this.
_BOUND_FACTOR = 2.0
_BOUND_FLOOR = 1e-6
# Of steep cells a class may hold small voltages only, whose currents are hundredths of those that the functions of
# `RowResponses` are true to.
_STEEP_BOUND_FLOOR = 5e-3
# Worst class of a series, of its RMS current, from which on the dearer rows are tried.
_GOOD = 5e-3
# Inputs of both signs, over all tiles, that tell how far such inputs go; and of their draw.
_SIGNED = 10_000
_SIGNED_SEED = 0
# What of a tile is no parameter to find, but which circuit its parameters belong to.
_CIRCUIT = ("drive", "amplifier", "temperature", "wire_temperature_coefficient", "reference_voltage")


def fit(dataset: Dataset, *, start: TileSpec | None = None) -> Surrogate:
    """Fits a surrogate to reads of whole tiles, and to the I-V of single cells where the Dataset has it.

    Two thirds of the tiles of each class are fitted; the others give the stated error. What failed to simulate is left
    out (`left_out`). Ohmic and sinh cells, and their resistances, are found from conductances, voltages and currents
    alone. Of any other cell that the Dataset records and the torch rungs know, the law is taken and held against the
    I-V; a user's subcircuit is taken as its I-V curves (`MeasuredCurves`); the resistances are found. Which circuit
    they belong to, the ends at which rows are driven and the amplifier of the columns, is taken as recorded. Ohmic data
    yield a `LinearSurrogate`, others a `SeriesSurrogate`, or `RowResponses` where that explains the fitted tiles better
    and where rows are driven at both ends.

    Args:
        dataset: with the experiment `read`, and `iv` if there is one.
        start: where the search for the resistances begins; absent: 1 ohm wires and 10 ohm ends. Of data that record no
            tile it gives drive, amplifier and temperature too.

    Raises:
        InputError: the Dataset has no reads, those of several tiles or seeds, fewer than two tiles, or no classes.
        ConvergenceError: no tile of this form explains the data.
        NotAvailable: lines that differ.
        ConfigError: I-V curves that no cell of two terminals has, as those of currents that fall with the voltage.
    """
    arrays = {name: array.values for name, array in _only_variant(dataset, "read").items()}
    whole = ~_lost(arrays["currents"])
    conductances, voltages, currents = (
        torch.as_tensor(np.asarray(arrays[name], dtype=np.float64)[whole])
        for name in ("conductances", "voltages", "currents")
    )
    if len(conductances) < 2:
        raise InputError(
            "a fit needs tiles to learn from and tiles to be tested on",
            value=f"{len(conductances)} tile",
            limit="2 or more",
            hint="raise `tiles` in the table [read]",
        )
    classes = class_codes(arrays, dataset.config, "conductance")[whole]
    inputs = class_codes(arrays, dataset.config, "input")
    held = _held_out(classes)
    reads = Reads(conductances[~held], voltages[~held], currents[~held])
    curves, template = _curves(dataset), _template(dataset, conductances, start)
    if not all(each is None or each.equal_lines for each in (_recorded(dataset), start)):
        raise NotAvailable(
            "a fit finds one resistance for all row lines, and so on: not those of lines that differ",
            hint="Of ohmic cells LinearSurrogate.exact(spec) and NodalTile(spec) take them as they are.",
        )
    cell = _given_cell(dataset, curves, template)
    if cell is None:
        spec = fit_parameters(reads, curves, template, start)
    else:
        spec = fit_resistances(reads, curves, template.replace(cell=cell), start)
    names = read_classes(dataset.config, classes, inputs)
    span, amplitude = _conductance_range(dataset, conductances), _amplitude(dataset, voltages)
    model = _best_model(spec, reads, names[~held.numpy()], span, amplitude)
    kind, coefficients = type(model), model.coefficients
    error = held_out_error(model, conductances[held], voltages[held], currents[held], names[held.numpy()])
    domain = Domain(
        rows=spec.rows,
        cols=spec.cols,
        conductances=span,
        input_voltage=amplitude,
        cell_voltage=reached_voltage(model, conductances, voltages, currents, amplitude),
        temperature=spec.temperature,
        input_signs=_input_signs(spec, voltages, amplitude),
        conductance_classes=seen_classes(dataset.config, "conductance", classes),
        input_classes=seen_classes(dataset.config, "input", inputs),
    )
    tools = {
        **tool_versions(),
        **{name: dataset.provenance.tools[name] for name in ("ngspice", "solver") if name in dataset.provenance.tools},
    }
    return kind(
        spec,
        reference_spec=_recorded(dataset),
        domain=domain,
        error=error,
        coefficients=coefficients,
        parents=(dataset.content_hash,),
        tools=tools,
        seed=dataset.provenance.seed,
    )


def _given_cell(dataset: Dataset, curves: Curves | None, template: TileSpec) -> AnyCell | None:
    """The cell whose law is not sought in the data: the recorded one, or what its curves tell; None for others."""
    recorded = _recorded(dataset)
    if recorded is None or isinstance(recorded.cell, Ohmic | Sinh):
        return None
    if isinstance(recorded.cell, SubcircuitCell):
        if curves is None or is_of_the_sinh_family(curves, template):
            return None
        return _measured_cell(curves)
    try:
        cell_law(recorded)
    except NotAvailable:
        return None
    return recorded.cell


def _measured_cell(curves: Curves) -> MeasuredCurves:
    """Raises: InputError where the curves are not of one set of voltages, or are too few."""
    voltages = curves.voltages[0]
    if len(curves.conductances) < 2 or bool((curves.voltages != voltages).any()):
        raise InputError(
            "a cell that its I-V curves stand for needs two of them at least, at the same voltages",
            where="iv",
            value=f"{len(curves.conductances)} curves",
            hint="raise `cells` in the table [iv]",
        )
    return MeasuredCurves(
        conductances=tuple(curves.conductances.tolist()),
        voltages=tuple(voltages.tolist()),
        currents=tuple(tuple(each) for each in curves.currents.tolist()),
    )


def _best_model(
    spec: TileSpec, reads: Reads, names: np.ndarray, span: tuple[float, float], amplitude: float
) -> Surrogate:
    """The cheapest form that is good on the reads of the fit, of class `names` each, or else the better one.

    `span` [S] and `amplitude` [V] are the limits of what cells and inputs were drawn from.
    """
    if cell_law(spec).linear:
        return LinearSurrogate(spec)
    limits = {"amplitude": (amplitude,), "conductances": span}
    if spec.drive == "double":  # a series knows rows that are driven at one end
        return RowResponses(spec, coefficients=limits)
    codes = np.unique(names, return_inverse=True)[1].reshape(reads.voltages.shape[:2])
    series = SeriesSurrogate(spec, coefficients=fit_coefficients(spec, reads, torch.as_tensor(codes)))
    if (missed := _worst_class(series, reads, names)) > _GOOD:
        rows = RowResponses(spec, coefficients=limits)
        if _worst_class(rows, reads, names) < missed:
            return rows
    return series


def _worst_class(model: Surrogate, reads: Reads, names: np.ndarray) -> float:
    with torch.no_grad():
        missed = model.program(reads.conductances)(reads.voltages) - reads.currents
    errors = list(class_errors(missed, reads.currents, names).values())
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


def reached_voltage(
    model: Surrogate, conductances: Tensor, voltages: Tensor, currents: Tensor, amplitude: float
) -> float:
    """The largest voltage over a cell that inputs of these kinds reach [V], `amplitude` at least.

    A few dozen inputs of both signs do not show how far others of them go: the surrogate is read with many more.
    """
    with torch.no_grad():
        programmed = model.program(conductances)
        assert isinstance(programmed, ProgrammedSurrogate)  # as `_program` says
        found = programmed.reach(voltages, currents)
        if found is None:
            return amplitude
        reached = max(amplitude, float(found.max()))
        if not bool(((voltages.amin(-1) < 0) & (voltages.amax(-1) > 0)).any()):
            return reached
        generator = np.random.default_rng(_SIGNED_SEED)
        drawn = draw_inputs("signed", -(-_SIGNED // len(conductances)), voltages.shape[-1], amplitude, generator)
        more = torch.as_tensor(drawn)
        found = programmed.reach(more, programmed(more))
        assert found is not None  # nor was the first
        return max(reached, float(found.max()))


def left_out(dataset: Dataset) -> dict[str, int]:
    """How many tiles ("read") and cells ("iv") a fit of `dataset` goes without, because their simulation failed."""
    counts = {
        name: int(_lost(dataset.experiments[name]["currents"].values).sum())
        for name in ("read", "iv")
        if name in dataset.experiments
    }
    return {name: count for name, count in counts.items() if count}


def held_out_error(
    model: Surrogate, conductances: Tensor, voltages: Tensor, currents: Tensor, names: np.ndarray
) -> HeldOutError:
    """Errors of `model` on reads, by class; `names` (tile, vector) tells the class of each.

    Raises:
        ConvergenceError: an error that is no number.
    """
    missed = (model.program(conductances)(voltages) - currents).detach()
    classes = dict(sorted(class_errors(missed, currents, names).items()))
    if wrong := [name for name, error in classes.items() if not math.isfinite(error)]:
        raise ConvergenceError(
            "a surrogate has no numbers for reads that were held out",
            where=wrong[0],
            value=f"{len(wrong)} of {len(classes)} classes",
            limit="a finite error of every class",
            hint="check conductances and voltages of the data against the range of the cell",
        )
    scale = max(float(currents.square().mean().sqrt()), 1e-30)
    return HeldOutError(
        rms=relative_rms(missed, currents),
        p99=float(np.quantile(missed.abs().numpy(), 0.99)) / scale,
        classes=classes,
        bound=max(
            _BOUND_FACTOR * max(classes.values()),
            _STEEP_BOUND_FLOOR if isinstance(model, RowResponses) else _BOUND_FLOOR,
        ),
    )


def class_errors(missed: Tensor, currents: Tensor, names: np.ndarray) -> dict[str, float]:
    """RMS error by class, in the order of first appearance; `names` (tile, vector) tells the class of each read."""
    classes = {}
    for name in dict.fromkeys(names.ravel().tolist()):
        mine = torch.as_tensor(names == name)
        classes[name] = relative_rms(missed[mine], currents[mine])
    return classes


def relative_rms(missed: Tensor, currents: Tensor) -> float:
    """RMS of an error over the RMS of the true currents."""
    return float(missed.square().mean().sqrt()) / max(float(currents.square().mean().sqrt()), 1e-30)


def _held_out(classes: np.ndarray) -> Tensor:
    """The last third of the tiles of each class; of classes of one tile every third."""
    held = np.zeros(len(classes), dtype=bool)
    for code in np.unique(classes):
        members = np.flatnonzero(classes == code)
        if len(members) > 1:
            held[members[-max(1, len(members) // 3) :]] = True
    if not held.any():
        held[::-3] = True
    return torch.as_tensor(held)


def _only_variant(dataset: Dataset, experiment: str) -> dict[str, Array]:
    """The experiment's arrays: those of one tile and one seed."""
    variants = dataset.variants(experiment)
    if len(variants) == 0:
        raise InputError(
            "the Dataset has no reads of whole tiles",
            value=", ".join(sorted(dataset.experiments)) or "no experiment",
            hint="add a table [read] to the specification and characterize again",
        )
    if len(variants) > 1:
        raise InputError(
            "the Dataset has several tiles, and a surrogate stands for one",
            where=experiment,
            value=", ".join(variant.label for variant in variants),
            hint="characterize one size and one corner",
        )
    if "seed" in variants[0].arrays["currents"].dims:
        raise InputError(
            "the Dataset has several seeds, and a fit takes one",
            where=experiment,
            value=f"{len(variants[0].arrays['currents'].values)} seeds",
            hint="characterize without `seeds`, and with more `tiles`",
        )
    return variants[0].arrays


def _lost(currents: np.ndarray) -> np.ndarray:
    """Which tiles or cells have no numbers, (count,): their simulation failed."""
    return np.array([np.isnan(each).any() for each in currents], dtype=bool)


def _curves(dataset: Dataset) -> Curves | None:
    if not dataset.variants("iv"):
        return None
    arrays = _only_variant(dataset, "iv")
    whole = ~_lost(arrays["currents"].values)
    if not whole.any():
        return None
    found = [
        torch.as_tensor(np.asarray(arrays[name].values, dtype=np.float64)[whole])
        for name in ("conductances", "voltages", "currents")
    ]
    return Curves(*found)


def _template(dataset: Dataset, conductances: Tensor, start: TileSpec | None) -> TileSpec:
    """Size, drive, amplifier and temperature, as recorded or else as `start` has them; the resistances and the cell's
    shape are for the fit to find."""
    rows, cols = conductances.shape[-2:]
    recorded = _tile(dataset) or ({} if start is None else start.as_dict())
    return TileSpec(rows=rows, cols=cols, **{name: recorded[name] for name in _CIRCUIT if name in recorded})


def _tile(dataset: Dataset) -> dict[str, Any] | None:
    """The configuration of the one tile that was read."""
    corners = dataset.config.get("corners") or {}
    tile = next(iter(corners.values())) if len(corners) == 1 else dataset.config.get("tile")
    if tile is None or not dataset.config.get("sizes"):
        return tile
    rows, cols = dataset.experiments["read"]["conductances"].values.shape[-2:]
    return {**tile, "rows": rows, "cols": cols}


def _recorded(dataset: Dataset) -> TileSpec | None:
    """The tile that was simulated, as the Dataset tells it: for `validate`, and for the fit the kind of its cell."""
    tile = _tile(dataset)
    if tile is None:
        return None
    try:
        return TileSpec(**tile)
    except MdlsError:
        return None


def _conductance_range(dataset: Dataset, conductances: Tensor) -> tuple[float, float]:
    """The range that cells were drawn from, or where the Dataset does not say, the range of what was drawn."""
    drawn = dataset.config.get("conductance_range") or ()
    seen = [float(conductances.min()), float(conductances.max()), *(float(value) for value in drawn)]
    return min(seen), max(seen)


def _amplitude(dataset: Dataset, voltages: Tensor) -> float:
    """The voltage that inputs were drawn up to [V], or where the Dataset does not say, the largest that was drawn."""
    planned = (dataset.config.get("read") or {}).get("voltage") or 0.0
    return max(float(planned), float(voltages.abs().max()))


def _input_signs(spec: TileSpec, voltages: Tensor, amplitude: float) -> tuple[InputSigns, ...] | None:
    """Signs of the fitted inputs; None where currents of ohmic cells superpose, so that signs do not matter.

    Of cells whose current is odd in the voltage, inputs of one sign stand for those of the other.
    """
    law = cell_law(spec)
    if law.linear:
        return None
    up, down = (voltages > 0).any(-1), (voltages < 0).any(-1)
    seen = {"positive": bool((up & ~down).any()), "negative": bool((down & ~up).any()), "both": bool((up & down).any())}
    if seen["positive"] != seen["negative"] and _is_odd(spec, amplitude):
        seen["positive"] = seen["negative"] = True
    return tuple(signs for signs in INPUT_SIGNS if seen[signs])


def _is_odd(spec: TileSpec, amplitude: float) -> bool:
    """Whether I(-V) = -I(V) within rounding, up to `amplitude` [V], at the ends of the device's range."""
    device = spec.device
    if device is None:
        return False
    low, high = (float(end) for end in device.conductance_range(spec.reference_voltage))
    ends = torch.tensor([max(low, 1e-9), min(high, 1.0)], dtype=torch.float64)
    state = torch.as_tensor(device.state_for(ends, spec.reference_voltage))[:, None]
    voltage = torch.linspace(0.1, 1.0, 7, dtype=torch.float64) * amplitude
    forward, backward = (torch.as_tensor(device.current(sign * voltage, state)) for sign in (1, -1))
    return bool(torch.allclose(forward, -backward, rtol=1e-9, atol=0.0))
