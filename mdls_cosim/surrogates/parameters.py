"""Fits a tile's electrical parameters and its cell's I-V shape from conductances, voltages and currents.

The model is the exact one (`NodalTile`); what is sought are the four resistances and, of cells of the sinh family, the
non-linearity a, which enters as a^2 because currents are even in it. Of those the recorded parameters are never looked
at. Cells of another law are given, and their I-V has to be that of the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from mdls_cosim.devices import Ohmic, Sinh
from mdls_cosim.errors import ConvergenceError, InputError
from mdls_cosim.fidelity import NodalTile
from mdls_cosim.fidelity.cell_law import cell_law
from mdls_cosim.tiles import RESISTANCES, TileSpec
from mdls_cosim.tiles.cells import AnyCell

Floats = NDArray[np.float64]

# Where the search begins unless told: wires of 1 ohm a segment, ends of 10 ohm, a cell of 1 /V.
_START = (1.0, 1.0, 10.0, 10.0)
_START_NONLINEARITY = 1.0
# A cell whose current differs from Ohm's law by less than this at the largest voltage is ohmic.
_OHMIC = 1e-7
# Differences for the Jacobian, relative to a parameter or to a hundredth of its start where it is near zero.
_STEP = 1e-4
# Beyond these no array could be read at all; they keep a search on senseless data from wandering.
_LARGEST_RESISTANCE = 1e5  # ohm
_LARGEST_ARGUMENT = 20.0  # a V
_EVALUATIONS = 30
# Currents of a read beyond this are no measurement noise but another circuit.
_ACCEPTED_MISFIT = 0.05
# And the I-V of single cells that a recorded law misses by more is not its own.
_ACCEPTED_CURVES = 0.01
# Curves that a sinh misses by less are better described by it than by themselves.
_SINH_FAMILY = 1e-5


@dataclass(frozen=True)
class Reads:
    """Tiles and what they answered, (tile, rows, cols) [S], (tile, vector, rows) [V], (tile, vector, cols) [A]."""

    conductances: Tensor
    voltages: Tensor
    currents: Tensor

    def thinned(self, tiles: int, vectors: int) -> Reads:
        """At most so many tiles and vectors of each, spread evenly over the set."""
        some = torch.linspace(0, len(self.conductances) - 1, min(tiles, len(self.conductances))).round().long()
        count = self.voltages.shape[1]
        part = torch.linspace(0, count - 1, min(vectors, count)).round().long()
        return Reads(self.conductances[some], self.voltages[some][:, part], self.currents[some][:, part])


@dataclass(frozen=True)
class Curves:
    """Single cells without wires, (cell,) [S] and (cell, point) [V] and [A]."""

    conductances: Tensor
    voltages: Tensor
    currents: Tensor


def fit_parameters(reads: Reads, curves: Curves | None, template: TileSpec, start: TileSpec | None) -> TileSpec:
    """The tile whose exact currents come closest to the data, in the least-squares sense.

    Args:
        reads: of whole tiles.
        curves: of single cells; absent: the cell's shape is found from the reads alone.
        template: gives rows, columns, temperature and reference voltage.
        start: where the search for the resistances begins.

    Raises:
        ConvergenceError: no tile of this form explains the data.
    """
    begin = _START if start is None else tuple(getattr(start, name) for name in RESISTANCES)
    shape = None if curves is None else _fit_shape(curves, template.reference_voltage)
    largest = float(reads.voltages.abs().max())
    if curves is not None:
        largest = max(largest, float(curves.voltages.abs().max()))
    if shape is None or not _is_ohmic(shape, largest):
        # A handful of tiles and inputs fixes five numbers; thousands would only take longer.
        thin = reads.thinned(tiles=4, vectors=8)
        first = _START_NONLINEARITY**2 if shape is None else shape
        *resistances, shape = _least_squares(thin, template, (*begin, first))
        if not _is_ohmic(shape, largest):
            return _tile(template, resistances, _sinh(shape))
        begin = tuple(resistances)
    template = template.replace(cell=Ohmic())
    return _tile(template, _least_squares(reads.thinned(tiles=16, vectors=16), template, begin), template.cell)


def fit_resistances(reads: Reads, curves: Curves | None, template: TileSpec, start: TileSpec | None) -> TileSpec:
    """The tile of the template's own cells whose exact currents come closest to the data.

    Args: as `fit_parameters`; curves are compared with the law of the cell.

    Raises:
        ConvergenceError: the cell's law is not that of the curves, or no resistances explain the data.
    """
    begin = _START if start is None else tuple(getattr(start, name) for name in RESISTANCES)
    if curves is not None:
        missed = law_misfit(curves, template)
        if not missed <= _ACCEPTED_CURVES:
            raise _unexplained(
                template, f"its I-V misses that of single cells by {missed:.2g} of their RMS current", _ACCEPTED_CURVES
            )
    resistances = _least_squares(reads.thinned(tiles=4, vectors=8), template, begin)
    return _tile(template, resistances, template.cell)


def law_misfit(curves: Curves, template: TileSpec) -> float:
    """RMS difference of the currents of single cells from those of the template's law, over their RMS; the worst
    cell's."""
    device = template.device
    assert device is not None  # what has a law has a device
    states = device.state_for(curves.conductances, template.reference_voltage)
    missed = cell_law(template).current(curves.voltages, states[:, None]) - curves.currents
    scale = curves.currents.square().mean(1).sqrt().clamp_min(1e-30)
    return float((missed.square().mean(1).sqrt() / scale).max())


def is_of_the_sinh_family(curves: Curves, template: TileSpec) -> bool:
    """Whether Ohm's law, or a sinh of one non-linearity, gives the currents of single cells."""
    shape = max(_fit_shape(curves, template.reference_voltage), 1e-12)
    return law_misfit(curves, template.replace(cell=_sinh(shape))) <= _SINH_FAMILY


def _is_ohmic(shape: float, largest: float) -> bool:
    return shape * largest**2 / 6 < _OHMIC


def _sinh(shape: float) -> Sinh:
    return Sinh(nonlinearity=float(np.sqrt(shape)))


def _tile(template: TileSpec, resistances: Floats | tuple[float, ...] | list[float], cell: AnyCell) -> TileSpec:
    named = {name: float(value) for name, value in zip(RESISTANCES, resistances, strict=True)}
    return template.replace(cell=cell, **named)


def _fit_shape(curves: Curves, reference_voltage: float) -> float:
    """a^2 of the I-V of single cells."""
    conductances = curves.conductances[:, None].numpy()
    voltages, currents = curves.voltages.numpy(), curves.currents.numpy()
    scale = np.sqrt(np.mean(currents**2, axis=1, keepdims=True)) + 1e-30

    def misfit(parameter: Floats) -> Floats:
        cell = _sinh(max(float(parameter[0]), 1e-12))
        states = cell.state_for(conductances, reference_voltage)
        return ((cell.current(voltages, states) - currents) / scale).ravel()

    return float(least_squares(misfit, [_START_NONLINEARITY**2], bounds=(0.0, np.inf), xtol=1e-14, ftol=1e-14).x[0])


def _least_squares(reads: Reads, template: TileSpec, start: tuple[float, ...]) -> tuple[float, ...]:
    """Resistances of a tile of the template's cells; of sinh cells, and their a^2, where `start` has a fifth entry."""
    scale = float(reads.currents.square().mean().sqrt()) or 1.0
    typical = np.array([max(value, 1.0) for value in start])

    def misfit(parameters: Floats) -> Floats:
        cell = _sinh(max(float(parameters[4]), 1e-12)) if len(parameters) > 4 else template.cell
        tile = _tile(template, np.maximum(parameters[:4], 0.0), cell)
        currents = NodalTile(tile, tolerance=1e-12).program(reads.conductances)(reads.voltages)
        return ((currents - reads.currents) / scale).flatten().numpy()

    def jacobian(parameters: Floats) -> Floats:
        here, columns = misfit(parameters), []
        for index, value in enumerate(parameters):
            moved = parameters.copy()
            moved[index] += _STEP * max(value, 0.01 * typical[index])
            columns.append((misfit(moved) - here) / (moved[index] - value))
        return np.stack(columns, axis=1)

    begin = np.maximum(np.array(start), 1e-3)  # the search starts inside its bounds
    amplitude = max(float(reads.voltages.abs().max()), 1e-6)
    largest = np.array([*[_LARGEST_RESISTANCE] * 4, (_LARGEST_ARGUMENT / amplitude) ** 2])[: len(start)]
    begin = np.minimum(begin, largest / 2)
    try:
        found = least_squares(
            misfit,
            begin,
            jac=jacobian,  # pyright: ignore[reportArgumentType]
            bounds=(0.0, largest),
            x_scale=typical,
            method="dogbox",  # parameters at zero are held there, where an interior method only creeps
            xtol=1e-9,
            ftol=1e-14,
            gtol=1e-14,
            max_nfev=_EVALUATIONS,
        )
    except (ConvergenceError, InputError) as error:
        raise _unexplained(template, "the search left all parameters that a tile can have") from error
    left = float(np.sqrt(np.mean(found.fun**2)))
    if not left <= _ACCEPTED_MISFIT:
        raise _unexplained(template, f"misfit {left:.2g} of the RMS current")
    return tuple(float(value) for value in found.x)


def _unexplained(template: TileSpec, found: str, limit: float = _ACCEPTED_MISFIT) -> ConvergenceError:
    given = template.cell.model
    cell = "one cell non-linearity" if given in ("ohmic", "sinh") else f"the recorded {given} cell"
    return ConvergenceError(
        f"no tile of four resistances and {cell} explains the data",
        value=found,
        limit=f"{limit:g}",
        hint="check the units and the orientation (rows are driven, columns are sensed) of the data",
    )
