"""Non-linear tiles: the exact linear part and a fitted odd series, four matmuls a read.

For cells of odd current i(w) = g w + A3 w^3 + A5 w^5 + ..., perturbation about the linear tile gives each column
current as

    I = V W + V^3 W3 + V^5 W5 + (V^2 X) * (V W)            (powers and * element by element)

W is exact. A cell's own row drives it with the share alpha of the row voltage, and of a current through the cell the
share beta reaches the sense node; both come exactly from the linear tile (beta is the alpha of the tile read the
other way round, by reciprocity). A cell's cubic current is then A3 (alpha V)^3, of which beta is sensed, so

    W3 = A3 alpha^3 beta exp(t0 + t1 ln alpha + t2 ln beta),   W5 = A5 alpha^5 beta exp(t3 + t4 ln alpha + t5 ln beta)

where the exponentials, fitted to SPICE, stand for what a cell's neighbours do to it. The last term is the rise of the
column line under its own current V W, which takes voltage off each cell: with R_i the sense resistance and the wire
from row i to it,

    X = -3 A3 alpha^2 beta R_i,   R_i = t6 r_sense + t7 (rows - 1 - i) r_column.

Everything is bounded at g = 0, and W3, W5 and X vanish with A3 and A5.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from mdls_cosim.devices import Device
from mdls_cosim.fidelity.elimination import Wires, factorise, mirror
from mdls_cosim.surrogates.surrogate import ProgrammedSurrogate, Surrogate
from mdls_cosim.tiles import TileSpec

START = {"third": (0.0, 0.0, 0.0), "fifth": (0.0, 0.0, 0.0), "rise": (1.0, 0.5)}
"""Coefficients of plain first-order perturbation, before any fit."""

# Numbers held at once while tiles are programmed.
_CHUNK = 4_000_000


class SeriesSurrogate(Surrogate):
    """The odd series above; `coefficients` holds `third` (t0, t1, t2), `fifth` (t3, t4, t5) and `rise` (t6, t7)."""

    kind: ClassVar[str] = "series"

    def _program(self, conductances: Tensor) -> ProgrammedSurrogate:
        return _ProgrammedSeries(self, conductances)


class Basis:
    """All that the series needs of programmed tiles, before its coefficients: exact, from the linear tile."""

    def __init__(self, spec: TileSpec, conductances: Tensor) -> None:
        states = spec.passive_cell.state_for(conductances.double(), spec.reference_voltage)
        linear, self.third, self.fifth = odd_series(spec.passive_cell, states)
        tiles, rows, cols = linear.shape[:-2], spec.rows, spec.cols
        step = max(1, _CHUNK // (rows * cols * max(rows, cols)))
        wires, parts = Wires.of(spec), []
        for some in linear.reshape(-1, rows, cols).split(step):
            effective, inputs = factorise(some, wires).responses()
            _, outputs = factorise(mirror(some), wires.mirrored()).responses()
            parts.append((effective, inputs, mirror(outputs)))
        self.effective, self.alpha, self.beta = (
            torch.cat(each).reshape(*tiles, rows, cols) for each in zip(*parts, strict=True)
        )
        self._alpha_log, self._beta_log = self.alpha.log(), self.beta.log()
        below = torch.arange(rows - 1, -1, -1, dtype=linear.dtype, device=linear.device)[:, None]
        self.sense, self.line = spec.sense_resistance, below * spec.column_line_resistance

    def powers(self, third: Tensor, fifth: Tensor) -> tuple[Tensor, Tensor]:
        """W3 [S/V^2] and W5 [S/V^4]."""
        return (
            self.third * self.alpha**3 * self.beta * self._correction(third),
            self.fifth * self.alpha**5 * self.beta * self._correction(fifth),
        )

    def rise(self, rise: Tensor) -> Tensor:
        """X [1/V^2]."""
        return -3 * self.third * self.alpha**2 * self.beta * (rise[0] * self.sense + rise[1] * self.line)

    def _correction(self, exponents: Tensor) -> Tensor:
        return (exponents[0] + exponents[1] * self._alpha_log + exponents[2] * self._beta_log).exp()


def odd_series(device: Device, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """g, A3 and A5 of i(w) = g w + A3 w^3 + A5 w^5 + ..., differentiated from the device's one equation."""
    with torch.enable_grad():
        voltage = torch.zeros_like(states).requires_grad_()
        derivative, found = device.current(voltage, states), []
        for order in range(1, 6):
            if derivative.requires_grad:
                (derivative,) = torch.autograd.grad(derivative.sum(), voltage, create_graph=True)
            else:  # no longer a function of the voltage
                derivative = torch.zeros_like(voltage)
            if order % 2:
                found.append(derivative / math.factorial(order))
    first, third, fifth = found if states.requires_grad else (each.detach() for each in found)
    return first, third, fifth


class _ProgrammedSeries(ProgrammedSurrogate):
    def __init__(self, surrogate: SeriesSurrogate, conductances: Tensor) -> None:
        basis = Basis(surrogate.spec, conductances)
        super().__init__(surrogate, conductances, own_shares=basis.alpha)
        third, fifth, rise = (
            torch.tensor(surrogate.coefficients[name], dtype=torch.float64, device=conductances.device)
            for name in START
        )
        # One product for the three powers: [V, V^3, V^5] @ [W; W3; W5].
        self._effective = basis.effective
        self._powers = torch.cat([basis.effective, *basis.powers(third, fifth)], -2)
        self._rise = basis.rise(rise)

    def _currents(self, voltages: Tensor) -> Tensor:
        return series_currents(
            voltages, self._effective.to(voltages), self._powers.to(voltages), self._rise.to(voltages)
        )


def series_currents(voltages: Tensor, effective: Tensor, powers: Tensor, rise: Tensor) -> Tensor:
    """The series for voltages (*tiles, batch, rows): (*tiles, batch, cols)."""
    square = voltages.square()
    cube = square * voltages
    currents = torch.cat([voltages, cube, cube * square], -1) @ powers
    return torch.addcmul(currents, square @ rise, voltages @ effective)


def fit_coefficients(
    spec: TileSpec, conductances: Tensor, voltages: Tensor, currents: Tensor
) -> dict[str, tuple[float, ...]]:
    """Fits the eight coefficients to currents of tiles whose electrical parameters are known.

    Args:
        spec: the tile.
        conductances: (tile, rows, cols) [S].
        voltages: (tile, vector, rows) [V].
        currents: (tile, vector, cols) [A].
    """
    basis = Basis(spec, conductances)
    linear = voltages @ basis.effective
    square = voltages.square()
    cube = square * voltages
    scale = currents.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-30)
    left = (currents - linear) / scale

    def misfit(flat: Tensor) -> Tensor:
        third, fifth = basis.powers(flat[0:3], flat[3:6])
        fitted = cube @ third + (cube * square) @ fifth + (square @ basis.rise(flat[6:8])) * linear
        return (fitted / scale - left).flatten()

    def residuals(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        return misfit(torch.as_tensor(flat)).numpy()

    start = np.concatenate([START[name] for name in START])
    found = least_squares(residuals, start, max_nfev=100)
    third, fifth, rise = np.split(found.x, [3, 6])
    return {"third": tuple(third.tolist()), "fifth": tuple(fifth.tolist()), "rise": tuple(rise.tolist())}
